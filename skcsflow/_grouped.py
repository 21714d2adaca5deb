"""A detector for each group of images, such as each product, from one table."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, OutlierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from skcsflow._checks import collected_warnings, fit_context, warn
from skcsflow._detector import DOCUMENTATION, CSFlowDetector, pack_together, share_backbone, unpack_together
from skcsflow._labels import is_defect

__all__ = ["GroupedDetector"]

_ROW = re.compile(r"\bX\[(\d+)\]")
_NUMBER = re.compile(r"[\d.,]+(e[+-]?\d+)?")
_PLAIN_ERRORS = (ValueError, TypeError, OSError, FileNotFoundError, PermissionError, NotFittedError)
"""Errors that can be raised again with another message."""

THRESHOLDS = ("offset_", "map_threshold_", "calibration_scores_")
"""What `calibrate` sets."""


class Group(NamedTuple):
    """The rows of a table that belong to one detector.

    Attributes
    ----------
    name : str or int
        The value in the column of groups.
    rows : ndarray of int
        Where they are.
    images : list
        Their images.
    labels : ndarray of int, or None
        +1, or -1 for a defect; None where there are no labels.
    """

    name: Any
    rows: NDArray[np.int64]
    images: list[Any]
    labels: NDArray[np.int64] | None


class GroupedDetector(OutlierMixin, MetaEstimatorMixin, BaseEstimator):
    """One detector for each group of images, such as each product or camera, from one table.

    Each is a clone of `detector`, fitted on the images of its group alone. The backbone, which is the same in all, is
    held in memory once, and saved once.

    Read more in the :ref:`user guide <many_detectors>`.

    Parameters
    ----------
    detector : CSFlowDetector, default=None
        What is cloned, with a fit of its own for each group: `warm_start` isn't heeded. None: ``CSFlowDetector()``,
        whose parameters a search can't set. To change how fitted detectors read and compute, set the parameters of
        those in `detectors_`.
    group_column : str, default="group"
        The table's column of strings or integers that say which group an image belongs to.
    image_column : str, default="image"
        The table's column of images, of any kind that :meth:`CSFlowDetector.fit` takes in a list: paths, content of
        files, PIL images, arrays.
    n_jobs : int, default=None
        How many groups are worked on at a time, by joblib's backend: processes in `fit` and in `calibrate` with `cv`,
        threads elsewhere, unless :func:`joblib.parallel_config` says otherwise. None: one, by all cores.

    Attributes
    ----------
    detectors_ : dict of str or int to CSFlowDetector
        The fitted detectors by group. It may be changed: put another detector in, or take one out.

    See Also
    --------
    CSFlowDetector : What is fitted for each group.

    Notes
    -----
    Scores of different groups are in units of their own flows. Compare p-values, after `calibrate`.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skcsflow import CSFlowDetector, GroupedDetector
    >>> from skcsflow.datasets import make_defects
    >>> screws = make_defects(surface="bottle_cap", n_normal=12, n_defective=0, random_state=0).images
    >>> boards = make_defects(surface="circuit", n_normal=12, n_defective=0, random_state=0).images
    >>> table = pd.DataFrame({"product": ["screw"] * 12 + ["board"] * 12, "image": [*screws, *boards]})
    >>> detector = CSFlowDetector(input_size=64, n_epochs=1, random_state=0)
    >>> grouped = GroupedDetector(detector, group_column="product").fit(table)
    >>> list(grouped.detectors_)
    ['board', 'screw']
    >>> grouped.predict(table).shape
    (24,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "detector": [CSFlowDetector, None],
        "group_column": [str],
        "image_column": [str],
        "n_jobs": [Integral, None],
    }
    _doc_link_module = "skcsflow"
    _doc_link_template = DOCUMENTATION

    detectors_: dict[Any, CSFlowDetector]

    def __init__(
        self,
        detector: CSFlowDetector | None = None,
        *,
        group_column: str = "group",
        image_column: str = "image",
        n_jobs: int | None = None,
    ) -> None:
        self.detector = detector
        self.group_column = group_column
        self.image_column = image_column
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: ArrayLike | None = None) -> Self:
        """Fit a detector on the images of each group.

        Parameters
        ----------
        X : table of n rows
            A DataFrame of pandas or polars, a table of pyarrow, or a dict of columns, with a column of groups and one
            of images.
        y : array-like of shape (n,), default=None
            Labels, see :meth:`CSFlowDetector.fit`. Known defects are left out of the training.

        Returns
        -------
        GroupedDetector
            The estimator itself. If a detector can't be fitted, it stays as it was.

        Raises
        ------
        ValueError, TypeError, OSError
            Where X is no such table, a row lacks its group, or the `fit` of a detector raises it, with a note that
            names the group.
        """
        detector = CSFlowDetector() if self.detector is None else self.detector
        groups = self._groups(X, y)
        fitted = self._for_each(
            groups, _call, lambda group: (clone(detector), "fit", group.images, group.labels), prefer=None
        )
        detectors = dict(zip((group.name for group in groups), fitted, strict=True))
        backbones: dict[Any, Any] = {}
        for fitted_one in detectors.values():
            share_backbone(fitted_one.model_, backbones)
        self.detectors_ = detectors
        return self

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
        """Set the thresholds of each group by images that were not trained on.

        Parameters
        ----------
        X : table of n rows
            As in :meth:`fit`. Groups that it lacks keep their thresholds.
        y : array-like of shape (n,), default=None
            Labels, see :meth:`CSFlowDetector.calibrate`.
        fpr, criterion, recall, cv : object, default=None
            See :meth:`CSFlowDetector.calibrate`. They hold in each group, which must have images enough for `fpr`, and
            is split by itself: `cv` is a number or a splitter, and no list of splits.

        Returns
        -------
        GroupedDetector
            The estimator itself. If a group can't be calibrated, all keep their thresholds.

        Raises
        ------
        ValueError, TypeError, OSError
            As in :meth:`fit`; and where a group was not fitted.
        """
        groups = self._known_groups(X, y)
        if not (cv is None or isinstance(cv, Integral) or hasattr(cv, "split")):
            raise ValueError(
                f"cv must be a number of folds or a splitter, as each group is split by itself, got {cv!r}."
            )
        options = {"fpr": fpr, "criterion": criterion, "recall": recall, "cv": cv}
        found = self._for_each(
            groups,
            _calibrate,
            lambda group: (self.detectors_[group.name], group.images, group.labels, options),
            prefer="threads" if cv is None else None,
        )
        for group, thresholds in zip(groups, found, strict=True):
            self.detectors_[group.name].__dict__.update(thresholds)
        return self

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Score how normal images are, each by the detector of its group.

        Parameters
        ----------
        X : table of n rows
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n,), float64
            See :meth:`CSFlowDetector.score_samples`. Higher is more normal, within a group.

        Raises
        ------
        ValueError
            Where a group was not fitted.
        """
        return self._in_rows(X, "score_samples")

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Score how normal images are, with 0 as the threshold of each group.

        Parameters
        ----------
        X : table of n rows
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n,), float64
            Negative where anomalous.
        """
        return self._in_rows(X, "decision_function")

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Tell normal from anomalous images.

        Parameters
        ----------
        X : table of n rows
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n,), int64
            +1 for normal images, -1 for anomalous ones, and those that can't be read.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def fit_predict(self, X: Any, y: ArrayLike | None = None) -> NDArray[np.int64]:
        """Fit, and tell normal from anomalous images among the same.

        Parameters
        ----------
        X : table of n rows
            As in :meth:`fit`.
        y : array-like of shape (n,), default=None
            Labels, as in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n,), int64
            +1 for normal images, -1 for anomalous ones.
        """
        return self.fit(X, y).predict(X)  # scikit-learn's own drops y

    def p_values(self, X: Any) -> NDArray[np.float64]:
        """Compute conformal p-values, which compare between groups.

        Parameters
        ----------
        X : table of n rows
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n,), float64
            See :meth:`CSFlowDetector.p_values`.

        Raises
        ------
        NotFittedError
            Where a group has not been calibrated since the last fit.
        """
        return self._in_rows(X, "p_values")

    def score(self, X: Any, y: ArrayLike | None = None) -> float:
        """Compute the mean log-likelihood of normal images, for model selection without labels.

        Parameters
        ----------
        X : table of n rows
            As in :meth:`fit`.
        y : array-like of shape (n,), default=None
            Labels. Known defects are left out.

        Returns
        -------
        float
            See :meth:`CSFlowDetector.score`; the mean over images.
        """
        groups = [g for g in self._known_groups(X, y) if g.labels is None or (g.labels == 1).any()]
        if not groups:
            raise ValueError("y labels every row a defect, so there is no normal image to score.")
        found = np.concatenate(
            self._for_each(
                groups,
                _call,
                lambda group: (self.detectors_[group.name], "_log_likelihoods", group.images, group.labels),
            )
        )
        return float(found.mean()) if len(found) else np.nan

    def _in_rows(self, X: Any, method: str) -> NDArray[np.float64]:
        """What a method of the detectors gives, in the order of the rows."""
        groups = self._known_groups(X)
        found = self._for_each(
            groups, _call, lambda group: (self.detectors_[group.name], method, group.images)
        )
        values = np.empty(sum(len(group.rows) for group in groups))
        for group, of_group in zip(groups, found, strict=True):
            values[group.rows] = of_group
        return values

    def _for_each(
        self,
        groups: list[Group],
        function: Callable[..., Any],
        arguments: Callable[[Group], tuple[Any, ...]],
        prefer: str | None = "threads",
    ) -> list[Any]:
        """Call a function for each group; warnings are given once for all groups."""
        done = Parallel(n_jobs=self.n_jobs, prefer=prefer)(
            delayed(_recorded)(group, function, *arguments(group)) for group in groups
        )
        alike: dict[tuple[type[Warning], str], list[tuple[Any, str]]] = {}
        for group, (_, caught) in zip(groups, done, strict=True):
            for category, message in caught:
                alike.setdefault((category, _NUMBER.sub("", message)), []).append((group.name, message))
        for (category, _), given in alike.items():
            of_groups, message = list(dict.fromkeys(name for name, _ in given)), given[0][1]
            few = ", ".join(map(repr, of_groups[:3])) + (", ..." if len(of_groups) > 3 else "")
            warn(f"{message} (In {len(of_groups)} of {len(groups)} groups: {few}.)", category)
        return [result for result, _ in done]

    def _known_groups(self, X: Any, y: ArrayLike | None = None) -> list[Group]:
        """The groups of a table, each of which has a detector."""
        check_is_fitted(self)
        self._check_detectors()
        groups = self._groups(X, y)
        for group in groups:
            if group.name not in self.detectors_:
                names = ", ".join(map(repr, list(self.detectors_)[:8]))
                more = ", ..." if len(self.detectors_) > 8 else ""
                raise ValueError(
                    f"X has the group {group.name!r} in row {group.rows[0]} (column {self.group_column!r}), for which "
                    f"there is no detector. There are those of {names}{more}. Fit with that group, or leave its rows "
                    "out."
                )
        return groups

    def _check_detectors(self) -> None:
        """Check what may have been put into `detectors_`."""
        for name, detector in self.detectors_.items():
            if not (isinstance(detector, CSFlowDetector) and detector.__sklearn_is_fitted__()):
                raise TypeError(f"detectors_[{name!r}] must be a fitted CSFlowDetector, got {detector!r}.")

    def _groups(self, X: Any, y: ArrayLike | None = None) -> list[Group]:
        """The groups of a table, in their order by name."""
        names = _column(X, self.group_column, "group_column")
        images = _column(X, self.image_column, "image_column")
        if len(names) != len(images):
            raise ValueError(
                f"The columns of X differ in length: {self.group_column!r} has {len(names)} rows, "
                f"{self.image_column!r} has {len(images)}."
            )
        if not names:
            raise ValueError("X has no rows.")
        labels = None if y is None else np.where(is_defect(y), -1, 1)
        if labels is not None and len(labels) != len(names):
            raise ValueError(f"X has {len(names)} rows, but y has {len(labels)} labels.")
        rows: dict[Any, list[int]] = {}
        for row, name in enumerate(names):
            name = name.item() if isinstance(name, np.generic) else name
            if not isinstance(name, str | int) or isinstance(name, bool):
                raise ValueError(
                    f"The group of row {row} (column {self.group_column!r}) must be a string or an integer, got "
                    f"{name!r}."
                )
            rows.setdefault(name, []).append(row)
        return [
            Group(
                name,
                np.array(of_group),
                [images[row] for row in of_group],
                None if labels is None else labels[of_group],
            )
            for name, of_group in sorted(rows.items(), key=lambda item: str(item[0]))
        ]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "detectors_")

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "detectors_" in state:
            self._check_detectors()
            state["detectors_"] = pack_together(self.detectors_.values())
            state["_groups"] = list(self.detectors_)  # not as keys, which not all formats write as they are
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if "detectors_" in state:
            detectors = unpack_together(state["detectors_"], CSFlowDetector)
            state["detectors_"] = dict(zip(state.pop("_groups"), detectors, strict=True))
        super().__setstate__(state)


def _column(X: Any, name: str, parameter: str) -> list[Any]:
    """A column of a table, as a list."""
    if hasattr(X, "collect"):
        raise TypeError(f"X is a {type(X).__name__}, whose rows are not there yet. Pass X.collect().")
    if isinstance(X, Mapping):
        names = list(X)
    elif hasattr(X, "column_names"):  # of pyarrow, whose columns are something else
        names = list(X.column_names)
    elif hasattr(X, "columns"):
        names = list(X.columns)
    else:
        raise TypeError(
            f"X must be a table, such as a DataFrame of pandas or polars or a dict of columns, got {type(X).__name__}."
        )
    times = Counter(map(str, names))[name]
    if times != 1:
        raise ValueError(
            f"X has {times or 'no'} column{'s' if times else ''} {name!r} ({parameter}); its columns are "
            f"{', '.join(map(repr, names))}."
        )
    column = X[name]
    if isinstance(column, str | bytes) or not hasattr(column, "__len__"):
        raise TypeError(f"The column {name!r} of X must be a list or an array, got {column!r}.")
    for method in ("to_pylist", "to_list"):
        if hasattr(column, method):
            return list(getattr(column, method)())
    return list(column)


def _calibrate(
    detector: CSFlowDetector, images: list[Any], labels: NDArray[np.int64] | None, options: dict[str, Any]
) -> dict[str, Any]:
    """The thresholds of a detector, which keeps those that it has."""
    twin = CSFlowDetector()  # not copy.copy, which would pack and unpack the model
    twin.__dict__.update(vars(detector))
    twin.calibrate(images, labels, **options)
    return {name: value for name, value in vars(twin).items() if name in THRESHOLDS}


def _call(detector: CSFlowDetector, method: str, *arguments: Any) -> Any:
    return getattr(detector, method)(*arguments)


def _recorded(
    group: Group, function: Callable[..., Any], *arguments: Any
) -> tuple[Any, list[tuple[type[Warning], str]]]:
    """The result of a function for a group, and the warnings that it gave. Messages name rows of the table."""
    rows = dict(enumerate(group.rows.tolist()))

    def translate(message: str) -> str:
        return _ROW.sub(lambda match: f"X[{rows.get(int(match[1]), match[1])}]", message)

    with collected_warnings() as caught:
        try:
            result = function(*arguments)
        except (ValueError, TypeError, OSError) as error:
            message = f"{translate(str(error))} (In the group {group.name!r}.)"
            kind = type(error) if type(error) in _PLAIN_ERRORS else ValueError
            raise kind(message) from error
    return result, [(category, translate(message)) for category, message in caught]
