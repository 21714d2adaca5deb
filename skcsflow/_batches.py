"""Networks applied to many items so that no result depends on the others."""

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice, repeat
from typing import NamedTuple, TypeVar

import joblib
import torch
from torch import Tensor, nn

from skcsflow._device import cores, has_fast_bfloat16, repeatable
from skcsflow._weights_cache import WeightsCache

__all__ = [
    "Batching",
    "apply_in_batches",
    "apply_on_cores",
    "map_items",
    "map_on_cores",
    "resolve_batching",
    "resolve_n_cores",
]

CUDA_BATCH_SIZE = 16
"""Items that go through a network together on a GPU; always that many."""

CPU_BATCH_SIZE = 4
"""Images that go through a network together on one core, at most."""

CPU_BATCH_PIXELS = 2**18
"""Pixels of such images: of more, the maps of a backbone's first layers leave the caches."""

BATCHES_PER_THREAD = 4
"""Batches that each thread must get, lest threads wait for the last ones; where their size isn't fixed."""

T = TypeVar("T")
R = TypeVar("R")


def map_items(
    read: Callable[[int], T],
    compute: Callable[[list[T]], list[R]],
    n_items: int,
    device: torch.device,
    n_jobs: int | None,
    size: int = 1,
) -> Generator[R, None, None]:
    """Read items and compute a result for each.

    Which kernels run, and so the last digits of a result, depend on the shape of a
    batch and on the number of threads. On the CPU each batch therefore is computed on one
    core (but for an item that is alone), several batches at a time, and
    :func:`apply_in_batches` sees to it that the other items of a batch change nothing.

    Parameters
    ----------
    read : callable
        Gives item `i`. Runs in several threads.
    compute : callable
        Takes a list of items, `size` of them or what is left, and gives a list of their
        results. On the CPU runs in several threads.
    n_items : int
        Number of items.
    device : torch.device
        Where to compute.
    n_jobs : int or None
        Number of threads to read with, and on the CPU to compute with. None: as many as
        torch uses here; -1: as many as there are cores.
    size : int, default=1
        Number of items in a batch, see :func:`resolve_batching`.

    Yields
    ------
    object
        Result for each item in turn.
    """
    if device.type == "cpu":
        batches = (range(start, min(start + size, n_items)) for start in range(0, n_items, size))
        computed = map_on_cores(lambda batch: _read_and_compute(read, compute, batch), batches, n_jobs)
        with closing(computed):
            for results, error in computed:
                yield from results
                if error is not None:
                    raise error
        return
    items = map_on_cores(read, range(n_items), n_jobs)
    while batch := list(islice(items, size)):
        with torch.inference_mode(), repeatable(device):  # not over the yield: the caller must not be in it
            results = compute(batch)
        yield from results


def _read_and_compute(
    read: Callable[[int], T], compute: Callable[[list[T]], list[R]], batch: range
) -> tuple[list[R], Exception | None]:
    """Results of the items up to the first that can't be read, and why it can't."""
    items: list[T] = []
    error = None
    for i in batch:
        try:
            items.append(read(i))
        except Exception as reason:
            error = reason
            break
    return compute(items) if items else [], error


class Batching(NamedTuple):
    """How many items go through a network together.

    Attributes
    ----------
    size : int
        Number of items, at most.
    is_fixed : bool
        Whether each batch has that size, filled up where there are fewer items.
    """

    size: int
    is_fixed: bool


def resolve_batching(
    n_items: int,
    image_size: Sequence[int],
    device: torch.device,
    precision: str,
    n_jobs: int | None,
    *,
    is_wide: bool,
) -> Batching:
    """Choose how many images go through a network together, see :func:`apply_in_batches`.

    Parameters
    ----------
    n_items : int
        Number of images in all.
    image_size : sequence of int (H, W)
        Size of each.
    device : torch.device
        Where to compute.
    precision : {"float32", "float64", "bfloat16"}
        Precision to compute in.
    n_jobs : int or None
        Number of threads, see :func:`map_items`.
    is_wide : bool
        Whether reading the network's weights takes longer than the products of one image.

    Returns
    -------
    Batching
        On the CPU of one image where these are large.
    """
    if device.type != "cpu":
        return Batching(CUDA_BATCH_SIZE, is_fixed=True)
    size = max(1, min(CPU_BATCH_SIZE, CPU_BATCH_PIXELS // (image_size[0] * image_size[1])))
    # Rounding to bfloat16 hides that sums are made in another order, but for some images (2 to 95 of
    # 304 were seen after a trial that had passed): a trial can't tell. Where products are fast, filling
    # up a batch costs little beside reading a wide network's weights.
    if precision == "bfloat16":
        return Batching(size if is_wide and has_fast_bfloat16(device) else 1, is_fixed=True)
    is_enough = n_items >= BATCHES_PER_THREAD * size * resolve_n_threads(n_jobs)
    return Batching(size if is_enough else 1, is_fixed=False)


def apply_in_batches(
    function: Callable[[list[Tensor]], list[Tensor]],
    items: Sequence[Sequence[Tensor]],
    batching: Batching,
    device: torch.device,
    network: nn.Module,
    kernels: tuple[str, ...],
) -> list[list[Tensor]]:
    """Apply a function of batches to items, each of which gets the same bits whatever the others are.

    In a batch items share the reading of the network's weights. Which kernels run depends
    on the size of a batch, not on what is in it or where: a batch whose size is fixed is
    filled up with copies of its last item. Otherwise, full batches go together where each
    item has the bits that it has alone. Whether kernels compute an item alike in a batch
    and alone is for their libraries to choose: it is tried once, with noise, for each
    network, shape and size; where a single bit differs, items go one by one. In float32
    and float64 sums made in another order show in most of their last bits.

    Parameters
    ----------
    function : callable
        Takes and returns a list of Tensors of shape (batch size, ...), on `device`.
    items : sequence of sequences of Tensors
        The tensors of each item, without the batch's axis; at most ``batching.size`` of
        them.
    batching : Batching
        How many go together.
    device : torch.device
        Where to compute.
    network : nn.Module
        The network that the function runs.
    kernels : tuple of str
        What else chooses the kernels: engine and precision.

    Returns
    -------
    list of lists of Tensors
        Result for each item, without the batch's axis.
    """
    size, is_fixed = batching
    if len(items) > size:
        raise ValueError(f"A batch holds at most {size} items here, got {len(items)}.")
    if is_fixed:
        filled = [*items, *repeat(items[-1], size - len(items))]
        return _together(lambda batch: function([t.to(device) for t in batch]), filled)[: len(items)]
    if len(items) == size > 1:
        key = (*kernels, "together", size, _shapes(items[0]))
        if _SAME_BITS.get_or_make(network, key, lambda: _is_same_together(function, items)):
            return _together(function, items)
    return [result for item in items for result in _together(function, [item])]


def apply_on_cores(
    function: Callable[[list[Tensor]], list[Tensor]],
    item: Sequence[Tensor],
    n_cores: int,
    network: nn.Module,
    kernels: tuple[str, ...],
) -> list[Tensor]:
    """Apply a function of batches to an item on several cores, where this gives it the bits that it has on one.

    Tried as in :func:`apply_in_batches`, whose parameters these are; `n_cores` is the number of cores.
    """
    key = (*kernels, "cores", n_cores, _shapes(item))
    is_same = _SAME_BITS.get_or_make(network, key, lambda: _is_same_on_cores(function, item, n_cores))
    with cores(n_cores if is_same else 1):
        return _together(function, [item])[0]


def _is_same_together(
    function: Callable[[list[Tensor]], list[Tensor]], items: Sequence[Sequence[Tensor]]
) -> bool:
    noise = _noise_like(items)
    alone = (_together(function, [item])[0] for item in noise)
    return all(map(_is_same, _together(function, noise), alone))


def _is_same_on_cores(
    function: Callable[[list[Tensor]], list[Tensor]], item: Sequence[Tensor], n_cores: int
) -> bool:
    # Several, as a single sum may come out alike by chance.
    noise = [[n] for n in _noise_like([item] * CPU_BATCH_SIZE)]
    with cores(1):
        on_one = [_together(function, n)[0] for n in noise]
    with cores(n_cores):
        on_many = [_together(function, n)[0] for n in noise]
    return all(map(_is_same, on_one, on_many))


def _noise_like(items: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    # Not the items themselves: these may be alike, or black.
    generator = torch.Generator().manual_seed(0)
    return [[torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in item] for item in items]


def _is_same(result: list[Tensor], other: list[Tensor]) -> bool:
    # Where noise overflows, results that are all alike tell nothing.
    return all(
        bool(a.isfinite().all()) and a.numpy().tobytes() == b.numpy().tobytes()
        for a, b in zip(result, other, strict=True)
    )


def _shapes(item: Sequence[Tensor]) -> tuple[tuple[torch.Size, torch.dtype], ...]:
    return tuple((t.shape, t.dtype) for t in item)


def _together(
    function: Callable[[list[Tensor]], list[Tensor]], items: Sequence[Sequence[Tensor]]
) -> list[list[Tensor]]:
    results = function([torch.stack(tensors) for tensors in zip(*items, strict=True)])
    return [[r[k] for r in results] for k in range(len(items))]


_SAME_BITS: WeightsCache[bool] = WeightsCache()
"""Outcomes of the trials of each network."""


def resolve_n_threads(n_jobs: int | None) -> int:
    """Number of threads that `n_jobs` means, see :func:`map_items`."""
    if n_jobs is None:
        return torch.get_num_threads()
    return n_jobs if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + n_jobs)


def resolve_n_cores(n_jobs: int | None) -> int:
    """Number of cores for a single image: threads that `n_jobs` means, but no more than there are cores."""
    return min(resolve_n_threads(n_jobs), joblib.cpu_count())


def map_on_cores(
    function: Callable[[T], R], items: Iterable[T], n_jobs: int | None
) -> Generator[R, None, None]:
    """Apply a function to items in threads that keep to one core each; results in order."""
    intra_op_threads = torch.get_num_threads()
    n_threads = resolve_n_threads(n_jobs)

    def run(item: T) -> R:
        with torch.inference_mode():
            return function(item)

    with ThreadPoolExecutor(n_threads, initializer=_keep_to_one_core) as pool:
        iterator = iter(items)
        # Twice as many in flight as threads: none waits, and memory stays bounded.
        waiting: list[Future[R]] = [pool.submit(run, item) for item in islice(iterator, 2 * n_threads)]
        try:
            while waiting:
                result = waiting.pop(0).result()
                waiting.extend(pool.submit(run, item) for item in islice(iterator, 1))
                # In a thread, set_num_threads also sets what threads born later start with: not one core.
                torch.set_num_threads(intra_op_threads)
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(intra_op_threads)


def _keep_to_one_core() -> None:
    # When a thread first computes, or asks, it takes over what any thread set last: ask, then set.
    torch.get_num_threads()
    torch.set_num_threads(1)
