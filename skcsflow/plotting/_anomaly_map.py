"""Images with their anomaly maps."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skcsflow._labels import is_defect
from skcsflow.plotting._common import (
    check_kinds,
    check_length,
    check_scores,
    fitted_attribute,
    require_matplotlib,
)
from skcsflow.plotting._images import read_images, read_maps, read_masks, resize_map
from skcsflow.plotting._layout import fit_text, plan_layout
from skcsflow.plotting._overlay import beyond, line_style, outline, shared_norm, title_lines

__all__ = ["AnomalyMapDisplay"]

_MASK_COLOUR, _MAP_COLOUR = (
    "#00E5FF",
    "#FFFFFF",
)  # neither is among inferno's colours, nor in a grey image both
_WRONG_COLOUR = "#B34700"
_FEW = 6  # up to so many images are shown without their maps too


class AnomalyMapDisplay:
    """Images with their anomaly maps, all on one colour scale.

    Create it with :meth:`from_estimator` or :meth:`from_maps`. All parameters are kept as attributes.

    Each overlay shows the image in grey, so that colour means anomaly alone, and the map over it, the more
    opaque the higher it is. The scale is the same for all images of a display: scaled each by itself, the
    map of a perfect part would look as alarming as that of a broken one.

    Parameters
    ----------
    images : sequence of ndarray of shape (H, W) or (H, W, 3), uint8
        The images.
    maps : sequence of ndarray of shape (h, w), float
        Their anomaly maps, which are resized to the images.
    masks : sequence of ndarray of shape (h, w), bool, or None; default=None
        True where an image is defective. None in it: not known.
    y : ndarray of shape (n,), bool, default=None
        True where an image is defective.
    kinds : sequence of str, default=None
        Kind of each image.
    scores : ndarray of shape (n,), default=None
        `score_samples` of each image; higher is more normal.
    y_pred : ndarray of shape (n,), default=None
        Verdicts: +1 for normal, -1 for defective.
    map_threshold : float, default=None
        Pixels with a map above it are outlined.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure.
    axes_ : ndarray of shape (n, 1) or (n, 2) of matplotlib Axes
        Each image's panels. The last one is the overlay, the first of two the image alone.
    norm_ : matplotlib Normalize
        The one colour scale.
    overlays_ : list of length n of matplotlib AxesImage
        The maps that were drawn.
    mask_contours_, map_contours_ : list of length n of matplotlib QuadContourSet or None
        Outlines of the masks, and of the pixels above `map_threshold`. None where nothing is marked.
    colorbar_ : matplotlib Colorbar
        The colour bar.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skcsflow import CSFlowDetector
    >>> from skcsflow.datasets import make_defects
    >>> from skcsflow.plotting import AnomalyMapDisplay
    >>> data = make_defects(24, 3, random_state=0)
    >>> detector = CSFlowDetector(input_size=128, n_epochs=2, random_state=0).fit(data.images[:24])
    >>> display = AnomalyMapDisplay.from_estimator(
    ...     detector, data.images[24:], data.y[24:], masks=data.masks[24:], kinds=data.defect[24:]
    ... )
    >>> display.axes_.shape  # each image, and its overlay
    (3, 2)
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        images: Sequence[NDArray[np.uint8]],
        maps: Sequence[NDArray[np.float32]],
        *,
        masks: Sequence[NDArray[np.bool_] | None] | None = None,
        y: NDArray[np.bool_] | None = None,
        kinds: Sequence[str] | None = None,
        scores: NDArray[np.float64] | None = None,
        y_pred: NDArray[Any] | None = None,
        map_threshold: float | None = None,
    ) -> None:
        self.images = images
        self.maps = maps
        self.masks = masks
        self.y = y
        self.kinds = kinds
        self.scores = scores
        self.y_pred = y_pred
        self.map_threshold = map_threshold

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        masks: Any = None,
        kinds: ArrayLike | None = None,
        **plot_params: Any,
    ) -> Self:
        """Show what a detector makes of images.

        Calls `transform` and `score_samples`, each of which runs the network once, and `predict` only where
        the detector has no `offset_` to tell the verdicts by. With `memory` set, the detector's backbone
        runs once in all.

        Parameters
        ----------
        estimator : estimator instance
            A fitted :class:`~skcsflow.CSFlowDetector`, or a pipeline or search that ends in one. Its
            `map_threshold_`, where it has one, is the threshold of the maps.
        X : array-like of images
            Whatever the detector takes.
        y : array-like of shape (n,), default=None
            Labels: +1/-1 (-1 is a defect), 0/1 (1 is a defect) or booleans (True is a defect).
        masks : array of shape (n, H, W), or sequence; default=None
            Non-zero where an image is defective. A sequence holds arrays, PIL images, paths or None.
        kinds : array-like of shape (n,), default=None
            Kind of each image, for its title.
        **plot_params
            Passed to :meth:`plot`.

        Returns
        -------
        AnomalyMapDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            Where matplotlib is missing.
        NotFittedError
            Where the detector isn't fitted.
        ValueError
            Where something doesn't fit the images.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        maps = estimator.transform(X)
        scores = np.asarray(estimator.score_samples(X))
        offset = fitted_attribute(estimator, "offset_")
        image_shape = fitted_attribute(estimator, "image_shape_")
        images = read_images(X, image_shape)
        return cls.from_maps(
            images,
            read_maps(maps, len(images), image_shape),
            masks=None if masks is None else read_masks(masks, len(images), image_shape),
            y=y,
            kinds=kinds,
            scores=scores,
            y_pred=estimator.predict(X) if offset is None else None,
            threshold=offset,
            map_threshold=fitted_attribute(estimator, "map_threshold_"),
            **plot_params,
        )

    @classmethod
    def from_maps(
        cls,
        images: Any,
        maps: Any,
        *,
        masks: Any = None,
        y: ArrayLike | None = None,
        kinds: ArrayLike | None = None,
        scores: ArrayLike | None = None,
        y_pred: ArrayLike | None = None,
        threshold: float | None = None,
        map_threshold: float | None = None,
        **plot_params: Any,
    ) -> Self:
        """Show maps that are at hand.

        Parameters
        ----------
        images : array-like of images
            An array of shape (n, H, W) or (n, H, W, C), a tensor of shape (n, C, H, W), or a sequence
            of arrays, tensors, PIL images or paths, of any sizes. Integers are scaled by the range of
            their type, floats should lie from 0 to 1. They are kept at 768 pixels at most.
        maps : array-like of shape (n, H, W), or sequence of arrays of shape (H, W)
            Anomaly maps of any size; higher is more anomalous.
        masks : array of shape (n, H, W), or sequence; default=None
            Non-zero where an image is defective. A sequence holds arrays, PIL images, paths or None.
        y : array-like of shape (n,), default=None
            Labels: +1/-1 (-1 is a defect), 0/1 (1 is a defect) or booleans (True is a defect).
        kinds : array-like of shape (n,), default=None
            Kind of each image, for its title.
        scores : array-like of shape (n,), default=None
            What `score_samples` gives; higher is more normal.
        y_pred : array-like of shape (n,), default=None
            Verdicts, as `predict` gives them: +1 and -1. None: told by `scores` and `threshold`, where
            both are given.
        threshold : float, default=None
            What `offset_` is: images whose score is below are called defective.
        map_threshold : float, default=None
            Pixels with a map above it are outlined.
        **plot_params
            Passed to :meth:`plot`.

        Returns
        -------
        AnomalyMapDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            Where matplotlib is missing.
        ValueError
            Where something doesn't fit the images.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skcsflow.plotting import AnomalyMapDisplay
        >>> images = np.full((9, 32, 32), 128, dtype=np.uint8)
        >>> maps = np.random.default_rng(0).exponential(size=(9, 8, 8))
        >>> display = AnomalyMapDisplay.from_maps(images, maps, map_threshold=3.0)
        >>> display.axes_.shape  # many images: overlays alone
        (9, 1)
        >>> plt.close(display.figure_)
        """
        require_matplotlib(f"{cls.__name__}.from_maps")
        images = read_images(images)
        n = len(images)
        if n == 0:
            raise ValueError("There are no images to show.")
        given: dict[str, Any] = {
            "y": None if y is None else is_defect(y),
            "scores": None if scores is None else check_scores(scores),
            "y_pred": None if y_pred is None else _check_verdicts(y_pred),
        }
        for name, values in given.items():
            if values is not None:
                check_length(values, n, name, "the list of images")
        if y_pred is None and threshold is not None and given["scores"] is not None:
            given["y_pred"] = np.where(given["scores"] < threshold, -1, 1)
        display = cls(
            images,
            read_maps(maps, n),
            masks=None if masks is None else read_masks(masks, n),
            kinds=check_kinds(kinds, n, "the list of images"),
            map_threshold=map_threshold,
            **given,
        )
        return display.plot(**plot_params)

    def plot(
        self,
        ax: Any = None,
        *,
        show_images: bool | None = None,
        n_columns: int = 8,
        cmap: Any = "inferno",
        alpha: float = 0.85,
        norm: Any = None,
        vmin: float | None = None,
        vmax: float | None = None,
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or array of n of them, default=None
            Where to draw the overlays, one for each image. None: in a new figure.
        show_images : bool, default=None
            Whether each image is shown without its map too. None: where there are six or fewer.
        n_columns : int, default=8
            The most columns of a grid of overlays.
        cmap : str or matplotlib Colormap, default="inferno"
            The colours. The default is perceptually uniform, and readable in grey and for the colour-blind.
        alpha : float, default=0.85
            Opacity of a map at the top of the scale. It falls to none at the bottom, as a square root does.
        norm : matplotlib Normalize, default=None
            The colour scale. None: logarithmic where all maps are positive, since they reach over several
            orders of magnitude, and linear otherwise.
        vmin, vmax : float, default=None
            The scale's ends. None: the median and the 99.5th percentile of all pixels of all maps. Where
            there is a `map_threshold`, the upper end is moved so that the threshold comes to lie at 40 % to
            50 % of the scale. So maps that stay below it are dark, even where all do, and one
            glaring defect doesn't darken the others.

        Returns
        -------
        AnomalyMapDisplay
            The display itself.

        Raises
        ------
        ImportError
            Where matplotlib is missing.
        ValueError
            Where there isn't one axes for each image, `n_columns` is below 1, or `vmin` isn't below `vmax`.
        """
        require_matplotlib(f"{type(self).__name__}.plot")
        if n_columns < 1:
            raise ValueError(f"n_columns must be 1 or more, got {n_columns!r}.")
        if norm is None and vmin is not None and vmax is not None and not vmin < vmax:
            raise ValueError(f"vmin must be below vmax, got vmin={vmin!r} and vmax={vmax!r}.")
        import matplotlib as mpl
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import LogNorm

        from skcsflow.plotting._ticks import PlainLogFormatter

        n = len(self.images)
        self.norm_ = shared_norm(self.maps, self.map_threshold, vmin, vmax) if norm is None else norm
        marked = [
            None if self.map_threshold is None else np.asarray(m) > self.map_threshold for m in self.maps
        ]
        masks = list(self.masks) if self.masks is not None else [None] * n
        has_legend = any(m is not None and m.any() for m in [*masks, *marked])
        titles = [self._title(i) for i in range(n)]
        bar_axes = None
        if ax is None:
            if show_images is None:
                show_images = n <= _FEW
            bar_axes, texts, size = self._new_figure(titles, show_images, n_columns, has_legend)
        else:
            overlays = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
            check_length(overlays, n, "ax", "the list of images")
            self.axes_ = overlays[:, None]
            self.figure_ = overlays[0].figure
            inches = [a.get_window_extent().width / self.figure_.dpi for a in overlays]
            texts, size = fit_text(titles, min(inches), 9.0)

        colours = mpl.colormaps[cmap] if isinstance(cmap, str) else cmap
        line_width = 1.6 if n <= _FEW else 1.1
        self.overlays_, self.mask_contours_, self.map_contours_ = [], [], []
        for i, (image, anomaly_map) in enumerate(zip(self.images, self.maps, strict=True)):
            panels = self.axes_[i]
            panels[0].set_title(
                texts[i],
                fontsize=size,
                y=1.0,  # spares matplotlib looking for what else is there
                pad=4,
                linespacing=1.15,
                color=_WRONG_COLOUR if self._is_wrong(i) else "black",
                parse_math=False,
            )
            for panel in panels:
                panel.set_axis_off()
            if len(panels) == 2:
                panels[0].imshow(image, cmap="gray", vmin=0, vmax=255)
            overlay = panels[-1]
            height, width = image.shape[:2]
            grey = image if image.ndim == 2 else image @ np.array([0.299, 0.587, 0.114])
            overlay.imshow(grey, cmap="gray", vmin=0, vmax=255)
            values = resize_map(np.asarray(anomaly_map), (height, width))
            opacity = alpha * np.sqrt(np.clip(np.ma.filled(self.norm_(values), 0.0), 0, 1))
            self.overlays_.append(overlay.imshow(values, cmap=colours, norm=self.norm_, alpha=opacity))
            self.mask_contours_.append(
                outline(overlay, masks[i], (height, width), _MASK_COLOUR, "-", line_width)
            )
            self.map_contours_.append(
                outline(overlay, marked[i], (height, width), _MAP_COLOUR, "--", line_width)
            )

        place = {"cax": bar_axes} if bar_axes is not None else {"ax": self.axes_[:, -1].tolist()}
        self.colorbar_ = self.figure_.colorbar(
            ScalarMappable(self.norm_, colours),
            label="anomaly map",
            extend=beyond(self.norm_, self.maps),
            **place,
        )
        if isinstance(self.norm_, LogNorm):
            self.colorbar_.ax.yaxis.set_major_formatter(PlainLogFormatter())
            self.colorbar_.ax.yaxis.set_minor_formatter(PlainLogFormatter())
        if self.map_threshold is not None:
            self.colorbar_.ax.axhline(self.map_threshold, **line_style(_MAP_COLOUR, "--", 1.6))
        if has_legend:
            self._legend(ax)
        return self

    def _new_figure(
        self, titles: list[list[str]], show_images: bool, n_columns: int, legend: bool
    ) -> tuple[Any, list[str], float]:
        import matplotlib.pyplot as plt

        n = len(self.images)
        aspect = float(np.median([image.shape[1] / image.shape[0] for image in self.images]))
        n_lines = max(len(lines) for lines in titles)
        text = 9.0 if n <= 16 else 7.0
        layout = plan_layout(
            n,
            aspect,
            show_images=show_images,
            n_columns=n_columns,
            n_lines=n_lines,
            text=text,
            legend=legend,
        )
        self.figure_ = plt.figure(figsize=layout.size)
        self.axes_ = np.array(
            [[self.figure_.add_axes(place) for place in places] for places in layout.panels()], dtype=object
        )
        return self.figure_.add_axes(layout.bar()), *fit_text(titles, layout.width, text)

    def _title(self, i: int) -> list[str]:
        return title_lines(
            None if self.kinds is None else self.kinds[i],
            None if self.y is None else bool(self.y[i]),
            None if self.y_pred is None else bool(self.y_pred[i] == -1),
            None if self.scores is None else float(self.scores[i]),
        )

    def _is_wrong(self, i: int) -> bool:
        return self.y is not None and self.y_pred is not None and bool(self.y[i]) != (self.y_pred[i] == -1)

    def _legend(self, ax: Any) -> None:
        from matplotlib.lines import Line2D

        drawn = [
            ("true mask", _MASK_COLOUR, "-", self.mask_contours_),
            ("map above threshold", _MAP_COLOUR, "--", self.map_contours_),
        ]
        handles = [
            Line2D([], [], label=label, **line_style(colour, style, 1.6))
            for label, colour, style, contours in drawn
            if any(contour is not None for contour in contours)
        ]
        how: dict[str, Any] = {"handles": handles, "fontsize": 8, "facecolor": "#BBBBBB", "framealpha": 1.0}
        if ax is None:
            self.figure_.legend(loc="lower center", ncols=2, **how)
        else:
            self.axes_[0, -1].legend(loc="lower left", **how)


def _check_verdicts(y_pred: ArrayLike) -> NDArray[Any]:
    verdicts = np.asarray(y_pred)
    for row, verdict in enumerate(verdicts.tolist()):
        if verdict not in (-1, 1):
            raise ValueError(
                f"y_pred must hold +1 and -1, as predict gives them, got {verdict!r} at row {row}."
            )
    return verdicts
