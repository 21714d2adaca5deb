"""Metrics of the scores of whole images."""

from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from skcsflow._checks import check_finite_scores, check_weights, validate_params
from skcsflow._labels import is_defect
from skcsflow._threshold_curve import threshold_curve
from skcsflow.metrics._inputs import warn_undefined

__all__ = ["f1_max"]


@overload
def f1_max(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    sample_weight: ArrayLike | None = ...,
    return_threshold: Literal[False] = ...,
) -> float: ...
@overload
def f1_max(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    sample_weight: ArrayLike | None = ...,
    return_threshold: Literal[True],
) -> tuple[float, float]: ...
@validate_params({"return_threshold": ["boolean"]}, prefer_skip_nested_validation=True)
def f1_max(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    return_threshold: bool = False,
) -> float | tuple[float, float]:
    """Best F1 score over all thresholds, for whole images, with defects as the positive class.

    The threshold is chosen on the same images that it is evaluated on, so the score is an upper bound and not
    an estimate for new images.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels: +1/-1 (-1 for a defect), 0/1 (1 for a defect), booleans (True for a defect), or strings with
        "good" or "normal" for the normal images. Labels that are all the number 1 are ambiguous, and an error.
    y_score : array-like of shape (n,)
        Anomaly scores, higher for more anomalous images: ``-detector.score_samples(X)``.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images.
    return_threshold : bool, default=False
        Whether to return the threshold too.

    Returns
    -------
    f1 : float
        The best F1 score, from 0 to 1. NaN, with an `UndefinedMetricWarning`, if no image is defective or
        none is normal.
    threshold : float
        Only with `return_threshold=True`: images are called defective if ``y_score > threshold``. It lies
        half-way between the lowest score that is called defective and the next lower one, or just below the
        former if no score is lower. Of several thresholds with the best F1 score, it is the one that calls the
        fewest images defective. ``detector.offset_ = -threshold`` makes `predict` call the same images
        defective.

    Raises
    ------
    TypeError
        If scores or weights aren't real numbers.
    ValueError
        If labels can't be read, shapes don't agree, a score is NaN or infinite, or a weight is negative.

    See Also
    --------
    pixel_f1_max : The same for pixels and anomaly maps.
    sklearn.metrics.roc_auc_score : Area under the ROC curve, which takes the same scores.

    Examples
    --------
    >>> from skcsflow.metrics import f1_max
    >>> f1_max([1, 1, -1, -1], [0.1, 0.4, 0.3, 0.9], return_threshold=True)
    (0.8, 0.2)
    """
    defect = is_defect(y_true, ones_are_normal=False, name="y_true")
    scores = check_finite_scores(y_score, "y_score")
    if scores.shape != defect.shape:
        raise ValueError(
            f"y_score must have shape ({len(defect)},), one score per label in y_true, got shape {scores.shape}."
        )
    weights = check_weights(sample_weight, len(defect), "y_true")
    if weights is not None:
        is_counted = weights > 0
        defect, scores, weights = defect[is_counted], scores[is_counted], weights[is_counted]
    for has_kind, kind in ((defect.any(), "defective"), (not defect.all(), "normal")):
        if len(defect) == 0 or not has_kind:
            warn_undefined("f1_max", f"{kind} images in y_true", sample_weight)
            return (float("nan"), float("nan")) if return_threshold else float("nan")
    curve = threshold_curve(
        scores[~defect],
        scores[defect],
        None if weights is None else weights[~defect],
        None if weights is None else weights[defect],
        dtype=np.asarray(y_score).dtype,
    )
    f1, threshold = curve.f1_max()
    return (f1, threshold) if return_threshold else f1
