"""Cross-validation for detectors that learn from normal rows alone."""

import warnings
from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _num_samples

from skcsflow._labels import check_labels, is_defect

__all__ = ["OneClassKFold"]


class OneClassKFold(BaseCrossValidator):
    """K-fold cross-validation for detectors that learn from normal rows alone.

    Training folds hold normal rows only, test folds hold normal rows and defects. In each
    repeat every row, normal or defective, is tested exactly once, and both kinds are
    spread evenly: without groups, any two test folds differ by one normal row at most, by
    one defect at most, and by one row at most in all.

    Works wherever scikit-learn takes `cv` together with y, whatever X is.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, 2 or more.
    n_repeats : int, default=1
        How often to cut the rows into folds, each time in another way. More than 1 needs
        `shuffle=True`, and gives no partition, which `cross_val_predict` asks for.
    shuffle : bool, default=False
        Whether to draw the folds at random. Otherwise a fold's normal rows stand next to
        each other in y, so that similar neighbours, such as frames of one film, stay
        together as far as they can; its defects are dealt out one by one.
    normal_label : object, default=None
        The label of normal rows; every other label is a defect, and each kind of defect
        is spread evenly. None: y holds +1 and -1 (-1 is a defect), 0 and 1 (1 is a
        defect) or booleans (True is a defect); a y of nothing but the number 1 is read as
        +1, all normal.
    random_state : int, RandomState instance or None, default=None
        Seed for `shuffle`. An int gives the same folds at each call. None draws anew each
        time, and leaves numpy's global state alone.

    See Also
    --------
    sklearn.model_selection.StratifiedKFold : Folds for classifiers, which train on defects.
    anomaly_roc_auc : A score that takes the same labels.

    Notes
    -----
    With `groups`, all rows of a group are tested in one fold, so none of them is trained on
    in that fold. Groups may hold both kinds. They are dealt out, large ones first, to where
    they even out the folds most; every fold tests normal rows.

    Where there are defects, but too few for every fold to test one, a UserWarning says so.
    None at all is fine: every fold then tests normal rows only.

    A search with `refit=True` fits the best candidate on all rows, defects too. With labels
    +1/-1, `skcsflow.CSFlowDetector` leaves the defects out. Otherwise pass `refit=False`
    and fit on the normal rows.

    Training folds hold one kind, for which scores such as the ROC AUC are undefined: the
    training scores of `learning_curve` are NaN, with warnings, and so are those of
    `HalvingGridSearchCV` unless `return_train_score=False`.

    `cross_val_predict` works with y for its default method, `predict`. With y scikit-learn
    knows `"decision_function"` there for classifiers only: pass the folds instead of y, see
    the last example.

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

    With a detector, and labels of another kind:

    >>> from sklearn.svm import OneClassSVM
    >>> from sklearn.model_selection import cross_val_predict
    >>> X = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 7.0, 8.0, 9.0]).reshape(-1, 1)
    >>> y = ["good"] * 6 + ["crack", "crack", "hole"]
    >>> cv = OneClassKFold(n_splits=3, normal_label="good")
    >>> detector = OneClassSVM()
    >>> scores = cross_val_predict(detector, X, cv=cv.split(X, y), method="decision_function")
    >>> bool(scores[:6].min() > scores[6:].max())
    True
    """

    # What makes scikit-learn's own group splitters ask for groups under metadata routing.
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
        if random_state is not None:
            check_random_state(random_state)
        self.n_splits = n_splits
        self.n_repeats = n_repeats
        self.shuffle = shuffle
        self.normal_label = normal_label
        self.random_state = random_state

    def split(
        self, X: Any, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Cut the rows into folds.

        Parameters
        ----------
        X : sequence or array of length n
            The rows; only their number matters.
        y : array-like of shape (n,)
            Their labels, needed in spite of the default, which is scikit-learn's.
        groups : array-like of shape (n,), default=None
            Labels of groups of rows that are tested together, such as pictures of one part.

        Returns
        -------
        iterator over tuple of (ndarray, ndarray)
            Ascending indices of the training rows and of the test rows of each fold.

        Raises
        ------
        ValueError
            Where y or groups can't be used, or there are too few normal rows or groups.
        """
        n_rows = _num_samples(X)
        defect = is_defect(y, self.normal_label)
        if len(defect) != n_rows:
            raise ValueError(f"X has {n_rows} rows, but y has {len(defect)} labels.")
        n_normal = int(np.sum(~defect))
        if n_normal == 0:
            raise ValueError(f"y labels each of its {n_rows} rows a defect, so there is no normal row.")
        if n_normal < self.n_splits:
            raise ValueError(f"n_splits={self.n_splits} is more than the normal rows in y, {n_normal}.")
        kinds = _number(check_labels(y))
        members = None if groups is None else _number(_check_groups(groups, n_rows))
        rng = self._make_rng()
        if members is None:
            repeats = [_deal_rows(kinds, defect, self.n_splits, rng) for _ in range(self.n_repeats)]
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
                    f"n_splits={self.n_splits} is more than the groups that hold normal rows, {n_groups[0]}."
                )
            repeats = [_deal_groups(counts, self.n_splits, rng)[members] for _ in range(self.n_repeats)]
        self._warn_without_defects(repeats, defect)
        return _iterate_folds(repeats, defect, self.n_splits)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits.

        Parameters
        ----------
        X, y, groups : object
            Not used, here by scikit-learn's convention.

        Returns
        -------
        int
            ``n_splits * n_repeats``.
        """
        return int(self.n_splits * self.n_repeats)

    def _make_rng(self) -> np.random.RandomState | None:
        if not self.shuffle:
            return None
        # None is not check_random_state's global state: that is the user's, and stays as it is.
        if self.random_state is None:
            return np.random.RandomState()
        return check_random_state(self.random_state)

    def _warn_without_defects(self, repeats: list[NDArray[np.int64]], defect: NDArray[np.bool_]) -> None:
        n_defects = int(defect.sum())
        without = max(self.n_splits - len(np.unique(folds[defect])) for folds in repeats)
        if n_defects > 0 and without > 0:
            warnings.warn(
                f"{without} of the n_splits={self.n_splits} test folds hold no defect, as y has {n_defects}"
                f"{'' if n_defects < self.n_splits else ' in groups that reach no more folds'}. "
                "Scores such as the ROC AUC are undefined there.",
                UserWarning,
                stacklevel=3,
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


def _number(labels: list[Any]) -> NDArray[np.int64]:
    """Number labels by their first appearance."""
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def _deal_rows(
    kinds: NDArray[np.int64],
    defect: NDArray[np.bool_],
    n_splits: int,
    rng: np.random.RandomState | None,
) -> NDArray[np.int64]:
    """Give each row its fold."""
    normal_rows, defects = np.flatnonzero(~defect), np.flatnonzero(defect)
    if rng is not None:
        normal_rows, defects = rng.permutation(normal_rows), rng.permutation(defects)
    folds = np.empty(len(defect), dtype=np.int64)
    for fold, rows in enumerate(np.array_split(normal_rows, n_splits)):
        folds[rows] = fold
    # Dealt out kind by kind, from the first fold that got no extra normal row.
    by_kind = defects[np.argsort(kinds[defects], kind="stable")]
    folds[by_kind] = (len(normal_rows) + np.arange(len(by_kind))) % n_splits
    return folds


def _deal_groups(
    counts: NDArray[np.int64], n_splits: int, rng: np.random.RandomState | None
) -> NDArray[np.int64]:
    """Give each group its fold, by its numbers of normal rows and of defects.

    Largest first, each goes to the fold where it adds least to the sum of the squares of
    the folds' shares of both kinds; but to one that lacks a kind where the groups of that
    kind would run out otherwise.
    """
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    sizes = np.linalg.norm(shares, axis=1)
    if rng is not None:  # or groups of different sizes would give the same folds each time
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
