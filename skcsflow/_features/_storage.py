"""Features of the training images: in memory, or in mapped files where they may be larger than it."""

import mmap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["FeatureMaps", "MappedMaps", "gather_features", "in_batches"]

RELEASE_BYTES = 2**24
"""Bytes of a mapped file that may have become resident when its pages are given back to the system."""

_PAGES_AROUND = 2**16  # Linux maps so many bytes around each that is read, as far as it has them cached
_BATCH_SIZE = 32


class MappedMaps:
    """Feature maps of one scale in a mapped file, read as they are asked for.

    Stands in for a Tensor of shape (n, channels, H, W), channels last in memory, as far
    as rows are taken: by a number, a slice or a Tensor of numbers. They come as copies,
    with the strides that those of such a Tensor have.

    Parameters
    ----------
    file : file object
        A file of such a Tensor's numbers, as they lie in memory.
    like : Tensor of shape (channels, H, W)
        A row, for its shape and type.
    device : torch.device
        Where rows are put.
    """

    def __init__(self, file: IO[bytes], like: Tensor, device: torch.device) -> None:
        channels, height, width = like.shape
        self.device = device
        self._mapping = mmap.mmap(file.fileno(), 0)
        numbers = np.frombuffer(self._mapping, dtype=like.cpu().numpy().dtype)
        self._maps = torch.from_numpy(numbers.reshape(-1, height, width, channels)).permute(0, 3, 1, 2)
        self._row_bytes = like.nbytes + _PAGES_AROUND
        self._n_resident = 0

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, rows: int | slice | Tensor) -> Tensor:
        taken = self._maps[rows]
        if not isinstance(rows, Tensor):
            taken = taken.clone()  # the others are copies as it is
        self._n_resident += self._row_bytes * (1 if isinstance(rows, int) else len(taken))
        if self._n_resident >= RELEASE_BYTES:
            self._release()
        if self.device.type == "cuda":
            return taken.pin_memory().to(self.device, non_blocking=True)
        return taken

    def _release(self) -> None:
        # Pages that were read count as this process's memory until the system needs them for something
        # else. Nothing is lost, also where another thread is reading: they are read again from the file.
        self._n_resident = 0
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._mapping.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Give up the mapping, without which the file can't be deleted on Windows."""
        del self._maps
        with suppress(BufferError):  # a thread of an interrupted fit still reads; it ends with that
            self._mapping.close()


FeatureMaps: TypeAlias = Tensor | MappedMaps
"""Feature maps of all images at one scale."""


@contextmanager
def gather_features(
    items: Iterable[Sequence[Tensor]], n_expected: int, device: torch.device, folder: Path | None = None
) -> Iterator[Sequence[FeatureMaps]]:
    """Gather the features of images for training, for as long as the context lasts.

    Parameters
    ----------
    items : iterable of sequences of Tensors of shape (channels, H_s, W_s)
        The feature maps of each image, or frame of one, in turn, one per scale.
    n_expected : int
        How many these are; more are taken too.
    device : torch.device
        Where features are put: all of them, or, of mapped files, the rows that are taken.
    folder : path or None, default=None
        Where features go into temporary files, unless they fit on a GPU: into half of
        its free memory. None: they are held in memory.

    Yields
    ------
    sequence of Tensors or MappedMaps of shape (n, channels, H_s, W_s)
        One per scale, channels last in memory. Both give the same bits.
    """
    items = iter(items)
    first = next(items)
    items = chain([first], items)
    if folder is None or _fits(device, n_expected * sum(m.nbytes for m in first)):
        yield _in_memory(first, items, n_expected, device)
        return
    with ExitStack() as opened:
        # The operating system deletes them, also where the process is killed.
        files = [
            opened.enter_context(TemporaryFile(buffering=0, dir=folder, prefix="skcsflow-")) for _ in first
        ]
        for maps in items:
            for file, m in zip(files, maps, strict=True):
                # Written, not mapped yet: a disk that is full then raises, and doesn't kill the process.
                try:
                    _write(file, m.movedim(0, -1).contiguous().cpu().numpy().data.cast("B"))
                except OSError as error:
                    reason = f"{error.strerror}, for the features of the training images in memory"
                    raise OSError(error.errno, reason, str(folder)) from error
        mapped = []
        for file, m in zip(files, first, strict=True):
            mapped.append(MappedMaps(file, m, device))
            opened.callback(mapped[-1].close)
        yield mapped


def _write(file: IO[bytes], content: memoryview) -> None:
    while len(content):
        content = content[file.write(content) :]


def in_batches(features: Sequence[FeatureMaps], rows: NDArray[np.int64]) -> Iterator[list[Tensor]]:
    """Rows in turn, in batches of one size, so that sums over them don't depend on where they are."""
    for batch in torch.from_numpy(rows).split(_BATCH_SIZE):
        yield [f[batch] for f in features]


def _fits(device: torch.device, n_bytes: int) -> bool:
    return device.type == "cuda" and n_bytes <= torch.cuda.mem_get_info(device)[0] / 2


def _in_memory(
    first: Sequence[Tensor], items: Iterable[Sequence[Tensor]], n_expected: int, device: torch.device
) -> list[Tensor]:
    def room(n: int) -> list[Tensor]:
        return [
            torch.empty((n, *m.shape), dtype=m.dtype, device=device, memory_format=torch.channels_last)
            for m in first
        ]

    gathered, n = room(n_expected), 0
    for maps in items:
        if n == len(gathered[0]):  # images of many frames
            larger = room(2 * n)
            for new, old in zip(larger, gathered, strict=True):
                new[:n] = old
            gathered = larger
        for of_scale, m in zip(gathered, maps, strict=True):
            of_scale[n] = m
        n += 1
    return [of_scale[:n] for of_scale in gathered]
