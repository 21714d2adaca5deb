"""The threshold curve of all pixels of all images, exact or in bins."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skcsflow._regions import label_regions
from skcsflow._threshold_curve import ThresholdCurve, threshold_curve
from skcsflow.metrics._inputs import Image, Pixels

__all__ = ["defective_weights", "pixel_curve"]

_SAMPLES_PER_EDGE = 16
"""Values drawn for each edge of a bin; with so many, no bin gets much more than its share of the pixels."""


def pixel_curve(pixels: Pixels, n_bins: int | None, *, per_region: bool = False) -> ThresholdCurve:
    """Compute the curve over all pixels.

    Parameters
    ----------
    pixels : Pixels
        Masks, maps and weights, with at least one normal and one defective pixel.
    n_bins : int or None
        None: the exact curve, which holds a copy of all values. An int: the largest number of bins.
    per_region : bool, default=False
        Whether all regions have the same total weight, instead of all defective pixels.

    Returns
    -------
    ThresholdCurve
        The curve. With bins it consists of some of the points of the exact curve.
    """
    if n_bins is not None:
        return _binned_curve(pixels, _bin_edges(pixels, n_bins), per_region)
    # Allocated once and filled image by image, so that no value is held twice.
    normal = np.empty(pixels.n_normal, dtype=pixels.dtype)
    defective = np.empty(pixels.n_defective, dtype=pixels.dtype)
    is_weighted = pixels.weights is not None
    normal_weight = np.empty(pixels.n_normal) if is_weighted else None
    gain = np.empty(pixels.n_defective) if is_weighted or per_region else None
    n, m = 0, 0
    for image in pixels:
        normal_values, defective_values = _split(image)
        normal_part = slice(n, n := n + len(normal_values))
        defective_part = slice(m, m := m + len(defective_values))
        normal[normal_part] = normal_values
        defective[defective_part] = defective_values
        if normal_weight is not None:
            normal_weight[normal_part] = image.weight
        if gain is not None:
            gain[defective_part] = defective_weights(image, per_region)
    return threshold_curve(normal, defective, normal_weight, gain, pixels.coarsest_dtype)


def defective_weights(image: Image, per_region: bool) -> NDArray[np.float64] | float:
    """Weights of the defective pixels, in the order of the mask; a float if they are all the same."""
    if not per_region or image.is_good:
        return image.weight
    labels, _ = label_regions(image.mask)
    labels = labels[image.mask]
    return image.weight / np.bincount(labels)[labels]


def _binned_curve(pixels: Pixels, edges: NDArray[Any], per_region: bool) -> ThresholdCurve:
    normal, gain, lower = np.zeros(len(edges)), np.zeros(len(edges)), np.full(len(edges), edges[0])
    for image in pixels:
        normal_values, defective_values = _split(image)
        normal += image.weight * _histogram(normal_values, edges, lower)
        if len(defective_values):
            counts = _histogram(defective_values, edges, lower)
            if per_region:
                bins = np.searchsorted(edges, defective_values, side="right") - 1
                weights = defective_weights(image, per_region)
                gain += np.bincount(bins, weights=weights, minlength=len(edges))
            else:
                gain += image.weight * counts
    normal, gain = normal[::-1], gain[::-1]
    fp = np.cumsum(normal)
    has_defects = gain > 0
    return ThresholdCurve(
        threshold=edges[::-1][has_defects],
        gain=gain[has_defects],
        fp_above=(fp - normal)[has_defects],
        fp=fp[has_defects],
        n_normal=float(fp[-1]),
        lower=lower[::-1][has_defects],
        dtype=pixels.coarsest_dtype,
    )


def _bin_edges(pixels: Pixels, n_bins: int) -> NDArray[Any]:
    """Choose lower edges of bins, so that no bin holds a large share of the normal or of the defective pixels.

    They are quantiles of values that are drawn at random, half of the edges from each kind of pixels. So the
    bins fit any distribution of values: heavy tails, a narrow range or many zeros. A bin holds about a share
    2 / n_bins of a kind, or more where many pixels have the same value. The lowest value of each kind is an
    edge too: where all defective pixels are above all normal ones, the bins keep them apart.
    """
    rng = np.random.RandomState(0)  # the same edges in each call
    n_edges = n_bins // 2
    n_samples = _SAMPLES_PER_EDGE * n_edges
    samples: tuple[list[NDArray[Any]], list[NDArray[Any]]] = ([], [])
    lowest: tuple[list[Any], list[Any]] = ([], [])
    totals = pixels.n_normal, pixels.n_defective
    for image in pixels:
        for values, total, drawn, minima in zip(_split(image), totals, samples, lowest, strict=True):
            if len(values) == 0:
                continue
            minima.append(values.min())
            n_drawn = int(np.ceil(len(values) * (n_samples / total)))
            drawn.append(
                values[rng.randint(len(values), size=n_drawn)] if n_drawn < len(values) else values.copy()
            )
    edges = []
    for drawn, minima in zip(samples, lowest, strict=True):
        values = np.sort(np.concatenate(drawn))
        distinct = np.unique(values)
        if len(distinct) > n_edges:
            distinct = values[np.arange(n_edges) * len(values) // n_edges]
        distinct[0] = min(minima)
        edges.append(distinct)
    return np.unique(np.concatenate(edges))


def _histogram(values: NDArray[Any], edges: NDArray[Any], lower: NDArray[Any]) -> NDArray[np.int64]:
    """Count the values in each bin, and raise `lower` in place to the highest value below each edge."""
    values = np.sort(values)  # several times as fast as looking up each value
    below = np.searchsorted(values, edges)
    first = int(np.searchsorted(below, 1))  # the first edge with values below it
    np.maximum(lower[first:], values[below[first:] - 1], out=lower[first:])
    return np.diff(below, append=len(values))


def _split(image: Image) -> tuple[NDArray[Any], NDArray[Any]]:
    """Values of the normal and of the defective pixels, in the order of the mask."""
    if image.is_good:
        return image.map.reshape(-1), image.map[:0, 0]
    return image.map[~image.mask], image.map[image.mask]
