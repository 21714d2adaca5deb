"""A test, image by image, of whether new scores go on as calibration scores did."""

from bisect import bisect_left, bisect_right, insort
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from skcsflow._checks import as_random_state, check_finite_scores, check_rate

__all__ = ["DriftMonitor"]

_BETS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
_JUMP = 0.01
"""Share of the capital that is laid anew in each step, so that bets can turn when the change does."""


class DriftMonitor:
    r"""Watches whether new images are still like those that a detector was calibrated by.

    A detector's false-positive rate is promised for images that are exchangeable with those it was calibrated by: same
    parts, same camera, same light. This tests it while images come in. It gives a false alarm with a probability of
    at most `false_alarm_rate`, however many images come and however often one looks.

    Each new score is ranked among the calibration scores and all new scores before it. As long as images are
    exchangeable, these p-values are independent and uniform on (0, 1). The monitor bets against that: its capital
    starts at 1, and is multiplied by ``1 + b * (p - 1/2)`` with a mixture of five bets b from -2 to 2. No bet gains
    in the mean, so that the capital reaches ``1 / false_alarm_rate`` with a probability of at most `false_alarm_rate`
    (Ville's inequality). If scores fall or rise for good, it grows exponentially.

    Make a new one for each day or shift: the rate is then that of a day, and a long quiet time doesn't delay
    an alarm.

    Parameters
    ----------
    calibration_scores : array-like of shape (n,)
        Scores of good images that the detector was not trained on, such as its `calibration_scores_`.
    false_alarm_rate : float, default=0.01
        Probability of an alarm though nothing has changed; above 0 and below 1.
    random_state : int, RandomState instance or None, default=None
        Places each score at random in the interval that its rank allows, without which p-values of few
        calibration images aren't uniform.

    Attributes
    ----------
    p_values_ : ndarray of shape (n_seen,)
        P-value of each image so far. Low where it scores lower than those before it.
    log_capital_ : ndarray of shape (n_seen,)
        Natural logarithm of the capital after each image.
    alarm_ : int or None
        Number of the image, counted from 0, at which the capital first reached ``1 / false_alarm_rate``;
        None before.

    Raises
    ------
    TypeError
        If the scores aren't real numbers.
    ValueError
        If a score isn't finite, there is none, or `false_alarm_rate` is out of range.

    See Also
    --------
    skcsflow.CSFlowDetector.calibrate : Sets `calibration_scores_`.
    scipy.stats.ks_2samp : Compares the scores of a whole day at once.

    Notes
    -----
    More defects are a change too. Leave out images that a later inspection has found defective, but not those
    that the detector flags: the good ones among them belong to the others.

    References
    ----------
    V. Vovk, I. Petej, I. Nouretdinov, E. Ahlberg, L. Carlsson, A. Gammerman: Retrain or Not Retrain: Conformal Test
    Martingales for Change-Point Detection, COPA 2021 (the "Simple Jumper", here with five bets).

    Examples
    --------
    >>> import numpy as np
    >>> from skcsflow.monitoring import DriftMonitor
    >>> rng = np.random.default_rng(0)
    >>> monitor = DriftMonitor(rng.normal(size=100), random_state=0)
    >>> print(monitor.update(rng.normal(size=200)).alarm_)
    None
    >>> monitor.update(rng.normal(loc=-1, size=100)).alarm_
    225
    """

    def __init__(
        self, calibration_scores: ArrayLike, *, false_alarm_rate: float = 0.01, random_state: Any = None
    ) -> None:
        check_rate(false_alarm_rate, "false_alarm_rate")
        self.false_alarm_rate = false_alarm_rate
        self.p_values_ = np.empty(0)
        self.log_capital_ = np.empty(0)
        self.alarm_: int | None = None
        self._seen = sorted(check_finite_scores(calibration_scores, "calibration_scores").tolist())
        self._random = as_random_state(random_state)
        self._shares = np.full(len(_BETS), 1 / len(_BETS))  # of the capital, on each bet

    def update(self, scores: ArrayLike) -> Self:
        """Take in scores of new images, in the order in which the images came.

        Parameters
        ----------
        scores : array-like of shape (n,)
            Their scores, such as :meth:`skcsflow.CSFlowDetector.score_samples` gives; n may be 0.

        Returns
        -------
        DriftMonitor
            The monitor itself.

        Raises
        ------
        TypeError
            If the scores aren't real numbers.
        ValueError
            If a score isn't finite. Nothing is taken in then.
        """
        values = check_finite_scores(scores, "scores", allow_empty=True).tolist()
        p_values = np.array([self._p_value(value) for value in values])
        log_capital = np.cumsum([self._log_gain(p) for p in p_values])
        if len(self.log_capital_):
            log_capital += self.log_capital_[-1]
        above = np.flatnonzero(log_capital >= -np.log(self.false_alarm_rate))
        if self.alarm_ is None and len(above):
            self.alarm_ = len(self.p_values_) + int(above[0])
        self.p_values_ = np.append(self.p_values_, p_values)
        self.log_capital_ = np.append(self.log_capital_, log_capital)
        return self

    def _p_value(self, score: float) -> float:
        """Rank of a score among those before it, which it then joins."""
        n_lower, n_up_to = bisect_left(self._seen, score), bisect_right(self._seen, score)
        insort(self._seen, score)
        # In (0, 1]: a bet against 0 would lose all.
        place = 1 - self._random.uniform()
        return (n_lower + place * (n_up_to - n_lower + 1)) / len(self._seen)

    def _log_gain(self, p_value: float) -> float:
        shares = (1 - _JUMP) * self._shares + _JUMP / len(_BETS)
        capitals = shares * (1 + _BETS * (p_value - 0.5))
        gain = capitals.sum()
        self._shares = capitals / gain
        return float(np.log(gain))

    def __repr__(self) -> str:
        """Say how many images there were, and whether there was an alarm."""
        alarm = "no alarm" if self.alarm_ is None else f"alarm at image {self.alarm_}"
        return f"<DriftMonitor: {len(self.p_values_)} images, {alarm}>"
