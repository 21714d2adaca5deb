"""Histogram of scores."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skcsflow._checks import check_finite_scores, check_number
from skcsflow._labels import is_defect
from skcsflow.plotting._common import (
    NORMAL_COLOUR,
    UNKNOWN_COLOUR,
    check_keywords,
    check_length,
    check_names,
    defect_style,
    fitted_attribute,
    n_samples,
    require_matplotlib,
    rows_by_kind,
    single_axes,
)

__all__ = ["ScoreHistogramDisplay"]

_FAR_OUT = 3.0  # interquartile ranges beyond the quartiles, as in Tukey's box plots


class ScoreHistogramDisplay:
    """Histogram of the scores of normal images and of each kind of defect, or of images without labels.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. All parameters are also attributes.

    Scores are those of `score_samples`: higher is more normal, so defects should lie left of the threshold. A
    threshold read off the plot can be set as `offset_`. Bars are stacked, so that none hides another. Colours
    suit colour-blind people, and each kind of defect has its own pattern.

    Parameters
    ----------
    y : ndarray of shape (n,), bool, or None
        True where an image is defective. None: it isn't known.
    scores : ndarray of shape (n,)
        `score_samples` of each image.
    kinds : sequence of str, default=None
        Kind of each image; those of normal images are ignored.
    threshold : float, default=None
        Images with a score below it are called defective.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    bin_edges_ : ndarray of shape (n_bins + 1,)
        The edges of the bins, the same for all kinds. The threshold is one of them.
    counts_ : dict of str to ndarray of shape (n_bins,), int64
        Number of images in each bin, for "normal" and for each kind of defect; without `y` for "all images".
    n_below_, n_above_ : int
        Number of images beyond the bins. They are counted in the first and in the last bin.
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

    Without labels:

    >>> display = ScoreHistogramDisplay.from_predictions(None, scores, threshold=-0.7)
    >>> display.counts_["all images"].sum()
    np.int64(5)
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        y: NDArray[np.bool_] | None,
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
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        kinds: ArrayLike | None = None,
        **plot_params: Any,
    ) -> Self:
        """Score images and draw the histogram.

        Parameters
        ----------
        estimator : estimator instance
            A fitted outlier detector, or a pipeline or search that ends in one. The threshold is its
            `offset_`.
        X : array-like of length n
            Images or rows, as the estimator takes them.
        y : array-like of shape (n,), default=None
            Labels: +1/-1 (-1 for a defect), 0/1 (1 for a defect), booleans (True for a defect), or strings with
            "good" or "normal" for the normal images. None: one histogram of all scores.
        kinds : array-like of shape (n,), default=None
            Kind of each image, which needs labels; those of normal images are ignored.
        **plot_params
            Passed to :meth:`plot`.

        Returns
        -------
        ScoreHistogramDisplay
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
            If labels or kinds don't fit X, or there are kinds without labels.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        check_keywords(cls, "from_estimator", plot_params)
        _check_bins(plot_params.get("bins", 1))
        defect, kinds = _read_labels(y, kinds)
        if defect is not None:
            check_length(defect, n_samples(X), "y", "X")
        scores = estimator.score_samples(X)
        threshold = fitted_attribute(estimator, "offset_")
        return cls.from_predictions(defect, scores, kinds=kinds, threshold=threshold, **plot_params)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike | None,
        scores: ArrayLike,
        *,
        kinds: ArrayLike | None = None,
        threshold: float | None = None,
        **plot_params: Any,
    ) -> Self:
        """Draw the histogram of given scores.

        Parameters
        ----------
        y_true : array-like of shape (n,) or None
            Labels: +1/-1 (-1 for a defect), 0/1 (1 for a defect), booleans (True for a defect), or strings with
            "good" or "normal" for the normal images. None: one histogram of all scores.
        scores : array-like of shape (n,)
            The result of `score_samples`, or that of `decision_function` with `threshold=0`; higher is more
            normal.
        kinds : array-like of shape (n,), default=None
            Kind of each image, which needs labels; those of normal images are ignored.
        threshold : float, default=None
            The detector's `offset_`: images with a score below it are called defective.
        **plot_params
            Passed to :meth:`plot`.

        Returns
        -------
        ScoreHistogramDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        TypeError
            If a keyword is unknown.
        ValueError
            If lengths differ, labels can't be read, there are kinds without labels, or a score or the threshold is
            NaN or infinite.
        """
        require_matplotlib(f"{cls.__name__}.from_predictions")
        check_keywords(cls, "from_predictions", plot_params)
        defect, names = _read_labels(y_true, kinds)
        values = check_finite_scores(scores, "scores")
        if defect is not None:
            check_length(values, len(defect), "scores", "y")
        check_number(threshold, "threshold", or_none=True)
        return cls(defect, values, kinds=names, threshold=threshold).plot(**plot_params)

    def plot(self, ax: Any = None, *, bins: int = 40) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None: those of a new figure.
        bins : int, default=40
            Number of bins of equal width; with a threshold there may be one more. They reach at most
            three interquartile ranges beyond the quartiles of all scores, because extreme scores would otherwise
            squeeze all others into one bin. Scores further out are counted in the first or last bin, as
            the label of the axis says.

        Returns
        -------
        ScoreHistogramDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        TypeError
            If `ax` is no Axes.
        ValueError
            If `bins` isn't an int of at least 1.
        """
        require_matplotlib(f"{type(self).__name__}.plot")
        from matplotlib.patheffects import withStroke

        _check_bins(bins)
        self.ax_ = single_axes(ax, (7.5, 4.2))
        self.figure_ = self.ax_.figure
        edges = self.bin_edges_ = self._edges(bins)
        inside = np.clip(self.scores, (edges[0] + edges[1]) / 2, (edges[-2] + edges[-1]) / 2)
        inside = np.where((self.scores < edges[0]) | (self.scores > edges[-1]), inside, self.scores)
        self.n_below_ = int(np.sum(self.scores < edges[0]))
        self.n_above_ = int(np.sum(self.scores > edges[-1]))

        self.counts_ = {}
        bottom = np.zeros(len(edges) - 1)
        for name, rows, colour, hatch in self._groups():
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
                path_effects=[withStroke(linewidth=3.5, foreground="white")],  # visible on dark bars
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

    def _groups(self) -> list[tuple[str, NDArray[np.bool_], str, str]]:
        """Name, rows, colour and hatch of each part of the bars."""
        if self.y is None:
            return [("all images", np.ones(len(self.scores), dtype=bool), UNKNOWN_COLOUR, "")]
        groups = [("normal", ~self.y, NORMAL_COLOUR, "")] if not self.y.all() else []
        for i, (kind, rows) in enumerate(rows_by_kind(self.y, self.kinds)):
            # A kind of defect may itself be called "normal".
            groups.append((kind if kind != "normal" else "normal (defective)", rows, *defect_style(i)[:2]))
        return groups

    def _edges(self, bins: int) -> NDArray[np.float64]:
        low, high = float(self.scores.min()), float(self.scores.max())
        lower, upper = np.percentile(self.scores, [25, 75])
        if upper > lower:
            low = max(low, lower - _FAR_OUT * (upper - lower))
            high = min(high, upper + _FAR_OUT * (upper - lower))
        if self.threshold is not None:
            low, high = min(low, self.threshold), max(high, self.threshold)
        if not high > low:
            low, high = low - 0.5, high + 0.5
        if self.threshold is None:
            return np.linspace(low, high, bins + 1)
        # With the threshold among the edges, no bar holds images on both sides of it.
        width = (high - low) / bins
        n_below = max(1, int(np.ceil((self.threshold - low) / width - 1e-9)))
        n_above = max(1, int(np.ceil((high - self.threshold) / width - 1e-9)))
        edges: NDArray[np.float64] = self.threshold + width * np.arange(-n_below, n_above + 1.0)
        # Rounding must not leave the lowest or highest score outside.
        edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
        return edges

    def _axis_label(self, edges: NDArray[np.float64]) -> list[str]:
        lines = ["score_samples (higher is more normal)"]
        for n, position, side, edge in (
            (self.n_below_, "first", "below", edges[0]),
            (self.n_above_, "last", "above", edges[-1]),
        ):
            if n:
                images = "1 image" if n == 1 else f"{n} images"
                edge_text = f"{edge:.3g}".replace("-", "\N{MINUS SIGN}")
                lines.append(f"the {position} bar includes {images} {side} {edge_text}")
        return lines


def _read_labels(
    y: ArrayLike | None, kinds: ArrayLike | None
) -> tuple[NDArray[np.bool_] | None, list[str] | None]:
    names = check_names(kinds, "kinds")
    if y is None:
        if names is not None:
            raise ValueError(
                "kinds need y, which tells defects from normal images: pass y too, or leave kinds out."
            )
        return None, None
    defect = is_defect(y)
    if names is not None:
        check_length(names, len(defect), "kinds", "y")
    return defect, names


def _check_bins(bins: Any) -> None:
    if not isinstance(bins, int | np.integer) or bins < 1:
        raise ValueError(f"bins must be an int of 1 or more, got {bins!r}.")
