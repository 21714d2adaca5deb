"""What all displays share: matplotlib, colours, checks of labels, and attributes of estimators."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "NORMAL_COLOUR",
    "check_kinds",
    "check_length",
    "defect_style",
    "fitted_attribute",
    "require_matplotlib",
    "rows_by_kind",
    "single_axes",
]

# The colours of Okabe and Ito, which people with any common colour blindness can tell apart. Yellow is left out
# because it is faint on white. Grey takes the place of black, the colour of thresholds and totals.
NORMAL_COLOUR = "#0072B2"
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
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=figsize, layout="constrained")[1]


def check_length(values: Any, n: int, name: str, other_name: str) -> None:
    """Check that `values` has the length n of another argument."""
    if len(values) != n:
        raise ValueError(f"{name} has length {len(values)}, but {other_name} has length {n}.")


def check_kinds(kinds: ArrayLike | None, n: int, other_name: str = "y") -> list[str] | None:
    """Read the kinds of n images as strings."""
    if kinds is None:
        return None
    values = np.asarray(kinds)
    if values.ndim != 1:
        raise ValueError(f"kinds must have shape (n,), got shape {values.shape}.")
    check_length(values, n, "kinds", other_name)
    return [str(kind) for kind in values.tolist()]


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
