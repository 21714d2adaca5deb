"""Images and anomaly maps -> small pictures for a page."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from skcsflow._images import ImageCollection, standardize

__all__ = ["MAP_SIDE", "ColourScale", "colour_scale", "draw_map", "draw_thumbnail", "shrink_map"]

MAP_SIDE = 64
"""Longest side of the small maps. Networks see fewer positions along a side than that, or hardly more."""

_BYTES_PER_PIXEL = 0.17
"""Of a square thumbnail, at most. So 2,000 thumbnails of 160 pixels, with all else, stay below 20 MB."""
_LEAST_BYTES = 800
"""That a thumbnail may have, however small it is."""
_BYTES_OF_MAP = 1000
"""At most."""
_QUALITIES = (80, 55, 30, 15)
_MAX_OPACITY = 0.65
"""So that what is called anomalous can still be seen."""
_N_SAMPLES = 256
"""Values of each small map that the colour scale is chosen by, at most."""
_COLOURS = ((0.0, "#3b0f70"), (0.35, "#8c2981"), (0.55, "#de4968"), (0.8, "#fe8a3a"), (1.0, "#ffd43b"))
"""Colours along the scale: dark to bright, so that they can be told apart without seeing colours."""


class ColourScale(NamedTuple):
    """How values of maps become colours, the same for all maps of a page.

    Attributes
    ----------
    low, high : float
        Values of no colour and of the brightest one; logarithms of them if `is_log`.
    is_log : bool
        Whether the scale is logarithmic.
    threshold : float
        Where the threshold of the maps lies on the scale, from 0 to 1.
    """

    low: float
    high: float
    is_log: bool
    threshold: float

    @property
    def colours(self) -> Sequence[tuple[float, str]]:
        """Positions from 0 to 1, and their colours."""
        return _COLOURS


def draw_thumbnail(
    images: ImageCollection, row: int, side: int
) -> tuple[str, tuple[int, int], tuple[int, int]]:
    """Read an image, and draw it small.

    Parameters
    ----------
    images : ImageCollection
        The images.
    row : int
        Which of them.
    side : int
        Pixels of the longer side, at most. Images that are smaller stay as they are.

    Returns
    -------
    data : str
        A WebP file in base64, of at most 0.17 bytes per pixel of a square of that side (or 800) before that.
        Where it would be larger, its quality is lowered, and then its size.
    size : tuple of int (H, W)
        The image's own size.
    shown : tuple of int (H, W)
        The thumbnail's size.

    Raises
    ------
    ValueError
        Where the image can't be read.
    """
    image, size = images.decode(row, images.load(row), (side, side))
    ratio = min(1.0, side / max(size))
    height, width = (max(1, round(length * ratio)) for length in size)
    picture = _to_picture(image, (height, width), images.value_range)
    return _encode(picture, max(_LEAST_BYTES, int(_BYTES_PER_PIXEL * side**2))), size, (height, width)


def _to_picture(image: Tensor, size: tuple[int, int], value_range: tuple[float, float] | None) -> Image.Image:
    """An image (C, H, W) as the detector takes its values, from black at 0 to white at 1."""
    is_grey = image.stride(0) == 0 or len(image) == 1  # one channel, shown several times
    shown = image[:1] if is_grey else image
    values = standardize([shown], size, torch.float32, torch.device("cpu"), value_range)[0].numpy()
    low, high = float(values.min()), float(values.max())
    if value_range is None and not (low >= 0 and high <= 1):
        values = (values - low) / ((high - low) or 1.0)  # or else most of it would be black or white
    pixels = np.rint(255 * values.clip(0, 1)).astype(np.uint8)
    if len(pixels) in (3, 4):
        return Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels[:3], 0, -1)))
    return Image.fromarray(np.rint(pixels.mean(axis=0)).astype(np.uint8))


def shrink_map(anomaly_map: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shrink a map to at most 64 pixels a side; each is the highest value that it covers, so that no peak is lost."""
    ratio = min(1.0, MAP_SIDE / max(anomaly_map.shape))
    for axis, length in enumerate(anomaly_map.shape):
        n = max(1, round(length * ratio))
        anomaly_map = np.maximum.reduceat(anomaly_map, np.arange(n) * length // n, axis=axis)
    return anomaly_map


def colour_scale(maps: Sequence[NDArray[np.float32]], map_threshold: float) -> ColourScale:
    """Choose one colour scale for all maps, as `AnomalyMapDisplay` does.

    Parameters
    ----------
    maps : sequence of ndarrays of shape (h, w), float32
        The small maps.
    map_threshold : float
        Their threshold, which comes to lie at 40 % to 50 % of the scale, so that good parts are dark.

    Returns
    -------
    ColourScale
        The scale; logarithmic if all maps are positive.
    """
    samples = [m.ravel()[:: max(1, m.size // _N_SAMPLES)] for m in maps]
    values = np.concatenate([*samples, [map_threshold]]).astype(np.float64)
    is_log = bool(values.min() > 0) and all(m.min() > 0 for m in maps)
    threshold = float(np.log(map_threshold) if is_log else map_threshold)
    low, high = np.percentile(np.log(values) if is_log else values, [50, 99.5])
    low = min(low, threshold - 0.3 * max(high - threshold, 0.0))
    if not low < threshold:
        low = threshold - 1.0
    high = np.clip(high, threshold + (threshold - low), threshold + 1.5 * (threshold - low))
    return ColourScale(float(low), float(high), is_log, float((threshold - low) / (high - low)))


def draw_map(anomaly_map: NDArray[np.float32], scale: ColourScale) -> str:
    """Draw a small map to lay over an image: the higher, the brighter and the less transparent.

    Parameters
    ----------
    anomaly_map : ndarray of shape (h, w), float32
        The map.
    scale : ColourScale
        The scale.

    Returns
    -------
    str
        A WebP file in base64.
    """
    values = np.log(anomaly_map) if scale.is_log else anomaly_map
    level = ((values - scale.low) / (scale.high - scale.low)).clip(0, 1)
    positions = [position for position, _ in _COLOURS]
    channels = np.array([list(bytes.fromhex(colour[1:])) for _, colour in _COLOURS]).T
    colours = [np.interp(level, positions, channel) for channel in channels]
    opacity = 255 * _MAX_OPACITY * level**1.5
    pixels = np.rint(np.stack([*colours, opacity], axis=-1)).astype(np.uint8)
    return _encode(Image.fromarray(pixels), _BYTES_OF_MAP)


def _encode(picture: Image.Image, budget: int) -> str:
    """A WebP file in base64, of at most so many bytes before that; its quality gives way, and then its size."""
    for quality in _QUALITIES:
        data = _webp(picture, quality)
        if len(data) <= budget:
            break
    while len(data) > budget and max(picture.size) > 1:
        width, height = (max(1, int(0.8 * length)) for length in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BOX)
        data = _webp(picture, _QUALITIES[-1])
    return b64encode(data).decode()


def _webp(picture: Image.Image, quality: int) -> bytes:
    file = BytesIO()
    options: dict[str, Any] = {"quality": quality, "method": 2, "alpha_quality": min(quality, 60)}
    picture.save(file, "WEBP", **options)
    return file.getvalue()
