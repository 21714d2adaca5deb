"""ROC curves of each kind of defect."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import RocCurveDisplay

from skcsflow._checks import check_finite_scores
from skcsflow._labels import is_defect
from skcsflow.plotting._common import (
    check_keywords,
    check_length,
    check_names,
    defect_style,
    n_samples,
    require_matplotlib,
    rows_by_kind,
    single_axes,
)

__all__ = ["RocByKindDisplay"]

_CHANCE = "chance"


class RocByKindDisplay:
    """ROC curves of each kind of defect against all normal images.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. All parameters are also attributes.
    Each curve is a :class:`~sklearn.metrics.RocCurveDisplay` with defects as the positive class.

    Parameters
    ----------
    y : ndarray of shape (n,), bool
        True where an image is defective.
    scores : ndarray of shape (n,)
        `score_samples` of each image; higher is more normal.
    kinds : sequence of str, default=None
        Kind of each image; those of normal images are ignored.
    name : str, default=None
        Name of the detector, which the legend puts before each kind.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    curves_ : dict of str to RocCurveDisplay
        The curve of each kind, with attributes ``fpr``, ``tpr`` and ``roc_auc``. If there are several kinds, the
        curve of all of them is under "all defects".

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skcsflow.plotting import RocByKindDisplay
    >>> y, scores = [1, 1, -1, -1], [-0.4, -0.5, -1.5, -0.45]
    >>> kinds = ["good", "good", "crack", "spot"]
    >>> display = RocByKindDisplay.from_predictions(y, scores, kinds=kinds)
    >>> [(kind, float(curve.roc_auc)) for kind, curve in display.curves_.items()]
    [('crack', 1.0), ('spot', 0.5), ('all defects', 0.75)]

    A second detector on the same axes:

    >>> scores = [-0.4, -0.3, -1.5, -0.6]
    >>> other = RocByKindDisplay.from_predictions(y, scores, kinds=kinds, name="other", ax=display.ax_)
    >>> other.curves_["spot"].name
    'other: spot, n = 1'
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        y: NDArray[np.bool_],
        scores: NDArray[np.float64],
        *,
        kinds: Sequence[str] | None = None,
        name: str | None = None,
    ) -> None:
        self.y = y
        self.scores = scores
        self.kinds = kinds
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        kinds: ArrayLike | None = None,
        name: str | None = None,
        **plot_params: Any,
    ) -> Self:
        """Score images, and draw the curves.

        Parameters
        ----------
        estimator : estimator instance
            A fitted outlier detector, or a pipeline or search that ends in one.
        X : array-like of length n
            Images or rows, as the estimator takes them.
        y : array-like of shape (n,)
            Labels: +1/-1 (-1 for a defect), 0/1 (1 for a defect), booleans (True for a defect), or strings with
            "good" or "normal" for the normal images.
        kinds : array-like of shape (n,), default=None
            Kind of each image; those of normal images are ignored.
        name : str, default=None
            Name of the detector, which the legend puts before each kind: for several detectors on the same axes.
        **plot_params
            Passed to :meth:`plot`.

        Returns
        -------
        RocByKindDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        NotFittedError
            If the detector isn't fitted.
        TypeError
            If a keyword is unknown.
        ValueError
            If labels or kinds don't fit X, or either normal images or defects are missing.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        check_keywords(cls, "from_estimator", plot_params)
        defect, kinds = _read_labels(y, kinds)
        check_length(defect, n_samples(X), "y", "X")
        scores = estimator.score_samples(X)
        return cls.from_predictions(defect, scores, kinds=kinds, name=name, **plot_params)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        scores: ArrayLike,
        *,
        kinds: ArrayLike | None = None,
        name: str | None = None,
        **plot_params: Any,
    ) -> Self:
        """Draw the curves of given scores.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            Labels: +1/-1 (-1 for a defect), 0/1 (1 for a defect), booleans (True for a defect), or strings with
            "good" or "normal" for the normal images.
        scores : array-like of shape (n,)
            The result of `score_samples` or `decision_function`; higher is more normal.
        kinds : array-like of shape (n,), default=None
            Kind of each image; those of normal images are ignored.
        name : str, default=None
            Name of the detector, which the legend puts before each kind: for several detectors on the same axes.
        **plot_params
            Passed to :meth:`plot`.

        Returns
        -------
        RocByKindDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        TypeError
            If a keyword is unknown.
        ValueError
            If lengths differ, labels can't be read, a score is NaN or infinite, or either normal images or
            defects are missing.
        """
        require_matplotlib(f"{cls.__name__}.from_predictions")
        check_keywords(cls, "from_predictions", plot_params)
        defect, kinds = _read_labels(y_true, kinds)
        values = check_finite_scores(scores, "scores")
        check_length(values, len(defect), "scores", "y")
        return cls(defect, values, kinds=kinds, name=name).plot(**plot_params)

    def plot(self, ax: Any = None, *, name: str | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None: those of a new figure. Curves that are drawn on them already are told from
            the new ones by colours and line styles.
        name : str, default=None
            Name of the detector, which the legend puts before each kind. None: the display's own `name`.

        Returns
        -------
        RocByKindDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        TypeError
            If `ax` is no Axes.
        """
        require_matplotlib(f"{type(self).__name__}.plot")
        self.ax_ = single_axes(ax, (8.0, 5.4))
        self.figure_ = self.ax_.figure
        name = self.name if name is None else name
        prefix = "" if name is None else f"{name}: "
        n_before = sum(line.get_label() != _CHANCE for line in self.ax_.lines)
        has_chance = len(self.ax_.lines) > n_before
        groups = rows_by_kind(self.y, self.kinds)
        has_several_kinds = len(groups) > 1
        if has_several_kinds:
            groups.append(("all defects", self.y))
        self.curves_: dict[str, RocCurveDisplay] = {}
        for i, (kind, rows) in enumerate(groups):
            is_last = i == len(groups) - 1
            colour, _, style = defect_style(n_before + i)
            shown = rows | ~self.y
            curve = RocCurveDisplay.from_predictions(
                self.y[shown],
                -self.scores[shown],
                pos_label=True,
                name=f"{prefix}{kind}, n = {rows.sum()}",
                ax=self.ax_,
                plot_chance_level=is_last and not has_chance,
                chance_level_kw={"label": _CHANCE, "color": "#888888", "linestyle": ":"},
            )
            if has_several_kinds and is_last:
                curve.line_.set(color="black", linestyle=style if n_before else "-", linewidth=2.4)
            else:
                curve.line_.set(color=colour, linestyle=style, linewidth=1.8)
            # A kind of defect may itself be called "all defects".
            self.curves_[kind if kind not in self.curves_ else f"{kind} (all kinds)"] = curve
        self.ax_.set(
            xlabel="false-positive rate (normal images called defective)",
            ylabel="true-positive rate (defects found)",
        )
        if ax is None:
            # scikit-learn makes the axes square, which leaves no room for a legend beside them.
            self.ax_.set_aspect("auto")
        # A new legend for the styles set above, outside the axes, because curves may run anywhere in them.
        self.ax_.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
        return self


def _read_labels(y: ArrayLike, kinds: ArrayLike | None) -> tuple[NDArray[np.bool_], list[str] | None]:
    defect, names = is_defect(y), check_names(kinds, "kinds")
    if names is not None:
        check_length(names, len(defect), "kinds", "y")
    if defect.all() or not defect.any():
        only = "defects" if defect.all() else "normal images"
        raise ValueError(f"A ROC curve needs both normal images and defects, but y holds only {only}.")
    return defect, names
