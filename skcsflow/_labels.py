"""Which rows of a y are defects."""

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["check_labels", "is_defect", "show_labels"]


def check_labels(y: ArrayLike | None, name: str = "y") -> list[Any]:
    """Read labels, as Python's own scalars.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, 1)
        Labels of any type.
    name : str, default="y"
        What messages call it.

    Returns
    -------
    list of length n
        The labels.

    Raises
    ------
    ValueError
        Where y is None, empty or not one-dimensional, or lacks a label.
    """
    return _check_column(_as_column(y, name), name)


def is_defect(
    y: ArrayLike | None, normal_label: Any = None, *, ones_are_normal: bool = True, name: str = "y"
) -> NDArray[np.bool_]:
    """Tell which rows are defects by their labels.

    Parameters
    ----------
    y : array-like of shape (n,)
        With `normal_label=None`: +1 and -1 (-1 is a defect), 0 and 1 (1 is a defect), or
        booleans (True is a defect). Else labels of any type.
    normal_label : object, default=None
        The label of normal rows; every other label is a defect.
    ones_are_normal : bool, default=True
        A y of nothing but the number 1 fits both +1/-1 and 0/1. True: it is read as +1,
        all normal. False: it is an error.
    name : str, default="y"
        What messages call it.

    Returns
    -------
    ndarray of shape (n,), bool
        True where the row is a defect.

    Raises
    ------
    ValueError
        Where y can't be read so.

    Examples
    --------
    >>> from skcsflow._labels import is_defect
    >>> is_defect([1, -1, 1])
    array([False,  True, False])
    >>> is_defect([1, 0, 1])
    array([ True, False,  True])
    >>> is_defect(["good", "crack"], normal_label="good")
    array([False,  True])
    """
    values = _as_column(y, name)
    if normal_label is not None:
        labels = _check_column(values, name)
        if normal_label not in labels:
            raise ValueError(
                f"normal_label={normal_label!r} is not among the labels in {name}: {show_labels(labels)}."
            )
        return np.array([label != normal_label for label in labels], dtype=bool)
    if values.dtype.kind not in "biu":  # integers and booleans lack none, and go on without a loop
        labels = _check_column(values, name)
        if not all(isinstance(label, Real) for label in labels):
            raise _unknown_labels(labels, name)
        values = np.array(labels)
    ones = values == 1
    if ones.all() and values.dtype != bool:
        if not ones_are_normal:
            raise ValueError(
                f"{name} is ambiguous: all of its {len(values)} labels are 1, which is normal among +1/-1 and a "
                "defect among 0/1. It must hold both normal rows and defects to be scored."
            )
        return np.zeros(len(values), dtype=bool)
    if (ones | (values == 0)).all():
        return ones
    if (ones | (values == -1)).all():
        return ~ones
    raise _unknown_labels(values.tolist(), name)


def show_labels(labels: Iterable[Any], limit: int = 8) -> str:
    """Show the distinct values among labels, as far as they fit in a message."""
    distinct = list(dict.fromkeys(repr(label) for label in labels))
    return ", ".join(distinct[:limit]) + (", ..." if len(distinct) > limit else "")


def _as_column(y: ArrayLike | None, name: str) -> NDArray[Any]:
    if y is None:
        raise ValueError(f"{name} is None, but its labels are needed.")
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:  # a data frame's column
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"{name} must have shape (n,), got shape {values.shape}.")
    if len(values) == 0:
        raise ValueError(f"{name} is empty.")
    return values


def _check_column(values: NDArray[Any], name: str) -> list[Any]:
    labels = [label.item() if isinstance(label, np.generic) else label for label in values.tolist()]
    for row, label in enumerate(labels):
        if _is_missing(label):
            raise ValueError(f"{name} lacks a label: it is {label!r} at row {row}.")
    return labels


def _unknown_labels(labels: list[Any], name: str) -> ValueError:
    return ValueError(
        f"The labels in {name} must be +1/-1 (-1 for a defect), 0/1 (1 for a defect) or booleans (True for a "
        f"defect), got {show_labels(labels)}. Others can be turned into them, as in "
        'np.where(y == "good", 1, -1); OneClassKFold also takes them with normal_label.'
    )


def _is_missing(label: Any) -> bool:
    if label is None:
        return True
    try:
        return bool(label != label)  # NaN, NaT
    except TypeError:  # pandas.NA
        return True
