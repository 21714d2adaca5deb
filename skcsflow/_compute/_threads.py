"""Threads that compute on one core each, without changing any other thread's number of cores.

torch.set_num_threads would: it also sets what threads born later start with. The limits of
OpenMP and MKL, which torch computes by, hold for the thread that sets them alone.
"""

import ctypes
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import joblib
import torch
from threadpoolctl import ThreadpoolController

__all__ = ["CoreThreads", "map_on_cores", "on_new_thread", "one_core", "resolve_n_threads"]

T = TypeVar("T")
R = TypeVar("R")


def resolve_n_threads(n_jobs: int | None) -> int:
    """Number of threads that `n_jobs` means: None: as many as torch uses here; -1: one per core.

    Of a container only the cores of its quota count, which torch doesn't know.
    """
    if n_jobs is None:
        return min(torch.get_num_threads(), joblib.cpu_count())
    return n_jobs if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + n_jobs)


@contextmanager
def one_core() -> Iterator[None]:
    """Let torch compute on one core in this thread.

    What runs many small operations is hardly slower so, and much faster where another
    process takes a core. It also works in a process that was forked, where OpenMP's threads are missing.
    """
    torch.get_num_threads()  # the first call in a thread would undo the limit
    set_mkl_threads = _mkl()
    mkl_threads = set_mkl_threads(1)
    try:
        with _openmp().limit(limits=1):
            yield
    finally:
        set_mkl_threads(mkl_threads)


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
    """Call a function on one core of a thread of its own, where none of the caller's modes of torch is on."""
    with CoreThreads(1) as threads:
        return next(threads.map(lambda _: function(), [None]))


@cache
def _openmp() -> ThreadpoolController:
    # OpenMP alone: at its end a limit sets all libraries that it knows to what they were at its start.
    return ThreadpoolController().select(user_api="openmp")


@cache
def _mkl() -> Callable[[int], int]:
    """MKL's function that sets a thread's own number of threads and gives the one before; 0 is none of its own.

    After torch.set_num_threads, MKL heeds that number and not OpenMP's. Where torch has no MKL, nothing is to be set.
    """
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        set_threads: Callable[[int], int] = library.MKL_Set_Num_Threads_Local
    except (OSError, AttributeError):
        return lambda n_threads: 0
    return set_threads


def _keep_to_one_core() -> None:
    torch.get_num_threads()  # the first call in a thread would undo the limit
    _mkl()(1)
    _openmp().limit(limits=1)
