"""Pictures of what was found, as files."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from skcsflow._detector import CSFlowDetector, Inspection
from skcsflow._images import check_images
from skcsflow.serving._answers import encode_png

__all__ = ["save_mask", "save_overlay"]

_RED = (255, 0, 0)


def save_mask(found: Inspection, path: Path) -> None:
    """Save a mask as PNG, 255 where anomalous."""
    _save(found.mask.astype(np.uint8) * 255, path)


def save_overlay(detector: CSFlowDetector, content: bytes, found: Inspection, path: Path) -> None:
    """Save an image as PNG in 8 bits, with a red line around its anomalous pixels.

    Parameters
    ----------
    detector : CSFlowDetector
        Says how the image is read.
    content : bytes
        The image file.
    found : Inspection
        What was found in it.
    path : Path
        Where to. Folders are made.
    """
    picture = _in_8_bits(detector, content)
    # A hundredth of the image wide: it must be seen where a large image is shown small.
    width = max(1, round(min(found.mask.shape) / 100))
    edge = ndimage.binary_dilation(found.mask, np.ones((3, 3)), iterations=width) & ~found.mask
    picture[edge] = _RED
    _save(picture, path)


def _in_8_bits(detector: CSFlowDetector, content: bytes) -> NDArray[np.uint8]:
    """Pixels for people to look at, of shape (H, W, 3)."""
    num_channels = detector.model_.config["num_channels"]
    pixels: torch.Tensor = check_images([content], num_channels, max_pixels=detector.max_pixels)[0]
    pixels = pixels[:3] if len(pixels) >= 3 else pixels[:1].expand(3, -1, -1)
    array: NDArray[Any] = pixels.movedim(0, -1).numpy()
    if array.dtype == np.uint8 and detector.value_range is None:
        return array.copy()
    low, high = detector.value_range or (0, np.iinfo(array.dtype).max if array.dtype.kind in "iu" else 1)
    scaled = (array.astype(np.float64) - low) / (high - low)
    return (scaled.clip(0, 1) * 255).round().astype(np.uint8)


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")  # of one name: what a crash leaves is written over
    unfinished.write_bytes(encode_png(pixels))
    os.replace(unfinished, path)
