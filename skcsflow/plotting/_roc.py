"""ROC curves by kind of defect."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import RocCurveDisplay

from skcsflow._labels import is_defect
from skcsflow.plotting._common import (
    check_kinds,
    check_length,
    check_scores,
    defect_style,
    kinds_of_defect,
    require_matplotlib,
    single_axes,
)

__all__ = ["RocByKindDisplay"]


class RocByKindDisplay:
    """ROC curves of each kind of defect against all normal images, on one axes.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. All parameters are kept as attributes.
    The curves are scikit-learn's own :class:`~sklearn.metrics.RocCurveDisplay`, with defects as the
    positive class.

    Parameters
    ----------
    y : ndarray of shape (n,), bool
        True where an image is defective.
    scores : ndarray of shape (n,)
        `score_samples` of each image; higher is more normal.
    kinds : sequence of str, default=None
        Kind of each image; those of normal images are not used.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    curves_ : dict of str to RocCurveDisplay
        The curve of each kind, which holds its ``fpr``, ``tpr`` and ``roc_auc``; and of "all defects" together,
        where there are several kinds.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skcsflow.plotting import RocByKindDisplay
    >>> y, scores = [1, 1, -1, -1], [-0.4, -0.5, -1.5, -0.45]
    >>> kinds = ["good", "good", "crack", "spot"]
    >>> display = RocByKindDisplay.from_predictions(y, scores, kinds=kinds)
    >>> [(kind, float(curve.roc_auc)) for kind, curve in display.curves_.items()]
    [('crack', 1.0), ('spot', 0.5), ('all defects', 0.75)]
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        y: NDArray[np.bool_],
        scores: NDArray[np.float64],
        *,
        kinds: Sequence[str] | None = None,
    ) -> None:
        self.y = y
        self.scores = scores
        self.kinds = kinds

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike, *, kinds: ArrayLike | None = None, **plot_params: Any
    ) -> Self:
        """Score images, and draw the curves.

        Parameters
        ----------
        estimator : estimator instance
            A fitted outlier detector, or a pipeline or search that ends in one.
        X : array-like of length n
            What it takes.
        y : array-like of shape (n,)
            Labels: +1/-1 (-1 is a defect), 0/1 (1 is a defect) or booleans (True is a defect).
        kinds : array-like of shape (n,), default=None
            Kind of each image; those of normal images are not used.
        **plot_params
            Passed to :meth:`plot`.

        Returns
        -------
        RocByKindDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            Where matplotlib is missing.
        NotFittedError
            Where the detector isn't fitted.
        ValueError
            Where labels or kinds don't fit X, or either normal images or defects are missing.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        return cls.from_predictions(y, estimator.score_samples(X), kinds=kinds, **plot_params)

    @classmethod
    def from_predictions(
        cls, y_true: ArrayLike, scores: ArrayLike, *, kinds: ArrayLike | None = None, **plot_params: Any
    ) -> Self:
        """Draw the curves of scores that are at hand.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            Labels: +1/-1 (-1 is a defect), 0/1 (1 is a defect) or booleans (True is a defect).
        scores : array-like of shape (n,)
            What `score_samples` or `decision_function` gives; higher is more normal.
        kinds : array-like of shape (n,), default=None
            Kind of each image; those of normal images are not used.
        **plot_params
            Passed to :meth:`plot`.

        Returns
        -------
        RocByKindDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            Where matplotlib is missing.
        ValueError
            Where lengths differ, values can't be read, or either normal images or defects are missing.
        """
        require_matplotlib(f"{cls.__name__}.from_predictions")
        defect = is_defect(y_true)
        values = check_scores(scores)
        check_length(values, len(defect), "scores", "y")
        if defect.all() or not defect.any():
            what = "defects" if defect.all() else "normal images"
            raise ValueError(f"A ROC curve needs both normal images and defects, but y holds {what} alone.")
        return cls(defect, values, kinds=check_kinds(kinds, len(defect))).plot(**plot_params)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: in a new figure.

        Returns
        -------
        RocByKindDisplay
            The display itself.

        Raises
        ------
        ImportError
            Where matplotlib is missing.
        """
        require_matplotlib(f"{type(self).__name__}.plot")
        self.ax_ = single_axes(ax, (8.0, 5.4))
        self.figure_ = self.ax_.figure
        groups = kinds_of_defect(self.y, self.kinds)
        several = len(groups) > 1
        if several:
            groups.append(("all defects", self.y))
        self.curves_: dict[str, RocCurveDisplay] = {}
        for i, (name, rows) in enumerate(groups):
            last = i == len(groups) - 1
            colour, _, style = defect_style(i)
            shown = rows | ~self.y
            curve = RocCurveDisplay.from_predictions(
                self.y[shown],
                -self.scores[shown],
                pos_label=True,
                name=f"{name}, n = {rows.sum()}",
                ax=self.ax_,
                plot_chance_level=last,
                chance_level_kw={"label": "chance", "color": "#888888", "linestyle": ":"},
            )
            if several and last:
                curve.line_.set(color="black", linestyle="-", linewidth=2.4)
            else:
                curve.line_.set(color=colour, linestyle=style, linewidth=1.8)
            # A kind may be called "all defects" too.
            self.curves_[name if name not in self.curves_ else f"{name} (together)"] = curve
        self.ax_.set(
            xlabel="false positive rate (normal images called defective)",
            ylabel="true positive rate (defects found)",
        )
        if ax is None:
            # A square, which scikit-learn asks for, ends up too large beside a legend.
            self.ax_.set_aspect("auto")
        # Again, for the styles set above; and outside, as curves of kinds that are hard to find run anywhere.
        self.ax_.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
        return self
