"""Histograms of scores."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skcsflow._labels import is_defect
from skcsflow.plotting._common import (
    NORMAL_COLOUR,
    check_kinds,
    check_length,
    check_scores,
    defect_style,
    fitted_attribute,
    kinds_of_defect,
    require_matplotlib,
    single_axes,
)

__all__ = ["ScoreHistogramDisplay"]

_FENCE = 3.0  # in interquartile ranges; what Tukey calls far out


class ScoreHistogramDisplay:
    """Histogram of scores, of normal images and of each kind of defect.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. All parameters are kept as attributes.

    Scores are those of `score_samples`, with their sign: higher is more normal, so defects are to lie left of
    the threshold, and a threshold that is read off the plot can be set as `offset_`. Columns are stacked, so
    that nothing hides anything; colours suit the colour-blind, and each has a pattern of its own.

    Parameters
    ----------
    y : ndarray of shape (n,), bool
        True where an image is defective.
    scores : ndarray of shape (n,)
        `score_samples` of each image.
    kinds : sequence of str, default=None
        Kind of each image; those of normal images are not used.
    threshold : float, default=None
        Images whose score is below are called defective.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    bin_edges_ : ndarray of shape (n_bins + 1,)
        The bins, the same for all groups. The threshold is an edge.
    counts_ : dict of str to ndarray of shape (n_bins,), int64
        Images in each bin: the normal ones, and those of each kind of defect.
    n_below_, n_above_ : int
        Images that lie beyond the bins, and are counted in the first and the last one.
    threshold_line_ : matplotlib Line2D or None
        The threshold.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skcsflow.plotting import ScoreHistogramDisplay
    >>> y, scores = [1, 1, 1, -1, -1], [-0.4, -0.5, -0.45, -1.5, -0.9]
    >>> display = ScoreHistogramDisplay.from_predictions(y, scores, threshold=-0.7)
    >>> display.counts_["normal"].sum(), display.counts_["defective"].sum()
    (np.int64(3), np.int64(2))
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        y: NDArray[np.bool_],
        scores: NDArray[np.float64],
        *,
        kinds: Sequence[str] | None = None,
        threshold: float | None = None,
    ) -> None:
        self.y = y
        self.scores = scores
        self.kinds = kinds
        self.threshold = threshold

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike, *, kinds: ArrayLike | None = None, **plot_params: Any
    ) -> Self:
        """Score images, and draw the histogram.

        Parameters
        ----------
        estimator : estimator instance
            A fitted outlier detector, or a pipeline or search that ends in one. The threshold is its
            `offset_`.
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
        ScoreHistogramDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            Where matplotlib is missing.
        NotFittedError
            Where the detector isn't fitted.
        ValueError
            Where labels or kinds don't fit X.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        scores = estimator.score_samples(X)
        threshold = fitted_attribute(estimator, "offset_")
        return cls.from_predictions(y, scores, kinds=kinds, threshold=threshold, **plot_params)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        scores: ArrayLike,
        *,
        kinds: ArrayLike | None = None,
        threshold: float | None = None,
        **plot_params: Any,
    ) -> Self:
        """Draw the histogram of scores that are at hand.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            Labels: +1/-1 (-1 is a defect), 0/1 (1 is a defect) or booleans (True is a defect).
        scores : array-like of shape (n,)
            What `score_samples` gives; higher is more normal. Those of `decision_function` do too, with
            `threshold=0`.
        kinds : array-like of shape (n,), default=None
            Kind of each image; those of normal images are not used.
        threshold : float, default=None
            What `offset_` is: images whose score is below are called defective.
        **plot_params
            Passed to :meth:`plot`.

        Returns
        -------
        ScoreHistogramDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            Where matplotlib is missing.
        ValueError
            Where lengths differ, or values can't be read.
        """
        require_matplotlib(f"{cls.__name__}.from_predictions")
        defect = is_defect(y_true)
        values = check_scores(scores)
        check_length(values, len(defect), "scores", "y")
        names = check_kinds(kinds, len(defect))
        if threshold is not None and not np.isfinite(threshold):
            raise ValueError(f"threshold must be finite, got {threshold}.")
        return cls(defect, values, kinds=names, threshold=threshold).plot(**plot_params)

    def plot(self, ax: Any = None, *, bins: int = 40) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: in a new figure.
        bins : int, default=40
            Number of bins, give or take one, of equal width. They reach three interquartile ranges beyond
            the quartiles of all scores at most, as the worst defects would else squeeze the rest into one
            bin. What lies further out is counted in the first or last bin, and told below the axis.

        Returns
        -------
        ScoreHistogramDisplay
            The display itself.

        Raises
        ------
        ImportError
            Where matplotlib is missing.
        ValueError
            Where `bins` is no int, or below 1.
        """
        require_matplotlib(f"{type(self).__name__}.plot")
        from matplotlib.patheffects import withStroke

        if not isinstance(bins, int | np.integer) or bins < 1:
            raise ValueError(f"bins must be an int of 1 or more, got {bins!r}.")
        self.ax_ = single_axes(ax, (7.5, 4.2))
        self.figure_ = self.ax_.figure
        edges = self.bin_edges_ = self._edges(bins)
        inside = np.clip(self.scores, (edges[0] + edges[1]) / 2, (edges[-2] + edges[-1]) / 2)
        inside = np.where((self.scores < edges[0]) | (self.scores > edges[-1]), inside, self.scores)
        self.n_below_ = int(np.sum(self.scores < edges[0]))
        self.n_above_ = int(np.sum(self.scores > edges[-1]))

        self.counts_ = {}
        bottom = np.zeros(len(edges) - 1)
        groups = [("normal", ~self.y, NORMAL_COLOUR, "")] if not self.y.all() else []
        for i, (kind, rows) in enumerate(kinds_of_defect(self.y, self.kinds)):
            # A kind of defect may be called "normal" too.
            groups.append((kind if kind != "normal" else "normal (defective)", rows, *defect_style(i)[:2]))
        for name, rows, colour, hatch in groups:
            counts = self.counts_[name] = np.histogram(inside[rows], edges)[0]
            self.ax_.bar(
                edges[:-1],
                counts,
                np.diff(edges),
                bottom,
                align="edge",
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.5,
                label=f"{name} ({counts.sum()})",
            )
            bottom += counts
        self.threshold_line_ = None
        if self.threshold is not None:
            label = f"threshold {self.threshold:.3g}".replace("-", "\N{MINUS SIGN}")
            self.threshold_line_ = self.ax_.axvline(
                self.threshold,
                color="black",
                linestyle="--",
                linewidth=1.5,
                label=label,
                path_effects=[withStroke(linewidth=3.5, foreground="white")],  # shows on dark columns
            )
        self.ax_.set(
            xlim=(edges[0], edges[-1]),
            ylim=(0, 1.06 * bottom.max()),
            xlabel="\n".join(self._axis_label(edges)),
            ylabel="images",
        )
        self.ax_.yaxis.get_major_locator().set_params(integer=True)
        self.ax_.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
        return self

    def _edges(self, bins: int) -> NDArray[np.float64]:
        low, high = float(self.scores.min()), float(self.scores.max())
        lower, upper = np.percentile(self.scores, [25, 75])
        if upper > lower:
            low = max(low, lower - _FENCE * (upper - lower))
            high = min(high, upper + _FENCE * (upper - lower))
        if self.threshold is not None:
            low, high = min(low, self.threshold), max(high, self.threshold)
        if not high > low:
            low, high = low - 0.5, high + 0.5
        if self.threshold is None:
            return np.linspace(low, high, bins + 1)
        # With the threshold among the edges, no column holds images of both verdicts.
        width = (high - low) / bins
        before = max(1, int(np.ceil((self.threshold - low) / width - 1e-9)))
        after = max(1, int(np.ceil((high - self.threshold) / width - 1e-9)))
        edges: NDArray[np.float64] = self.threshold + width * np.arange(-before, after + 1.0)
        # Rounding must not put the outermost score outside.
        edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
        return edges

    def _axis_label(self, edges: NDArray[np.float64]) -> list[str]:
        lines = ["score_samples (higher is more normal)"]
        for n, which, side, edge in (
            (self.n_below_, "first", "below", edges[0]),
            (self.n_above_, "last", "above", edges[-1]),
        ):
            if n:
                images = "1 image" if n == 1 else f"{n} images"
                edge_text = f"{edge:.3g}".replace("-", "\N{MINUS SIGN}")
                lines.append(f"the {which} column holds {images} from {side} {edge_text} too")
        return lines
