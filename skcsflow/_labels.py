"""The one meaning of y: which rows are defects, and which rows a detector learns from."""

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skcsflow._checks import as_array

__all__ = ["NORMAL_NAMES", "check_labels", "is_defect", "normal_rows", "show_labels"]

NORMAL_NAMES = ("good", "normal")
"""The strings that label normal rows, in exactly this spelling."""


def is_defect(
    y: ArrayLike | None, normal_label: Any = None, *, ones_are_normal: bool = True, name: str = "y"
) -> NDArray[np.bool_]:
    """Tell from their labels which rows are defects.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, 1)
        With `normal_label=None` one of:

        - +1 and -1, where -1 is a defect;
        - 0 and 1, where 1 is a defect;
        - booleans, where True is a defect;
        - strings, at least one of them "good" or "normal": these two, in exactly this
          spelling, label normal rows, and every other string labels a defect.

        A y of only the number 0 is all normal. With a `normal_label`, labels of any type.
    normal_label : object, default=None
        The label of normal rows; every other label is a defect.
    ones_are_normal : bool, default=True
        A y of only the number 1 fits both +1/-1 and 0/1. True: it is read as +1, all
        normal. False: it is an error.
    name : str, default="y"
        What error messages call y.

    Returns
    -------
    ndarray of shape (n,), bool
        True where the row is a defect.

    Raises
    ------
    ValueError
        If y holds other labels, is None or empty, lacks a label, or has another shape.

    Examples
    --------
    >>> from skcsflow._labels import is_defect
    >>> is_defect([1, -1, 1])
    array([False,  True, False])
    >>> is_defect([1, 0, 1])
    array([ True, False,  True])
    >>> is_defect(["good", "crack", "dent"])
    array([False,  True,  True])
    >>> is_defect(["ok", "crack"], normal_label="ok")
    array([False,  True])
    """
    values = _as_column(y, name)
    if normal_label is not None:
        if hasattr(normal_label, "__len__") and not isinstance(normal_label, str | bytes):
            raise ValueError(f"normal_label must be one label, got {normal_label!r}.")
        labels = _as_list(values, name)
        if normal_label not in labels:
            raise ValueError(
                f"normal_label={normal_label!r} is not among the labels in {name}: {show_labels(labels)}."
            )
        return np.array([label != normal_label for label in labels], dtype=bool)
    if values.dtype.kind not in "biu":  # arrays of integers and booleans lack no label
        labels = _as_list(values, name)
        if all(isinstance(label, str) for label in labels):
            defect = np.array([label not in NORMAL_NAMES for label in labels], dtype=bool)
            if defect.all():
                raise _unknown_labels(labels, name)
            return defect
        if not all(isinstance(label, Real) for label in labels):
            raise _unknown_labels(labels, name)
        values = np.array(labels)
    ones = values == 1
    if ones.all() and values.dtype != bool:
        if not ones_are_normal:
            raise ValueError(
                f"{name} is ambiguous: all of its {len(values)} labels are 1, which is normal among +1/-1 and a "
                "defect among 0/1. Pass labels of both normal rows and defects, or booleans."
            )
        return np.zeros(len(values), dtype=bool)
    if (ones | (values == 0)).all():
        return ones
    if (ones | (values == -1)).all():
        return ~ones
    raise _unknown_labels(values.tolist(), name)


def normal_rows(y: ArrayLike | None, n: int, *, is_table: bool = False) -> NDArray[np.int64]:
    """Find the rows that a detector learns from: those that aren't labelled defects.

    scikit-learn's outlier detectors are unsupervised: they take a `y` of any kind and ignore
    it, and scikit-learn's own estimator checks pass them matrices with class numbers or
    continuous targets. For a table, the labels are therefore obeyed where :func:`is_defect` can read
    them, and ignored where it can't. Numbers that label every row of a table a defect (all
    -1) are ignored too; booleans that do so (all True) are an error.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, 1), or None
        Labels, see :func:`is_defect`. None: all rows are normal.
    n : int
        Number of rows.
    is_table : bool, default=False
        Whether X is a 2-D matrix of numbers.

    Returns
    -------
    ndarray of shape (n_normal,), int64
        Indices of the normal rows, ascending.

    Raises
    ------
    ValueError
        If y has another length than `n`, or labels every row a defect, or can't be read.
        The last two with the exceptions above for a table.

    Examples
    --------
    >>> from skcsflow._labels import normal_rows
    >>> normal_rows(["good", "crack", "good"], 3)
    array([0, 2])
    >>> normal_rows([0, 1, 2], 3, is_table=True)  # class numbers
    array([0, 1, 2])
    """
    rows = np.arange(n, dtype=np.int64)
    if y is None:
        return rows
    shape = as_array(y, "y").shape
    if shape not in ((n,), (n, 1)):
        if is_table and shape[:1] == (n,):
            return rows
        raise ValueError(f"X has {n} images, but y has shape {shape}. Pass one label per image.")
    try:
        defect = is_defect(y)
    except ValueError:
        if is_table:
            return rows
        raise
    if not defect.all():
        return rows[~defect]
    if is_table and not all(isinstance(label, bool) for label in check_labels(y)):
        return rows
    raise ValueError("y labels every row a defect, so there is no normal image to learn from.")


def check_labels(y: ArrayLike | None, name: str = "y") -> list[Any]:
    """Read labels of any type as Python's own scalars.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, 1)
        Labels.
    name : str, default="y"
        What error messages call them.

    Returns
    -------
    list of length n
        The labels.

    Raises
    ------
    ValueError
        If y is None or empty, lacks a label, or has another shape.
    """
    return _as_list(_as_column(y, name), name)


def show_labels(labels: Iterable[Any], limit: int = 8) -> str:
    """Write the distinct labels for an error message, at most `limit` of them."""
    distinct = list(dict.fromkeys(repr(label) for label in labels))
    return ", ".join(distinct[:limit]) + (", ..." if len(distinct) > limit else "")


def _as_column(y: ArrayLike | None, name: str) -> NDArray[Any]:
    if y is None:
        raise ValueError(f"{name} is None, but labels are needed here.")
    values = as_array(y, name)
    if values.dtype.kind == "U":
        values = np.asarray(y, dtype=object)  # or else NaN among strings would become the string "nan"
    if values.ndim == 2 and values.shape[1] == 1:  # one column of a data frame
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"{name} must have shape (n,), got shape {values.shape}.")
    if len(values) == 0:
        raise ValueError(f"{name} is empty.")
    return values


def _as_list(values: NDArray[Any], name: str) -> list[Any]:
    labels = [label.item() if isinstance(label, np.generic) else label for label in values.tolist()]
    for row, label in enumerate(labels):
        if _is_missing(label):
            raise ValueError(f"{name} lacks a label: it is {label!r} at row {row}.")
    return labels


def _is_missing(label: Any) -> bool:
    if label is None:
        return True
    try:
        return bool(label != label)  # NaN and NaT
    except TypeError:  # pandas.NA
        return True


def _unknown_labels(labels: list[Any], name: str) -> ValueError:
    return ValueError(
        f"The labels in {name} must be +1/-1 (-1 for a defect), 0/1 (1 for a defect), booleans (True for a "
        'defect), or strings with "good" or "normal" for the normal rows; got '
        f'{show_labels(labels)}. Convert other labels, for instance with np.where(y == "ok", 1, -1).'
    )
