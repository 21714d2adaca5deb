"""Checks of arguments that several rooms take."""

import contextlib
import os
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import sklearn
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.utils import _param_validation, check_random_state
from sklearn.utils.validation import _num_samples

__all__ = [
    "as_array",
    "as_path",
    "as_random_state",
    "check_finite_scores",
    "check_number",
    "check_rate",
    "check_regular_file",
    "check_size",
    "check_weights",
    "collected_warnings",
    "count_rows",
    "expand_home",
    "explain_nan",
    "fit_context",
    "validate_params",
    "warn",
]

F = TypeVar("F", bound=Callable[..., Any])

_NOT_THE_USERS = (
    *(str(Path(path).parent) + os.sep for path in (__file__, sklearn.__file__)),
    contextlib.__file__,
)
"""Where this package's code is, and scikit-learn's and contextlib's, whose wrappers lie between it and a user's."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[F], F]:
    """Decorate a method that fits by scikit-learn's own decorator, and keep its type, for type checkers."""
    decorate: Callable[[F], F] = _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)
    return decorate


def validate_params(constraints: dict[str, Any], *, prefer_skip_nested_validation: bool) -> Callable[[F], F]:
    """Check the arguments of a function by scikit-learn's own decorator, and keep its type, for type checkers."""
    decorate: Callable[[F], F] = _param_validation.validate_params(
        constraints, prefer_skip_nested_validation=prefer_skip_nested_validation
    )
    return decorate


def check_size(size: Any, name: str, *, least: int = 1, most: int | None = None) -> tuple[int, int]:
    """Check the height and width of an image.

    Parameters
    ----------
    size : int or pair of ints (H, W)
        Height and width in pixels; an int stands for both. NumPy's integers and arrays count
        as ints and pairs.
    name : str
        The parameter's name, for error messages.
    least : int, default=1
        The smallest height and width allowed.
    most : int or None, default=None
        The largest.

    Returns
    -------
    tuple of int (H, W)
        Height and width.

    Raises
    ------
    ValueError
        If `size` is anything else.

    Examples
    --------
    >>> from skcsflow._checks import check_size
    >>> check_size(64, "size")
    (64, 64)
    """
    value = size.tolist() if isinstance(size, np.ndarray) else size
    sides = value if isinstance(value, tuple | list) else (value, value)
    largest = float("inf") if most is None else most
    if len(sides) != 2 or not all(_is_int(side) and least <= side <= largest for side in sides):
        bounds = f"{least} or more" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be an int or a pair of ints (H, W), each {bounds}, got {size!r}.")
    return int(sides[0]), int(sides[1])


def check_rate(value: Any, name: str, *, may_be_one: bool = False) -> None:
    """Check a share of images.

    Parameters
    ----------
    value : float
        The share, above 0 and below 1.
    name : str
        Its name, for error messages.
    may_be_one : bool, default=False
        Whether it may be 1.

    Raises
    ------
    ValueError
        If it is anything else.

    Examples
    --------
    >>> from skcsflow._checks import check_rate
    >>> check_rate(0, "fpr")
    Traceback (most recent call last):
    ...
    ValueError: fpr must be above 0 and below 1, got 0.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not (0 < value < 1 or (may_be_one and value == 1)):
        raise ValueError(
            f"{name} must be above 0 and {'at most' if may_be_one else 'below'} 1, got {value!r}."
        )


def as_array(values: Any, name: str) -> NDArray[Any]:
    """Read an array-like, without what NumPy passes over in silence or refuses in its own words.

    Parameters
    ----------
    values : array-like or tensor
        The values, of any type and shape.
    name : str
        Their name, for error messages.

    Returns
    -------
    ndarray
        The values; a memory-mapped file stays one.

    Raises
    ------
    ValueError
        If values are masked, or can't be read.

    Examples
    --------
    >>> from skcsflow._checks import as_array
    >>> as_array([[1, 2], [3, 4]], "y").shape
    (2, 2)
    """
    rows = values if isinstance(values, list | tuple) else [values]
    if any(isinstance(row, np.ma.MaskedArray) and np.ma.is_masked(row) for row in rows):
        raise ValueError(
            f"{name} is a masked array with masked values. Fill them, such as with {name}.filled(0)."
        )
    if isinstance(values, np.memmap):
        return values
    try:
        if hasattr(values, "detach"):
            values = values.detach().cpu()
            values = values.float() if str(values.dtype) == "torch.bfloat16" else values
        return np.asarray(values)
    except Exception as error:  # the libraries whose arrays these may be raise all kinds of errors
        raise ValueError(f"{name} can't be read as an array: {str(error).rstrip('.')}.") from error


def as_path(path: Any, name: str) -> Path:
    """A parameter as the path of a file or folder.

    Raises
    ------
    TypeError
        If it is no path.
    ValueError
        If no path can be so.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} must be a path, a str or path-like, got {path!r}.")
    if "\0" in os.fspath(path):
        raise ValueError(f"{name}={os.fspath(path)!r} holds a null character, which no path may.")
    return expand_home(path)


def expand_home(path: str | os.PathLike[str]) -> Path:
    """The path, with ``~`` at its beginning replaced by the home folder; not of a name that only begins so."""
    path = Path(path)
    return path.expanduser() if path.parts[:1] == ("~",) and not path.exists() else path


def as_random_state(random_state: Any, name: str = "random_state") -> RandomState:
    """A generator of random numbers; of None a new one, and not NumPy's global one, which is the user's.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        The parameter.
    name : str, default="random_state"
        Its name, for error messages.

    Returns
    -------
    RandomState
        The generator.

    Raises
    ------
    ValueError
        If it is anything else.

    Examples
    --------
    >>> from skcsflow._checks import as_random_state
    >>> as_random_state(-1)
    Traceback (most recent call last):
    ...
    ValueError: random_state must be None, an int from 0 to 2**32 - 1 or a RandomState, got -1.
    """
    if random_state is None:
        return RandomState()
    try:
        return check_random_state(random_state)
    except ValueError:
        raise ValueError(
            f"{name} must be None, an int from 0 to 2**32 - 1 or a RandomState, got {random_state!r}."
        ) from None


def count_rows(X: Any, name: str = "X") -> int:
    """Number of rows of anything with rows.

    Raises
    ------
    TypeError
        If it has no length.
    """
    try:
        return int(_num_samples(X))
    except TypeError:
        raise TypeError(f"{name} must be an array or a sequence, got {type(X).__name__}.") from None


def check_number(value: Any, name: str, *, or_none: bool = False) -> None:
    """Check that a parameter is a finite number, or None where that is allowed.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if or_none and value is None:
        return
    if not isinstance(value, Real) or not np.isfinite(float(value)):
        raise ValueError(f"{name} must be {'None or ' * or_none}a finite number, got {value!r}.")


def check_finite_scores(
    scores: ArrayLike, name: str, *, allow_empty: bool = False, are_of_images: bool = True
) -> NDArray[np.float64]:
    """Check a vector of finite real numbers.

    Parameters
    ----------
    scores : array-like of shape (n,)
        The numbers.
    name : str
        Their name, for error messages.
    allow_empty : bool, default=False
        Whether n may be 0.
    are_of_images : bool, default=True
        Whether a message of NaN says that images which can't be read have such scores.

    Returns
    -------
    ndarray of shape (n,), float64
        The numbers.

    Raises
    ------
    TypeError
        If they aren't real numbers.
    ValueError
        If they have another shape, or one is NaN or infinite.

    Examples
    --------
    >>> from skcsflow._checks import check_finite_scores
    >>> check_finite_scores([1, 2], "scores")
    array([1., 2.])
    """
    values = as_array(scores, name)
    if values.ndim != 1:
        raise ValueError(f"{name} must have shape (n,), got shape {values.shape}.")
    if len(values) == 0 and not allow_empty:
        raise ValueError(f"{name} is empty.")
    if len(values) > 0 and values.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {values.dtype}.")
    with np.errstate(over="ignore"):  # a number that no float64 holds is infinite, and refused as such
        values = values.astype(np.float64)
    for row in np.flatnonzero(~np.isfinite(values))[:1]:
        hint = explain_nan(values[row]) if are_of_images else ""
        raise ValueError(f"{name} must be finite, but is {values[row]} at row {row}.{hint}")
    return values


def check_regular_file(path: str | os.PathLike[str], name: str) -> None:
    """Check that a path that is to be read is that of a file: reading devices, pipes and sockets may never end.

    Parameters
    ----------
    path : str or path-like
        The path.
    name : str
        What messages call it, such as ``"X[3] ('part.png')"``.

    Raises
    ------
    FileNotFoundError, OSError
        Where there is nothing, or it can't be looked at.
    ValueError
        Where it is something else.

    Examples
    --------
    >>> from skcsflow._checks import check_regular_file
    >>> check_regular_file("/", "roi ('/')")
    Traceback (most recent call last):
    ...
    ValueError: roi ('/') is a folder, not a file.
    """
    if "\0" in os.fspath(path):
        raise ValueError(f"{name} has a NUL character in its path, which no file can have.")
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind != stat.S_IFREG:
        raise ValueError(f"{name} is {_KINDS.get(kind, 'something else')}, not a file.")


def check_weights(sample_weight: ArrayLike | None, n: int, name: str) -> NDArray[np.float64] | None:
    """Check the weights of n images.

    Parameters
    ----------
    sample_weight : array-like of shape (n,) or None
        Weights.
    n : int
        Number of images.
    name : str
        The parameter whose elements are weighted, for error messages.

    Returns
    -------
    ndarray of shape (n,), float64, or None
        The weights, multiplied by a power of two that brings the largest near 1.

    Raises
    ------
    TypeError
        If they aren't real numbers.
    ValueError
        If they have another shape, or one is negative, NaN or infinite.
    """
    if sample_weight is None:
        return None
    given = as_array(sample_weight, "sample_weight")
    if given.shape != (n,):
        raise ValueError(
            f"sample_weight must have shape ({n},), one weight per element of {name}, got shape {given.shape}."
        )
    if given.dtype.kind not in "biuf":
        raise TypeError(f"sample_weight must hold real numbers, got dtype {given.dtype}.")
    weights = given.astype(np.float64)
    for i in np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))[:1]:
        raise ValueError(
            f"sample_weight must be finite and not negative, but sample_weight[{i}] is {weights[i]}."
        )
    # No metric depends on the scale of the weights. Near 1, their products neither overflow nor underflow. A
    # power of two changes no bit of them, except for those too small to matter beside the largest.
    return np.ldexp(weights, -np.frexp(weights.max(initial=0))[1])


def explain_nan(value: float) -> str:
    """Say in an error message where NaN comes from, and the way out; nothing of infinity."""
    if not np.isnan(value):
        return ""
    return (
        ' A detector with on_error="nan" gives NaN where an image can\'t be read: leave such images out, of labels and '
        "masks too."
    )


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)


class _Collector(threading.local):
    warnings: list[tuple[type[Warning], str]] | None = None


_collector = _Collector()


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn of the user's own line, or in the list of :func:`collected_warnings`."""
    if _collector.warnings is not None:
        _collector.warnings.append((category, message))
        return
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_THE_USERS):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


@contextlib.contextmanager
def collected_warnings() -> Iterator[list[tuple[type[Warning], str]]]:
    """Collect the warnings that this package gives in this thread; recording all would change those of others."""
    before, _collector.warnings = _collector.warnings, []
    try:
        yield _collector.warnings
    finally:
        _collector.warnings = before
