"""Images or their feature maps -> scores and anomaly maps."""

from collections.abc import Generator, Sequence
from contextlib import closing
from math import nan
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skcsflow._compute import Runner, one_core
from skcsflow._features import FeatureCache, FeatureExtraction, FeatureMaps, ImageSource, PendingImage
from skcsflow.nn import AnomalyMapGenerator

__all__ = ["ImageScores", "fuse_map", "score_features", "score_images"]


class ImageScores(NamedTuple):
    """What the model says of one image.

    Attributes
    ----------
    anomaly_score : float
        Higher is more anomalous, see :class:`~skcsflow.nn.ScoreMode`.
    log_likelihood : float
        Log-likelihood of the image's features, per dimension. Both NaN where the image can't be read.
    scale_maps : list of Tensors of shape (H_s, W_s)
        Mean of ``z ** 2`` over the channels, per scale; on the CPU. None where the image can't be read.
    size : tuple of int (H, W) or None
        Size that the image came in, if it can be read.
    """

    anomaly_score: float
    log_likelihood: float
    scale_maps: list[Tensor]
    size: tuple[int, int] | None


UNREADABLE = ImageScores(nan, nan, [], None)
"""Of an image that can't be read."""


def score_images(
    runner: Runner, images: ImageSource, *, n_threads: int, cache: FeatureCache | None = None
) -> Generator[ImageScores, None, None]:
    """Score images.

    Parameters
    ----------
    runner : Runner
        Runs the model.
    images : ImageSource
        The images.
    n_threads : int
        Number of threads, see :meth:`Runner.map`.
    cache : FeatureCache or None, default=None
        Where features are looked up, and kept.

    Yields
    ------
    ImageScores
        Of each image in turn.

    Raises
    ------
    ValueError
        Where a score or map would not be finite, naming the row.
    """
    extraction = FeatureExtraction(runner, images, cache, n_threads)

    def compute(pending: list[PendingImage]) -> list[tuple[list[Tensor], tuple[int, int]] | None]:
        features = extraction.finish(pending)
        maps = [f.maps for f in features if f is not None]
        scored = iter(runner.scores(maps) if maps else [])
        return [None if f is None else (next(scored), f.size) for f in features]

    results = runner.map(extraction.read, compute, len(images), n_threads)
    with closing(results):  # its threads end here, also where the caller keeps the error
        for i, result in enumerate(results):
            if result is None:
                yield UNREADABLE
                continue
            (score, log_likelihood, *scale_maps, is_finite), size = result
            if not is_finite:
                raise ValueError(
                    f"Input X contains values too large: the score or map of X[{i}] would not be finite. Floats should "
                    "lie between 0 and 1."
                )
            yield ImageScores(score.item(), log_likelihood.item(), scale_maps, size)


def score_features(
    runner: Runner, features: Sequence[FeatureMaps], rows: NDArray[np.int64], *, n_threads: int
) -> Generator[tuple[float, list[Tensor]], None, None]:
    """Score images whose feature maps are at hand: the same bits as :func:`score_images` gives.

    Parameters
    ----------
    runner : Runner
        Runs the model.
    features : sequence of Tensors or MappedMaps of shape (n, channels, H_s, W_s)
        Feature maps as :func:`~skcsflow._features.gather_features` gives them.
    rows : ndarray of int
        Which of them.
    n_threads : int
        Number of threads, see :meth:`Runner.map`.

    Yields
    ------
    anomaly_score, scale_maps
        As in :class:`ImageScores`; not finite where the flow has diverged.
    """
    results = runner.map(lambda i: [f[int(rows[i])] for f in features], runner.scores, len(rows), n_threads)
    with closing(results):
        for score, _, *scale_maps, _ in results:
            yield score.item(), scale_maps


def fuse_map(
    generator: AnomalyMapGenerator, scale_maps: Sequence[Tensor], size: tuple[int, int]
) -> NDArray[np.float32]:
    """Make one anomaly map of an image's maps at all scales.

    Parameters
    ----------
    generator : AnomalyMapGenerator
        The model's.
    scale_maps : sequence of Tensors of shape (H_s, W_s)
        Maps of the scales, on the CPU; none of an image that can't be read.
    size : tuple of int (H, W)
        Size of the map to make.

    Returns
    -------
    ndarray of shape (H, W), float32
        The map; NaN where there are no maps of scales.
    """
    if not scale_maps:
        return np.full(size, np.nan, dtype=np.float32)
    with torch.inference_mode(), torch.autocast("cpu", enabled=False), one_core():
        fused = generator.fuse([m[None, None] for m in scale_maps], size)
    return fused[0, 0].numpy().astype(np.float32, copy=False)
