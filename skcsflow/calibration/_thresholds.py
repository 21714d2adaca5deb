"""Thresholds and p-values from scores. Scores are higher for what is more normal, as in scikit-learn."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skcsflow._labels import is_defect

__all__ = ["check_rate", "conformal_p_values", "conformal_threshold", "optimal_threshold"]

CRITERIA = ("f1", "youden")


def conformal_threshold(scores: ArrayLike, fpr: float) -> float:
    """Choose the threshold that calls at most a share `fpr` of new normal images anomalous.

    It is the k-th lowest of n scores, with ``k = floor(fpr * (n + 1))``: a new normal
    image is as likely as any of the n to be among the k lowest of the n + 1.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Scores of normal images that were not trained on; higher is more normal.
    fpr : float
        The wanted false-positive rate, above 0 and below 1.

    Returns
    -------
    float
        The threshold: a score below it is anomalous. Over all draws of n + 1 images that
        come in random order, a normal image scores below it with a probability of at
        most `fpr`, whatever the scores' distribution, and of at least
        ``fpr - 1 / (n + 1)`` where no two scores are equal.

    Raises
    ------
    ValueError
        Where `fpr` is out of range, a score is not finite, or n is less than
        ``1 / fpr - 1``, from which no rate so low can be promised.

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
    values = _check_scores(scores, "scores")
    check_rate("fpr", fpr)
    fpr = float(fpr)  # a float16 would make a float16 of fpr * n
    n = len(values)
    k = min(math.floor(round(fpr * (n + 1), 9)), n)  # 0.29 * 100 is a bit less than 29
    if k < 1:
        raise ValueError(
            f"fpr={fpr!r} can be promised from {math.ceil(round(1 / fpr, 9)) - 1} normal images on, got {n}. "
            "Pass more images, or a higher fpr."
        )
    return float(np.partition(values, k - 1)[k - 1])


def conformal_p_values(scores: ArrayLike, calibration_scores: ArrayLike) -> NDArray[np.float64]:
    """Tell how unusual scores are among those of normal images.

    Parameters
    ----------
    scores : array-like of shape (m,)
        Scores; higher is more normal.
    calibration_scores : array-like of shape (n,)
        Scores of normal images that were not trained on.

    Returns
    -------
    ndarray of shape (m,), float64
        ``(1 + number of calibration scores that are as low or lower) / (n + 1)``, from
        ``1 / (n + 1)`` to 1. For a normal image it is at most p with a probability of at
        most p.

    Raises
    ------
    ValueError
        Where a score is not finite, or there are none to compare with.

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
    values = _check_scores(scores, "scores", may_be_empty=True)
    known = np.sort(_check_scores(calibration_scores, "calibration_scores"))
    return (1 + np.searchsorted(known, values, side="right")).astype(np.float64) / (len(known) + 1)


def optimal_threshold(
    y: ArrayLike, scores: ArrayLike, *, criterion: str | None = None, recall: float | None = None
) -> float:
    """Choose the threshold that is best by labels.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels, +1 and -1 (-1 is a defect), 0 and 1 (1 is a defect), or booleans.
    scores : array-like of shape (n,)
        Scores; higher is more normal.
    criterion : {"f1", "youden"} or None, default=None
        What is made as large as possible: the F1 score of finding defects, or Youden's
        index, the true-positive rate less the false-positive rate.
    recall : float or None, default=None
        Instead of a criterion: the share of the defects, above 0 and at most 1, that must
        be found, with as few false alarms as possible.

    Returns
    -------
    float
        The threshold: a score below it is anomalous. It lies half-way to the next score;
        among thresholds that are equally good, it is the one with the fewest alarms.

    Raises
    ------
    ValueError
        Where not exactly one of `criterion` and `recall` is given, or it is out of range;
        a score is not finite; or the labels can't be read, or lack either kind.

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
    if criterion is not None and criterion not in CRITERIA:
        choices = " or ".join(map(repr, CRITERIA))
        raise ValueError(f"criterion must be {choices}, got {criterion!r}.")
    if recall is not None:
        check_rate("recall", recall, may_be_one=True)
    defective = is_defect(y, ones_are_normal=True)
    values = _check_scores(scores, "scores")
    if len(defective) != len(values):
        raise ValueError(f"There are {len(values)} scores, but y has {len(defective)} labels.")
    n_defective = int(defective.sum())
    n_normal = len(values) - n_defective
    if not n_defective or not n_normal:
        missing = "defect" if not n_defective else "normal image"
        raise ValueError(
            f"y labels no {missing}, so that no threshold is best. Normal images alone fix one by "
            "a wanted false-positive rate, fpr."
        )
    distinct, which = np.unique(values, return_inverse=True)
    # What is found and what is wrong where none, the lowest, the two lowest, ... are called anomalous.
    found = np.concatenate([[0], np.cumsum(np.bincount(which, defective))])
    wrong = np.concatenate([[0], np.cumsum(np.bincount(which, ~defective))])
    if recall is not None:
        n_called = int(np.argmax(found >= n_defective * recall * (1 - 1e-12)))
    elif criterion == "f1":
        n_called = int(np.argmax(2 * found / (found + wrong + n_defective)))
    else:
        n_called = int(np.argmax(found * n_normal - wrong * n_defective))
    if n_called == len(distinct):
        return float(np.nextafter(distinct[-1], np.inf))
    if n_called == 0:
        return float(distinct[0])
    below, above = distinct[n_called - 1 : n_called + 1]
    middle = below / 2 + above / 2  # the difference may be too large a number
    return float(middle if below < middle <= above else above)


def check_rate(name: str, value: Any, *, may_be_one: bool = False) -> None:
    """Check that a parameter is a share."""
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if is_number and (0 < value < 1 or (may_be_one and value == 1)):
        return
    raise ValueError(f"{name} must be above 0 and {'at most' if may_be_one else 'below'} 1, got {value!r}.")


def _check_scores(scores: ArrayLike, name: str, *, may_be_empty: bool = False) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"{name} must have shape (n,), got shape {values.shape}.")
    if not len(values) and not may_be_empty:
        raise ValueError(f"{name} is empty.")
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise ValueError(f"{name} must be finite, but is {values[row]} at row {row}.")
    return values
