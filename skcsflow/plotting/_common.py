"""What all displays share: matplotlib, colours, checks of labels, and attributes of estimators."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skcsflow._checks import as_array, count_rows
from skcsflow._images import as_sequence

__all__ = [
    "NORMAL_COLOUR",
    "UNKNOWN_COLOUR",
    "check_axes",
    "check_keywords",
    "check_length",
    "check_names",
    "defect_style",
    "first",
    "fitted_attribute",
    "n_samples",
    "require_matplotlib",
    "rows_by_kind",
    "single_axes",
]

# The colours of Okabe and Ito, which people with any common colour blindness can tell apart. Yellow is left out
# because it is faint on white. Grey takes the place of black, the colour of thresholds and totals.
NORMAL_COLOUR = "#0072B2"
UNKNOWN_COLOUR = "#999999"  # of images without a label
_COLOURS = ("#D55E00", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#666666")
# Five hatches and line styles for six colours: 30 kinds of defect have 30 different pairs.
_HATCHES = ("////", "..", "xxxx", "\\\\\\\\", "++++")
_LINE_STYLES = ("--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))


def require_matplotlib(caller: str) -> None:
    """Check that matplotlib is installed.

    Parameters
    ----------
    caller : str
        The method that needs it, for the error message.

    Raises
    ------
    ImportError
        If it isn't installed.
    """
    try:
        import_module("matplotlib")
    except ImportError as error:
        raise ImportError(
            f'{caller} needs matplotlib. Install it with pip install "skcsflow[plot]".'
        ) from error


def defect_style(i: int) -> tuple[str, str, Any]:
    """Colour, hatch and line style of the i-th kind of defect."""
    return _COLOURS[i % len(_COLOURS)], _HATCHES[i % len(_HATCHES)], _LINE_STYLES[i % len(_LINE_STYLES)]


def single_axes(ax: Any, figsize: tuple[float, float]) -> Any:
    """Return the given axes, or those of a new figure if None."""
    if ax is not None:
        check_axes([ax])
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=figsize, layout="constrained")[1]


def check_axes(axes: Any) -> None:
    """Check that all of these are Axes of matplotlib."""
    from matplotlib.axes import Axes

    for item in axes:
        if not isinstance(item, Axes):
            raise TypeError(f"ax must be Axes of matplotlib, got {item!r}.")


def check_length(values: Any, n: int, name: str, other_name: str) -> None:
    """Check that `values` has the length n of another argument."""
    if isinstance(values, str) or not hasattr(values, "__len__") or not hasattr(values, "__getitem__"):
        raise TypeError(f"{name} must be an array or a sequence of length {n}, got {values!r}.")
    if len(values) != n:
        raise ValueError(f"{name} has length {len(values)}, but {other_name} has length {n}.")


def check_names(names: ArrayLike | None, parameter: str) -> list[str] | None:
    """Read a parameter with a name for each of n images as strings; None stays."""
    if names is None:
        return None
    values = as_array(names, parameter)
    if values.ndim != 1:
        raise ValueError(f"{parameter} must have shape (n,), got shape {values.shape}.")
    return [str(name) for name in values.tolist()]


def check_keywords(display: type, caller: str, given: Mapping[str, Any]) -> None:
    """Check the keywords that a class method passes on to `plot`, before it does any work.

    Parameters
    ----------
    display : type
        The display.
    caller : str
        The class method.
    given : mapping of str
        The keywords.

    Raises
    ------
    TypeError
        If `plot` has no such parameter. The message lists those of both methods.
    """
    plot = signature(display.plot)  # type: ignore[attr-defined]
    try:
        plot.bind(None, **given)
    except TypeError as error:
        own = [
            name
            for name, p in signature(getattr(display, caller)).parameters.items()
            if p.kind != p.VAR_KEYWORD
        ]
        names = ", ".join(dict.fromkeys([*own, *list(plot.parameters)[1:]]))
        raise TypeError(f"{display.__name__}.{caller} {error}. Its parameters are {names}.") from None


def n_samples(X: Any, name: str = "X") -> int:
    """Number of images or rows in anything that an estimator takes."""
    return count_rows(as_sequence(X), name)


def first(values: Any, n: int) -> Any:
    """The first n items of a sequence, array, tensor, series or data frame; None stays."""
    if values is None or len(values) <= n:
        return values
    return values.iloc[:n] if hasattr(values, "iloc") else values[:n]


def rows_by_kind(
    defect: NDArray[np.bool_], kinds: Sequence[str] | None
) -> list[tuple[str, NDArray[np.bool_]]]:
    """List the kinds of defect, sorted by name, each with a mask of its rows."""
    if kinds is None:
        return [("defective", defect)] if defect.any() else []
    names = np.array(kinds)
    return [(str(kind), defect & (names == kind)) for kind in np.unique(names[defect])]


def fitted_attribute(estimator: Any, name: str) -> Any:
    """Attribute of a detector, or of the detector at the end of a pipeline or search; None if it has none."""
    while not hasattr(estimator, name):
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        else:
            return None
    return getattr(estimator, name)
