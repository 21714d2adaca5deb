"""What all displays share: matplotlib, colours, labels, and what is asked of an estimator."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "NORMAL_COLOUR",
    "check_kinds",
    "check_length",
    "check_scores",
    "defect_style",
    "fitted_attribute",
    "kinds_of_defect",
    "require_matplotlib",
    "single_axes",
]

# Okabe and Ito's colours, which people with any common colour blindness can tell apart. Yellow, which is faint on
# white, is left out, and grey stands for black, which lines of thresholds and totals have.
NORMAL_COLOUR = "#0072B2"
COLOURS = ("#D55E00", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#666666")
# Five each, beside six colours of defects: no pair of colour and pattern comes twice among 30 kinds.
HATCHES = ("////", "..", "xxxx", "\\\\\\\\", "++++")
LINE_STYLES = ("--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))


def require_matplotlib(caller: str) -> None:
    """Check that matplotlib is there.

    Parameters
    ----------
    caller : str
        What needs it.

    Raises
    ------
    ImportError
        Where it isn't.
    """
    try:
        import_module("matplotlib")
    except ImportError as error:
        raise ImportError(
            f'{caller} needs matplotlib. Install it with pip install "skcsflow[plot]".'
        ) from error


def defect_style(i: int) -> tuple[str, str, Any]:
    """Colour, hatch and line style of the i-th kind of defect."""
    return COLOURS[i % len(COLOURS)], HATCHES[i % len(HATCHES)], LINE_STYLES[i % len(LINE_STYLES)]


def single_axes(ax: Any, figsize: tuple[float, float]) -> Any:
    """Give the axes to draw on: those given, or those of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=figsize, layout="constrained")[1]


def check_length(values: Any, n: int, name: str, of: str) -> None:
    """Check that there is one value for each image."""
    if len(values) != n:
        raise ValueError(f"{name} has length {len(values)}, but {of} has length {n}.")


def check_scores(scores: ArrayLike, name: str = "scores") -> NDArray[np.float64]:
    """Read scores.

    Parameters
    ----------
    scores : array-like of shape (n,)
        The scores.
    name : str, default="scores"
        What messages call them.

    Returns
    -------
    ndarray of shape (n,), float64
        The scores.

    Raises
    ------
    ValueError
        Where they are not one-dimensional, empty or not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"{name} must have shape (n,), with n of at least 1, got shape {values.shape}.")
    for row in np.flatnonzero(~np.isfinite(values)):
        raise ValueError(f"{name} must be finite, got {values[row]} at row {row}.")
    return values


def check_kinds(kinds: ArrayLike | None, n: int, of: str = "y") -> list[str] | None:
    """Read the images' kinds, as text."""
    if kinds is None:
        return None
    values = np.asarray(kinds)
    if values.ndim != 1:
        raise ValueError(f"kinds must have shape (n,), got shape {values.shape}.")
    check_length(values, n, "kinds", of)
    return [str(kind) for kind in values.tolist()]


def kinds_of_defect(
    defect: NDArray[np.bool_], kinds: Sequence[str] | None
) -> list[tuple[str, NDArray[np.bool_]]]:
    """List the kinds of defect, and which rows are of each; sorted by name."""
    if kinds is None:
        return [("defective", defect)] if defect.any() else []
    names = np.array(kinds)
    return [(str(kind), defect & (names == kind)) for kind in np.unique(names[defect])]


def fitted_attribute(estimator: Any, name: str) -> Any:
    """Give an attribute of a fitted detector, also where it ends a pipeline or search; None where it has none."""
    while not hasattr(estimator, name):
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        else:
            return None
    return getattr(estimator, name)
