"""Images -> feature maps -> scores and maps, each image for itself."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skcsflow._batches import map_items
from skcsflow._device import autocast
from skcsflow.nn import CSFlowModel, anomaly_score

__all__ = ["ImageScores", "extract_features", "score_features", "score_images"]


_TOO_LARGE = (
    "Input X contains values too large: the {what} of X[{row}] would not be finite. "
    "Floats should lie between 0 and 1."
)


class ImageSource(Protocol):
    """What images are read from: :class:`~skcsflow._images.ImageCollection` or its like."""

    def __len__(self) -> int: ...

    def read(self, i: int, size: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, tuple[int, int]]:
        """Image `i` at a size and of a type; and the size that it had."""
        ...


class ImageScores(NamedTuple):
    """What the model says of one image.

    Attributes
    ----------
    anomaly_score : float
        Mean of ``z ** 2 / 2`` over all dimensions.
    log_likelihood : float
        Log-likelihood of the image's features, per dimension.
    scale_maps : list of Tensors of shape (H_s, W_s)
        Mean of ``z ** 2`` over the channels, per scale.
    size : tuple of int (H, W)
        Size that the image came in.
    """

    anomaly_score: float
    log_likelihood: float
    scale_maps: list[Tensor]
    size: tuple[int, int]


def extract_features(
    model: CSFlowModel,
    images: ImageSource,
    rows: NDArray[np.int64],
    *,
    precision: str,
    n_jobs: int | None,
) -> Iterator[list[Tensor]]:
    """Read, resize and run images through the backbone.

    Parameters
    ----------
    model : CSFlowModel
        The model, on the device to compute on.
    images : ImageSource
        The images.
    rows : ndarray of int
        Which of them.
    precision : {"float32", "float64", "bfloat16"}
        Precision to compute in.
    n_jobs : int or None
        Number of threads, see :func:`~skcsflow._batches.map_items`.

    Yields
    ------
    list of Tensors of shape (channels, H_s, W_s)
        Feature maps of each image in turn, one per scale, on the model's device.
    """
    reader = _Reader(model, images, rows)
    results = map_items(
        lambda batch: _extract(model, batch[0], precision), reader, len(rows), reader.device, n_jobs
    )
    for row, features in zip(rows, results, strict=True):
        if not all(f.isfinite().all() for f in features):
            raise ValueError(_TOO_LARGE.format(what="features", row=row))
        yield features


def score_images(
    model: CSFlowModel, images: ImageSource, *, precision: str, n_jobs: int | None
) -> Iterator[ImageScores]:
    """Score images; parameters as in :func:`extract_features`, yields an ImageScores for each."""
    reader = _Reader(model, images, np.arange(len(images)))

    def function(batch: list[Tensor]) -> list[Tensor]:
        return _score(model, _extract(model, batch[0], precision), precision)

    results = map_items(function, reader, len(images), reader.device, n_jobs)
    for i, (score, log_likelihood, *scale_maps) in enumerate(results):
        if not (score.isfinite() and log_likelihood.isfinite()):
            raise ValueError(_TOO_LARGE.format(what="score", row=i))
        yield ImageScores(
            score.item(), log_likelihood.item(), [m.cpu() for m in scale_maps], reader.sizes.pop(i)
        )


def score_features(
    model: CSFlowModel, features: Sequence[Tensor], *, precision: str, n_jobs: int | None
) -> np.ndarray:
    """Anomaly scores of images whose features are at hand.

    Parameters
    ----------
    model : CSFlowModel
        The model.
    features : sequence of Tensors of shape (n, channels, H_s, W_s)
        Feature maps as :func:`extract_features` gives them.
    precision, n_jobs
        As in :func:`extract_features`.

    Returns
    -------
    ndarray of shape (n,)
        The same bits as :func:`score_images` gives for the images.
    """
    results = map_items(
        lambda batch: _score(model, batch, precision)[:1],
        lambda i: [f[i] for f in features],
        len(features[0]),
        features[0].device,
        n_jobs,
    )
    return np.array([score.item() for (score,) in results])


class _Reader:
    """Reads an image as the model takes it, and remembers the size that it had."""

    def __init__(self, model: CSFlowModel, images: ImageSource, rows: NDArray[np.int64]) -> None:
        self.images = images
        self.rows = rows
        self.input_size = model.anomaly_map_generator.input_dims[1:]
        self.dtype = model.feature_extractor.mean.dtype
        self.device = model.feature_extractor.mean.device
        self.sizes: dict[int, tuple[int, int]] = {}

    def __call__(self, i: int) -> list[Tensor]:
        image, self.sizes[i] = self.images.read(self.rows[i], self.input_size, self.dtype)
        return [image]


def _extract(model: CSFlowModel, batch: Tensor, precision: str) -> list[Tensor]:
    with autocast(batch.device, precision):
        features = model.feature_extractor(batch.contiguous(memory_format=torch.channels_last))
    return [f.to(batch.dtype) for f in features]


def _score(model: CSFlowModel, features: Sequence[Tensor], precision: str) -> list[Tensor]:
    # A clone has the strides of its memory format even where an axis is 1 long. Kernels
    # are chosen by strides, and kept features must give the same bits as fresh ones.
    features = [f.clone(memory_format=torch.channels_last) for f in features]
    with autocast(features[0].device, precision):
        z, log_det = model.flow(features)
    scores = anomaly_score(z)
    n_dims = sum(m[0].numel() for m in z)
    log_likelihoods = log_det.double() / n_dims - scores - np.log(2 * np.pi) / 2
    return [scores, log_likelihoods, *(m[:, 0] for m in model.anomaly_map_generator.scale_maps(z))]
