"""Which parts of an image go through the network, and how their maps become one of the image."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from skcsflow._checks import check_size
from skcsflow._images._containers import check_tensor
from skcsflow._images._masks import read_mask_file
from skcsflow._images._reader import MAX_PIXELS, read_pil

__all__ = ["LARGEST_SIDE", "SMALLEST_TILE", "Box", "Framing", "check_roi"]

Box: TypeAlias = tuple[int, int, int, int]
"""Rows and columns (top, left, bottom, right) in pixels of an image, as in a slice. It may reach beyond the image."""


LARGEST_SIDE = 2**14
"""Height and width of what goes through a network, at most: of twice as many, features alone would take 100 GB."""

SMALLEST_TILE = 8
"""Height and width of a tile, at least: smaller ones show nothing, and an image has a thousand times as many."""


class Framing:
    """Cuts images into frames, each of which goes through the network by itself.

    Without any option, the frame is the image. What a frame shows beside the region of interest is grey.

    Parameters
    ----------
    roi : tuple of int, ndarray of shape (H, W), or None, default=None
        The region of interest: a box (min_row, min_col, max_row, max_col), or a mask; None: all of the image.
    tile_size : int or tuple of int (H, W), default=None
        Height and width of the frames. None: one frame shows all of the region.
    tile_overlap : float, default=0.25
        Share of a tile by which it overlaps the next one, at least.
    aspect : tuple of int (H, W), default=None
        Size whose aspect ratio frames take, growing in one direction. None: they keep their own, and are stretched
        to the network's input.
    max_pixels : int or None, default=160,000,000
        Pixels that are read of the mask at most, where it is a file; None: any number.
    """

    def __init__(
        self,
        *,
        roi: Any = None,
        tile_size: Any = None,
        tile_overlap: float = 0.25,
        aspect: tuple[int, int] | None = None,
        max_pixels: int | None = MAX_PIXELS,
    ) -> None:
        self.tile_size = (
            None
            if tile_size is None
            else check_size(tile_size, "tile_size", least=SMALLEST_TILE, most=LARGEST_SIDE)
        )
        self.tile_overlap = float(tile_overlap)
        self.aspect = aspect
        roi = check_roi(roi, max_pixels)
        self.mask = roi if isinstance(roi, np.ndarray) else None
        self.region = roi if isinstance(roi, tuple) else None
        if self.mask is not None:
            rows, columns = (np.flatnonzero(self.mask.any(axis=axis)) for axis in (1, 0))
            self.region = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1

    @property
    def is_plain(self) -> bool:
        """Whether each image is one frame, as it is."""
        return self.shows_all and self.aspect is None

    @property
    def shows_all(self) -> bool:
        """Whether one frame shows all of each image, with or without bars beside it."""
        return self.region is None and self.tile_size is None

    @property
    def options(self) -> dict[str, Any]:
        """What another framing like this is made with: plain values and arrays, for saving."""
        return {
            "roi": self.region if self.mask is None else self.mask,
            "tile_size": self.tile_size,
            "tile_overlap": self.tile_overlap,
            "aspect": self.aspect,
        }

    @cached_property
    def key(self) -> str:
        """What tells this framing from others."""
        mask = b"" if self.mask is None else self.mask.tobytes()
        options = self.region, self.tile_size, self.tile_overlap if self.tile_size else None
        return repr((*options, self.aspect, blake2b(mask, digest_size=16).hexdigest()))

    def boxes(self, size: tuple[int, int], name: str = "The image") -> list[Box]:
        """Place the frames of an image.

        Parameters
        ----------
        size : tuple of int (H, W)
            The image's size.
        name : str, default="The image"
            What messages call it.

        Returns
        -------
        list of Box
            The frames, row by row.

        Raises
        ------
        ValueError
            Where the region of interest doesn't fit the image.
        """
        top, left, bottom, right = self._region_of(size, name)
        if self.tile_size is None:
            boxes = [(top, left, bottom, right)]
        else:
            starts = [
                _starts(low, high, side, self.tile_overlap)
                for low, high, side in zip((top, left), (bottom, right), self.tile_size, strict=True)
            ]
            height, width = self.tile_size
            boxes = [(i, j, i + height, j + width) for i in starts[0] for j in starts[1]]
        if self.mask is not None:
            boxes = [b for b in boxes if self.mask[max(0, b[0]) : b[2], max(0, b[1]) : b[3]].any()]
        return boxes if self.aspect is None else [_grow(box, *self.aspect) for box in boxes]

    def cut(self, image: Tensor, name: str = "The image", *, grey: float | None = None) -> list[Tensor]:
        """Cut an image into its frames.

        Parameters
        ----------
        image : Tensor of shape (C, H, W)
            The image.
        name : str, default="The image"
            What messages call it.
        grey : float, default=None
            The value beside the region of interest. None: 0.5, or half the range of an integer type.

        Returns
        -------
        list of Tensors of shape (C, h, w)
            The frames; parts of `image`, not copies of them, where nothing is grey.
        """
        if self.is_plain:
            return [image]
        size = int(image.shape[-2]), int(image.shape[-1])
        boxes = self.boxes(size, name)
        is_grey = image.stride(0) == 0  # one channel shown several times
        shown = image[:1] if is_grey else image
        if shown.dtype == torch.bool:
            shown = shown.float()
        if grey is None:
            grey = 0.5 if shown.is_floating_point() else torch.iinfo(shown.dtype).max // 2
        value = grey if shown.is_floating_point() else int(grey)
        if self.mask is not None:
            inside = torch.from_numpy(self.mask).expand_as(shown)
            shown = torch.full_like(shown, value).where(~inside, shown)
        region = self._region_of(size, name)
        frames = (_crop(shown, box, region, value) for box in boxes)
        return [frame.expand(image.shape[0], -1, -1) for frame in frames]

    def paste(
        self, maps: Iterator[NDArray[np.float32]] | Sequence[NDArray[np.float32]], size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Make one map of those of the frames.

        Parameters
        ----------
        maps : iterable of ndarrays of shape (h, w), float32
            The map of each frame, at its own size.
        size : tuple of int (H, W)
            The image's size.

        Returns
        -------
        ndarray of shape (H, W), float32
            Where frames overlap, their mean, in which each counts by the distance to its nearest edges. Beside the
            region of interest, the lowest value of the map, or 0 if that is lower: never anomalous.
        """
        total, weights = np.zeros((2, *size), dtype=np.float32)
        top, left, bottom, right = self._region_of(size)
        boxes = self.boxes(size)
        for box, values in zip(boxes, maps, strict=True):
            rows = slice(max(box[0], top), min(box[2], bottom))
            columns = slice(max(box[1], left), min(box[3], right))
            inside = (
                slice(rows.start - box[0], rows.stop - box[0]),
                slice(columns.start - box[1], columns.stop - box[1]),
            )
            ramps = (_ramp(n)[part] for n, part in zip(values.shape, inside, strict=True))
            weight = np.multiply.outer(*ramps) if len(boxes) > 1 else np.float32(1)
            total[rows, columns] += weight * values[inside]
            weights[rows, columns] += weight
        is_seen = weights > 0
        np.divide(total, weights, out=total, where=is_seen)
        if self.mask is not None:
            is_seen &= self.mask
        total[~is_seen] = min(0.0, float(total[is_seen].min()))
        return total

    def _region_of(self, size: tuple[int, int], name: str = "The image") -> Box:
        if self.region is None:
            return (0, 0, *size)
        if self.mask is not None and self.mask.shape != size:
            raise ValueError(
                f"roi is a mask of {self.mask.shape[0]} x {self.mask.shape[1]} pixels, but {name} has {size[0]} x "
                f"{size[1]}. Give a mask of the images' size."
            )
        if self.region[2] > size[0] or self.region[3] > size[1]:
            raise ValueError(
                f"roi={self.region} reaches beyond {name}, which has {size[0]} x {size[1]} pixels (H x W)."
            )
        return self.region


def check_roi(roi: Any, max_pixels: int | None = MAX_PIXELS) -> Box | NDArray[np.bool_] | None:
    """Check a region of interest, and read it where it is a file.

    Parameters
    ----------
    roi : None, tuple of int (min_row, min_col, max_row, max_col), array-like of shape (H, W), PIL image or path
        The region. Of an array and of an image, the pixels that aren't 0.
    max_pixels : int or None, default=160,000,000
        Pixels that are read of a file at most; None: any number.

    Returns
    -------
    None, Box, or ndarray of shape (H, W), bool
        The region.

    Raises
    ------
    ValueError
        Where it is nothing of these, or shows nothing.
    """
    if roi is None:
        return None
    if isinstance(roi, str | os.PathLike):
        mask = read_mask_file(roi, f"roi ({os.fspath(roi)!r})", max_pixels)
    else:
        if isinstance(roi, Image.Image):
            pixels = read_pil(roi, "roi", max_pixels=max_pixels)
            roi = pixels if pixels.ndim == 2 else pixels.any(axis=2)
        if isinstance(roi, Tensor):
            check_tensor(roi, "roi")
        try:
            values = np.asarray(roi.detach().cpu() if isinstance(roi, Tensor) else roi)
        except ValueError as error:  # nested lists of different lengths
            raise ValueError(f"roi can't be read as an array: {error}") from error
        if np.ma.is_masked(roi):
            raise ValueError(
                "roi is a masked array with masked values. Fill them, such as with roi.filled(0)."
            )
        if values.shape == (4,) and all(isinstance(n, Integral) for n in values.tolist()):
            top, left, bottom, right = values.tolist()
            if not (0 <= top < bottom and 0 <= left < right):
                raise ValueError(
                    f"roi must be (min_row, min_col, max_row, max_col) with min_row < max_row and min_col < max_col, "
                    f"all from 0, got {roi!r}."
                )
            return top, left, bottom, right
        if values.ndim != 2 or values.dtype.kind not in "buif":
            got = (
                repr(roi)
                if values.size < 10
                else f"an array of shape {values.shape} and dtype {values.dtype}"
            )
            raise ValueError(
                "roi must be None, a box (min_row, min_col, max_row, max_col) of whole numbers, a mask of shape (H, W) "
                f"or the path of one, got {got}."
            )
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise ValueError("roi contains NaN.")
        mask = values != 0
    if not mask.any():
        raise ValueError("roi is a mask without a pixel that isn't 0: nothing would be looked at.")
    return mask


def _starts(low: int, high: int, side: int, overlap: float) -> list[int]:
    """Where the fewest tiles begin that cover a line, evenly spaced; a line shorter than a tile lies in its middle."""
    beyond = high - low - side
    if beyond <= 0:
        return [low + (high - low - side) // 2]
    n_steps = int(np.ceil(beyond / max(1, int(side * (1 - overlap)))))
    return [low + round(beyond * k / n_steps) for k in range(n_steps + 1)]


def _grow(box: Box, height: int, width: int) -> Box:
    """The smallest box about another, of this aspect ratio."""
    top, left, bottom, right = box
    n_rows, n_columns = bottom - top, right - left
    more_rows = max(0, round(n_columns * height / width) - n_rows)
    more_columns = max(0, round(n_rows * width / height) - n_columns)
    top, left = top - more_rows // 2, left - more_columns // 2
    return top, left, top + n_rows + more_rows, left + n_columns + more_columns


def _crop(image: Tensor, box: Box, region: Box, value: float) -> Tensor:
    """The part of an image in a box; the value where the box reaches beyond the region."""
    top, left, bottom, right = box
    rows = slice(max(top, region[0]), min(bottom, region[2]))
    columns = slice(max(left, region[1]), min(right, region[3]))
    seen = image[:, rows, columns]
    if (rows.start, columns.start, rows.stop, columns.stop) == box:
        return seen
    frame = torch.full((len(image), bottom - top, right - left), value, dtype=image.dtype)
    frame[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = seen
    return frame


def _ramp(n: int) -> NDArray[np.float32]:
    """Weights along a line of n pixels: the number of pixels to its nearer end."""
    return np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)).astype(np.float32)
