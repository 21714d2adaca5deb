"""Training images: which can be read, their feature maps, and the scores that a trained model gives them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from skcsflow._compute import Processes, Runner, map_on_cores
from skcsflow._detector._progress import with_progress
from skcsflow._features import FeatureCache, FeatureMaps, ImageFeatures, extract_features, gather_features
from skcsflow._images import ImageCollection
from skcsflow._scoring import MapMaker, join_frames, score_features

__all__ = ["TrainingFeatures", "readable_rows", "training_features"]


class TrainingFeatures(NamedTuple):
    """Feature maps of the training images.

    Attributes
    ----------
    features : sequence of Tensors or MappedMaps of shape (n_frames, channels, H_s, W_s)
        Of all frames, image by image; one per scale.
    sizes : list of tuples of int (H, W)
        Sizes that the images came in.
    counts : ndarray of int
        Number of frames of each image.
    """

    features: Sequence[FeatureMaps]
    sizes: list[tuple[int, int]]
    counts: NDArray[np.int64]

    def frames_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which frames are those of these images."""
        return np.flatnonzero(np.isin(np.repeat(np.arange(len(self.counts)), self.counts), rows))

    def score(
        self, runner: Runner, rows: NDArray[np.int64], make_map: MapMaker, n_threads: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores of images of these rows, and the highest value of each one's map at its own size."""
        scores, peaks = np.empty((2, len(rows)))  # a map at a time: those of all would fill the memory
        with closing(
            score_features(runner, self.features, self.frames_of(rows), n_threads=n_threads)
        ) as scored:
            for i, row in enumerate(rows):
                image = join_frames(list(islice(scored, self.counts[row])), self.sizes[row])
                scores[i], peaks[i] = -image.anomaly_score, make_map(image).max()
        return scores, peaks


def readable_rows(
    images: ImageCollection, rows: NDArray[np.int64], n_threads: int, *, goes_on: bool
) -> NDArray[np.int64]:
    """The rows that can be read; an error where one can't and one doesn't go on without it."""
    if not goes_on:
        images.check_files(rows.tolist())
        return rows
    readable = rows[list(map_on_cores(images.is_readable, rows.tolist(), n_threads))]
    images.warn_of_errors("They are left out of the training.")
    if len(readable) == 0:
        raise ValueError("No image of X can be read.")
    return readable


@contextmanager
def training_features(
    runner: Runner,
    images: ImageCollection,
    rows: NDArray[np.int64],
    n_threads: int,
    cache: FeatureCache | None,
    processes: Processes,
    verbose: int,
) -> Iterator[TrainingFeatures]:
    """Feature maps of the training images, for as long as the context lasts."""
    folder = None if cache is None else cache.folder
    sizes: list[tuple[int, int]] = []
    counts: list[int] = []

    mine = rows[processes.rank :: processes.n]
    extracted = extract_features(runner, images, mine, n_threads=n_threads, cache=cache)
    if processes.n > 1:
        on_cpu = (f._replace(frames=[[m.cpu() for m in maps] for maps in f.frames]) for f in extracted)
        extracted = processes.in_turn(on_cpu, len(rows))

    def maps_of(items: Iterable[ImageFeatures]) -> Iterator[list[Tensor]]:
        for item in items:
            sizes.append(item.size)
            counts.append(len(item.frames))
            yield from item.frames

    with (
        closing(with_progress(extracted, len(rows), "features", verbose)) as items,
        gather_features(maps_of(items), len(rows), runner.device, folder) as features,
    ):
        if processes.n > 1:
            for contents, values in processes.gather((images.contents, images.ranges.values())):
                images.contents = (images.contents or set()) | (contents or set())
                images.ranges.merge(values)
        yield TrainingFeatures(features, sizes, np.array(counts))
