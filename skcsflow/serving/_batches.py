"""Images that wait are inspected together, by one thread."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

from skcsflow._detector import CSFlowDetector, Inspection
from skcsflow.serving._inspecting import Unreadable, inspect_each

__all__ = ["Batches"]


class _Waiting(NamedTuple):
    detector: CSFlowDetector
    content: bytes
    future: "Future[Inspection]"


class Batches:
    """Inspects images in the order they come in. Those that wait meanwhile for one detector are the next batch.

    One thread hands batches to the detectors, which use the cores that their `n_jobs` says: two batches at a time
    would only take them from each other.

    Parameters
    ----------
    max_batch : int
        Images of a batch, at most.
    on_batch : callable
        Is told the number of images of each batch.
    """

    def __init__(self, max_batch: int, on_batch: Callable[[int], None]) -> None:
        self.max_batch = max_batch
        self._on_batch = on_batch
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def submit(self, detector: CSFlowDetector, content: bytes) -> "Future[Inspection]":
        """Have an image inspected.

        Parameters
        ----------
        detector : CSFlowDetector
            By whom.
        content : bytes
            The content of the image file.

        Returns
        -------
        Future
            Gives the inspection, or raises :class:`Unreadable`.

        Raises
        ------
        RuntimeError
            After :meth:`close`.
        """
        future: Future[Inspection] = Future()
        with self._changed:
            if self._is_closed:
                raise RuntimeError("The service is closed.")
            if self._thread is None:
                # A daemon, so that whoever forgets to close can end. What waits is done by `close`.
                self._thread = threading.Thread(target=self._run, name="skcsflow-batches", daemon=True)
                self._thread.start()
            self._waiting.append(_Waiting(detector, content, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Inspect all that waits, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while batch := self._take():
            self._on_batch(len(batch))
            self._inspect(batch)

    def _take(self) -> list[_Waiting]:
        """The image that waits longest, and others that wait for its detector; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            batch: list[_Waiting] = []
            others: deque[_Waiting] = deque()
            for waiting in self._waiting:
                is_for_it = not batch or waiting.detector is batch[0].detector
                (batch if is_for_it and len(batch) < self.max_batch else others).append(waiting)
            self._waiting = others
        return batch

    def _inspect(self, batch: list[_Waiting]) -> None:
        # Who has gone away isn't served; from here on a future can't be cancelled.
        batch = [w for w in batch if w.future.set_running_or_notify_cancel()]
        answered = 0
        try:
            for found in inspect_each(batch[0].detector, [w.content for w in batch]) if batch else ():
                future = batch[answered].future
                answered += 1
                if isinstance(found, Unreadable):
                    future.set_exception(found)
                else:
                    future.set_result(found)
        except BaseException as error:  # whatever it is, nobody may wait for ever
            for waiting in batch[answered:]:
                waiting.future.set_exception(error)
