"""What a detector is exported with, checked; and what of it can't be exported."""

from collections.abc import Sequence
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted

from skcsflow._checks import check_size
from skcsflow.export._graph import Preprocessing

__all__ = ["DTYPES", "check_choice", "check_exportable", "check_image_size", "preprocessing_of"]

DTYPES = ("uint8", "uint16", "float32")
"""Types of the images that a file can take."""

_MOST_PIXELS = 2**28
"""Of the images that a file takes: larger ones would fill the memory before they are inspected."""


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Check that a parameter is one of some words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r}.")


def check_exportable(detector: Any) -> None:
    """Check that a detector is fitted, and is one that can be exported.

    Raises
    ------
    NotFittedError, TypeError, ValueError
        Naming the parameter that stands in the way, and the way out.
    """
    if not all(hasattr(detector, name) for name in ("score_samples", "predict_masks", "calibrate")):
        raise TypeError(
            f"detector must be a CSFlowDetector, got {type(detector).__name__}. Of a Pipeline, pass the detector that "
            "is its last step."
        )
    check_is_fitted(detector)
    if detector._framing.tile_size is not None:
        raise ValueError(
            f"tile_size={detector._framing.tile_size!r} can't be exported: one graph inspects one frame of an image. "
            "Fit with tile_size=None and a larger input_size; or fit on the tiles as images of their own, cut them in "
            "the same way before the file is run, and call an image anomalous where one of its tiles is."
        )
    if detector.precision_ == "bfloat16":
        raise ValueError(
            "precision='bfloat16' can't be exported: files compute in float32, and would give other scores. Fit with "
            "precision='float32'."
        )


def check_image_size(image_size: Any, detector: Any) -> tuple[int, int] | None:
    """Check the parameter `image_size`; with a mask as the region of interest, its size is that of the images."""
    size = None if image_size is None else check_size(image_size, "image_size")
    if size is not None and size[0] * size[1] > _MOST_PIXELS:
        raise ValueError(
            f"image_size={image_size!r} has more than {_MOST_PIXELS:,} pixels. Choose a smaller one."
        )
    framing = detector._framing
    if framing.mask is not None:
        shape = (int(framing.mask.shape[0]), int(framing.mask.shape[1]))
        if size not in (None, shape):
            raise ValueError(
                f"image_size={image_size!r} isn't the size of roi, a mask of {shape[0]} x {shape[1]} pixels, which "
                "images must have. Leave image_size out."
            )
        return shape
    if size is not None:
        framing.boxes(size, "an image of image_size")  # raises where the region lies outside of it
    return size


def preprocessing_of(detector: Any, dtype: str, channel_order: str) -> Preprocessing:
    """How the detector makes of images of a type what its network takes."""
    highest = 1.0 if dtype == "float32" else float(torch.iinfo(getattr(torch, dtype)).max)
    black, white = (0.0, highest) if detector.value_range is None else map(float, detector.value_range)
    grey = (black + white) / 2
    # The detector paints with whole numbers where the image holds such.
    grey = grey if dtype == "float32" else float(int(grey))
    return Preprocessing(detector._framing, black, white, grey, channel_order == "bgr")
