"""Images -> feature maps, each image's once."""

from collections.abc import Generator, Sequence
from contextlib import closing
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import PIL
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor

from skcsflow._compute import Runner
from skcsflow._features._cache import CachedFeatures, FeatureCache
from skcsflow._version import __version__

__all__ = ["FeatureExtraction", "ImageFeatures", "extract_features"]

LEAST_ENLARGEMENT = 4
"""JPEGs are read at a reduced size of so many times the model's, at least: what is left out is averaged away anyway."""


class ImageSource(Protocol):
    """What images are read from: :class:`~skcsflow._images.ImageCollection` or its like."""

    value_range: tuple[float, float] | None
    """What becomes 0 and 1."""

    errors: dict[int, str]
    """Of images that could not be read, why."""

    def __len__(self) -> int: ...

    @property
    def is_tiled(self) -> bool:
        """Whether an image may have many frames."""
        ...

    def load(self, i: int) -> Any:
        """What image `i` is made of, such as the bytes of a file."""
        ...

    def digest(self, content: Any) -> bytes:
        """Digest of what `load` gave, and of all else that `frames` depends on."""
        ...

    def frames(
        self, i: int, content: Any, least_size: tuple[int, int]
    ) -> tuple[list[Tensor], tuple[int, int]]:
        """Of what `load` gave for image `i`, the parts that go through the network, and the image's size."""
        ...

    def note_error(self, i: int, error: Exception) -> bool:
        """Take note that image `i` could not be read; gives whether to go on without it."""
        ...


class ImageFeatures(NamedTuple):
    """Feature maps of one image.

    Attributes
    ----------
    frames : list of lists of Tensors of shape (channels, H_s, W_s)
        Feature maps of each frame, one per scale, contiguous; on the model's device or the CPU.
    size : tuple of int (H, W)
        Size that the image came in.
    """

    frames: list[list[Tensor]]
    size: tuple[int, int]


def extract_features(
    runner: Runner,
    images: ImageSource,
    rows: NDArray[np.int64],
    *,
    n_threads: int,
    cache: FeatureCache | None = None,
) -> Generator[ImageFeatures, None, None]:
    """Read images and run them through the backbone.

    Parameters
    ----------
    runner : Runner
        Runs the model.
    images : ImageSource
        The images.
    rows : ndarray of int
        Which of them.
    n_threads : int
        Number of threads, see :meth:`Runner.map`.
    cache : FeatureCache or None, default=None
        Where features are looked up, and kept. They are the same bits with and without.

    Yields
    ------
    ImageFeatures
        Of each image in turn that can be read.
    """
    extraction = FeatureExtraction(runner, images, cache, n_threads)
    results = runner.map(
        lambda i: extraction.read(int(rows[i])),
        extraction.finish,
        len(rows),
        n_threads,
        one_by_one=images.is_tiled,
    )
    with closing(results):  # its threads end here, also where the caller keeps the error
        for features in results:
            if features is not None:
                yield features


class PendingImage(NamedTuple):
    """An image whose features were found in the cache, or which has been read, or neither where it can't be."""

    row: int
    key: str
    cached: CachedFeatures | None
    frames: list[Tensor] | None
    size: tuple[int, int]


class FeatureExtraction:
    """Extracts features of images, or finds them in the cache, in two steps for :meth:`Runner.map`.

    Parameters
    ----------
    runner, images, cache, n_threads
        As in :func:`extract_features`.
    """

    def __init__(
        self, runner: Runner, images: ImageSource, cache: FeatureCache | None, n_threads: int = 1
    ) -> None:
        self.runner = runner
        self.images = images
        self.cache = cache
        self.n_cores = n_threads if len(images) == 1 else 1  # an image alone may have all
        height, width = runner.model.input_size
        self.least_size = (LEAST_ENLARGEMENT * height, LEAST_ENLARGEMENT * width)
        # On a CPU, so that a group's images are not all held at their full size. Tiles are parts of one image.
        self.standardizes_early = runner.device.type == "cpu" and not images.is_tiled
        self.context = b"" if cache is None else self._context()

    def read(self, row: int) -> PendingImage:
        """Look an image's features up, or read the image; for several threads at a time."""
        try:
            return self._read(row)
        except (ValueError, TypeError) as error:
            if not self.images.note_error(row, error):
                raise
            return PendingImage(row, "", None, None, (0, 0))

    def _read(self, row: int) -> PendingImage:
        key = ""
        content = self.images.load(row)  # once, for key and image: a file may change at any time
        if self.cache is not None:
            key = blake2b(self.context + self.images.digest(content), digest_size=16).hexdigest()
            if (cached := self.cache.get(key)) is not None:
                return PendingImage(row, key, cached, None, cached.size)
        frames, size = self.images.frames(row, content, self.least_size)
        if self.standardizes_early:
            frames = list(self.runner.standardize(frames, self.images.value_range))
        return PendingImage(row, key, None, frames, size)

    def finish(self, pending: list[PendingImage]) -> list[ImageFeatures | None]:
        """Extract the features that weren't found, of at most a batch of images; None where one can't be read."""
        missing = [p for p in pending if p.frames is not None]
        new = iter(self._extract_and_keep(missing) if missing else [])
        features: list[ImageFeatures | None] = []
        for p in pending:
            if p.cached is not None:
                features.append(ImageFeatures(_tensors(p.cached), p.size))
            else:
                features.append(None if p.frames is None else ImageFeatures(next(new), p.size))
        return features

    def _extract_and_keep(self, pending: list[PendingImage]) -> list[list[list[Tensor]]]:
        if self.cache is None:
            return self._extract(pending)

        def compute(missing: list[int]) -> list[CachedFeatures]:
            chosen = [pending[i] for i in missing]
            return [
                CachedFeatures([[m.cpu().numpy() for m in maps] for maps in frames], p.size)
                for p, frames in zip(chosen, self._extract(chosen), strict=True)
            ]

        return [_tensors(entry) for entry in self.cache.get_or_compute([p.key for p in pending], compute)]

    def _extract(self, pending: list[PendingImage]) -> list[list[list[Tensor]]]:
        frames = [frame for p in pending for frame in p.frames or ()]
        n_cores = self.n_cores if len(frames) == 1 else 1

        def extract(batch: Sequence[Tensor]) -> list[list[Tensor]]:
            if not self.standardizes_early:
                batch = list(self.runner.standardize(batch, self.images.value_range))
            return self.runner.features(batch, n_cores)

        extracted = self.runner.in_groups(extract, frames, self.n_cores)
        finite = torch.stack([result[-1] for result in extracted])
        rows = [p.row for p in pending for _ in p.frames or ()]
        if not finite.all():
            row = rows[int(finite.int().argmin())]
            raise ValueError(
                f"Input X contains values too large: the features of X[{row}] would not be finite. Floats should "
                "lie between 0 and 1."
            )
        maps = (result[:-1] for result in extracted)
        return [list(islice(maps, len(p.frames or ()))) for p in pending]

    def _context(self) -> bytes:
        """All that features depend on beside the image."""
        model = self.runner.model
        packages = [__version__, torch.__version__, timm.__version__, PIL.__version__]
        if self.runner.engine == "openvino":
            import openvino

            packages.append(openvino.__version__)
        sizes = model.input_size, self.least_size
        return repr((self.runner.fingerprint, sizes, self.runner.kernels, packages)).encode()


def _tensors(entry: CachedFeatures) -> list[list[Tensor]]:
    return [[torch.from_numpy(m) for m in maps] for maps in entry.frames]
