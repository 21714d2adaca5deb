"""Metrics of the scores of whole images."""

# SPDX-License-Identifier: BSD-3-Clause

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import validate_params

from skcsflow._labels import is_defect
from skcsflow.metrics._curve import exact_curve
from skcsflow.metrics._inputs import check_weights, warn_undefined

__all__ = ["f1_max"]


@validate_params({"return_threshold": ["boolean"]}, prefer_skip_nested_validation=True)
def f1_max(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    return_threshold: bool = False,
) -> float | tuple[float, float]:
    """Best F1 score over all images that any one threshold gives, defects being the positive class.

    The threshold is chosen on the very images that it is judged by, so this is what the scores could do at
    best, not what to expect of new images.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        +1 and -1 (-1 is a defect), 0 and 1 (1 is a defect) or booleans (True is a defect). Nothing but the
        number 1 is ambiguous, and an error.
    y_score : array-like of shape (n,)
        Anomaly scores, higher where more anomalous: ``-detector.score_samples(X)``.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images.
    return_threshold : bool, default=False
        Whether to return the threshold too.

    Returns
    -------
    f1 : float
        The best F1 score, from 0 to 1. NaN, with an `UndefinedMetricWarning`, where no image is defective or
        none is normal.
    threshold : float
        Only with `return_threshold=True`: images are called defective where ``y_score > threshold``. It lies
        half-way between the lowest score that is called so and the next lower one, or just below where there is
        none, or no number between; an int for integers beyond 2**53. Of thresholds that give the same F1 score,
        it is the one with the fewest alarms. ``detector.offset_ = -threshold`` makes `predict` call the same
        images defective.

    Raises
    ------
    ValueError
        Where labels can't be read, shapes don't agree, a score is NaN or infinite, or a weight is negative.
    TypeError
        Where scores aren't real numbers.

    See Also
    --------
    pixel_f1_max : The same for pixels and anomaly maps.
    sklearn.metrics.roc_auc_score : For image scores as they are.

    Examples
    --------
    >>> from skcsflow.metrics import f1_max
    >>> f1_max([1, 1, -1, -1], [0.1, 0.4, 0.3, 0.9], return_threshold=True)
    (0.8, 0.2)
    """
    defect = is_defect(y_true, ones_are_normal=False, name="y_true")
    scores = np.asarray(y_score)
    if scores.shape != defect.shape:
        raise ValueError(
            f"y_score must have shape ({len(defect)},), one score per label in y_true, got shape {scores.shape}."
        )
    if scores.dtype.kind not in "biuf":
        raise TypeError(f"y_score must hold real numbers, got dtype {scores.dtype}.")
    if scores.dtype == bool:
        scores = scores.astype(np.uint8)
    for i in np.flatnonzero(~np.isfinite(scores))[:1]:
        raise ValueError(f"y_score must be finite, but is {scores[i]} at row {i}.")
    weights = check_weights(sample_weight, len(defect), "y_true")
    if weights is not None:
        counted = weights > 0
        defect, scores, weights = defect[counted], scores[counted], weights[counted]
    for found, kind in ((defect.any(), "defective"), (not defect.all(), "normal")):
        if len(defect) == 0 or not found:
            warn_undefined("f1_max", f"{kind} images in y_true", sample_weight, stacklevel=4)
            return (float("nan"), float("nan")) if return_threshold else float("nan")
    curve = exact_curve(
        scores[~defect],
        scores[defect],
        None if weights is None else weights[~defect],
        None if weights is None else weights[defect],
    )
    f1, threshold = curve.f1_max()
    return (f1, threshold) if return_threshold else f1
