"""The history of a detector's training."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skcsflow._checks import check_finite_scores
from skcsflow.plotting._common import (
    NORMAL_COLOUR,
    check_axes,
    check_keywords,
    check_length,
    fitted_attribute,
    require_matplotlib,
)

__all__ = ["HistoryDisplay"]

_LABELS = {"grad_norm": "gradient norm", "learning_rate": "learning rate", "seconds": "seconds per epoch"}


class HistoryDisplay:
    """Curves of a detector's training: loss, gradient norm and the like for each epoch.

    Create it with :meth:`from_estimator`.

    Parameters
    ----------
    history : mapping of str to array-like of shape (n_epochs,)
        The `history_` of a detector. Each entry gets a panel.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The axes of each entry, in the order of `history`.
    figure_ : matplotlib Figure
        The figure.
    lines_ : dict of str to matplotlib Line2D
        The curves.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skcsflow.plotting import HistoryDisplay
    >>> display = HistoryDisplay({"loss": [1.5, 1.0, 0.8], "grad_norm": [0.9, 0.5, 0.4]}).plot()
    >>> [ax.get_ylabel() for ax in display.axes_]
    ['loss', 'gradient norm']
    >>> plt.close(display.figure_)
    """

    def __init__(self, history: Mapping[str, ArrayLike]) -> None:
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any, **plot_params: Any) -> Self:
        """Draw the history of a detector.

        Parameters
        ----------
        estimator : estimator instance
            A fitted :class:`~skcsflow.CSFlowDetector`, or a pipeline or search that ends in one.
        **plot_params
            Passed to :meth:`plot`.

        Returns
        -------
        HistoryDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        NotFittedError
            If the detector isn't fitted.
        TypeError
            If it has no `history_`, or a keyword is unknown.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        check_keywords(cls, "from_estimator", plot_params)
        check_is_fitted(estimator)
        history = fitted_attribute(estimator, "history_")
        if history is None:
            raise TypeError(f"{type(estimator).__name__} has no history_.")
        return cls(history).plot(**plot_params)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : array of matplotlib Axes, default=None
            Axes to draw on, one for each entry. None: those of a new figure.

        Returns
        -------
        HistoryDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        TypeError
            If the history is no dict, or `ax` holds no Axes.
        ValueError
            If the history is empty, or the number of axes isn't that of the entries.
        """
        require_matplotlib(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt
        from matplotlib.ticker import MaxNLocator

        if not isinstance(self.history, Mapping):
            raise TypeError(
                f"history must be a dict, such as history_ is, got {type(self.history).__name__}."
            )
        n = len(self.history)
        if n == 0:
            raise ValueError("history is empty.")
        if ax is None:
            n_columns = 1 if n == 1 else 2
            n_rows = -(-n // n_columns)
            figure, grid = plt.subplots(
                n_rows,
                n_columns,
                figsize=(4.2 * n_columns, 2.4 * n_rows),
                layout="constrained",
                squeeze=False,
            )
            self.axes_ = grid.ravel()[:n]
            for unused in grid.ravel()[n:]:
                figure.delaxes(unused)
        else:
            self.axes_ = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
            check_length(self.axes_, n, "ax", "history")
            check_axes(self.axes_)
        self.figure_ = self.axes_[0].figure
        self.lines_ = {}
        for axes, (name, values) in zip(self.axes_, self.history.items(), strict=True):
            curve = check_finite_scores(values, f"history[{name!r}]", are_of_images=False)
            epochs = np.arange(1, len(curve) + 1)
            marker = "o" if len(curve) <= 30 else ""
            (self.lines_[name],) = axes.plot(epochs, curve, color=NORMAL_COLOUR, marker=marker, markersize=3)
            axes.set(xlabel="epoch", ylabel=_LABELS.get(name, name))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(color="#DDDDDD", linewidth=0.6)
            if name in _LABELS:  # these are never negative
                axes.set_ylim(bottom=0)
        return self
