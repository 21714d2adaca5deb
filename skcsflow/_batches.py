"""Networks applied to many items so that no result depends on the others."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice, repeat
from typing import TypeVar

import joblib
import torch
from torch import Tensor

from skcsflow._device import repeatable

__all__ = ["map_items"]

CUDA_BATCH_SIZE = 16
"""Items that go through a network together on a GPU; always that many."""

T = TypeVar("T")
R = TypeVar("R")


def map_items(
    function: Callable[[list[Tensor]], list[Tensor]],
    read: Callable[[int], list[Tensor]],
    n_items: int,
    device: torch.device,
    n_jobs: int | None,
) -> Iterator[list[Tensor]]:
    """Read items and apply a function of batches to them.

    Which kernels run, and so the last digits of a result, depend on the shape of a
    batch and on the number of threads. On the CPU each item therefore is a batch of its
    own on one core, several at a time, which for the small networks of a laptop is no
    slower. On a GPU all batches have one size, the last one being filled up.

    Parameters
    ----------
    function : callable
        Takes and returns a list of Tensors of shape (batch size, ...), on `device`.
    read : callable
        Gives the tensors of item `i`, without the batch's axis.
    n_items : int
        Number of items.
    device : torch.device
        Where to compute.
    n_jobs : int or None
        Number of threads to read with, and on the CPU to compute with. None: as many as
        torch uses here; -1: as many as there are cores.

    Yields
    ------
    list of Tensors
        Result for each item in turn, without the batch's axis. It depends on nothing
        but the item.
    """
    if device.type == "cpu":

        def run(i: int) -> list[Tensor]:
            return [r[0] for r in function([t[None] for t in read(i)])]

        yield from _map_on_cores(run, range(n_items), n_jobs)
    else:
        items = _map_on_cores(read, range(n_items), n_jobs)
        yield from _map_batches(function, items, CUDA_BATCH_SIZE, device)


def _map_batches(
    function: Callable[[list[Tensor]], list[Tensor]],
    items: Iterable[list[Tensor]],
    batch_size: int,
    device: torch.device,
) -> Iterator[list[Tensor]]:
    iterator = iter(items)
    with torch.inference_mode(), repeatable(device):
        while batch := list(islice(iterator, batch_size)):
            filled = islice(chain(batch, repeat(batch[-1])), batch_size)
            results = function([torch.stack(t).to(device) for t in zip(*filled, strict=True)])
            for k in range(len(batch)):
                yield [r[k] for r in results]


def _map_on_cores(function: Callable[[T], R], items: Iterable[T], n_jobs: int | None) -> Iterator[R]:
    """Apply a function to items in threads that keep to one core each; results in order."""
    intra_op_threads = torch.get_num_threads()
    n_threads = intra_op_threads if n_jobs is None else n_jobs
    if n_threads < 0:
        n_threads = max(1, joblib.cpu_count() + 1 + n_threads)

    def run(item: T) -> R:
        with torch.inference_mode():
            return function(item)

    with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        iterator = iter(items)
        # Twice as many in flight as threads: none waits, and memory stays bounded.
        waiting: list[Future[R]] = [pool.submit(run, item) for item in islice(iterator, 2 * n_threads)]
        try:
            while waiting:
                result = waiting.pop(0).result()
                waiting.extend(pool.submit(run, item) for item in islice(iterator, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
            # In a thread, set_num_threads also sets what threads born later start with.
            torch.set_num_threads(intra_op_threads)
