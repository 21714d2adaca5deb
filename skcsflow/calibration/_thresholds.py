"""Thresholds and p-values from scores. Scores are higher for more normal images, as in scikit-learn."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit  # quantile of Student's t distribution

from skcsflow._checks import check_finite_scores, check_rate
from skcsflow._labels import is_defect
from skcsflow._threshold_curve import threshold_curve

__all__ = ["conformal_p_values", "conformal_threshold", "optimal_threshold", "prediction_limit"]

_CRITERIA = ("f1", "youden")


def conformal_threshold(scores: ArrayLike, fpr: float) -> float:
    """Choose a threshold with a guaranteed false-positive rate (split conformal prediction).

    It is the k-th lowest of n scores, with ``k = floor(fpr * (n + 1))``: the score of a new normal
    image is equally likely to take each rank among the n + 1 scores.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Scores of held-out normal images; higher is more normal.
    fpr : float
        The false-positive rate, above 0 and below 1.

    Returns
    -------
    float
        The threshold: an image is called anomalous if its score is below it. If the n + 1
        images are exchangeable, this happens to a new normal image with a probability of at
        most `fpr`, whatever the distribution of the scores, and of at least
        ``fpr - 1 / (n + 1)`` if no two scores are equal. The probability is over all draws of
        the n + 1 images.

    Raises
    ------
    TypeError
        If the scores aren't real numbers.
    ValueError
        If `fpr` is out of range, a score isn't finite, or there are fewer than ``1 / fpr - 1``
        scores, which can't guarantee so low a rate.

    References
    ----------
    V. Vovk, A. Gammerman, G. Shafer: Algorithmic Learning in a Random World, 2005,
    section 2.2 (conformal prediction) and 4.2 (inductive).

    Examples
    --------
    >>> from skcsflow.calibration import conformal_threshold
    >>> conformal_threshold([-0.5, -0.1, -0.9, -0.2, -0.3, -0.4, -0.6, -0.7, -0.8], fpr=0.2)
    -0.8
    """
    values = check_finite_scores(scores, "scores")
    check_rate(fpr, "fpr")
    fpr = float(fpr)  # a product with a float16 would be a float16
    n = len(values)
    k = min(math.floor(round(fpr * (n + 1), 9)), n)  # rounded, because 0.29 * 100 is slightly below 29
    if k < 1:
        n_needed = math.ceil(round(1 / fpr, 9)) - 1
        raise ValueError(
            f"fpr={fpr!r} needs at least {n_needed} normal images, got {n}. Pass more images, or a higher fpr."
        )
    return float(np.partition(values, k - 1)[k - 1])


def prediction_limit(scores: ArrayLike, fpr: float) -> float:
    r"""Choose a threshold for few normal images, as if their scores were normally distributed.

    It is :math:`\bar s - t \, \hat\sigma \sqrt{1 + 1 / n}`, with the mean and the standard deviation of
    n scores and the quantile `fpr` of Student's t distribution with n - 1 degrees of freedom: the
    lower prediction limit for one further score. With few scores it lies lower, so that chance
    in them doesn't raise the false-positive rate. :func:`conformal_threshold` needs no
    distribution, but ``1 / fpr - 1`` scores or more.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Scores of held-out normal images; higher is more normal.
    fpr : float
        The wanted false-positive rate, above 0 and below 1.

    Returns
    -------
    float
        The threshold: an image is called anomalous if its score is below it. With fewer than two
        scores, the score itself.

    Raises
    ------
    TypeError
        If the scores aren't real numbers.
    ValueError
        If `fpr` is out of range, a score isn't finite, or there is none.

    References
    ----------
    G. J. Hahn, W. Q. Meeker: Statistical Intervals, 1991, section 4.7 (prediction of one future
    observation of a normal distribution).

    Examples
    --------
    >>> from skcsflow.calibration import prediction_limit
    >>> round(prediction_limit([-1.0, -1.2, -0.8, -1.1, -0.9], fpr=0.05), 3)
    -1.369
    """
    values = check_finite_scores(scores, "scores")
    check_rate(fpr, "fpr")
    n = len(values)
    if n < 2:
        return float(values[0])
    quantile = stdtrit(n - 1, 1 - float(fpr))
    return float(values.mean() - quantile * values.std(ddof=1) * math.sqrt(1 + 1 / n))


def conformal_p_values(scores: ArrayLike, calibration_scores: ArrayLike) -> NDArray[np.float64]:
    """Compute conformal p-values: how unusual scores are among those of normal images.

    Parameters
    ----------
    scores : array-like of shape (m,)
        Scores; higher is more normal.
    calibration_scores : array-like of shape (n,)
        Scores of held-out normal images.

    Returns
    -------
    ndarray of shape (m,), float64
        ``(1 + number of calibration scores that are equal or lower) / (n + 1)``, from
        ``1 / (n + 1)`` to 1. That of a normal image is at most p with a probability of at
        most p.

    Raises
    ------
    TypeError
        If scores aren't real numbers.
    ValueError
        If a score isn't finite, or `calibration_scores` is empty.

    References
    ----------
    V. Vovk, A. Gammerman, G. Shafer: Algorithmic Learning in a Random World, 2005,
    equation 2.20.

    Examples
    --------
    >>> from skcsflow.calibration import conformal_p_values
    >>> conformal_p_values([-0.95, -0.25], [-0.1, -0.2, -0.3, -0.4]).tolist()
    [0.2, 0.6]
    """
    values = check_finite_scores(scores, "scores", allow_empty=True)
    known = np.sort(check_finite_scores(calibration_scores, "calibration_scores"))
    return (1 + np.searchsorted(known, values, side="right")).astype(np.float64) / (len(known) + 1)


def optimal_threshold(
    y: ArrayLike, scores: ArrayLike, *, criterion: str | None = None, recall: float | None = None
) -> float:
    """Choose the threshold that is best by labels.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels: +1/-1 (-1 for a defect), 0/1 (1 for a defect), booleans (True for a defect), or
        strings with "good" or "normal" for the normal images.
    scores : array-like of shape (n,)
        Scores; higher is more normal.
    criterion : {"f1", "youden"} or None, default=None
        What to maximise: the F1 score with defects as the positive class, or Youden's
        index, which is the true-positive rate minus the false-positive rate.
    recall : float or None, default=None
        Instead of a criterion: the fraction of defects to find, above 0 and at most 1, with
        as few false positives as possible.

    Returns
    -------
    float
        The threshold: an image is called anomalous if its score is below it. It lies half-way
        between two scores. Of several equally good thresholds, it is the one that calls the
        fewest images anomalous.

    Raises
    ------
    TypeError
        If the scores aren't real numbers.
    ValueError
        If not exactly one of `criterion` and `recall` is given, or it is out of range; if a
        score isn't finite; or if the labels can't be read, or are all of one kind.

    References
    ----------
    W. J. Youden: Index for rating diagnostic tests, Cancer 3, 1950.

    Examples
    --------
    >>> from skcsflow.calibration import optimal_threshold
    >>> optimal_threshold([1, 1, -1, -1], [-0.25, -0.5, -0.75, -2.0], criterion="f1")
    -0.625
    """
    if (criterion is None) == (recall is None):
        raise ValueError(f"Give either criterion or recall, got {criterion!r} and {recall!r}.")
    if criterion is not None and (not isinstance(criterion, str) or criterion not in _CRITERIA):
        choices = " or ".join(map(repr, _CRITERIA))
        raise ValueError(f"criterion must be {choices}, got {criterion!r}.")
    if recall is not None:
        check_rate(recall, "recall", may_be_one=True)
    defect = is_defect(y)
    values = check_finite_scores(scores, "scores")
    if len(defect) != len(values):
        raise ValueError(f"There are {len(values)} scores, but y has {len(defect)} labels.")
    n_defects = int(defect.sum())
    n_normal = len(values) - n_defects
    if n_defects == 0 or n_normal == 0:
        missing = "defect" if n_defects == 0 else "normal image"
        raise ValueError(
            f"y labels no {missing}, but criterion and recall need both kinds. For normal images alone, choose a "
            "false-positive rate, fpr, with conformal_threshold or calibrate."
        )
    # The curve is of anomaly scores, which are higher for defects.
    curve = threshold_curve(-values[~defect], -values[defect], dtype=np.asarray(scores).dtype)
    if criterion == "f1":
        return float(-curve.f1_max()[1])
    if recall is not None:
        # A little less, because the product may be rounded up.
        best = int(np.argmax(curve.tp >= n_defects * float(recall) * (1 - 1e-12)))
        return float(-curve.split_below(best))
    youden = curve.tp * n_normal - curve.fp * n_defects  # times both numbers, so that it is exact
    best = int(np.argmax(youden))
    if youden[best] <= 0:  # no threshold is better than calling no image anomalous
        return float(values.min())
    return float(-curve.split_below(best))
