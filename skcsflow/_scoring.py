"""Images or their feature maps -> scores and anomaly maps."""

from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import islice
from math import nan
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from skcsflow._compute import Runner, one_core
from skcsflow._features import FeatureCache, FeatureExtraction, FeatureMaps, ImageSource, PendingImage
from skcsflow._images import Framing
from skcsflow.nn import AnomalyMapGenerator

__all__ = ["ImageScores", "MapMaker", "join_frames", "score_features", "score_images"]

FrameScores: TypeAlias = tuple[float, float, list[Tensor]]
"""Of a frame: anomaly score, log-likelihood and maps of the scales, as in :class:`ImageScores`."""


class ImageScores(NamedTuple):
    """What the model says of one image.

    Attributes
    ----------
    anomaly_score : float
        Higher is more anomalous, see :class:`~skcsflow.nn.ScoreMode`.
    log_likelihood : float
        Log-likelihood of the image's features, per dimension. Both NaN where the image can't be read.
    frames : list of lists of Tensors of shape (H_s, W_s)
        Mean of ``z ** 2`` over the channels of each frame, per scale; on the CPU. None where the image can't be
        read.
    size : tuple of int (H, W) or None
        Size that the image came in, if it can be read.
    error : str or None
        Why it can't be read.
    """

    anomaly_score: float
    log_likelihood: float
    frames: list[list[Tensor]]
    size: tuple[int, int] | None
    error: str | None = None


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

    def compute(pending: list[PendingImage]) -> list[tuple[list[list[Tensor]], tuple[int, int]] | None]:
        features = extraction.finish(pending)
        frames = [maps for f in features if f is not None for maps in f.frames]
        scored = iter(runner.in_groups(runner.scores, frames, extraction.n_cores))
        return [None if f is None else (list(islice(scored, len(f.frames))), f.size) for f in features]

    results = runner.map(extraction.read, compute, len(images), n_threads, one_by_one=images.is_tiled)
    with closing(results):  # its threads end here, also where the caller keeps the error
        for i, result in enumerate(results):
            if result is None:
                yield UNREADABLE._replace(error=images.errors.get(i))
                continue
            frames, size = result
            if not all(is_finite for *_, is_finite in frames):
                raise ValueError(
                    f"Input X contains values too large: the score or map of X[{i}] would not be finite. Floats should "
                    "lie between 0 and 1."
                )
            yield join_frames([_frame_scores(frame) for frame in frames], size)


def score_features(
    runner: Runner, features: Sequence[FeatureMaps], rows: NDArray[np.int64], *, n_threads: int
) -> Generator[FrameScores, None, None]:
    """Score frames whose feature maps are at hand: the same bits as :func:`score_images` gives.

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
    FrameScores
        Of each in turn; not finite where the flow has diverged.
    """
    results = runner.map(lambda i: [f[int(rows[i])] for f in features], runner.scores, len(rows), n_threads)
    with closing(results):
        yield from map(_frame_scores, results)


def _frame_scores(result: list[Tensor]) -> FrameScores:
    """Of what :meth:`Runner.scores` gives for a frame."""
    score, log_likelihood, *scale_maps, _ = result
    return score.item(), log_likelihood.item(), scale_maps


def join_frames(frames: Sequence[FrameScores], size: tuple[int, int]) -> ImageScores:
    """What the model says of an image, by what it says of its frames: as anomalous as the worst of them."""
    scores, log_likelihoods, maps = zip(*frames, strict=True)
    return ImageScores(max(scores), sum(log_likelihoods) / len(frames), list(maps), size)


class MapMaker:
    """Makes the anomaly maps of images.

    Parameters
    ----------
    generator : AnomalyMapGenerator
        The model's, on the CPU.
    framing : Framing
        Which parts of the images went through the network.
    """

    def __init__(self, generator: AnomalyMapGenerator, framing: Framing) -> None:
        self.generator = generator
        self.framing = framing

    def __call__(self, scored: ImageScores, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """Make one map of an image's maps at all scales.

        Parameters
        ----------
        scored : ImageScores
            What the model says of the image.
        size : tuple of int (H, W) or None, default=None
            Size of the map to make. None: the image's own, or the network's where the image can't be read.

        Returns
        -------
        ndarray of shape (H, W), float32
            The map; NaN where the image can't be read.
        """
        size = size or scored.size or self.generator.input_dims[1:]
        if scored.size is None:
            return np.full(size, np.nan, dtype=np.float32)
        if self.framing.is_plain:
            return self._fuse(scored.frames[0], size)
        boxes = self.framing.boxes(scored.size)
        sizes = ((bottom - top, right - left) for top, left, bottom, right in boxes)
        pasted = self.framing.paste(map(self._fuse, scored.frames, sizes), scored.size)
        if size == scored.size:
            return pasted
        resized = F.interpolate(torch.from_numpy(pasted)[None, None], size=size, mode="bilinear")
        return resized[0, 0].numpy()

    def _fuse(self, scale_maps: Sequence[Tensor], size: tuple[int, int]) -> NDArray[np.float32]:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False), one_core():
            fused = self.generator.fuse([m[None, None] for m in scale_maps], size)
        return fused[0, 0].numpy().astype(np.float32, copy=False)
