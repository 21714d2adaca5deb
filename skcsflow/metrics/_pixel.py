"""Metrics of anomaly maps against masks."""

from numbers import Integral, Real
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval

from skcsflow._checks import validate_params
from skcsflow._threshold_curve import ThresholdCurve
from skcsflow.metrics._inputs import Pixels, warn_undefined
from skcsflow.metrics._pixel_curve import defective_weights, pixel_curve

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

    It is the probability that a defective pixel has a higher value than a normal one, where ties count half.
    Defects are small, so most normal pixels are easy and values near 1 are common. Large defects outweigh small
    ones, unlike in `pro_auc_score`.

    Parameters
    ----------
    masks : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Masks, non-zero where defective, of any numeric type, for instance booleans, 0/1 or 0/255.
    maps : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Anomaly maps, higher where more anomalous, of the same shapes as the masks. Values are compared in their
        own type.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images. An image of weight 2 counts twice, one of weight 0 is left out.
    n_bins : int, default=None
        None: exact, which needs memory for a copy of all values. An int: values are counted in at most that
        many bins, image by image, so that memory doesn't grow with the number of pixels. With ``2**16`` bins
        the result usually differs from the exact one by less than 1e-4.

    Returns
    -------
    float
        The area, from 0 to 1. NaN, with an `UndefinedMetricWarning`, if no pixel is defective or none is
        normal.

    Raises
    ------
    ValueError
        If shapes or lengths don't agree, something is empty, a map holds NaN or infinity, a weight is
        negative, or `n_bins` is below 2.
    TypeError
        If masks or maps don't hold real numbers.

    See Also
    --------
    pro_auc_score : Weights all regions equally, instead of all pixels.
    pixel_average_precision_score : More sensitive to false positives where defects are small.

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

    It is the sum over thresholds of the precision times the increase of the recall, as in scikit-learn's
    `average_precision_score`. Chance level is the fraction of defective pixels, so values of different data
    sets can't be compared. False positives count more than in the area under the ROC curve.

    Parameters
    ----------
    masks : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Masks, non-zero where defective, of any numeric type, for instance booleans, 0/1 or 0/255.
    maps : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Anomaly maps, higher where more anomalous, of the same shapes as the masks. Values are compared in their
        own type.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images. An image of weight 2 counts twice, one of weight 0 is left out.
    n_bins : int, default=None
        None: exact, which needs memory for a copy of all values. An int: values are counted in at most that
        many bins, image by image, so that memory doesn't grow with the number of pixels. With ``2**16`` bins
        the result usually differs from the exact one by less than 1e-4.

    Returns
    -------
    float
        The average precision, from 0 to 1. NaN, with an `UndefinedMetricWarning`, if no pixel is defective or
        none is normal.

    Raises
    ------
    ValueError
        If shapes or lengths don't agree, something is empty, a map holds NaN or infinity, a weight is
        negative, or `n_bins` is below 2.
    TypeError
        If masks or maps don't hold real numbers.

    See Also
    --------
    pixel_roc_auc_score : Its chance level is 0.5 for every data set.
    pixel_f1_max : One point of the precision-recall curve, with its threshold.

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


@overload
def pixel_f1_max(
    masks: Any,
    maps: Any,
    *,
    sample_weight: ArrayLike | None = ...,
    n_bins: int | None = ...,
    return_threshold: Literal[False] = ...,
) -> float: ...
@overload
def pixel_f1_max(
    masks: Any,
    maps: Any,
    *,
    sample_weight: ArrayLike | None = ...,
    n_bins: int | None = ...,
    return_threshold: Literal[True],
) -> tuple[float, float]: ...
@validate_params({"n_bins": _N_BINS, "return_threshold": ["boolean"]}, prefer_skip_nested_validation=True)
def pixel_f1_max(
    masks: Any,
    maps: Any,
    *,
    sample_weight: ArrayLike | None = None,
    n_bins: int | None = None,
    return_threshold: bool = False,
) -> float | tuple[float, float]:
    """Best F1 score over all thresholds, for the pixels of all images.

    The threshold is chosen on the same pixels that it is evaluated on, so the score is an upper bound and not
    an estimate for new images.

    Parameters
    ----------
    masks : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Masks, non-zero where defective, of any numeric type, for instance booleans, 0/1 or 0/255.
    maps : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Anomaly maps, higher where more anomalous, of the same shapes as the masks. Values are compared in their
        own type.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images. An image of weight 2 counts twice, one of weight 0 is left out.
    n_bins : int, default=None
        None: exact, which needs memory for a copy of all values. An int: values are counted in at most that
        many bins, image by image, so that memory doesn't grow with the number of pixels. The score is then the
        best one of thresholds between bins, and never above the exact one. With ``2**16`` bins it is usually
        less than 1e-4 below it.
    return_threshold : bool, default=False
        Whether to return the threshold too.

    Returns
    -------
    f1 : float
        The best F1 score, from 0 to 1. NaN, with an `UndefinedMetricWarning`, where no pixel is defective or
        none is normal.
    threshold : float
        Only with `return_threshold=True`: pixels are called defective where ``map > threshold``. It lies
        half-way between the lowest value that is called defective and the next lower one, or just below the
        former if no value is lower; it is an int for integers beyond 2**53. Of several thresholds with the best
        F1 score, it is the one that calls the fewest pixels defective.
        ``detector.transform(X) > threshold`` marks the same pixels; `predict_masks` marks fewer, see there.

    Raises
    ------
    ValueError
        If shapes or lengths don't agree, something is empty, a map holds NaN or infinity, a weight is
        negative, or `n_bins` is below 2.
    TypeError
        If masks or maps don't hold real numbers.

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

    A region is a set of defective pixels that touch at a side or a corner. Its overlap at a threshold is the
    fraction of its pixels at or above the threshold. The curve shows the mean overlap of all regions of all
    images against the pixels' false-positive rate, linear between thresholds [1]_. A scratch of fifty pixels
    counts as much as a stain of five thousand.

    Parameters
    ----------
    masks : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Masks, non-zero where defective, of any numeric type, for instance booleans, 0/1 or 0/255.
    maps : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Anomaly maps, higher where more anomalous, of the same shapes as the masks. Values are compared in their
        own type.
    max_fpr : float, default=0.3
        The false-positive rate at which the area ends, above 0 and at most 1. Areas of different `max_fpr`
        can't be compared.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images, which apply to their regions and their normal pixels. An image of weight 2 counts
        twice, one of weight 0 is left out.
    n_bins : int, default=None
        None: exact, which needs memory for a copy of all values. An int: values are counted in at most that
        many bins, image by image, so that memory doesn't grow with the number of pixels. With ``2**16`` bins
        the result usually differs from the exact one by less than 1e-4.

    Returns
    -------
    float
        The area up to `max_fpr` divided by `max_fpr`, from 0 to 1. Chance level is ``max_fpr / 2``. NaN, with an
        `UndefinedMetricWarning`, where no pixel is defective or none is normal.

    Raises
    ------
    ValueError
        If shapes or lengths don't agree, something is empty, a map holds NaN or infinity, a weight is
        negative, `max_fpr` is not above 0 and at most 1, or `n_bins` is below 2.
    TypeError
        If masks or maps don't hold real numbers.

    See Also
    --------
    pro_score : The mean overlap of predicted masks, which is one point of the curve.
    pixel_roc_auc_score : Weights all pixels equally, instead of all regions.

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
    >>> maps[0, :4, :4] = 1  # finds only the large one
    >>> print(round(pro_auc_score(masks, maps, max_fpr=0.3), 3))
    0.575
    """
    curve = _curve("pro_auc_score", masks, maps, sample_weight, n_bins, per_region=True)
    return float("nan") if curve is None else curve.area(float(max_fpr))


def pro_score(masks: Any, predicted_masks: Any, *, sample_weight: ArrayLike | None = None) -> float:
    """Per-region overlap (PRO): the mean fraction of each defective region that predicted masks cover.

    A region is a set of defective pixels that touch at a side or a corner. All regions of all images have the
    same weight [1]_. False positives don't lower this score: report their rate beside it, or use
    `pro_auc_score`.

    Parameters
    ----------
    masks : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Masks, non-zero where defective, of any numeric type, for instance booleans, 0/1 or 0/255.
    predicted_masks : array-like of shape (n, H, W) or sequence of n array-like of shape (H_i, W_i)
        Predicted masks, non-zero where called defective, of the same shapes as the masks: the result of
        `predict_masks`, or ``maps > threshold``.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images, which apply to their regions. An image of weight 2 counts twice, one of weight 0
        is left out.

    Returns
    -------
    float
        The mean overlap, from 0 to 1. NaN, with an `UndefinedMetricWarning`, if no pixel is defective.

    Raises
    ------
    ValueError
        If shapes or lengths don't agree, something is empty, a mask holds NaN, predicted masks of floats hold
        values other than 0, 1 and 255, as anomaly maps do, or a weight is negative.
    TypeError
        If masks don't hold real numbers.

    See Also
    --------
    pro_auc_score : The mean over thresholds of anomaly maps, up to a false-positive rate.

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
                    "To use anomaly maps, pass maps > threshold."
                )
        if not image.is_good:
            overlap = defective_weights(image, per_region=True)
            covered += float(np.sum(overlap, where=image.map[image.mask] != 0))
            n_regions += float(np.sum(overlap))
    if n_regions == 0:
        warn_undefined("pro_score", "defective pixels in masks", sample_weight)
        return float("nan")
    return min(covered / n_regions, 1.0)  # rounding may end slightly above


def _curve(
    name: str,
    masks: Any,
    maps: Any,
    sample_weight: ArrayLike | None,
    n_bins: int | None,
    *,
    per_region: bool = False,
) -> ThresholdCurve | None:
    """The curve, or None with a warning if a kind of pixels is missing."""
    pixels = Pixels(masks, maps, sample_weight)
    for count, kind in ((pixels.n_defective, "defective"), (pixels.n_normal, "normal")):
        if count == 0:
            for _ in pixels:  # reads all maps, so that NaN in them is an error here too
                pass
            warn_undefined(name, f"{kind} pixels in masks", sample_weight)
            return None
    return pixel_curve(pixels, n_bins, per_region=per_region)
