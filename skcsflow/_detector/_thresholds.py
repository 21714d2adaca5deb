"""Thresholds of a detector from images that it was not trained on."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from skcsflow._checks import count_rows
from skcsflow._detector._parameters import check_input_size, check_parameters_in_use
from skcsflow._features import open_cache
from skcsflow._images import ImageCollection, as_sequence
from skcsflow._labels import is_defect
from skcsflow.calibration import conformal_p_values, conformal_threshold, optimal_threshold

AUTO_FPR = 0.05
"""False-positive rate that ``contamination="auto"`` aims at."""

__all__ = ["ThresholdsMixin"]


class ThresholdsMixin:
    """The methods of :class:`~skcsflow.CSFlowDetector` that set thresholds, or need them set so."""

    contamination: float | str
    input_size: int | tuple[int, int]
    memory: Any
    on_error: str
    weights: Any
    random_state: Any
    offset_: float
    map_threshold_: float
    calibration_scores_: NDArray[np.float64]
    _trained_by: dict[str, Any] | None

    score_samples: Callable[[Any], NDArray[np.float64]]
    _check_model_params: Callable[[tuple[int, int]], None]
    _training_params: Callable[[], dict[str, Any]]
    _known_images: Callable[[], set[bytes]]
    _check_X: Callable[..., ImageCollection]

    def calibrate(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        fpr: float | None = None,
        criterion: str | None = None,
        recall: float | None = None,
        cv: Any = None,
    ) -> Self:
        """Set `offset_` and `map_threshold_` by images that were not trained on.

        With a false-positive rate `fpr`, normal images are all it takes: a new normal
        image is called anomalous with a probability of at most `fpr`, and with a
        probability of at most `fpr` has any pixel above `map_threshold_`; either of the two
        is promised for itself (split conformal prediction; see
        :func:`~skcsflow.calibration.conformal_threshold`). The promise is for the average
        over calibrations: after one calibration by n images, the rate varies about it by
        a standard deviation of about ``sqrt(fpr / n)``. With labels of defects, thresholds
        can be chosen by a criterion or for a recall instead
        (:func:`~skcsflow.calibration.optimal_threshold`).

        Parameters
        ----------
        X : array-like of images
            Images, see :meth:`fit`. None that was fitted on, unless `cv` is given; there is a warning where
            one is recognised.
        y : array-like of shape (n,), default=None
            Labels: +1 and -1 (-1 for a defect), 0 and 1 (1 for a defect), or booleans.
            Nothing but ones is read as +1. None: all are normal.
        fpr : float, default=None
            The wanted false-positive rate, above 0 and below 1. Needs ``1 / fpr - 1``
            normal images. Where nothing else is given, it is `contamination`, and 0.05 where that
            is "auto".
        criterion : {"f1", "youden"}, default=None
            Instead of `fpr`: makes the F1 score or Youden's index as large as possible.
        recall : float, default=None
            Instead of `fpr`: finds this share of the defects, with the fewest false alarms.
        cv : int, splitter or iterable of (train, test), default=None
            For those with no images to spare: X is what the detector was fitted on. Clones
            are fitted on all folds but one, and score that one. Each takes as long as a
            fit, but for the features: they are extracted once more and kept, in `memory` or
            else in a temporary folder. An int is a number of folds, of shuffled rows; where
            several images show one part, keep them together:
            ``cv=list(GroupKFold(5).split(X, groups=parts))``. The
            scores are nearly those of fresh images, but not exactly exchangeable with them:
            the promise becomes a good approximation.

        Returns
        -------
        CSFlowDetector
            The estimator itself, with `calibration_scores_`.

        Raises
        ------
        ValueError
            Where more than one of `fpr`, `criterion` and `recall` is given, one is out of
            range, there are too few normal images for `fpr`, or no labels of both kinds
            for the others; or where with `cv` a row is not held out exactly once, or the
            detector was not trained by one fit with its present parameters and these images, or its
            backbone is random and `random_state` no int, so that each clone would have
            another. The thresholds stay what they were.

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
        check_parameters_in_use(self, "contamination")
        X = as_sequence(X)
        n_images = count_rows(X)
        given = {"fpr": fpr, "criterion": criterion, "recall": recall}
        chosen = {name: value for name, value in given.items() if value is not None}
        if len(chosen) > 1:
            raise ValueError(f"Give one of fpr, criterion and recall, got {chosen}.")
        if y is None and not chosen.keys() <= {"fpr"}:
            raise ValueError(f"{next(iter(chosen))} needs labels, but y is None.")
        defective = np.zeros(n_images, dtype=bool) if y is None else is_defect(y)
        if len(defective) != n_images:
            raise ValueError(f"X has {n_images} images, but y has {len(defective)} labels.")
        if n_images and defective.all():
            raise ValueError("y labels every row a defect, so there is no normal image to calibrate by.")

        def threshold(values: NDArray[np.float64]) -> float:
            if criterion is None and recall is None:
                usual = AUTO_FPR if self.contamination == "auto" else float(self.contamination)
                return conformal_threshold(values[~defective], usual if fpr is None else fpr)
            return optimal_threshold(defective, values, criterion=criterion, recall=recall)

        if n_images:
            threshold(np.zeros(n_images))  # what can't be is an error now, not after all the work
        if cv is None:
            scores, peaks = scores_and_peaks(self, X)
        else:
            scores, peaks = self._cross_fitted(X, defective, cv)
        readable = ~np.isnan(scores)
        if not np.any(readable & ~defective):
            raise ValueError("No normal image of X can be read, so there is none to calibrate by.")
        scores, peaks, defective = scores[readable], peaks[readable], defective[readable]
        # All at once: an interrupt between them would leave thresholds of two calibrations.
        vars(self).update(
            offset_=threshold(scores),
            map_threshold_=-threshold(-peaks),
            calibration_scores_=np.sort(scores[~defective]),
        )
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
            Above 0 and at most 1; small is anomalous. A normal image has a p-value of at
            most p with a probability of at most p, on average over calibrations. See
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
        p_values = self.score_samples(X)
        readable = ~np.isnan(p_values)
        p_values[readable] = conformal_p_values(p_values[readable], self.calibration_scores_)
        return p_values

    def _cross_fitted(
        self, X: Any, defective: NDArray[np.bool_], cv: Any
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores and peaks of images by clones that were not trained on them."""
        # Here and not above: it imports a library that draws one of Python's random numbers.
        from sklearn.model_selection import KFold, check_cv

        self._check_model_params(check_input_size(self.input_size))
        wanted, known = self._training_params(), self._trained_by or {}
        others = [name for name in {**known, **wanted} if known.get(name) != wanted.get(name)]
        if others:
            if known:
                difference = "was trained with " + ", ".join(f"{name}={known.get(name)!r}" for name in others)
            else:
                difference = "was trained further since, by warm_start or partial_fit"
            clones = ", ".join(f"{name}={wanted.get(name)!r}" for name in others)
            raise ValueError(
                f"cv compares with clones that are fitted with {clones}, but this detector {difference}. Fit it anew, "
                "or calibrate on images that it was not trained on."
            )
        if self.weights is None and "random_state" not in wanted:
            raise ValueError(
                f"cv needs clones with the same backbone, but with weights=None it is random, and "
                f"random_state={self.random_state!r} makes another one in each. Set random_state to an int, and "
                "fit anew."
            )
        rows = np.arange(len(defective))
        labels = np.where(defective, -1, 1)
        splits = []
        times = np.zeros(len(rows), dtype=np.int64)
        try:
            is_number = isinstance(cv, int | np.integer)
            folds = KFold(cv, shuffle=True, random_state=0) if is_number else check_cv(cv)
            pairs = [(learnt, held_out) for learnt, held_out in folds.split(rows, labels)]
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"cv must be a number of folds from 2 to {len(rows)}, a splitter, or an iterable of (train, test), got "
                f"{cv!r}: {error}"
            ) from error
        for k, split in enumerate(pairs):
            if min(map(len, split)) == 0:
                raise ValueError(f"cv={cv!r} learns from no image or holds out none in its split {k}.")
            learnt, held_out = (rows[np.asarray(side)] for side in split)
            for row in np.intersect1d(learnt, held_out)[:1]:
                raise ValueError(f"cv={cv!r} learns from row {row} and holds it out in one split.")
            if defective[learnt].all():
                raise ValueError(f"cv={cv!r} learns from no normal image in its split {k}.")
            np.add.at(times, held_out, 1)
            splits.append((learnt, held_out))
        for row in np.flatnonzero(times != 1)[:1]:
            raise ValueError(f"cv={cv!r} holds out row {row} {times[row]} times; each must be held out once.")
        self._check_fitted_on(X, defective)
        scores, peaks = np.empty((2, len(rows)))
        cached = open_cache(self.memory) is not None
        with (
            nullcontext(self.memory) if cached else tempfile.TemporaryDirectory(prefix="skcsflow-") as memory
        ):
            for learnt, held_out in splits:
                fold: Any = clone(self).set_params(memory=memory, warm_start=False, distributed=False)
                fold.fit(_take(X, learnt), labels[learnt])
                scores[held_out], peaks[held_out] = scores_and_peaks(fold, _take(X, held_out))
        return scores, peaks

    def _check_fitted_on(self, X: Any, defective: NDArray[np.bool_]) -> None:
        """Check that the normal images are those that the detector was fitted on."""
        images = self._check_X(X, reset=False)
        rows = np.flatnonzero(~defective).tolist()
        if self.on_error == "nan":
            rows = list(filter(images.is_readable, rows))
        normal = {images.short_digest(images.load(row)) for row in rows}
        known = self._known_images()
        if normal != known:
            raise ValueError(
                "With cv, X must be what the detector was fitted on, or its clones learn from other images than it "
                f"did: {len(normal - known)} normal images of X were not fitted on, and {len(known - normal)} images "
                "that were are missing. They are recognised in the form, and with the value_range, that they were "
                "fitted in."
            )


def scores_and_peaks(detector: Any, X: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of images, and the highest value of each one's map at the image's own size.

    Parameters
    ----------
    detector : CSFlowDetector
        A fitted detector.
    X : array-like of images
        The images.

    Returns
    -------
    scores, peaks : ndarray of shape (n,), float64
        What `score_samples` gives, and the maxima of what `iter_maps` gives. NaN where an image can't be read.

    Raises
    ------
    ValueError
        Where a map's values are too large for float32.
    """
    make_map = detector._map_maker()
    scores, peaks = [], []
    for row, scored in enumerate(detector._score_images(X, are_fresh=True)):
        scores.append(-scored.anomaly_score)
        peaks.append(float(make_map(scored).max()))
        if scored.size is not None and not np.isfinite(peaks[-1]):
            raise ValueError(f"The map of X[{row}] is not finite: its values are too large for float32.")
    return np.array(scores), np.array(peaks)


class _Rows(Sequence[Any]):
    """Some items of a data set, read when they are asked for."""

    def __init__(self, items: Any, rows: NDArray[np.int64]) -> None:
        self.items = items
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: Any) -> Any:
        return self.items[int(self.rows[i])]


def _take(X: Any, rows: NDArray[np.int64]) -> Any:
    """Some rows of X. scikit-learn's own indexing would read those of a data set at once, and make a list of them."""
    if hasattr(X, "to_pylist"):  # pyarrow, which scikit-learn takes from 1.8 on
        return X.take(rows)
    is_known = isinstance(X, list | tuple | np.ndarray) or hasattr(X, "to_numpy") or hasattr(X, "detach")
    return _safe_indexing(X, rows) if is_known else _Rows(X, rows)
