"""Functions of batches recorded as CUDA graphs: one launch in place of hundreds."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

__all__ = ["RecordedFunction"]

_RECORDER = ThreadPoolExecutor(1, thread_name_prefix="skcsflow-recorder")
"""torch records one graph at a time in a process. Always in this thread, as cuDNN chooses kernels anew in every thread.

Who waits for it must not hold :func:`cuda_kernels`: what it records may wait for them.
"""


class RecordedFunction:
    """A function recorded for one shape of inputs, run by any thread.

    The GPU computes the default network on 32 images of 256 x 256 pixels in less than half the
    time that it takes Python to launch its kernels one by one. Replayed, they are the same
    kernels in the same order, so results are the same bits.

    Parameters
    ----------
    function : callable
        Takes and returns Tensors on the GPU, and doesn't wait for the GPU. If it does, as some
        backbones may, it is called each time.
    inputs : sequence of Tensors of shape (n, ...)
        What it takes, for shapes, types and memory layouts.
    batch_size : int or None, default=None
        What it is recorded for, at least n; None takes n.
    """

    def __init__(
        self,
        function: Callable[[list[Tensor]], list[Tensor]],
        inputs: Sequence[Tensor],
        batch_size: int | None = None,
    ) -> None:
        self._replaying = threading.Lock()
        self._function = function
        self._inputs = [_empty_like(t, batch_size or len(t)) for t in inputs]
        self._fill(inputs)
        self._graph: torch.cuda.CUDAGraph | None = None
        stream = torch.cuda.current_stream(inputs[0].device)
        _RECORDER.submit(self._record, stream, torch.is_inference_mode_enabled()).result()

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the function for a batch no larger than recorded.

        Returns copies of its outputs for the whole recorded batch, in which the last input is repeated.
        """
        with self._replaying:
            self._fill(inputs)
            if self._graph is None:
                return self._function(self._inputs)
            self._graph.replay()
            return [t.clone() for t in self._outputs]

    def _record(self, callers_stream: torch.cuda.Stream, is_inference: bool) -> None:
        # A failure leaves the stream that it was recorded in as this thread's: the outer `with` puts it back.
        with torch.cuda.stream(callers_stream), torch.inference_mode(is_inference):
            stream = torch.cuda.Stream()
            stream.wait_stream(callers_stream)
            with torch.cuda.stream(stream):  # libraries and networks prepare things at a first call
                self._function(self._inputs)
            callers_stream.wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads may use the GPU meanwhile.
                with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                    outputs = self._function(self._inputs)
            except RuntimeError:
                return
        self._graph, self._outputs = graph, outputs

    def _fill(self, inputs: Sequence[Tensor]) -> None:
        """Copy a batch, and fill it up with its last item."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own[: len(given)] = given
            own[len(given) :] = given[-1:]


def _empty_like(tensor: Tensor, n: int) -> Tensor:
    """A Tensor of n items in the same memory layout, by which kernels are chosen."""
    empty = tensor.new_empty(n, *tensor.shape[1:])
    is_channels_last = (
        tensor.ndim == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous()
    )
    return empty.contiguous(memory_format=torch.channels_last) if is_channels_last else empty
