"""The processes that fit one detector together, by torch.distributed."""

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Processes"]

T = TypeVar("T")

_CHUNK = 16
"""Items that each process hands over at a time."""


class Processes:
    """All processes of torch.distributed's default group, or this one alone.

    Each of them makes the same calls in the same order, and gets the same results.

    Parameters
    ----------
    are_several : bool, default=False
        Whether to work with the others.

    Attributes
    ----------
    rank : int
        Number of this process, from 0.
    n : int
        How many there are.

    Raises
    ------
    ValueError
        Where there is no group.
    """

    def __init__(self, are_several: bool = False) -> None:
        if are_several and not (dist.is_available() and dist.is_initialized()):
            raise ValueError(
                "distributed=True needs the processes of torchrun: call "
                'torch.distributed.init_process_group("gloo"), or "nccl" for GPUs, before fit.'
            )
        self.rank, self.n = (dist.get_rank(), dist.get_world_size()) if are_several else (0, 1)

    def share(self, n_items: int) -> slice:
        """The part of this process of so many items in a row."""
        return slice(n_items * self.rank // self.n, n_items * (self.rank + 1) // self.n)

    def from_first(self, value: T) -> T:
        """The value that the first process has."""
        if self.n == 1:
            return value
        values: list[Any] = [value]
        _together(lambda: dist.broadcast_object_list(values, src=0))
        found: T = values[0]
        return found

    def gather(self, value: T) -> list[T]:
        """The values of all processes."""
        if self.n == 1:
            return [value]
        values: list[Any] = [None] * self.n
        _together(lambda: dist.all_gather_object(values, value))
        return values

    def check_alike(self, given: dict[str, Any]) -> None:
        """Check that all processes were given the same.

        Raises
        ------
        ValueError
            Naming what differs.
        """
        for rank, other in enumerate(self.gather(given)):
            for name, value in given.items():
                if other[name] != value:
                    raise ValueError(
                        f"All processes must call fit with the same parameters and images, but {name} is {value!r} in "
                        f"process {self.rank} and {other[name]!r} in process {rank}."
                    )

    def in_turn(self, items: Iterator[T], n_items: int) -> Generator[T, None, None]:
        """Items of all processes: the first of each, the second of each, and so on.

        Parameters
        ----------
        items : iterator
            This process's. Where it raises an error, all processes do.
        n_items : int
            How many those of all processes are.
        """
        for _ in range(0, n_items, self.n * _CHUNK):
            some: list[T] = []
            error = None
            try:
                some = list(islice(items, _CHUNK))
            except Exception as caught:
                error = caught
            gathered = self.gather((some, None if error is None else str(error)))
            if error is not None:
                raise error
            for rank, (_, message) in enumerate(gathered):
                if message is not None:
                    raise RuntimeError(f"Process {rank} of the training failed: {message}")
            for k in range(_CHUNK):
                yield from (of_rank[k] for of_rank, _ in gathered if k < len(of_rank))

    def add_up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums of all processes' tensors, of the same shapes in each."""
        if self.n == 1:
            return list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        _together(lambda: dist.all_reduce(flat))
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def _together(communicate: Callable[[], Any]) -> None:
    try:
        communicate()
    except RuntimeError as error:
        raise RuntimeError(
            "The processes of the training lost touch: another one ended, failed, or can't be reached. Look at what it "
            "says, and start all of them again; with the parameter checkpoint, a training that was under way goes on. "
            f"torch.distributed says: {error}"
        ) from error
