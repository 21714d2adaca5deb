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

_STREAMS: dict[torch.device, torch.cuda.Stream] = {}
"""Where the graphs of each GPU are recorded: cuBLAS keeps 32 MB for each stream that it has worked in."""

_ENQUEUING = threading.Lock()
_LAST_REPLAYS: dict[torch.device, torch.cuda.Event] = {}
"""The end of the last replay on each GPU, for which the next one waits: graphs of one stream share cuBLAS's memory."""


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
        self._function = function
        self._batch_size = batch_size or len(inputs[0])
        self._inputs = self._filled_up(inputs)
        self._graph: torch.cuda.CUDAGraph | None = None
        stream = torch.cuda.current_stream(inputs[0].device)
        _RECORDER.submit(self._record, stream, torch.is_inference_mode_enabled()).result()

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the function for a batch no larger than recorded.

        Returns copies of its outputs for the whole recorded batch, in which the last input is repeated.
        """
        if self._graph is None:
            return self._function(self._filled_up(inputs))
        device = self._inputs[0].device
        stream = torch.cuda.current_stream(device)
        with _ENQUEUING:
            if device in _LAST_REPLAYS:
                stream.wait_event(_LAST_REPLAYS[device])
            for own, given in zip(self._inputs, inputs, strict=True):
                _fill(own, given)
            self._graph.replay()
            copies = [t.clone() for t in self._outputs]
            _LAST_REPLAYS[device] = stream.record_event()
        return copies

    def _record(self, callers_stream: torch.cuda.Stream, is_inference: bool) -> None:
        device = callers_stream.device
        # A failure leaves the stream that it was recorded in as this thread's: the outer `with` puts it back.
        with torch.cuda.stream(callers_stream), torch.inference_mode(is_inference):
            self._function(self._inputs)  # libraries and networks prepare things at a first call
            if device not in _STREAMS:
                _STREAMS[device] = torch.cuda.Stream(device)
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads may use the GPU meanwhile.
                with torch.cuda.graph(graph, stream=_STREAMS[device], capture_error_mode="thread_local"):
                    outputs = self._function(self._inputs)
            except RuntimeError:
                return
        self._graph, self._outputs = graph, outputs

    def _filled_up(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """A batch of the recorded size."""
        return [_fill(_empty_like(t, self._batch_size), t) for t in inputs]


def _fill(own: Tensor, given: Tensor) -> Tensor:
    """Copy a batch, and fill it up with its last item."""
    own[: len(given)] = given
    own[len(given) :] = given[-1:]
    return own


def _empty_like(tensor: Tensor, n: int) -> Tensor:
    """A Tensor of n items in the same memory layout, by which kernels are chosen."""
    item = tensor[:1]
    if not item.is_contiguous() and not item.is_contiguous(memory_format=torch.channels_last):
        return tensor.new_empty(n, *tensor.shape[1:])
    # Strides tell the layouts apart also where a map is one position wide, and both fit.
    return tensor.new_empty_strided((n, *tensor.shape[1:]), (item.numel(), *tensor.stride()[1:]))
