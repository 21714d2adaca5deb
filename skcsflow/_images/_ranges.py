"""Values of images, and warnings where they can't be what was meant."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from skcsflow._checks import user_stack_level

__all__ = ["ValueRanges"]

FAR_OUTSIDE = 4.0
"""Images from 0 to 1 that reach beyond plus or minus this were scaled otherwise, or not at all."""

FAR_ABOVE = 4.0
"""Images that reach so many times higher than any training image were scaled otherwise."""

FAR_BELOW = 12.0
"""Images that reach no higher than this part of the training images, too: 12 bits are a 16th of 16 bits."""


class _Values(NamedTuple):
    kind: str
    low: float
    high: float
    scaled_low: float
    scaled_high: float
    is_wide: bool


class ValueRanges:
    """Lowest and highest values of the images that were decoded; for several threads at a time.

    Parameters
    ----------
    value_range : tuple of float (low, high) or None
        What becomes 0 and 1; None: integers are scaled by the range of their type.
    """

    def __init__(self, value_range: tuple[float, float] | None) -> None:
        self.value_range = value_range
        self._seen: list[_Values] = []

    @property
    def highest(self) -> float | None:
        """Highest value of all images, scaled; None where no image was decoded."""
        return max((values.scaled_high for values in self._seen), default=None)

    def add(self, image: Tensor, name: str) -> None:
        """Take note of an image's values.

        Raises
        ------
        ValueError
            Where it holds NaN or infinity.
        """
        # NumPy, as torch has no minimum of some integer types.
        values = image.float().numpy() if image.dtype == torch.bfloat16 else image.numpy()
        low, high = float(values.min()), float(values.max())
        if not (abs(low) < float("inf") and abs(high) < float("inf")):  # false for NaN too
            raise ValueError(f"Input X contains NaN or infinity: {name} does.")
        is_integer = not image.is_floating_point() and image.dtype != torch.bool
        start, end = self.value_range or (0, torch.iinfo(image.dtype).max if is_integer else 1)
        scaled_low, scaled_high = ((value - start) / (end - start) for value in (low, high))
        is_wide = is_integer and image.dtype.itemsize > 2
        kind = str(image.dtype).removeprefix("torch.")
        self._seen.append(_Values(kind, low, high, scaled_low, scaled_high, is_wide))

    def warn(self, trained_highest: float | None) -> None:
        """Warn where values can't be what was meant.

        Parameters
        ----------
        trained_highest : float or None
            :attr:`highest` of the training images, where it is known.
        """
        if not self._seen:
            return
        kinds, lows, highs, scaled_lows, scaled_highs, are_wide = zip(*self._seen, strict=True)
        lowest, highest = min(scaled_lows), max(scaled_highs)
        if self.value_range is None and any(are_wide) and max(highs) < 2**16:
            reason = "By the range of their type, as integers are scaled, all of these are nearly black"
        elif highest > FAR_OUTSIDE or lowest < -FAR_OUTSIDE:
            reason = f"Scaled, they reach from {lowest:.3g} to {highest:.3g}, and not from 0 to 1"
        elif trained_highest and not trained_highest / FAR_BELOW < highest < trained_highest * FAR_ABOVE:
            reason = f"Scaled, they reach up to {highest:.2g}, those of the training images to {trained_highest:.2g}"
        else:
            return
        warnings.warn(
            f"X holds {' and '.join(sorted(set(kinds)))} values from {min(lows):.6g} to {max(highs):.6g}. {reason}. "
            "Set value_range=(low, high) to the values of black and white, or convert the images.",
            stacklevel=user_stack_level(),
        )
