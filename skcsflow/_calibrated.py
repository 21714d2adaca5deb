"""Thresholds of a detector from images that it was not trained on."""

import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import BaseCrossValidator, KFold
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from skcsflow._features import ImageScores
from skcsflow._labels import is_defect
from skcsflow.calibration import conformal_p_values, conformal_threshold, optimal_threshold
from skcsflow.nn import CSFlowModel

__all__ = ["CalibrationMixin"]


class CalibrationMixin:
    """The methods of :class:`~skcsflow.CSFlowDetector` that set thresholds, or need them set so."""

    contamination: float
    memory: Any
    model_: CSFlowModel
    offset_: float
    map_threshold_: float
    calibration_scores_: NDArray[np.float64]

    def _score_images(self, X: Any) -> Iterator[ImageScores]:
        raise NotImplementedError

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        raise NotImplementedError

    def calibrate(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        fpr: float | None = None,
        criterion: str | None = None,
        recall: float | None = None,
        cv: int | BaseCrossValidator | None = None,
    ) -> Self:
        """Set `offset_` and `map_threshold_` by images that were not trained on.

        With a false-positive rate `fpr`, normal images are all it takes: a new normal
        image is called anomalous with a probability of at most `fpr`, and as probably has
        a single pixel above `map_threshold_` (split conformal prediction; see
        :func:`~skcsflow.calibration.conformal_threshold`). The promise is for the average
        over calibrations: after one calibration by n images, the rate varies about it by
        a standard deviation of about ``sqrt(fpr / n)``. With labels of defects, thresholds
        can be chosen by a criterion or for a recall instead
        (:func:`~skcsflow.calibration.optimal_threshold`).

        Parameters
        ----------
        X : array-like of images
            Images, see :meth:`fit`. None that was trained on, unless `cv` is given.
        y : array-like of shape (n,), default=None
            Labels: +1 and -1 (-1 for a defect), 0 and 1 (1 for a defect), or booleans.
            None: all are normal.
        fpr : float, default=None
            The wanted false-positive rate, above 0 and below 1. Needs ``1 / fpr - 1``
            normal images. Where nothing else is given, it is `contamination`.
        criterion : {"f1", "youden"}, default=None
            Instead of `fpr`: makes the F1 score or Youden's index as large as possible.
        recall : float, default=None
            Instead of `fpr`: finds this share of the defects, with the fewest false alarms.
        cv : int or splitter, default=None
            For those with no images to spare: X is what the detector was fitted on. Clones
            are fitted on all folds but one, and score that one. Each takes as long as a
            fit, but for the features, which are extracted once more and no oftener. An int
            is a number of folds, of shuffled rows. The scores are nearly those of fresh
            images, but not exactly exchangeable with them: the promise becomes a good
            approximation.

        Returns
        -------
        CSFlowDetector
            The estimator itself, with `calibration_scores_`.

        Raises
        ------
        ValueError
            Where more than one of `fpr`, `criterion` and `recall` is given, one is out of
            range, there are too few normal images for `fpr`, or no labels of both kinds
            for the others. The thresholds stay what they were.

        Examples
        --------
        >>> from skcsflow import CSFlowDetector
        >>> from skcsflow.datasets import make_defects
        >>> images = make_defects(n_normal=60, n_defective=0, random_state=0).images
        >>> detector = CSFlowDetector(input_size=64, n_epochs=1, random_state=0).fit(images[:20])
        >>> detector.calibrate(images[20:], fpr=0.05).predict(images[20:]).tolist().count(-1)
        1
        """
        check_is_fitted(self)
        given = {"fpr": fpr, "criterion": criterion, "recall": recall}
        chosen = {name: value for name, value in given.items() if value is not None}
        if len(chosen) > 1:
            raise ValueError(f"Give one of fpr, criterion and recall, got {chosen}.")
        defective = None if y is None else is_defect(y)
        if defective is None and not chosen.keys() <= {"fpr"}:
            raise ValueError(f"{next(iter(chosen))} needs labels, but y is None.")
        scores, peaks = _scores_and_peaks(self, X) if cv is None else self._cross_fitted(X, defective, cv)
        if defective is None:
            defective = np.zeros(len(scores), dtype=bool)
        if len(defective) != len(scores):
            raise ValueError(f"X has {len(scores)} images, but y has {len(defective)} labels.")
        normal = ~defective
        if not normal.any():
            raise ValueError("y labels every row a defect, so there is no normal image to calibrate by.")
        thresholds = []
        for values in (scores, -peaks):
            if "fpr" in chosen or not chosen:
                rate = self.contamination if fpr is None else fpr
                thresholds.append(conformal_threshold(values[normal], rate))
            else:
                thresholds.append(optimal_threshold(defective, values, criterion=criterion, recall=recall))
        self.offset_, self.map_threshold_ = thresholds[0], -thresholds[1]
        self.calibration_scores_ = np.sort(scores[normal])
        return self

    def p_values(self, X: Any) -> NDArray[np.float64]:
        """Compute conformal p-values: how unusual images are among those of the calibration.

        Parameters
        ----------
        X : array-like of images
            Images, see :meth:`fit`.

        Returns
        -------
        ndarray of shape (n,), float64
            Above 0 and at most 1; small is anomalous. Of normal images, a share of at most
            p has a p-value of at most p. See
            :func:`~skcsflow.calibration.conformal_p_values`.

        Raises
        ------
        NotFittedError
            Where :meth:`calibrate` has not been called since the last fit.
        """
        check_is_fitted(self)
        if not hasattr(self, "calibration_scores_"):
            raise NotFittedError(
                "p-values compare with images that were not trained on. Call calibrate first."
            )
        return conformal_p_values(self.score_samples(X), self.calibration_scores_)

    def _cross_fitted(
        self, X: Any, defective: NDArray[np.bool_] | None, cv: int | BaseCrossValidator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores and peaks of images by clones that were not trained on them."""
        folds = KFold(cv, shuffle=True, random_state=0) if isinstance(cv, int | np.integer) else cv
        rows = np.arange(len(X))
        labels = None if defective is None else np.where(defective, -1, 1)
        scores, peaks = np.full((2, len(rows)), np.nan)
        with tempfile.TemporaryDirectory() if self.memory is None else nullcontext(self.memory) as memory:
            for learnt, held_out in folds.split(rows, labels):
                fold: Any = clone(self).set_params(memory=memory, warm_start=False)
                fold.fit(_safe_indexing(X, learnt), None if labels is None else labels[learnt])
                scores[held_out], peaks[held_out] = _scores_and_peaks(fold, _safe_indexing(X, held_out))
        if np.isnan(scores).any():
            row = int(np.argmax(np.isnan(scores)))
            raise ValueError(f"cv={cv!r} never holds out row {row}; each must be held out once.")
        return scores, peaks


def _scores_and_peaks(detector: CalibrationMixin, X: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of images, and the highest value of each map."""
    scored = [
        (
            -s.anomaly_score,
            detector.model_.anomaly_map_generator.peaks([m[None] for m in s.scale_maps]).item(),
        )
        for s in detector._score_images(X)
    ]
    scores, peaks = np.array(scored, dtype=np.float64).T
    return scores, peaks
