"""The one curve that all metrics are read from."""

# SPDX-License-Identifier: BSD-3-Clause

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from skcsflow.metrics._inputs import Image, Pixels

__all__ = ["Curve", "exact_curve", "gain_of", "pixel_curve"]

# Values drawn per bin edge. With these, no bin holds much more than its share.
_DRAWS = 16
_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


class Curve(NamedTuple):
    """What is found at each threshold.

    Thresholds are the distinct values of defective pixels alone. Between two of them only false positives
    are added: no curve rises there, and no F1 score can be the best.

    Parameters
    ----------
    threshold : ndarray of shape (k,)
        Thresholds, descending. A pixel is called defective where its map is at or above.
    gain : ndarray of shape (k,), float64
        Weight of the defective pixels that come in at each threshold.
    fp_above, fp : ndarray of shape (k,), float64
        Weight of the normal pixels above each threshold, and at or above it.
    n_normal : float
        Weight of all normal pixels.
    lower : ndarray of shape (k,)
        The highest value of any pixel below each threshold; the threshold itself where there is none.
    dtype : dtype
        The user's own type of the values, which NumPy rounds a threshold to when it compares them.
    """

    threshold: NDArray[Any]
    gain: NDArray[np.float64]
    fp_above: NDArray[np.float64]
    fp: NDArray[np.float64]
    n_normal: float
    lower: NDArray[Any]
    dtype: np.dtype[Any]

    def area(self, max_fpr: float = 1.0) -> float:
        """Mean of the share found, over false-positive rates from 0 to `max_fpr`.

        Each threshold's gain grows linearly while the false positives that tie with it come in, and counts in
        full from there on.
        """
        limit = max_fpr * self.n_normal
        ties = self.fp - self.fp_above
        within = np.clip(limit - self.fp_above, 0, ties)
        growing = np.divide(within**2, 2 * ties, out=np.zeros_like(ties), where=ties > 0)
        full = np.maximum(limit - self.fp, 0)
        area = float(self.gain @ (growing + full) / (limit * self.gain.sum()))
        return min(area, 1.0)  # sums of fractions may end a little above

    def average_precision(self) -> float:
        """Sum over thresholds of precision times the growth of recall."""
        tp = np.cumsum(self.gain)
        return min(float(self.gain @ (tp / (tp + self.fp)) / tp[-1]), 1.0)

    def f1_max(self) -> tuple[float, float]:
        """The best F1 score, and a threshold that gives it: between the best one, the highest of several, and `lower`.

        So it serves those who compare with `>` and those who compare with `>=`.
        """
        tp = np.cumsum(self.gain)
        f1 = 2 * tp / (tp + self.fp + tp[-1])
        best = int(np.argmax(f1))
        return float(f1[best]), _between(self.lower[best], self.threshold[best], self.dtype)


def exact_curve(
    normal: NDArray[Any],
    defective: NDArray[Any],
    normal_weight: NDArray[np.float64] | None = None,
    gain: NDArray[np.float64] | None = None,
    dtype: np.dtype[Any] | None = None,
) -> Curve:
    """The curve over single values.

    Parameters
    ----------
    normal, defective : ndarray of shape (n,) and (m,), of one dtype
        Values of either kind. `normal` may be sorted in place.
    normal_weight, gain : ndarray of shape (n,) and (m,), float64, default=None
        Their weights; None weighs all alike.
    dtype : dtype, default=None
        The user's own type of the values; None: theirs.

    Returns
    -------
    Curve
        The curve.
    """
    gains: NDArray[Any]
    if gain is None:
        values, gains = np.unique(defective, return_counts=True)
    else:
        values, places = np.unique(defective, return_inverse=True)
        gains = np.bincount(places, weights=gain)
    below_weight: NDArray[Any] | None = None
    if normal_weight is None:
        normal.sort()  # several times as fast as argsort
    else:
        order = np.argsort(normal)
        normal = normal[order]
        below_weight = np.concatenate([[0.0], np.cumsum(normal_weight[order])])
        del order
    # Only the few defective values are looked up among the many normal ones.
    below: NDArray[Any] = np.searchsorted(normal, values, side="left")
    not_above: NDArray[Any] = np.searchsorted(normal, values, side="right")
    total: float = len(normal)
    lower = np.concatenate([values[:1], values[:-1]])
    some = below > 0
    lower[some] = np.maximum(lower[some], normal[below[some] - 1])
    if some[0]:
        lower[0] = normal[below[0] - 1]
    if below_weight is not None:
        below, not_above, total = below_weight[below], below_weight[not_above], below_weight[-1]
    return Curve(
        values[::-1],
        np.asarray(gains[::-1], dtype=np.float64),
        np.asarray(total - not_above[::-1], dtype=np.float64),
        np.asarray(total - below[::-1], dtype=np.float64),
        float(total),
        lower[::-1],
        values.dtype if dtype is None else dtype,
    )


def pixel_curve(pixels: Pixels, n_bins: int | None, *, per_region: bool = False) -> Curve:
    """The curve over all pixels, of both kinds of which there must be one.

    Parameters
    ----------
    pixels : Pixels
        Masks, maps and weights.
    n_bins : int or None
        None for the exact curve, which holds a copy of all values. Else at most so many bins.
    per_region : bool, default=False
        Whether each region, and not each defective pixel, counts alike.

    Returns
    -------
    Curve
        The curve. Its points lie on the exact curve in bins too, only fewer.
    """
    if n_bins is not None:
        return _binned_curve(pixels, _edges(pixels, n_bins), per_region)
    # One allocation for each, so that no value is ever held twice.
    normal = np.empty(pixels.n_normal, dtype=pixels.dtype)
    defective = np.empty(pixels.n_defective, dtype=pixels.dtype)
    weighted = pixels.weights is not None
    normal_weight = np.empty(pixels.n_normal) if weighted else None
    gain = np.empty(pixels.n_defective) if weighted or per_region else None
    n, m = 0, 0
    for image in pixels:
        of_normal, of_defective = _split(image)
        normal_part = slice(n, n := n + len(of_normal))
        defective_part = slice(m, m := m + len(of_defective))
        normal[normal_part] = of_normal
        defective[defective_part] = of_defective
        if normal_weight is not None:
            normal_weight[normal_part] = image.weight
        if gain is not None:
            gain[defective_part] = gain_of(image, per_region)
    return exact_curve(normal, defective, normal_weight, gain, pixels.coarsest)


def _binned_curve(pixels: Pixels, edges: NDArray[Any], per_region: bool) -> Curve:
    """Count the pixels of each bin, image by image."""
    normal, gain, lower = np.zeros(len(edges)), np.zeros(len(edges)), np.full(len(edges), edges[0])
    for image in pixels:
        of_normal, of_defective = _split(image)
        normal += image.weight * _histogram(of_normal, edges, lower)
        if len(of_defective):
            count = _histogram(of_defective, edges, lower)
            if per_region:
                places = np.searchsorted(edges, of_defective, side="right") - 1
                weights = gain_of(image, per_region)
                gain += np.bincount(places, weights=weights, minlength=len(edges))
            else:
                gain += image.weight * count
    normal, gain = normal[::-1], gain[::-1]
    fp = np.cumsum(normal)
    found = gain > 0
    return Curve(
        edges[::-1][found],
        gain[found],
        (fp - normal)[found],
        fp[found],
        float(fp[-1]),
        lower[::-1][found],
        pixels.coarsest,
    )


def _edges(pixels: Pixels, n_bins: int) -> NDArray[Any]:
    """Lower edges of bins, such that none holds many of the normal or many of the defective pixels.

    They are quantiles of values drawn from both kinds, half of the edges from each. So the size of the bins
    follows the maps, whatever their distribution: heavy tails, a narrow range or many zeros. A bin's share of
    a kind is about 2 / n_bins, but for a value that many pixels share. The lowest value of each kind is an
    edge too, so that maps that tell all pixels apart do so in bins.
    """
    rng = np.random.RandomState(0)  # for the same result each time
    n_edges = n_bins // 2
    wanted = _DRAWS * n_edges
    drawn: tuple[list[NDArray[Any]], list[NDArray[Any]]] = ([], [])
    lowest: tuple[list[Any], list[Any]] = ([], [])
    totals = pixels.n_normal, pixels.n_defective
    for image in pixels:
        for values, total, kept, lows in zip(_split(image), totals, drawn, lowest, strict=True):
            if len(values) == 0:
                continue
            lows.append(values.min())
            share = len(values) * (wanted / total)
            few = share < len(values)
            kept.append(values[rng.randint(len(values), size=int(np.ceil(share)))] if few else values.copy())
    edges = []
    for kept, lows in zip(drawn, lowest, strict=True):
        values = np.sort(np.concatenate(kept))
        distinct = np.unique(values)
        if len(distinct) > n_edges:
            distinct = values[np.arange(n_edges) * len(values) // n_edges]
        distinct[0] = min(lows)
        edges.append(distinct)
    return np.unique(np.concatenate(edges))


def _histogram(values: NDArray[Any], edges: NDArray[Any], lower: NDArray[Any]) -> NDArray[np.int64]:
    """Count the values from each edge up to the next, and raise `lower` to the highest value below each edge."""
    # Sorting first is several times as fast as looking up each value.
    values = np.sort(values)
    below = np.searchsorted(values, edges)
    first = int(np.searchsorted(below, 1))  # the first edge that any value is below
    np.maximum(lower[first:], values[below[first:] - 1], out=lower[first:])
    return np.diff(below, append=len(values))


def _between(lower: Any, upper: Any, dtype: np.dtype[Any]) -> float:
    """A number that tells values from `upper` up from those down to `lower`, in a type: half-way, or else `lower`."""
    if dtype.kind != "f":
        lower, upper = int(lower), int(upper)
        if lower == upper:  # no value is below
            lower = upper - 1
        return (
            (lower + upper) / 2 if max(-lower, upper) <= 2**53 else lower
        )  # else floats tell no integers apart
    if lower == upper:
        return float(np.nextafter(dtype.type(upper), dtype.type(-np.inf)))
    middle = float(
        dtype.type(float(lower) / 2 + float(upper) / 2)
    )  # the difference may be too large a number
    return middle if lower <= middle < upper else float(lower)


def _split(image: Image) -> tuple[NDArray[Any], NDArray[Any]]:
    """Values of normal and of defective pixels, in the order of the mask."""
    if image.is_good:
        return image.map.reshape(-1), image.map[:0, 0]
    return image.map[~image.mask], image.map[image.mask]


def gain_of(image: Image, per_region: bool) -> NDArray[np.float64] | float:
    """Weights of the defective pixels, in the order of the mask."""
    if not per_region or image.is_good:
        return image.weight
    labels, _ = ndimage.label(image.mask, structure=_EIGHT_CONNECTED)
    labels = labels[image.mask]
    return image.weight / np.bincount(labels)[labels]
