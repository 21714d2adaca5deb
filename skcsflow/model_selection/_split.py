"""Cross-validation for detectors that learn from normal rows only."""

from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import BaseCrossValidator

from skcsflow._checks import as_random_state, count_rows, warn
from skcsflow._labels import check_labels, is_defect

__all__ = ["OneClassKFold"]


class OneClassKFold(BaseCrossValidator):
    """K-fold cross-validation for detectors that learn from normal rows only.

    Training folds hold normal rows only; test folds hold normal rows and defects. In each
    repeat every row is in exactly one test fold, and both kinds are spread evenly: without
    groups, the test folds differ by at most one normal row, one defect and one row in total.

    It can be passed as `cv` wherever scikit-learn takes it together with y, for any kind of X.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, 2 or more.
    n_repeats : int, default=1
        Number of times to split the rows into folds, each time differently. More than 1
        needs `shuffle=True`. `cross_val_predict` needs 1, because it asks for a partition.
    shuffle : bool, default=False
        Whether to assign rows to folds at random. Otherwise the normal rows of a test fold are
        consecutive in y, so that similar neighbours, such as frames of one film, mostly share
        a fold; its defects are assigned in turn.
    normal_label : object, default=None
        The label of normal rows; every other label is a defect, and each kind of defect
        is spread evenly over the test folds. None: y holds +1/-1 (-1 for a defect), 0/1 (1 for a
        defect), booleans (True for a defect), or strings with "good" or "normal" for the
        normal rows. A y of only the number 1 is read as +1, all normal.
    random_state : int, RandomState instance or None, default=None
        Seed for `shuffle`. An int gives the same folds in each call. None gives other folds
        in each call, and doesn't use NumPy's global random state.

    See Also
    --------
    sklearn.model_selection.StratifiedKFold : For classifiers, which also train on defects.
    anomaly_roc_auc : A score that reads the same labels.

    Notes
    -----
    With `groups`, all rows of a group are in the same test fold, and in no training fold of
    that split. Groups may hold both kinds. They are assigned one by one, large ones first, to the
    fold that this balances best. Every test fold holds normal rows.

    If y has defects, but some test folds get none, there is a UserWarning. A y without
    defects gives test folds of normal rows only, without a warning.

    A search with `refit=True` fits the best candidate to all rows, including defects.
    :class:`skcsflow.CSFlowDetector` leaves them out. For other detectors, pass
    `refit=False` and fit on the normal rows.

    The scorers of this module and :class:`skcsflow.CSFlowDetector` don't know `normal_label`, and
    read only the labels listed for None. If y holds others, convert them before the
    cross-validation, for instance with ``np.where(y == "ok", 1, -1)``.

    The ROC AUC and similar scores are undefined for training folds, which hold one kind only: the
    training scores of `learning_curve` are NaN, with warnings, and so are those of
    `HalvingGridSearchCV` unless `return_train_score=False`.

    `cross_val_predict` with y supports only its default method, `predict`, because
    scikit-learn then expects a classifier for `"decision_function"`. Pass it the folds instead
    of y, as in the last example.

    Examples
    --------
    >>> import numpy as np
    >>> from skcsflow.model_selection import OneClassKFold
    >>> y = np.array([1, 1, 1, 1, 1, 1, -1, -1, -1])
    >>> for train, test in OneClassKFold(n_splits=3).split(np.zeros((9, 2)), y):
    ...     print(train, test)
    [2 3 4 5] [0 1 6]
    [0 1 4 5] [2 3 7]
    [0 1 2 3] [4 5 8]

    With a detector, and strings as labels:

    >>> from sklearn.svm import OneClassSVM
    >>> from sklearn.model_selection import cross_val_predict
    >>> X = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 7.0, 8.0, 9.0]).reshape(-1, 1)
    >>> y = ["good"] * 6 + ["crack", "crack", "hole"]
    >>> cv, detector = OneClassKFold(n_splits=3), OneClassSVM()
    >>> scores = cross_val_predict(detector, X, cv=cv.split(X, y), method="decision_function")
    >>> bool(scores[:6].min() > scores[6:].max())
    True
    """

    # Requests groups under metadata routing, as scikit-learn's own group splitters do.
    __metadata_request__split: ClassVar[dict[str, bool]] = {"groups": True}

    def __init__(
        self,
        n_splits: int = 5,
        *,
        n_repeats: int = 1,
        shuffle: bool = False,
        normal_label: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        for name, value, least in (("n_splits", n_splits, 2), ("n_repeats", n_repeats, 1)):
            if not isinstance(value, Integral) or int(value) < least:
                raise ValueError(f"{name} must be an int, {least} or more, got {value!r}.")
        if not isinstance(shuffle, bool | np.bool_):
            raise ValueError(f"shuffle must be True or False, got {shuffle!r}.")
        if random_state is not None and not shuffle:
            raise ValueError(
                f"random_state={random_state!r} has no effect with shuffle=False. Leave it out, or set "
                "shuffle=True."
            )
        if n_repeats > 1 and not shuffle:
            raise ValueError(
                f"n_repeats={n_repeats!r} would repeat the same folds with shuffle=False. Set shuffle=True."
            )
        as_random_state(random_state)
        self.n_splits = n_splits
        self.n_repeats = n_repeats
        self.shuffle = shuffle
        self.normal_label = normal_label
        self.random_state = random_state

    def split(
        self, X: Any, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Split the rows into training and test folds.

        Parameters
        ----------
        X : sequence or array of length n
            The rows; only their number is used.
        y : array-like of shape (n,)
            Labels. They are required; the default is there for scikit-learn's interface.
        groups : array-like of shape (n,), default=None
            Labels of groups of rows that belong together, such as pictures of one part.

        Returns
        -------
        iterator over tuple of (ndarray, ndarray)
            Ascending indices of the training rows and of the test rows of each split.

        Raises
        ------
        ValueError
            If y or groups can't be read, or there are too few normal rows or groups.
        """
        n_rows = count_rows(X)
        defect = is_defect(y, self.normal_label)
        if len(defect) != n_rows:
            raise ValueError(f"X has {n_rows} rows, but y has {len(defect)} labels.")
        n_normal = int(np.sum(~defect))
        if n_normal == 0:
            raise ValueError(
                f"y labels all of its {n_rows} rows defects, so there is no normal row to learn from."
            )
        if n_normal < self.n_splits:
            raise ValueError(
                f"n_splits={self.n_splits} is more than the number of normal rows in y, {n_normal}."
            )
        kinds = _to_numbers(check_labels(y))
        members = None if groups is None else _to_numbers(_check_groups(groups, n_rows))
        rng = self._make_rng()
        if members is None:
            repeats = [_assign_rows(kinds, defect, self.n_splits, rng) for _ in range(self.n_repeats)]
        else:
            counts = np.stack(
                [
                    np.bincount(members[~defect], minlength=members.max() + 1),
                    np.bincount(members[defect], minlength=members.max() + 1),
                ],
                axis=1,
            )
            n_groups = np.count_nonzero(counts, axis=0)
            if n_groups[0] < self.n_splits:
                raise ValueError(
                    f"n_splits={self.n_splits} is more than the number of groups with normal rows, {n_groups[0]}."
                )
            repeats = [_assign_groups(counts, self.n_splits, rng)[members] for _ in range(self.n_repeats)]
        self._warn_without_defects(repeats, defect)
        return _iterate_folds(repeats, defect, self.n_splits)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits.

        Parameters
        ----------
        X, y, groups : object
            Ignored; present for scikit-learn's interface.

        Returns
        -------
        int
            ``n_splits * n_repeats``.
        """
        return int(self.n_splits * self.n_repeats)

    def _make_rng(self) -> np.random.RandomState | None:
        return as_random_state(self.random_state) if self.shuffle else None

    def _warn_without_defects(self, repeats: list[NDArray[np.int64]], defect: NDArray[np.bool_]) -> None:
        n_defects = int(defect.sum())
        n_without = max(self.n_splits - len(np.unique(folds[defect])) for folds in repeats)
        if n_defects > 0 and n_without > 0:
            in_groups = "" if n_defects < self.n_splits else " in too few groups"
            warn(
                f"{n_without} of the n_splits={self.n_splits} test folds hold no defect, because y has {n_defects}"
                f"{in_groups}. Scores such as the ROC AUC are undefined there."
            )


def _iterate_folds(
    repeats: list[NDArray[np.int64]], defect: NDArray[np.bool_], n_splits: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    for folds in repeats:
        for fold in range(n_splits):
            tested = folds == fold
            yield np.flatnonzero(~tested & ~defect), np.flatnonzero(tested)


def _check_groups(groups: ArrayLike, n_rows: int) -> list[Any]:
    labels = check_labels(groups, "groups")
    if len(labels) != n_rows:
        raise ValueError(f"X has {n_rows} rows, but groups has {len(labels)} labels.")
    return labels


def _to_numbers(labels: list[Any]) -> NDArray[np.int64]:
    """Number labels in the order in which they first appear."""
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def _assign_rows(
    kinds: NDArray[np.int64],
    defect: NDArray[np.bool_],
    n_splits: int,
    rng: np.random.RandomState | None,
) -> NDArray[np.int64]:
    """Choose the test fold of each row."""
    normal_rows, defects = np.flatnonzero(~defect), np.flatnonzero(defect)
    if rng is not None:
        normal_rows, defects = rng.permutation(normal_rows), rng.permutation(defects)
    folds = np.empty(len(defect), dtype=np.int64)
    for fold, rows in enumerate(np.array_split(normal_rows, n_splits)):
        folds[rows] = fold
    # In turn, kind by kind, starting at the first fold without an extra normal row.
    by_kind = defects[np.argsort(kinds[defects], kind="stable")]
    folds[by_kind] = (len(normal_rows) + np.arange(len(by_kind))) % n_splits
    return folds


def _assign_groups(
    counts: NDArray[np.int64], n_splits: int, rng: np.random.RandomState | None
) -> NDArray[np.int64]:
    """Choose the test fold of each group from its numbers of normal rows and of defects.

    Groups are assigned one by one, large ones first. Each goes to the fold where it adds least to the sum
    of the squares of the folds' shares of both kinds. If the remaining groups with a kind are only as many as the
    folds without it, a group with that kind goes to one of those folds.
    """
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    sizes = np.linalg.norm(shares, axis=1)
    if rng is not None:  # otherwise groups of different sizes would always give the same folds
        sizes = sizes * rng.uniform(0.8, 1, size=len(sizes))
    folds = np.empty(len(counts), dtype=np.int64)
    fold_shares = np.zeros((n_splits, 2))
    n_left = np.count_nonzero(counts, axis=0)
    for group in np.argsort(-sizes, kind="stable"):
        open_folds = np.ones(n_splits, dtype=bool)
        for kind in np.flatnonzero(counts[group]):  # normal rows come first
            lacking = fold_shares[:, kind] == 0
            if lacking.sum() >= n_left[kind] and (open_folds & lacking).any():
                open_folds &= lacking
            n_left[kind] -= 1
        added = np.where(open_folds, fold_shares @ shares[group], np.inf)
        fold = np.lexsort((fold_shares.sum(axis=1), added))[0]
        folds[group] = fold
        fold_shares[fold] += shares[group]
    return folds
