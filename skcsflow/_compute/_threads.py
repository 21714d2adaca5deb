"""Threads that compute on one core each, without changing any other thread's number of cores.

torch.set_num_threads would: it also sets what threads born later start with. The limit of
OpenMP, which torch computes by, holds for the thread that sets it alone.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar

import joblib
import torch
from threadpoolctl import ThreadpoolController

__all__ = ["CoreThreads", "map_on_cores", "on_new_thread", "one_core", "resolve_n_threads"]

T = TypeVar("T")
R = TypeVar("R")


def resolve_n_threads(n_jobs: int | None) -> int:
    """Number of threads that `n_jobs` means: None: as many as torch uses here; -1: one per core."""
    if n_jobs is None:
        return torch.get_num_threads()
    return n_jobs if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + n_jobs)


@contextmanager
def one_core() -> Iterator[None]:
    """Let torch compute on one core in this thread.

    What runs many small operations is hardly slower so, and much faster where another
    process takes a core. It also works in a process that was forked, where OpenMP's threads are missing.
    """
    torch.get_num_threads()  # the first call in a thread would undo the limit
    with _openmp().limit(limits=1):
        yield


class CoreThreads:
    """Threads that keep to one core each; a context manager that ends them.

    Parameters
    ----------
    n : int
        Number of threads.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._pool = ThreadPoolExecutor(n, initializer=_keep_to_one_core)

    def map(
        self, function: Callable[[T], R], items: Iterable[T], *, ahead: int = 0
    ) -> Generator[R, None, None]:
        """Apply a function to items; results in order.

        Twice as many items are under way as there are threads, or `ahead` if that is more: no
        thread waits, and memory stays bounded.
        """
        iterator = iter(items)
        first = islice(iterator, max(2 * self.n, ahead))
        waiting: list[Future[R]] = [self._pool.submit(function, item) for item in first]
        try:
            while waiting:
                result = waiting.pop(0).result()
                waiting.extend(self._pool.submit(function, item) for item in islice(iterator, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)


def map_on_cores(
    function: Callable[[T], R], items: Iterable[T], n_threads: int, *, ahead: int = 0
) -> Generator[R, None, None]:
    """Apply a function to items, without gradients, on so many threads of one core each; results in order."""

    def run(item: T) -> R:
        with torch.inference_mode():
            return function(item)

    with CoreThreads(n_threads) as threads:
        yield from threads.map(run, items, ahead=ahead)


def on_new_thread(function: Callable[[], R]) -> R:
    """Call a function on one core of a thread of its own.

    A forked process hangs in MKL's matrix routines in its first thread, but not in others.
    """
    with CoreThreads(1) as threads:
        return next(threads.map(lambda _: function(), [None]))


@cache
def _openmp() -> ThreadpoolController:
    # OpenMP alone: at its end a limit sets all libraries that it knows to what they were at its start.
    return ThreadpoolController().select(user_api="openmp")


def _keep_to_one_core() -> None:
    torch.get_num_threads()  # the first call in a thread would undo the limit
    _openmp().limit(limits=1)
