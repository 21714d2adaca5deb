"""True and false positives at every threshold: what metrics and thresholds are read from."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ThresholdCurve", "threshold_curve"]


class ThresholdCurve(NamedTuple):
    """True and false positives at each threshold, where values at or above it are called defective.

    The thresholds are the distinct values of defects. Between two of them only false positives are added, so
    no other threshold can have a better F1 score, recall or Youden index.

    Parameters
    ----------
    threshold : ndarray of shape (k,)
        Thresholds, descending.
    gain : ndarray of shape (k,), float64
        Weight of the defects whose value equals each threshold.
    fp_above, fp : ndarray of shape (k,), float64
        Weight of the normal values above each threshold, and at or above it.
    n_normal : float
        Weight of all normal values.
    lower : ndarray of shape (k,)
        The highest value of either kind below each threshold; the threshold itself if there is none.
    dtype : dtype
        The type of the user's values. NumPy rounds a threshold to it when the two are compared.
    """

    threshold: NDArray[Any]
    gain: NDArray[np.float64]
    fp_above: NDArray[np.float64]
    fp: NDArray[np.float64]
    n_normal: float
    lower: NDArray[Any]
    dtype: np.dtype[Any]

    @property
    def tp(self) -> NDArray[np.float64]:
        """Weight of the defects at or above each threshold."""
        return np.cumsum(self.gain)

    def area(self, max_fpr: float = 1.0) -> float:
        """Mean recall over false-positive rates from 0 to `max_fpr`.

        Where defects and normal values tie, the recall grows linearly with the false-positive rate.
        """
        limit = max_fpr * self.n_normal
        ties = self.fp - self.fp_above
        within = np.clip(limit - self.fp_above, 0, ties)
        growing = np.divide(within**2, 2 * ties, out=np.zeros_like(ties), where=ties > 0)
        full = np.maximum(limit - self.fp, 0)
        area = float(self.gain @ (growing + full) / (limit * self.gain.sum()))
        return min(area, 1.0)  # rounding may end slightly above

    def average_precision(self) -> float:
        """Sum over thresholds of the precision times the increase of the recall."""
        tp = self.tp
        return min(float(self.gain @ (tp / (tp + self.fp)) / tp[-1]), 1.0)

    def f1_max(self) -> tuple[float, float]:
        """The best F1 score, and the threshold that gives it, see :meth:`split_below`.

        Of several thresholds with the best score it is the highest.
        """
        tp = self.tp
        f1 = 2 * tp / (tp + self.fp + tp[-1])
        best = int(np.argmax(f1))
        return float(f1[best]), self.split_below(best)

    def split_below(self, i: int) -> float:
        """A number between threshold `i` and the next lower value, so that `>` and `>=` give the same result.

        It is half-way between the two if the type of the values holds a number there, and otherwise the lower
        of them. If no value is lower, it is just below the threshold.
        """
        lower, upper = self.lower[i], self.threshold[i]
        if self.dtype.kind != "f":
            lower, upper = int(lower), int(upper)
            if lower == upper:
                lower = upper - 1
            # Floats beyond 2**52 have no halves.
            return (lower + upper) / 2 if max(-lower, upper) <= 2**52 else lower
        if lower == upper:
            return float(np.nextafter(self.dtype.type(upper), self.dtype.type(-np.inf)))
        # Halved first, because the sum may overflow.
        middle = float(self.dtype.type(float(lower) / 2 + float(upper) / 2))
        return middle if lower <= middle < upper else float(lower)


def threshold_curve(
    normal: NDArray[Any],
    defective: NDArray[Any],
    normal_weight: NDArray[np.float64] | None = None,
    gain: NDArray[np.float64] | None = None,
    dtype: np.dtype[Any] | None = None,
) -> ThresholdCurve:
    """Compute the curve of single values, which are higher for defects.

    Parameters
    ----------
    normal, defective : ndarray of shape (n,) and (m,), of one dtype
        Values of normal and of defective images or pixels, at least one of each. `normal` may be sorted in
        place.
    normal_weight, gain : ndarray of shape (n,) and (m,), float64, default=None
        Their weights. None: all weights are 1.
    dtype : dtype, default=None
        The type of the user's values. None: that of `defective`.

    Returns
    -------
    ThresholdCurve
        The curve.

    Examples
    --------
    >>> import numpy as np
    >>> from skcsflow._threshold_curve import threshold_curve
    >>> curve = threshold_curve(np.array([0.1, 0.4]), np.array([0.3, 0.9]))
    >>> curve.threshold, curve.fp
    (array([0.9, 0.3]), array([0., 1.]))
    """
    gains: NDArray[Any]
    if gain is None:
        values, gains = np.unique(defective, return_counts=True)
    else:
        values, positions = np.unique(defective, return_inverse=True)
        gains = np.bincount(positions, weights=gain)
    weight_below: NDArray[Any] | None = None
    if normal_weight is None:
        normal.sort()  # several times as fast as argsort
    else:
        order = np.argsort(normal)
        normal = normal[order]
        weight_below = np.concatenate([[0.0], np.cumsum(normal_weight[order])])
        del order
    # Few defective values are looked up among many normal ones.
    below: NDArray[Any] = np.searchsorted(normal, values, side="left")
    not_above: NDArray[Any] = np.searchsorted(normal, values, side="right")
    n_normal: float = len(normal)
    lower = np.concatenate([values[:1], values[:-1]])
    has_normal_below = below > 0
    lower[has_normal_below] = np.maximum(lower[has_normal_below], normal[below[has_normal_below] - 1])
    if has_normal_below[0]:
        lower[0] = normal[below[0] - 1]
    if weight_below is not None:
        below, not_above, n_normal = weight_below[below], weight_below[not_above], weight_below[-1]
    return ThresholdCurve(
        threshold=values[::-1],
        gain=np.asarray(gains[::-1], dtype=np.float64),
        fp_above=np.asarray(n_normal - not_above[::-1], dtype=np.float64),
        fp=np.asarray(n_normal - below[::-1], dtype=np.float64),
        n_normal=float(n_normal),
        lower=lower[::-1],
        dtype=values.dtype if dtype is None else dtype,
    )
