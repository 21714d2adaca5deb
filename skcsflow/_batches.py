"""Networks applied to many items so that no result depends on the others."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, repeat
from typing import TypeVar

import joblib
import torch
from torch import Tensor

from skcsflow._device import repeatable

__all__ = ["apply_to_batch", "map_items", "map_on_cores", "resolve_n_threads"]

CUDA_BATCH_SIZE = 16
"""Items that go through a network together on a GPU; always that many."""

T = TypeVar("T")
R = TypeVar("R")


def map_items(
    read: Callable[[int], T],
    compute: Callable[[list[T]], list[R]],
    n_items: int,
    device: torch.device,
    n_jobs: int | None,
) -> Generator[R, None, None]:
    """Read items and compute a result for each.

    Which kernels run, and so the last digits of a result, depend on the shape of a
    batch and on the number of threads. On the CPU each item therefore is computed by
    itself on one core, several at a time, which for the small networks of a laptop is
    no slower. On a GPU items are computed up to 16 at a time; :func:`apply_to_batch`
    then gives all batches that size.

    Parameters
    ----------
    read : callable
        Gives item `i`. Runs in several threads.
    compute : callable
        Takes a list of items, gives a list of their results. On the CPU runs in several
        threads and is given one item at a time.
    n_items : int
        Number of items.
    device : torch.device
        Where to compute.
    n_jobs : int or None
        Number of threads to read with, and on the CPU to compute with. None: as many as
        torch uses here; -1: as many as there are cores.

    Yields
    ------
    object
        Result for each item in turn.
    """
    if device.type == "cpu":
        yield from map_on_cores(lambda i: compute([read(i)])[0], range(n_items), n_jobs)
        return
    items = map_on_cores(read, range(n_items), n_jobs)
    while batch := list(islice(items, CUDA_BATCH_SIZE)):
        with torch.inference_mode(), repeatable(device):  # not over the yield: the caller must not be in it
            results = compute(batch)
        yield from results


def apply_to_batch(
    function: Callable[[list[Tensor]], list[Tensor]],
    items: Sequence[Sequence[Tensor]],
    device: torch.device,
    size: int | None = None,
) -> list[list[Tensor]]:
    """Apply a function of batches to items, in a batch whose size is always the same.

    Parameters
    ----------
    function : callable
        Takes and returns a list of Tensors of shape (batch size, ...), on `device`.
    items : sequence of sequences of Tensors
        The tensors of each item, without the batch's axis; at most `size` of them.
    device : torch.device
        Where to compute.
    size : int or None, default=None
        Size of the batch, which is filled up with copies of the last item. None: 1 on
        the CPU, 16 on a GPU.

    Returns
    -------
    list of lists of Tensors
        Result for each item, without the batch's axis. It depends on nothing but the
        item.
    """
    if size is None:
        size = 1 if device.type == "cpu" else CUDA_BATCH_SIZE
    if len(items) > size:
        raise ValueError(f"A batch holds at most {size} items here, got {len(items)}.")
    filled = [*items, *repeat(items[-1], size - len(items))]
    results = function([torch.stack(tensors).to(device) for tensors in zip(*filled, strict=True)])
    return [[r[k] for r in results] for k in range(len(items))]


def resolve_n_threads(n_jobs: int | None) -> int:
    """Number of threads that `n_jobs` means, see :func:`map_items`."""
    if n_jobs is None:
        return torch.get_num_threads()
    return n_jobs if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + n_jobs)


def map_on_cores(function: Callable[[T], R], items: Iterable[T], n_jobs: int | None) -> Iterator[R]:
    """Apply a function to items in threads that keep to one core each; results in order."""
    intra_op_threads = torch.get_num_threads()
    n_threads = resolve_n_threads(n_jobs)

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
