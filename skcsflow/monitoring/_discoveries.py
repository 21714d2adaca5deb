"""Which images of a batch are defective, with few false ones among them."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

from skcsflow._checks import check_finite_scores, check_rate

__all__ = ["discoveries"]


def discoveries(p_values: ArrayLike, fdr: float = 0.1) -> NDArray[np.bool_]:
    """Choose the defective images of a batch so that few of those chosen are good ones.

    A false-positive rate of 1 % means that of 10,000 good images 100 are called defective. Where defects are
    rare, those are most of what is called defective. This bounds their share instead, by the procedure of
    Benjamini and Hochberg (`scipy.stats.false_discovery_control`).

    Parameters
    ----------
    p_values : array-like of shape (n,)
        P-values of the batch's images, such as :meth:`skcsflow.CSFlowDetector.p_values` gives.
    fdr : float, default=0.1
        The share of good images among those chosen, on average over batches and calibrations; above 0 and below 1.

    Returns
    -------
    ndarray of shape (n,), bool
        True for the images chosen.

    Raises
    ------
    TypeError
        If the p-values aren't real numbers.
    ValueError
        If a p-value lies outside 0 to 1, or `fdr` is out of range.

    Notes
    -----
    Conformal p-values by n calibration images are no lower than 1 / (n + 1). So of a batch of m images, k defects
    can be found only if ``k >= m / (fdr * (n + 1))``: take many calibration images, or large shares.

    References
    ----------
    Y. Benjamini, Y. Hochberg: Controlling the False Discovery Rate, 1995.

    S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia: Testing for Outliers with Conformal p-Values, 2023,
    theorem 2: the bound holds though all p-values share one calibration.

    Examples
    --------
    >>> from skcsflow.monitoring import discoveries
    >>> discoveries([0.001, 0.6, 0.04, 0.002, 0.3], fdr=0.1)
    array([ True, False,  True,  True, False])
    """
    values = check_finite_scores(p_values, "p_values", allow_empty=True)
    check_rate(fdr, "fdr")
    outside = np.flatnonzero((values < 0) | (values > 1))
    if len(outside):
        k = outside[0]
        raise ValueError(f"p_values must lie between 0 and 1, but p_values[{k}] is {values[k]:.6g}.")
    if not len(values):
        return np.empty(0, dtype=bool)
    return false_discovery_control(values) <= fdr * (1 + 1e-12)  # k / (n + 1) may be rounded up
