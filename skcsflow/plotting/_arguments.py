"""Checks of the arguments of :class:`AnomalyMapDisplay`, before anything is computed."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skcsflow._checks import as_array, check_finite_scores, check_number
from skcsflow._labels import is_defect
from skcsflow.plotting._common import check_axes, check_length, check_names

__all__ = ["check_drawing", "check_given", "number_shown"]


def number_shown(n: int, max_images: int | None) -> int:
    """How many of n images are shown; see :meth:`AnomalyMapDisplay.from_estimator`."""
    if n == 0:
        raise ValueError("There are no images to show.")
    if max_images is None:
        return n
    if isinstance(max_images, bool) or not isinstance(max_images, Integral) or max_images < 1:
        raise ValueError(f"max_images must be None or an int of 1 or more, got {max_images!r}.")
    return min(n, int(max_images))


def check_given(n: int, images_name: str, **given: Any) -> dict[str, Any]:
    """Check what is given for each of n images, and read all but masks and maps; None stays.

    Parameters
    ----------
    n : int
        Number of images.
    images_name : str
        The parameter that holds them, for error messages.
    **given
        Arguments by their names.

    Returns
    -------
    dict of str
        What was read.

    Raises
    ------
    ValueError
        If a length isn't n, or something can't be read.
    """
    read: dict[str, Callable[[Any], Any]] = {
        "y": is_defect,
        "kinds": lambda kinds: check_names(kinds, "kinds"),
        "titles": lambda titles: check_names(titles, "titles"),
        "scores": lambda scores: check_finite_scores(scores, "scores"),
        "y_pred": _check_predictions,
    }
    for name, values in given.items():
        if values is not None:
            given[name] = read[name](values) if name in read else values
            check_length(given[name], n, name, images_name)
    return given


def _check_predictions(y_pred: ArrayLike) -> NDArray[Any]:
    predictions = as_array(y_pred, "y_pred")
    if predictions.ndim != 1:
        raise ValueError(f"y_pred must have shape (n,), got shape {predictions.shape}.")
    for row, prediction in enumerate(predictions.tolist()):
        if prediction not in (-1, 1):
            raise ValueError(
                f"y_pred must hold +1 and -1, as predict returns them, got {prediction!r} at row {row}."
            )
    return predictions


def check_drawing(
    n: int,
    *,
    ax: Any = None,
    n_columns: Any = 1,
    cmap: Any = "inferno",
    alpha: Any = 1.0,
    norm: Any = None,
    vmin: Any = None,
    vmax: Any = None,
    show_images: Any = None,
) -> None:
    """Check parameters of :meth:`AnomalyMapDisplay.plot`."""
    import matplotlib as mpl
    from matplotlib.colors import Colormap, Normalize

    if ax is not None:
        axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        check_length(axes, n, "ax", "images")
        check_axes(axes)
    if not isinstance(n_columns, Integral) or n_columns < 1:
        raise ValueError(f"n_columns must be an int of 1 or more, got {n_columns!r}.")
    if not isinstance(cmap, Colormap | None) and not (isinstance(cmap, str) and cmap in list(mpl.colormaps)):
        raise ValueError(f'cmap must be a colour map or the name of one, such as "inferno", got {cmap!r}.')
    if not isinstance(alpha, Real) or not 0 <= float(alpha) <= 1:
        raise ValueError(f"alpha must be a number from 0 to 1, got {alpha!r}.")
    if not isinstance(show_images, bool | np.bool_ | None):
        raise ValueError(f"show_images must be True, False or None, got {show_images!r}.")
    if not isinstance(norm, Normalize | None):
        raise TypeError(f"norm must be None or a Normalize of matplotlib, got {norm!r}.")
    for name, value in (("vmin", vmin), ("vmax", vmax)):
        check_number(value, name, or_none=True)
    if norm is None and vmin is not None and vmax is not None and not vmin < vmax:
        raise ValueError(f"vmin must be below vmax, got vmin={vmin!r} and vmax={vmax!r}.")
