"""The sides of a comparison, each in a process of its own, measured in turns."""

import importlib
import multiprocessing
import os
import resource
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Worker:
    """An object in a process of its own, whose methods are called from here.

    Only the worker imports the object's module, so that what one side imports is in no other side's memory.

    Parameters
    ----------
    module, name : str
        Where the object's class is.
    **kwargs
        For the class.
    """

    def __init__(self, module: str, name: str, **kwargs: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, module, name, kwargs), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._receive()
        except BaseException:
            self.close()
            raise

    def ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method and wait for what it returns."""
        self._connection.send((method, args, kwargs))
        return self._receive()

    def peak_memory(self) -> float:
        """Most memory that the process has held so far, in MB, the interpreter and all imports included."""
        return self.ask("") / 1e6

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(5)
        self._process.terminate()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _receive(self) -> Any:
        try:
            failed, value = self._connection.recv()
        except EOFError as error:
            raise RuntimeError("A worker ended; most likely it was killed for its memory.") from error
        if failed:
            raise RuntimeError(f"A worker failed:\n{value}")
        return value


def keep_heaps_whole() -> None:
    """Have workers that start from now on map tensors of 8 MB and more, and give them back when they are freed.

    glibc comes to take tensors of up to 32 MB from its heap. anomalib's choice of a coreset makes one in each of its
    steps, and keeps a small one that splits the space just freed: the heap grew to 23 GB.
    """
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**23))


def measure_in_turns(sides: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, list[T]]:
    """Measure each side once, then each once more, and so on.

    Parameters
    ----------
    sides : mapping of str to callable
        What measures each side.
    repeats : int
        How many times.

    Returns
    -------
    dict of str to list
        The measurements of each side.
    """
    results: dict[str, list[T]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, measure in sides.items():
            results[name].append(measure())
    return results


@contextmanager
def workers(stack_of: Mapping[str, tuple[str, str, dict[str, Any]]]):
    """Start a worker per name; all end together."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Worker(module, cls, **kwargs))
            for name, (module, cls, kwargs) in stack_of.items()
        }


def _serve(connection: Connection, module: str, name: str, kwargs: dict[str, Any]) -> None:
    try:
        served = getattr(importlib.import_module(module), name)(**kwargs)
        connection.send((False, None))
        while True:
            method, args, kwargs = connection.recv()
            value = getattr(served, method)(*args, **kwargs) if method else peak_bytes()
            connection.send((False, value))
    except EOFError:  # the parent has closed its end
        pass
    except Exception:
        connection.send((True, traceback.format_exc()))


def peak_bytes() -> int:
    """Largest resident size of this process.

    Not ``ru_maxrss`` where there is another way: on Linux it begins with the size of the parent process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
