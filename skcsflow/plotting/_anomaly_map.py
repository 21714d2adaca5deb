"""Images with their anomaly maps."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skcsflow._checks import check_number
from skcsflow._images import as_sequence
from skcsflow._regions import mark_pixels
from skcsflow.plotting._arguments import check_drawing, check_given, number_shown
from skcsflow.plotting._common import (
    check_keywords,
    check_length,
    first,
    fitted_attribute,
    n_samples,
    require_matplotlib,
)
from skcsflow.plotting._images import file_names, read_images, read_maps, read_masks, resize_map
from skcsflow.plotting._layout import fit_text, plan_layout
from skcsflow.plotting._overlay import colorbar_extend, line_style, outline, shared_norm, title_lines

__all__ = ["AnomalyMapDisplay"]

# The colour map "inferno" has neither of these two colours, and a grey image has at most the second.
_MASK_COLOUR, _MAP_COLOUR = "#00E5FF", "#FFFFFF"
_ERROR_COLOUR = "#B34700"
_MAX_PAIRS = 6  # up to this number, images are also shown without their maps by default


class AnomalyMapDisplay:
    """Images with their anomaly maps, all on one colour scale.

    Create it with :meth:`from_estimator` or :meth:`from_maps`. All parameters are also attributes.

    Each overlay shows the image in grey, so that colours come from the map only, and the map over it, more
    opaque where it is higher. The scale is the same for all images of a display, so that the map of a good part
    doesn't look as anomalous as that of a defective one.

    Parameters
    ----------
    images : sequence of ndarray of shape (H, W) or (H, W, 3), uint8
        The images.
    maps : sequence of ndarray of shape (h, w), float
        Their anomaly maps, which are resized to the images.
    masks : sequence of ndarray of shape (h, w), bool, or None; default=None
        True where an image is defective. None in the sequence: the mask isn't known.
    y : ndarray of shape (n,), bool, default=None
        True where an image is defective.
    kinds : sequence of str, default=None
        Kind of each image.
    titles : sequence of str, default=None
        The first line of each title.
    scores : ndarray of shape (n,), default=None
        `score_samples` of each image; higher is more normal.
    y_pred : ndarray of shape (n,), default=None
        Predictions: +1 for normal, -1 for defective.
    map_threshold : float, default=None
        The threshold of the maps. It sets the colour scale, and stands in the colour bar.
    predicted_masks : sequence of ndarray of shape (h, w), bool, or None; default=None
        The pixels to outline as anomalous. None: those with a map above `map_threshold`.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure.
    axes_ : ndarray of shape (n, 1) or (n, 2) of matplotlib Axes
        The panels of each image: the overlay, or the image and its overlay.
    norm_ : matplotlib Normalize
        The colour scale of all maps.
    overlays_ : list of length n of matplotlib AxesImage
        The drawn maps.
    mask_contours_, map_contours_ : list of length n of matplotlib QuadContourSet or None
        Outlines of the true masks, and of the pixels predicted as anomalous. None if there are no such pixels.
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
    >>> display.axes_.shape  # each image and its overlay
    (3, 2)
    >>> plt.close(display.figure_)

    With given maps, and more images:

    >>> import numpy as np
    >>> images = np.full((9, 32, 32), 128, dtype=np.uint8)
    >>> maps = np.random.default_rng(0).exponential(size=(9, 8, 8))
    >>> display = AnomalyMapDisplay.from_maps(images, maps, map_threshold=3.0)
    >>> display.axes_.shape  # overlays only
    (9, 1)
    >>> plt.close(display.figure_)

    The first of them, with titles:

    >>> names = [f"part {i}" for i in range(9)]
    >>> display = AnomalyMapDisplay.from_maps(images, maps, titles=names, max_images=2)
    >>> [panels[0].get_title() for panels in display.axes_]
    ['part 0', 'part 1']
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
        titles: Sequence[str] | None = None,
        scores: NDArray[np.float64] | None = None,
        y_pred: NDArray[Any] | None = None,
        map_threshold: float | None = None,
        predicted_masks: Sequence[NDArray[np.bool_] | None] | None = None,
    ) -> None:
        self.images = images
        self.maps = maps
        self.masks = masks
        self.y = y
        self.kinds = kinds
        self.titles = titles
        self.scores = scores
        self.y_pred = y_pred
        self.map_threshold = map_threshold
        self.predicted_masks = predicted_masks

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        masks: Any = None,
        kinds: ArrayLike | None = None,
        titles: ArrayLike | None = None,
        max_images: int | None = None,
        **plot_params: Any,
    ) -> Self:
        """Compute the maps and scores of images, and draw them.

        Calls `transform` and `score_samples`, each of which runs the network once, and `predict` only if
        the detector has no `offset_`. With the detector's parameter `memory`, its backbone runs only once.
        All other arguments are checked before.

        Parameters
        ----------
        estimator : estimator instance
            A fitted :class:`~skcsflow.CSFlowDetector`, or a pipeline or search that ends in one. Its
            `map_threshold_` is the threshold of the maps, and what `predict_masks` marks is outlined.
        X : array-like of images
            Images, as the detector takes them.
        y : array-like of shape (n,), default=None
            Labels: +1/-1 (-1 for a defect), 0/1 (1 for a defect), booleans (True for a defect), or strings with
            "good" or "normal" for the normal images.
        masks : array of shape (n, H, W), or sequence; default=None
            Non-zero where an image is defective. A sequence holds arrays, PIL images, paths or None.
        kinds : array-like of shape (n,), default=None
            Kind of each image, for its title.
        titles : array-like of shape (n,), default=None
            The first line of each image's title. None: names of the files if `X` holds paths, with their
            folders if two are the same. Empty strings leave the line out.
        max_images : int, default=None
            Only the first images are shown, up to this number; others aren't scored. None: all of them.
        **plot_params
            Passed to :meth:`plot`.

        Returns
        -------
        AnomalyMapDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        NotFittedError
            If the detector isn't fitted.
        TypeError
            If a keyword is unknown, or an argument is of another type.
        ValueError
            If an argument doesn't fit the images, or is none that :meth:`plot` takes.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        check_keywords(cls, "from_estimator", plot_params)
        check_is_fitted(estimator)
        X = as_sequence(X)
        n = n_samples(X)
        n_shown = number_shown(n, max_images)
        check_drawing(n_shown, **plot_params)
        given = check_given(n, "X", y=y, kinds=kinds, titles=titles, masks=masks)
        given = {name: first(values, n_shown) for name, values in given.items()}
        X = first(X, n_shown)
        image_shape = fitted_attribute(estimator, "image_shape_")
        if masks is not None:
            given["masks"] = read_masks(given["masks"], image_shape)
        if titles is None:
            given["titles"] = file_names(X, image_shape)
        images = read_images(X, image_shape)
        offset = fitted_attribute(estimator, "offset_")
        map_threshold = fitted_attribute(estimator, "map_threshold_")
        model = fitted_attribute(estimator, "model_")
        maps = read_maps(estimator.transform(X), image_shape)
        if model is not None and map_threshold is not None:
            # As predict_masks does, which a pipeline doesn't have, and which would run the network once more.
            level = model.anomaly_map_generator.half_level
            given["predicted_masks"] = [mark_pixels(m, map_threshold, level) for m in maps]
        return cls.from_maps(
            images,
            maps,
            scores=np.asarray(estimator.score_samples(X)),
            y_pred=estimator.predict(X) if offset is None else None,
            threshold=offset,
            map_threshold=map_threshold,
            **given,
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
        titles: ArrayLike | None = None,
        max_images: int | None = None,
        scores: ArrayLike | None = None,
        y_pred: ArrayLike | None = None,
        threshold: float | None = None,
        map_threshold: float | None = None,
        predicted_masks: Any = None,
        **plot_params: Any,
    ) -> Self:
        """Draw given maps.

        Parameters
        ----------
        images : array-like of images
            An array of shape (n, H, W) or (n, H, W, C), a tensor of shape (n, C, H, W), a sequence of arrays,
            tensors, PIL images or paths, of any sizes, or the path of a folder. Integers are scaled by the range of
            their type, floats should lie from 0 to 1. Large images are shrunk to 768 pixels on the longer side.
        maps : array-like of shape (n, H, W), or sequence of arrays of shape (H, W)
            Anomaly maps of any size; higher is more anomalous.
        masks : array of shape (n, H, W), or sequence; default=None
            Non-zero where an image is defective. A sequence holds arrays, PIL images, paths or None.
        y : array-like of shape (n,), default=None
            Labels: +1/-1 (-1 for a defect), 0/1 (1 for a defect), booleans (True for a defect), or strings with
            "good" or "normal" for the normal images.
        kinds : array-like of shape (n,), default=None
            Kind of each image, for its title.
        titles : array-like of shape (n,), default=None
            The first line of each image's title. None: names of the files if `images` holds paths, with their
            folders if two are the same. Empty strings leave the line out.
        max_images : int, default=None
            Only the first images are shown, up to this number. None: all of them.
        scores : array-like of shape (n,), default=None
            The result of `score_samples`; higher is more normal.
        y_pred : array-like of shape (n,), default=None
            The result of `predict`: +1 and -1. None: computed from `scores` and `threshold` if
            both are given.
        threshold : float, default=None
            The detector's `offset_`: images with a score below it are called defective.
        map_threshold : float, default=None
            The detector's `map_threshold_`. It sets the colour scale, and stands in the colour bar.
        predicted_masks : array of shape (n, H, W), or sequence; default=None
            What to outline as anomalous, such as the result of `predict_masks`. None: the pixels with a map
            above `map_threshold`, if that is given.
        **plot_params
            Passed to :meth:`plot`.

        Returns
        -------
        AnomalyMapDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        TypeError
            If a keyword is unknown, or an argument is of another type.
        ValueError
            If an argument doesn't fit the images, or is none that :meth:`plot` takes.
        """
        require_matplotlib(f"{cls.__name__}.from_maps")
        check_keywords(cls, "from_maps", plot_params)
        images = as_sequence(images)
        n = n_samples(images, "images")
        n_shown = number_shown(n, max_images)
        check_length(maps, n, "maps", "images")
        check_drawing(n_shown, **plot_params)
        given = check_given(
            n,
            "images",
            y=y,
            kinds=kinds,
            titles=titles,
            masks=masks,
            scores=scores,
            y_pred=y_pred,
            predicted_masks=predicted_masks,
        )
        for name, value in (("threshold", threshold), ("map_threshold", map_threshold)):
            check_number(value, name, or_none=True)
        given = {name: first(values, n_shown) for name, values in given.items()}
        if y_pred is None and threshold is not None and scores is not None:
            given["y_pred"] = np.where(given["scores"] < threshold, -1, 1)
        images = first(images, n_shown)
        if titles is None:
            given["titles"] = file_names(images)
        given["maps"] = read_maps(first(maps, n_shown))
        if masks is not None:
            given["masks"] = read_masks(given["masks"])
        if predicted_masks is not None:
            given["predicted_masks"] = read_masks(given["predicted_masks"], name="predicted_masks")
        return cls(read_images(images), map_threshold=map_threshold, **given).plot(**plot_params)

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
            Axes for the overlays, one for each image. None: those of a new figure, which grows with the
            number of images.
        show_images : bool, default=None
            Whether each image is shown without its map too. None: if there are six images or fewer.
        n_columns : int, default=8
            The largest number of images in a row. There are fewer where they would be too small.
        cmap : str or matplotlib Colormap, default="inferno"
            The colours. The default is perceptually uniform, and readable in grey and for colour-blind people.
        alpha : float, default=0.85
            Opacity of a map at the top of the scale. Below, it is proportional to the square root of the position
            on the scale.
        norm : matplotlib Normalize, default=None
            The colour scale. None: logarithmic if all maps are positive, because maps cover several
            orders of magnitude, and linear otherwise.
        vmin, vmax : float, default=None
            The ends of the scale. None: the median and the 99.5th percentile of all pixels of all maps. With
            a `map_threshold`, the upper end is moved so that the threshold lies at 40 % to
            50 % of the scale. Maps below the threshold are therefore dark, even if all maps are, and a
            single extreme defect doesn't darken the others.

        Returns
        -------
        AnomalyMapDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        TypeError
            If `ax` holds no Axes, or `norm` is no Normalize.
        ValueError
            If there isn't one axes for each image, `n_columns` isn't an int of at least 1, `cmap` is no colour
            map, `alpha` doesn't lie from 0 to 1, `vmin` isn't below `vmax`, or one of them is no finite number.
        """
        require_matplotlib(f"{type(self).__name__}.plot")
        n = len(self.images)
        check_drawing(
            n,
            ax=ax,
            show_images=show_images,
            n_columns=n_columns,
            cmap=cmap,
            alpha=alpha,
            norm=norm,
            vmin=vmin,
            vmax=vmax,
        )
        import matplotlib as mpl
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import LogNorm

        from skcsflow.plotting._ticks import PlainLogFormatter

        self.norm_ = shared_norm(self.maps, self.map_threshold, vmin, vmax) if norm is None else norm
        marked = self.predicted_masks
        if marked is None:
            marked = [
                None if self.map_threshold is None else np.asarray(m) > self.map_threshold for m in self.maps
            ]
        masks = list(self.masks) if self.masks is not None else [None] * n
        has_legend = any(m is not None and m.any() for m in [*masks, *marked])
        titles = [self._title(i) for i in range(n)]
        bar_axes = None
        if ax is None:
            if show_images is None:
                show_images = n <= _MAX_PAIRS
            bar_axes, texts, size = self._new_figure(titles, show_images, n_columns, has_legend)
        else:
            overlays = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
            self.axes_ = overlays[:, None]
            self.figure_ = overlays[0].figure
            inches = [a.get_window_extent().width / self.figure_.dpi for a in overlays]
            texts, size = fit_text(titles, min(inches), 9.0)

        colours = mpl.colormaps[cmap] if isinstance(cmap, str) else cmap
        line_width = 1.6 if n <= _MAX_PAIRS else 1.1
        self.overlays_, self.mask_contours_, self.map_contours_ = [], [], []
        for i, (image, anomaly_map) in enumerate(zip(self.images, self.maps, strict=True)):
            panels = self.axes_[i]
            panels[0].set_title(
                texts[i],
                fontsize=size,
                y=1.0,  # a fixed height, which is faster than matplotlib's search for one
                pad=4,
                linespacing=1.15,
                color=_ERROR_COLOUR if self._is_wrong(i) else "black",
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

        bar_position = {"cax": bar_axes} if bar_axes is not None else {"ax": self.axes_[:, -1].tolist()}
        self.colorbar_ = self.figure_.colorbar(
            ScalarMappable(self.norm_, colours),
            label="anomaly map",
            extend=colorbar_extend(self.norm_, self.maps),
            **bar_position,
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
        self, titles: list[list[str]], show_images: bool, n_columns: int, has_legend: bool
    ) -> tuple[Any, list[str], float]:
        import matplotlib.pyplot as plt

        n = len(self.images)
        aspect = float(np.median([image.shape[1] / image.shape[0] for image in self.images]))
        n_lines = max(len(lines) for lines in titles)
        text_size = 9.0 if n <= 16 else 7.0
        layout = plan_layout(
            n,
            aspect,
            show_images=show_images,
            n_columns=n_columns,
            n_lines=n_lines,
            text_size=text_size,
            has_legend=has_legend,
        )
        self.figure_ = plt.figure(figsize=layout.size)
        # An image of another shape than the others hangs below its title, and titles stand in a row.
        axes = [[self.figure_.add_axes(panel, anchor="N") for panel in panels] for panels in layout.panels()]
        self.axes_ = np.array(axes, dtype=object)
        return self.figure_.add_axes(layout.bar()), *fit_text(titles, layout.width, text_size)

    def _title(self, i: int) -> list[str]:
        outcome = title_lines(
            None if self.kinds is None else self.kinds[i],
            None if self.y is None else bool(self.y[i]),
            None if self.y_pred is None else bool(self.y_pred[i] == -1),
            None if self.scores is None else float(self.scores[i]),
        )
        return outcome if self.titles is None else [*self.titles[i].splitlines(), *outcome]

    def _is_wrong(self, i: int) -> bool:
        return self.y is not None and self.y_pred is not None and bool(self.y[i]) != (self.y_pred[i] == -1)

    def _legend(self, ax: Any) -> None:
        from matplotlib.lines import Line2D

        outlines = [
            ("true mask", _MASK_COLOUR, "-", self.mask_contours_),
            ("predicted mask", _MAP_COLOUR, "--", self.map_contours_),
        ]
        handles = [
            Line2D([], [], label=label, **line_style(colour, style, 1.6))
            for label, colour, style, contours in outlines
            if any(contour is not None for contour in contours)
        ]
        params: dict[str, Any] = {
            "handles": handles,
            "fontsize": 8,
            "facecolor": "#BBBBBB",
            "framealpha": 1.0,
        }
        if ax is None:
            self.figure_.legend(loc="lower center", ncols=2, **params)
        else:
            self.axes_[0, -1].legend(loc="lower left", **params)
