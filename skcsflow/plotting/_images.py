"""Images, maps and masks as a detector takes and gives them -> arrays to draw."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skcsflow._checks import as_array, explain_nan
from skcsflow._images import as_sequence, mask_files, read_image, read_pil
from skcsflow.datasets import read_mask

__all__ = ["file_names", "read_images", "read_maps", "read_masks", "resize_map", "resize_mask"]

_LONGEST_SIDE = 768
"""Images are shrunk to this many pixels: a panel of a figure shows fewer, and large photographs fill the memory."""


def read_images(X: Any, image_shape: tuple[int, ...] | None = None) -> list[NDArray[np.uint8]]:
    """Read images to draw.

    Parameters
    ----------
    X : array-like of images
        An array of shape (n, H, W) or (n, H, W, C), a tensor of shape (n, C, H, W), a sequence of
        arrays, tensors, PIL images or paths, of any sizes, or the path of a folder. Integers are scaled by the range of
        their type. Floats should lie from 0 to 1; the values of an image that goes beyond are scaled so that
        its minimum becomes 0 and its maximum 1.
    image_shape : tuple of int or None, default=None
        Shape of the images in the rows of a 2-D X.

    Returns
    -------
    list of ndarray of shape (H, W) or (H, W, 3), uint8
        The images, with at most 768 pixels on the longer side. Alpha is dropped. Images with other numbers of
        channels than one, three and four are averaged over their channels.

    Raises
    ------
    ValueError
        If an image can't be read. The message names its row.
    """
    items = enumerate(_items(X, image_shape))
    return [_shrink(_to_bytes(_to_array(item, f"X[{i}]"), f"X[{i}]")) for i, item in items]


def file_names(X: Any, image_shape: tuple[int, ...] | None = None) -> list[str] | None:
    """Names of the files that hold images.

    Parameters
    ----------
    X : array-like of images
        Images, as :func:`read_images` takes them.
    image_shape : tuple of int or None, default=None
        Shape of the images in the rows of a 2-D X.

    Returns
    -------
    list of str or None
        The names, with their folders if two are the same; None if not all images are paths.
    """
    paths = []
    for item in _items(X, image_shape):
        if not isinstance(item, (str, os.PathLike)):
            return None
        paths.append(Path(item))
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = ["/".join(path.parts[-2:]) for path in paths]
    return [name.encode("utf-8", "replace").decode() for name in names]  # names need not be text


def read_maps(maps: Any, image_shape: tuple[int, ...] | None = None) -> list[NDArray[np.float32]]:
    """Read anomaly maps: an array of shape (n, H, W), rows of shape (n, H * W), or a sequence of (H, W)."""
    if hasattr(maps, "to_numpy"):  # pandas and polars
        maps = maps.to_numpy()
    if image_shape is not None and getattr(maps, "ndim", 1) == 2:
        maps = np.asarray(maps).reshape(len(maps), *image_shape[:2])
    arrays = []
    for i, item in enumerate(maps):
        array = _to_numbers(item, f"maps[{i}]").astype(np.float32, copy=False)
        if array.ndim == 3 and array.shape[0] == 1:  # of a torch model's (n, 1, H, W)
            array = array[0]
        if array.ndim != 2 or array.size == 0:
            raise ValueError(f"maps[{i}] has shape {array.shape}; a map must have shape (H, W).")
        if not np.isfinite(array).all():
            hint = explain_nan(array[~np.isfinite(array)][0])
            raise ValueError(f"maps[{i}] contains NaN or infinity.{hint}")
        arrays.append(array)
    return arrays


def read_masks(
    masks: Any, image_shape: tuple[int, ...] | None = None, *, name: str = "masks"
) -> list[NDArray[np.bool_] | None]:
    """Read masks: an array of shape (n, H, W), or a sequence of arrays, PIL images, paths or None."""
    if hasattr(masks, "to_numpy"):  # pandas and polars
        masks = masks.to_numpy()
    if image_shape is not None and getattr(masks, "ndim", 1) == 2 and masks.dtype != object:
        masks = masks.reshape(len(masks), *image_shape[:2])
    return [_to_mask(item, f"{name}[{i}]") for i, item in enumerate(masks)]


def resize_map(anomaly_map: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize a map to (H, W), bilinearly."""
    if anomaly_map.shape == size:
        return anomaly_map
    return np.asarray(Image.fromarray(anomaly_map).resize(size[::-1], Image.Resampling.BILINEAR))


def resize_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Resize a mask to (H, W). A pixel is True if any pixel it covers was, so that thin scratches stay visible."""
    if mask.shape == size:
        return mask
    grey = Image.fromarray(mask.astype(np.float32))
    return np.asarray(grey.resize(size[::-1], Image.Resampling.BOX)) > 0


def _items(X: Any, image_shape: tuple[int, ...] | None) -> Iterable[Any]:
    """One image after the other, in whatever form X holds them."""
    X = as_sequence(X)
    if hasattr(X, "to_numpy"):  # pandas and polars
        X = X.to_numpy()
    if isinstance(X, (list, tuple)) and len(X) > 0 and isinstance(X[0], (list, tuple)):
        X = np.asarray(X)
    if isinstance(X, np.ndarray) and X.ndim == 2:
        if X.shape[1] == 1 and X.dtype.kind in "OUT":  # a data frame with one column
            X = X[:, 0]
        elif image_shape is not None:
            X = X.reshape(len(X), *image_shape)
        else:
            raise ValueError(
                f"The images have shape {X.shape}. Flattened images can't be shown: reshape them to (n, H, W) or "
                "(n, H, W, C)."
            )
    is_tensor = hasattr(X, "detach")
    if is_tensor and X.ndim != 4:
        raise ValueError(f"A tensor of images must have shape (n, C, H, W), got {tuple(X.shape)}.")
    images: Iterable[Any] = X
    return images


def _to_array(item: Any, name: str) -> NDArray[Any]:
    if item is None:
        raise ValueError(f"{name} is None, which can't be drawn. Leave such images out.")
    if isinstance(item, (str, os.PathLike)):
        return read_image(item, f"{name} ({os.fspath(item)!r})")
    if isinstance(item, Image.Image):
        return read_pil(item, name)
    array = as_array(item, name)
    if hasattr(item, "detach") and array.ndim == 3:  # a tensor (C, H, W)
        return np.moveaxis(array, 0, -1)
    return array


def _to_mask(item: Any, name: str) -> NDArray[np.bool_] | None:
    files = mask_files(item)
    if files is not None:
        return read_mask(files) if files else None
    array = _to_numbers(_to_array(item, name), name)
    if array.ndim == 3:
        is_stack = array.shape[0] == 1 and array.shape[2] > 4  # (1, H, W), of a torch model's (n, 1, H, W)
        array = array[0] if is_stack else array[..., :3].max(axis=-1)
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"{name} contains NaN.")
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}; a mask must have shape (H, W).")
    return array != 0


def _to_numbers(item: Any, name: str) -> NDArray[Any]:
    array = as_array(item, name)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}.")
    return array


def _to_bytes(image: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if image.dtype.kind not in "buif" or image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(
            f"{name} has shape {image.shape} and dtype {image.dtype}; an image must have shape (H, W) or (H, W, C), "
            "and hold numbers."
        )
    if image.ndim == 3 and image.shape[2] == 4:
        image = image[..., :3]
    if image.dtype == np.uint8:
        scaled = image
    elif image.dtype.kind == "f":
        values = image.astype(np.float64)
        low, high = values.min(), values.max()
        if not np.isfinite([low, high]).all():
            raise ValueError(f"{name} contains NaN or infinity.")
        if low < 0 or high > 1:
            values = (values - low) / ((high - low) or 1)
        scaled = np.rint(255 * values).astype(np.uint8)
    else:
        top = 1 if image.dtype == bool else np.iinfo(image.dtype).max
        scaled = np.rint(255 * (image / top).clip(0, 1)).astype(np.uint8)
    if scaled.ndim == 3 and scaled.shape[2] != 3:
        scaled = np.rint(scaled.mean(axis=-1)).astype(np.uint8)
    return scaled


def _shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    ratio = _LONGEST_SIDE / max(height, width)
    if ratio >= 1:
        return image
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
