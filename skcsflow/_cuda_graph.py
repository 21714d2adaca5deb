"""A training step recorded as a CUDA graph."""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["GraphedStep"]

N_WARM_UP = 3
"""Steps before the recording, in which libraries choose their kernels and the optimizer makes its state."""


class GraphedStep:
    """A training step that is recorded once and then replayed, without Python between its kernels.

    A step of a small flow is hundreds of kernels of microseconds each, which Python takes
    longer to launch than the GPU to run. The first steps are run as they are, and so is
    every batch of another size than the first, such as an epoch's last. Where recording
    fails, all are.

    Parameters
    ----------
    step : callable
        Takes a list of Tensors on a GPU, changes weights, and returns a tuple of Tensors.
        It must not wait for the GPU, and do the same each time.
    """

    def __init__(self, step: Callable[[list[Tensor]], tuple[Tensor, ...]]) -> None:
        self.step = step
        self.n_warm_up = N_WARM_UP
        self._shapes: list[torch.Size] | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: list[Tensor] = []
        self._results: tuple[Tensor, ...] = ()
        self._failed = False

    def __call__(self, batch: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Take a step; the results are the caller's to keep."""
        batch = list(batch)
        shapes = [t.shape for t in batch]
        if self._shapes is None:
            self._shapes = shapes
        if self._failed or shapes != self._shapes:
            return self.step(batch)
        if self.n_warm_up > 0:
            self.n_warm_up -= 1
            return self._on_a_side_stream(batch)
        if self._graph is None and not self._record(batch):
            return self.step(batch)
        assert self._graph is not None
        for kept, new in zip(self._batch, batch, strict=True):
            kept.copy_(new)
        self._graph.replay()
        return tuple(r.clone() for r in self._results)

    def _on_a_side_stream(self, batch: list[Tensor]) -> tuple[Tensor, ...]:
        # As torch asks for before a recording, which is made on a side stream too.
        stream = torch.cuda.Stream(batch[0].device)
        stream.wait_stream(torch.cuda.current_stream(batch[0].device))
        with torch.cuda.stream(stream):
            results = self.step(batch)
        torch.cuda.current_stream(batch[0].device).wait_stream(stream)
        return results

    def _record(self, batch: list[Tensor]) -> bool:
        self._batch = [t.clone() for t in batch]
        graph = torch.cuda.CUDAGraph()
        try:
            # Records, and runs nothing; what other threads do on the GPU meanwhile is none of its business.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._results = self.step(self._batch)
        except RuntimeError as error:
            self._failed = True
            self._batch, self._results = [], ()
            warnings.warn(
                f"The training step could not be recorded as a CUDA graph, and is slower without: {error}",
                UserWarning,
                stacklevel=2,
            )
            return False
        self._graph = graph
        return True
