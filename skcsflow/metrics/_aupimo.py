"""AUPIMO: how much of each defect is found where good images raise hardly any false alarm."""

from numbers import Real
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skcsflow._checks import validate_params
from skcsflow.metrics._inputs import Pixels

__all__ = ["aupimo_score"]

_ROUNDING = 1e-9
"""By how much, relatively, a false-positive rate may miss a bound and still count as equal to it."""


@overload
def aupimo_score(
    masks: Any,
    maps: Any,
    *,
    fpr_bounds: tuple[float, float] = ...,
    sample_weight: ArrayLike | None = ...,
    per_image: Literal[False] = ...,
) -> float: ...
@overload
def aupimo_score(
    masks: Any,
    maps: Any,
    *,
    fpr_bounds: tuple[float, float] = ...,
    sample_weight: ArrayLike | None = ...,
    per_image: Literal[True],
) -> NDArray[np.float64]: ...
@validate_params({"per_image": ["boolean"]}, prefer_skip_nested_validation=True)
def aupimo_score(
    masks: Any,
    maps: Any,
    *,
    fpr_bounds: tuple[float, float] = (1e-5, 1e-4),
    sample_weight: ArrayLike | None = None,
    per_image: bool = False,
) -> float | NDArray[np.float64]:
    """Area under the per-image overlap (PIMO) curve, of each defective image or their mean.

    It is the recall of an image's defective pixels, averaged over thresholds at which good images raise hardly
    any false alarm [1]_. A threshold t has one false-positive rate F(t) for all images: the mean over good images
    of the fraction of pixels at or above t. The overlap T(t) of a defective image is the fraction of its
    defective pixels at or above t. The score is the mean of T over log F between the bounds L and U::

        AUPIMO = 1 / log(U / L) * integral of T over log F, from L to U

    Normal pixels of defective images don't count.

    Parameters
    ----------
    masks : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Masks, non-zero where defective, of any numeric type, for instance booleans, 0/1 or 0/255. Images
        whose mask is all zero are the good ones.
    maps : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Anomaly maps, higher where more anomalous, of the same shapes as the masks. Values are compared in their
        own type.
    fpr_bounds : tuple of two floats, default=(1e-5, 1e-4)
        The lower and the upper bound of the false-positive rate, with ``0 < lower < upper <= 1``. Scores of
        different bounds can't be compared.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images, in the false-positive rate and in the mean score. An image of weight 2 counts
        twice, one of weight 0 is left out.
    per_image : bool, default=False
        Whether to return the score of each image instead of the mean over defective images.

    Returns
    -------
    float or ndarray of shape (n,), float64
        The mean score, from 0 to 1. With `per_image=True` all scores, in the order of the images: NaN for good
        images and those of weight 0.

    Raises
    ------
    ValueError
        If shapes or lengths don't agree, something is empty, a map holds NaN or infinity, or a weight is
        negative. If `fpr_bounds` is not an ascending pair within (0, 1]. If no image is good, or none is
        defective. If the false-positive rate jumps over the lower bound from 0, or the same rate is nearest to
        both bounds: there are too few good pixels (fewer than ``1 / lower``, in the first case), or too many of
        their highest values are equal.
    TypeError
        If masks or maps don't hold real numbers.

    See Also
    --------
    pro_auc_score : Weights all regions equally, at higher false-positive rates, in normal pixels of all images.
    pixel_roc_auc_score : At all false-positive rates, in all pixels at once.

    Notes
    -----
    The score is exact: every distinct value of a good pixel is a threshold. Where defective and good pixels have
    the same value, T grows linearly with log F.

    The rate takes steps, of one good pixel or more, so it may not take the values L and U. As in the authors'
    code, the integral then goes from the rate nearest to L to the rate nearest to U. It is still divided by
    log(U / L), of the bounds as they were given, and a score above 1 becomes 1. So where good pixels are few, a
    perfect map may score below 1, such as 0.90 with 160,000 good pixels and the default bounds: log(16 / 2) /
    log(10). Scores at such bounds can be compared at the same number of good pixels only.

    Maps are read twice, image by image. Besides one image, only the highest values of good images are held, about
    as many as `upper` times the number of good pixels.

    References
    ----------
    .. [1] J. P. C. Bertoldo, D. Ameln, A. Vaidya and S. Akçay. *AUPIMO: Redefining Anomaly Localization
       Benchmarks with High Speed and Low Tolerance.* BMVC 2024. arXiv:2401.01984.

    Examples
    --------
    >>> import numpy as np
    >>> from skcsflow.metrics import aupimo_score
    >>> masks = np.zeros((3, 10, 10), dtype=bool)
    >>> masks[1, 0, :4] = masks[2, 0, :4] = True
    >>> maps = np.zeros(masks.shape)
    >>> maps[0] = np.arange(100).reshape(10, 10)  # a good image
    >>> maps[1, 0, :4] = [120, 110, 96.5, 30]  # 96.5 is below three good pixels of a hundred
    >>> maps[2, 0, :4] = 120
    >>> aupimo_score(masks, maps, fpr_bounds=(0.01, 0.09), per_image=True)
    array([  nan, 0.625, 1.   ])
    >>> aupimo_score(masks, maps, fpr_bounds=(0.01, 0.09))
    0.8125
    """
    bounds = _check_bounds(fpr_bounds)
    pixels = Pixels(masks, maps, sample_weight)
    of_weight = "" if sample_weight is None else " of non-zero weight"
    if pixels.n_good == 0:
        raise ValueError(
            f"masks has no good image{of_weight} among its {pixels.n_images}. AUPIMO counts false alarms in good "
            "images only, so add some, with masks that are all zero."
        )
    if pixels.n_defective == 0:
        raise ValueError(
            f"masks has no defective image{of_weight} among its {pixels.n_images}. AUPIMO is the recall in defective "
            "images, so add some, with masks that are non-zero where defective."
        )
    values, rates = _highest_good_values(pixels, bounds[1])
    for bound in bounds:  # rounding must not keep a perfect map from a score of 1
        rates[np.abs(rates - bound) <= _ROUNDING * bound] = bound
    ends = _nearest_rates(pixels, values, rates, bounds)
    range_ratio = np.log(ends[1] / ends[0]) / np.log(bounds[1] / bounds[0])
    between, equal = range_ratio * _credits(rates, ends)
    scores = np.full(pixels.n_images, np.nan)
    total = total_weight = 0.0
    for image in pixels:
        if not image.is_good:
            defective = image.map[image.mask]
            below = np.searchsorted(values, defective, side="left")
            is_tied = np.searchsorted(values, defective, side="right") > below
            score = min(float(np.mean(np.where(is_tied, equal[below], between[below]))), 1.0)
            scores[image.position] = score
            total += image.weight * score
            total_weight += image.weight
    return scores if per_image else min(total / total_weight, 1.0)  # rounding may end slightly above


def _check_bounds(fpr_bounds: Any) -> tuple[float, float]:
    bounds = fpr_bounds.tolist() if isinstance(fpr_bounds, np.ndarray) else fpr_bounds
    if (
        not (isinstance(bounds, tuple | list) and len(bounds) == 2)
        or not all(isinstance(bound, Real) for bound in bounds)
        or not 0 < bounds[0] < bounds[1] <= 1
    ):
        raise ValueError(
            "fpr_bounds must be a pair of numbers (lower, upper) with 0 < lower < upper <= 1, such as "
            f"(1e-5, 1e-4), got {fpr_bounds!r}."
        )
    return float(bounds[0]), float(bounds[1])


def _highest_good_values(pixels: Pixels, max_fpr: float) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Find the highest values of good images, and the false-positive rates at them.

    Returns
    -------
    values : ndarray of shape (k,)
        Distinct values, ascending, from the one at which the rate reaches `max_fpr`.
    rates : ndarray of shape (k,), float64
        The mean over good images of the fraction of pixels at or above each value, descending.
    """
    limit = max_fpr * pixels.good_weight
    parts: list[tuple[NDArray[Any], NDArray[np.float64]]] = []
    lowest, n_waiting = None, 0
    for image in pixels:
        if image.is_good:
            found = image.map.reshape(-1) if lowest is None else image.map[image.map >= lowest]
            parts.append((found, np.full(len(found), image.weight / image.map.size)))
            n_waiting += len(found)
            if len(parts) == 1 or n_waiting > len(parts[0][0]):  # so seldom that the whole takes n log n
                values, weights, reaches_limit = _merge(parts, limit)
                parts, n_waiting = [(values, weights)], 0
                # Rates of all images are no lower than those of the images so far.
                lowest = values[0] if reaches_limit else None
    values, weights, _ = _merge(parts, limit)
    return values, np.cumsum(weights[::-1])[::-1] / pixels.good_weight


def _merge(
    parts: list[tuple[NDArray[Any], NDArray[np.float64]]], limit: float
) -> tuple[NDArray[Any], NDArray[np.float64], bool]:
    """Merge values and their weights: the highest that together reach the limit, and whether there are so many."""
    values, places = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    weights = np.asarray(np.bincount(places, np.concatenate([part[1] for part in parts])), dtype=np.float64)
    n_kept = int(np.searchsorted(np.cumsum(weights[::-1]), limit)) + 1
    return values[-n_kept:].copy(), weights[-n_kept:].copy(), n_kept <= len(values)


def _nearest_rates(
    pixels: Pixels, values: NDArray[Any], rates: NDArray[np.float64], bounds: tuple[float, float]
) -> tuple[float, float]:
    """Find the rates that are nearest to the bounds; check that the lower bound has one, and that they differ."""
    lower = bounds[0]
    problem = f"fpr_bounds={bounds} can't be resolved by the {pixels.n_good} pixels of good images:"
    if rates[-1] > lower:
        raise ValueError(
            f"{problem} at the value {values[-1]}, their false-positive rate jumps from 0 to {rates[-1]:.3g}. Pass "
            f"more good images (a lower bound of {lower} takes {np.ceil((1 - _ROUNDING) / lower):.0f} pixels or "
            "more), maps with fewer equal values among the highest"
            + (f", or a lower bound of {rates[-1]:.10g} or more." if rates[-1] < 1 - _ROUNDING else ".")
        )
    distances = [np.abs(rates - bound) for bound in bounds]
    # Half-way between two rates, the higher one is taken.
    first, last = (
        int(np.argmax(d <= d.min() + _ROUNDING * b)) for d, b in zip(distances, bounds, strict=True)
    )
    if not rates[first] < rates[last]:
        raise ValueError(
            f"{problem} the nearest false-positive rate to both is {rates[first]:.3g}, at the value {values[first]}. "
            "Pass bounds that are farther apart, more good images, or maps with fewer equal values among the highest."
        )
    return float(rates[first]), float(rates[last])


def _credits(rates: NDArray[np.float64], ends: tuple[float, float]) -> NDArray[np.float64]:
    """The share of the range of log F, between rates at its ends, in which one defective pixel is found.

    Returns
    -------
    ndarray of shape (2, k + 1), float64
        Element (0, i) is for a pixel above i of the k good values, and equal to none. Element (1, i) is for a
        pixel equal to the good value i; its last element is there for its index only.
    """
    low, high = np.log(ends)
    after = np.log(rates)
    before = np.append(after[1:], low - 1)  # in truth -inf; the first step ends at or below the lower end
    start, end = np.clip(before, low, high), np.clip(after, low, high)
    step = after - before
    # The integral of (x - before) / step from start to end.
    growing = np.zeros_like(step)
    np.divide((end - start) * (start + end - 2 * before), 2 * step, out=growing, where=step > 0)
    between = np.append(high - end, high - low) / (high - low)
    equal = np.append(high - end + growing, 0) / (high - low)
    return np.stack([between, equal])
