"""Scorers of outlier detectors for scikit-learn's parameter `scoring`.

The `decision_function` and `score_samples` of outlier detectors are higher for *normal* rows. With the label 1
for a defect, scikit-learn's ``scoring="roc_auc"`` is therefore inverted without a warning: the better the
detector, the lower the score. The scorers here read such labels as well as scikit-learn's +1/-1, and defects
are always the positive class.

>>> import numpy as np
>>> from sklearn.ensemble import IsolationForest
>>> from sklearn.metrics import get_scorer
>>> from skcsflow.model_selection import anomaly_roc_auc
>>> rng = np.random.RandomState(0)
>>> forest = IsolationForest(random_state=0).fit(rng.normal(size=(100, 2)))
>>> X = np.concatenate([rng.normal(size=(20, 2)), rng.normal(6, size=(5, 2))])
>>> y = np.repeat([0, 1], [20, 5])  # 1 for a defect
>>> print(get_scorer("roc_auc")(forest, X, y), anomaly_roc_auc(forest, X, y))
0.0 1.0
>>> y = np.repeat([1, -1], [20, 5])  # -1 for a defect
>>> print(get_scorer("roc_auc")(forest, X, y), anomaly_roc_auc(forest, X, y))
1.0 1.0
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from sklearn.metrics._scorer import _BaseScorer
from sklearn.utils.validation import _check_response_method

from skcsflow._checks import check_finite_scores, check_weights
from skcsflow._labels import is_defect, show_labels

__all__ = ["anomaly_average_precision", "anomaly_f1", "anomaly_roc_auc"]


class _AnomalyScorer(_BaseScorer):
    """A scorer of outlier detectors, called as ``scorer(estimator, X, y)``.

    It derives from scikit-learn's scorers, so that the scorers of a multi-metric search share one
    call of `score_samples`, and sample weights are passed if they are requested.

    Parameters
    ----------
    name : str
        The scorer's name.
    score_func : callable
        ``score_func(defect, response, sample_weight=None)`` gives the score.
    response_method : str or tuple of str
        The estimator's method, or several, of which the first that the estimator has is used.
    doc : str
        The scorer's docstring.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn.model_selection import cross_validate
    >>> from skcsflow.model_selection import OneClassKFold, anomaly_average_precision, anomaly_roc_auc
    >>> rng = np.random.RandomState(0)
    >>> X = np.concatenate([rng.normal(size=(40, 2)), rng.normal(8, size=(10, 2))])
    >>> y = np.repeat([False, True], [40, 10])  # True for a defect
    >>> scoring = {"auc": anomaly_roc_auc, "ap": anomaly_average_precision}
    >>> scores = cross_validate(IsolationForest(random_state=0), X, y, cv=OneClassKFold(), scoring=scoring)
    >>> print(scores["test_auc"], scores["test_ap"])
    [1. 1. 1. 1. 1.] [1. 1. 1. 1. 1.]
    """

    def __init__(
        self, name: str, score_func: Callable[..., float], response_method: str | tuple[str, ...], doc: str
    ) -> None:
        super().__init__(score_func, sign=1, kwargs={}, response_method=response_method)
        self.__name__ = name
        self.__doc__ = doc

    def __repr__(self) -> str:
        return self.__name__

    def _score(
        self,
        method_caller: Callable[..., Any],
        estimator: Any,
        X: Any,
        y_true: ArrayLike | None,
        **kwargs: Any,
    ) -> float:
        method = _check_response_method(estimator, self._response_method).__name__
        if is_classifier(estimator):
            raise ValueError(
                f"{self.__name__} is for outlier detectors, whose scores are higher for normal rows, but "
                f"{type(estimator).__name__} is a classifier. Use one of scikit-learn's own scorers."
            )
        defect = is_defect(y_true, ones_are_normal=False)
        weights = check_weights(kwargs.get("sample_weight"), len(defect), "y")
        response = np.asarray(method_caller(estimator, method, X))
        if response.shape != defect.shape:
            raise ValueError(
                f"y has {len(defect)} labels, but {type(estimator).__name__}.{method}(X) has shape {response.shape}."
            )
        if method != "predict":
            response = check_finite_scores(response, f"{type(estimator).__name__}.{method}(X)")
        return float(self._score_func(defect, response, **{**kwargs, "sample_weight": weights}))


def _roc_auc(
    y_true: NDArray[np.bool_], y_score: NDArray[Any], sample_weight: ArrayLike | None = None
) -> float:
    return roc_auc_score(y_true, -y_score, sample_weight=sample_weight)


def _average_precision(
    y_true: NDArray[np.bool_], y_score: NDArray[Any], sample_weight: ArrayLike | None = None
) -> float:
    return average_precision_score(y_true, -y_score, sample_weight=sample_weight)


def _f1(y_true: NDArray[np.bool_], y_pred: NDArray[Any], sample_weight: ArrayLike | None = None) -> float:
    if not np.isin(y_pred, (-1, 1)).all():
        raise ValueError(
            "predict must give +1 for normal rows and -1 for anomalous ones, got "
            f"{show_labels(y_pred.tolist())}."
        )
    return f1_score(y_true, y_pred == -1, sample_weight=sample_weight)


_CALL_DOC = """

    Parameters
    ----------
    estimator : estimator instance
        A fitted outlier detector, or a pipeline or search that ends in one.
    X : array-like of length n
        Rows to score, as the estimator takes them.
    y_true : array-like of shape (n,)
        Labels: +1/-1 (-1 for a defect), 0/1 (1 for a defect), booleans (True for a defect), or
        strings with "good" or "normal" for the normal rows. Labels that are all the number 1
        are ambiguous, and an error. If otherwise one of the kinds is missing, the result is
        that of scikit-learn's metric; the ROC AUC is NaN then, with a warning.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows. For a search to pass them under metadata routing, call
        ``set_score_request(sample_weight=True)`` on a copy (``copy.deepcopy``).

    Returns
    -------
    float
        The score, from 0 to 1; higher is better.

    Raises
    ------
    AttributeError
        If the estimator has no method that the score goes by.
    TypeError
        If scores or weights aren't real numbers.
    ValueError
        If y holds other labels, the estimator is a classifier, a score is NaN or infinite, or a weight is
        negative, NaN or infinite.
"""

_SCORE_METHODS = ("score_samples", "decision_function")

anomaly_roc_auc = _AnomalyScorer(
    "anomaly_roc_auc",
    _roc_auc,
    _SCORE_METHODS,
    """Area under the ROC curve, with defects as the positive class.

    It is the probability that a defect has a lower `score_samples` (or `decision_function`, if
    there is no `score_samples`) than a normal row. For labels 0/1, scikit-learn's `"roc_auc"`
    is 1 minus this score."""
    + _CALL_DOC,
)

anomaly_average_precision = _AnomalyScorer(
    "anomaly_average_precision",
    _average_precision,
    _SCORE_METHODS,
    """Average precision, with defects as the positive class.

    Rows are ranked by the negative of `score_samples` (or of `decision_function`, if there is no
    `score_samples`). scikit-learn's `"average_precision"` takes normal rows as the positive
    class for labels +1/-1, and ranks the wrong way round for labels 0/1."""
    + _CALL_DOC,
)

anomaly_f1 = _AnomalyScorer(
    "anomaly_f1",
    _f1,
    "predict",
    """F1 score of `predict`, with defects as the positive class.

    scikit-learn's `"f1"` takes normal rows as the positive class for labels +1/-1, and
    fails for labels 0/1."""
    + _CALL_DOC,
)
