"""Metrics of anomaly maps against masks."""

# SPDX-License-Identifier: BSD-3-Clause

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, validate_params

from skcsflow.metrics._curve import Curve, gain_of, pixel_curve
from skcsflow.metrics._inputs import Pixels, warn_undefined

__all__ = [
    "pixel_average_precision_score",
    "pixel_f1_max",
    "pixel_roc_auc_score",
    "pro_auc_score",
    "pro_score",
]

_N_BINS = [Interval(Integral, 2, None, closed="left"), None]


@validate_params({"n_bins": _N_BINS}, prefer_skip_nested_validation=True)
def pixel_roc_auc_score(
    masks: Any, maps: Any, *, sample_weight: ArrayLike | None = None, n_bins: int | None = None
) -> float:
    """Area under the ROC curve over all pixels of all images.

    How often a defective pixel has a higher value than a normal one; ties count half. Defects are small,
    so most of the normal pixels are easy, and values near 1 are common. Large defects outweigh small ones;
    in `pro_auc_score` they don't.

    Parameters
    ----------
    masks : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Masks, non-zero where defective, of any numeric type: booleans, 0/1 or 0/255.
    maps : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Anomaly maps, higher where more anomalous. Each must have its mask's shape. They are compared in
        their own type.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images: one of weight 2 counts as if it were there twice, one of weight 0 is left out.
    n_bins : int, default=None
        None: exact. All values are held in memory once more. An int: values are counted in at most so many
        bins, image by image, so that memory doesn't grow with the number of pixels; ``2**16`` usually
        differs from the exact result by less than 1e-4.

    Returns
    -------
    float
        The area, from 0 to 1. NaN, with an `UndefinedMetricWarning`, where no pixel is defective or none is
        normal.

    Raises
    ------
    ValueError
        Where shapes or lengths don't agree, something is empty, a map holds NaN or infinity, a weight is
        negative, or `n_bins` is below 2.
    TypeError
        Where masks or maps don't hold real numbers.

    See Also
    --------
    pro_auc_score : Counts regions alike, not pixels.
    pixel_average_precision_score : Harder, where defects are small.

    Examples
    --------
    >>> import numpy as np
    >>> from skcsflow.metrics import pixel_roc_auc_score
    >>> masks = np.array([[[0, 0, 1], [0, 0, 1]]])
    >>> maps = np.array([[[0.1, 0.4, 0.3], [0.2, 0.1, 0.9]]])
    >>> pixel_roc_auc_score(masks, maps)
    0.875
    """
    curve = _curve("pixel_roc_auc_score", masks, maps, sample_weight, n_bins)
    return float("nan") if curve is None else curve.area()


@validate_params({"n_bins": _N_BINS}, prefer_skip_nested_validation=True)
def pixel_average_precision_score(
    masks: Any, maps: Any, *, sample_weight: ArrayLike | None = None, n_bins: int | None = None
) -> float:
    """Average precision over all pixels of all images.

    The mean precision over the defective pixels as they are found one after the other, as in
    scikit-learn's `average_precision_score`. Chance is the share of defective pixels, so it depends on the
    data set, and false alarms weigh more than in the ROC curve.

    Parameters
    ----------
    masks : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Masks, non-zero where defective, of any numeric type: booleans, 0/1 or 0/255.
    maps : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Anomaly maps, higher where more anomalous. Each must have its mask's shape. They are compared in
        their own type.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images: one of weight 2 counts as if it were there twice, one of weight 0 is left out.
    n_bins : int, default=None
        None: exact. All values are held in memory once more. An int: values are counted in at most so many
        bins, image by image, so that memory doesn't grow with the number of pixels; ``2**16`` usually
        differs from the exact result by less than 1e-4.

    Returns
    -------
    float
        The average precision, from 0 to 1. NaN, with an `UndefinedMetricWarning`, where no pixel is defective
        or none is normal.

    Raises
    ------
    ValueError
        Where shapes or lengths don't agree, something is empty, a map holds NaN or infinity, a weight is
        negative, or `n_bins` is below 2.
    TypeError
        Where masks or maps don't hold real numbers.

    See Also
    --------
    pixel_roc_auc_score : Does not depend on the share of defective pixels.
    pixel_f1_max : One point of the same curve, with its threshold.

    Examples
    --------
    >>> import numpy as np
    >>> from skcsflow.metrics import pixel_average_precision_score
    >>> masks = np.array([[[0, 0, 255], [0, 0, 255]]])
    >>> maps = np.array([[[0.1, 0.4, 0.3], [0.2, 0.1, 0.9]]])
    >>> print(round(pixel_average_precision_score(masks, maps), 3))
    0.833
    """
    curve = _curve("pixel_average_precision_score", masks, maps, sample_weight, n_bins)
    return float("nan") if curve is None else curve.average_precision()


@validate_params({"n_bins": _N_BINS, "return_threshold": ["boolean"]}, prefer_skip_nested_validation=True)
def pixel_f1_max(
    masks: Any,
    maps: Any,
    *,
    sample_weight: ArrayLike | None = None,
    n_bins: int | None = None,
    return_threshold: bool = False,
) -> float | tuple[float, float]:
    """Best F1 score over all pixels that any one threshold gives.

    The threshold is chosen on the very pixels that it is judged by, so this is what the maps could do at
    best, not what to expect of new images.

    Parameters
    ----------
    masks : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Masks, non-zero where defective, of any numeric type: booleans, 0/1 or 0/255.
    maps : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Anomaly maps, higher where more anomalous. Each must have its mask's shape. They are compared in
        their own type.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images: one of weight 2 counts as if it were there twice, one of weight 0 is left out.
    n_bins : int, default=None
        None: exact. All values are held in memory once more. An int: values are counted in at most so many
        bins, image by image, so that memory doesn't grow with the number of pixels. The score is then that
        of the best threshold among the bins' edges, at most the exact one; with ``2**16`` they usually differ by
        less than 1e-4.
    return_threshold : bool, default=False
        Whether to return the threshold too.

    Returns
    -------
    f1 : float
        The best F1 score, from 0 to 1. NaN, with an `UndefinedMetricWarning`, where no pixel is defective or
        none is normal.
    threshold : float
        Only with `return_threshold=True`: pixels are called defective where ``map > threshold``. It lies
        half-way between the lowest value that is called so and the next lower one, or just below where there is
        none, or no number between; an int for integers beyond 2**53. Of thresholds that give the same F1 score,
        it is the one with the fewest alarms. ``detector.map_threshold_ = threshold`` makes `predict_masks` mark
        the same pixels.

    Raises
    ------
    ValueError
        Where shapes or lengths don't agree, something is empty, a map holds NaN or infinity, a weight is
        negative, or `n_bins` is below 2.
    TypeError
        Where masks or maps don't hold real numbers.

    See Also
    --------
    f1_max : The same for whole images and their scores.

    Examples
    --------
    >>> import numpy as np
    >>> from skcsflow.metrics import pixel_f1_max
    >>> masks = np.array([[[0, 0, 1], [0, 0, 1]]])
    >>> maps = np.array([[[0.1, 0.4, 0.3], [0.2, 0.1, 0.9]]])
    >>> pixel_f1_max(masks, maps, return_threshold=True)
    (0.8, 0.25)
    """
    curve = _curve("pixel_f1_max", masks, maps, sample_weight, n_bins)
    f1, threshold = (float("nan"), float("nan")) if curve is None else curve.f1_max()
    return (f1, threshold) if return_threshold else f1


@validate_params(
    {"max_fpr": [Interval(Real, 0, 1, closed="right")], "n_bins": _N_BINS}, prefer_skip_nested_validation=True
)
def pro_auc_score(
    masks: Any,
    maps: Any,
    *,
    max_fpr: float = 0.3,
    sample_weight: ArrayLike | None = None,
    n_bins: int | None = None,
) -> float:
    """Area under the per-region overlap (PRO) curve.

    A region is a set of defective pixels that touch, at a side or a corner. Its overlap at a threshold is the
    share of its pixels at or above it. The curve is the mean overlap of all regions of all images over the
    share of all normal pixels at or above the threshold, linear between thresholds [1]_. A scratch of
    fifty pixels counts as much as a stain of five thousand.

    Parameters
    ----------
    masks : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Masks, non-zero where defective, of any numeric type: booleans, 0/1 or 0/255.
    maps : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Anomaly maps, higher where more anomalous. Each must have its mask's shape. They are compared in
        their own type.
    max_fpr : float, default=0.3
        Where the area ends, above 0 and at most 1. Values of different `max_fpr` can't be compared.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images, and with them of each one's regions and normal pixels: one of weight 2 counts as
        if it were there twice, one of weight 0 is left out.
    n_bins : int, default=None
        None: exact. All values are held in memory once more. An int: values are counted in at most so many
        bins, image by image, so that memory doesn't grow with the number of pixels; ``2**16`` usually
        differs from the exact result by less than 1e-4.

    Returns
    -------
    float
        The area up to `max_fpr` divided by `max_fpr`, from 0 to 1. Chance is ``max_fpr / 2``. NaN, with an
        `UndefinedMetricWarning`, where no pixel is defective or none is normal.

    Raises
    ------
    ValueError
        Where shapes or lengths don't agree, something is empty, a map holds NaN or infinity, a weight is
        negative, `max_fpr` is not above 0 and at most 1, or `n_bins` is below 2.
    TypeError
        Where masks or maps don't hold real numbers.

    See Also
    --------
    pro_score : One point of the curve: the overlap of predicted masks.
    pixel_roc_auc_score : Counts pixels alike, not regions.

    References
    ----------
    .. [1] P. Bergmann, K. Batzner, M. Fauser, D. Sattlegger and C. Steger. *The MVTec Anomaly Detection
       Dataset: A Comprehensive Real-World Dataset for Unsupervised Anomaly Detection.* IJCV 129, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skcsflow.metrics import pro_auc_score
    >>> masks, maps = np.zeros((1, 8, 8), dtype=bool), np.zeros((1, 8, 8))
    >>> masks[0, :4, :4] = masks[0, 7, 7] = True  # a large region and a small one
    >>> maps[0, :4, :4] = 1  # the small one is missed
    >>> print(round(pro_auc_score(masks, maps, max_fpr=0.3), 3))  # found by chance below 1
    0.575
    """
    curve = _curve("pro_auc_score", masks, maps, sample_weight, n_bins, per_region=True)
    return float("nan") if curve is None else curve.area(float(max_fpr))


def pro_score(masks: Any, predicted_masks: Any, *, sample_weight: ArrayLike | None = None) -> float:
    """Per-region overlap (PRO): how much of each defective region predicted masks cover, on average.

    A region is a set of defective pixels that touch, at a side or a corner. All regions of all images count
    alike [1]_. False alarms don't lower it: look at it beside their rate, or at `pro_auc_score`.

    Parameters
    ----------
    masks : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Masks, non-zero where defective, of any numeric type: booleans, 0/1 or 0/255.
    predicted_masks : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        What `predict_masks` gives, or ``maps > threshold``: non-zero where called defective. Each must have its
        mask's shape.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images, and with them of each one's regions: one of weight 2 counts as if it were there
        twice, one of weight 0 is left out.

    Returns
    -------
    float
        The mean overlap, from 0 to 1. NaN, with an `UndefinedMetricWarning`, where no pixel is defective.

    Raises
    ------
    ValueError
        Where shapes or lengths don't agree, something is empty, a mask holds NaN, predicted masks of floats hold
        others than 0, 1 and 255, as anomaly maps do, or a weight is negative.
    TypeError
        Where masks don't hold real numbers.

    See Also
    --------
    pro_auc_score : The mean over all thresholds of maps with few false alarms.

    References
    ----------
    .. [1] P. Bergmann, K. Batzner, M. Fauser, D. Sattlegger and C. Steger. *The MVTec Anomaly Detection
       Dataset: A Comprehensive Real-World Dataset for Unsupervised Anomaly Detection.* IJCV 129, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skcsflow.metrics import pro_score
    >>> masks = np.zeros((1, 8, 8), dtype=bool)
    >>> masks[0, :4, :4] = masks[0, 7, 7] = True  # a large region and a small one
    >>> predicted = np.zeros((1, 8, 8), dtype=bool)
    >>> predicted[0, :4, :3] = True  # three quarters of the large one
    >>> pro_score(masks, predicted)
    0.375
    """
    pixels = Pixels(masks, predicted_masks, sample_weight, "predicted_masks")
    covered = n_regions = 0.0
    for image in pixels:
        if image.map.dtype.kind == "f":
            for value in image.map[~np.isin(image.map, (0, 1, 255))][:1]:
                raise ValueError(
                    f"predicted_masks must hold 0 and 1, or 0 and 255, got {value}. "
                    "For the masks of anomaly maps, pass maps > threshold."
                )
        if not image.is_good:
            overlap = gain_of(image, per_region=True)
            covered += float(np.sum(overlap, where=image.map[image.mask] != 0))
            n_regions += float(np.sum(overlap))
    if n_regions == 0:
        warn_undefined("pro_score", "defective pixels in masks", sample_weight, stacklevel=3)
        return float("nan")
    return min(covered / n_regions, 1.0)  # sums of fractions may end a little above


def _curve(
    name: str,
    masks: Any,
    maps: Any,
    sample_weight: ArrayLike | None,
    n_bins: int | None,
    *,
    per_region: bool = False,
) -> Curve | None:
    """The curve, or None and a warning where there isn't one."""
    pixels = Pixels(masks, maps, sample_weight)
    for count, kind in ((pixels.n_defective, "defective"), (pixels.n_normal, "normal")):
        if count == 0:
            for _ in pixels:  # so that faulty maps are an error here too
                pass
            warn_undefined(name, f"{kind} pixels in masks", sample_weight, stacklevel=5)
            return None
    return pixel_curve(pixels, n_bins, per_region=per_region)
