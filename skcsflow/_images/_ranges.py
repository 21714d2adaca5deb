"""Values of images, and warnings where they can't be what was meant."""

import threading

import torch
from torch import Tensor

from skcsflow._checks import warn

__all__ = ["ValueRanges"]

FAR_OUTSIDE = 4.0
"""Images from 0 to 1 that reach beyond plus or minus this were scaled otherwise, or not at all."""

FAR_BELOW_BLACK = -0.5
"""Floats that reach below this were normalised. Resizing leaves values below 0 too, but not so low."""

FAR_ABOVE = 4.0
"""Images that reach so many times higher than any training image were scaled otherwise."""

FAR_BELOW = 12.0
"""Images that reach no higher than this part of the training images, too: 12 bits are a 16th of 16 bits."""


class ValueRanges:
    """Lowest and highest values of the images that were decoded; for several threads at a time.

    Parameters
    ----------
    value_range : tuple of float (low, high) or None
        What becomes 0 and 1; None: integers are scaled by the range of their type.
    """

    def __init__(self, value_range: tuple[float, float] | None) -> None:
        self.value_range = value_range
        self._lock = threading.Lock()
        self._of_types: dict[str, tuple[float, float]] = {}
        self._all_are_plain = True

    def summary(self) -> dict[str, float]:
        """Highest value of the images of each type, scaled."""
        return {kind: self._scale(kind, high) for kind, (_, high) in self._of_types.items()}

    def values(self) -> tuple[dict[str, tuple[float, float]], bool]:
        """What was taken note of, for :meth:`merge`."""
        return dict(self._of_types), self._all_are_plain

    def merge(self, values: tuple[dict[str, tuple[float, float]], bool]) -> None:
        """Take note of what another process has noted."""
        of_types, all_are_plain = values
        with self._lock:
            for kind, (low, high) in of_types.items():
                lowest, highest = self._of_types.get(kind, (low, high))
                self._of_types[kind] = min(lowest, low), max(highest, high)
            self._all_are_plain = self._all_are_plain and all_are_plain

    def add(self, image: Tensor, name: str) -> None:
        """Take note of an image's values.

        Raises
        ------
        ValueError
            Where it holds NaN or infinity.
        """
        # NumPy, as torch has no minimum of some integer types; but for the type that NumPy doesn't have.
        values = image if image.dtype == torch.bfloat16 else image.numpy()
        low, high = float(values.min()), float(values.max())
        if not (abs(low) < float("inf") and abs(high) < float("inf")):  # false for NaN too
            raise ValueError(f"Input X contains NaN or infinity: {name} does.")
        kind = str(image.dtype).removeprefix("torch.")
        with self._lock:
            lowest, highest = self._of_types.get(kind, (low, high))
            self._of_types[kind] = min(lowest, low), max(highest, high)
            self._all_are_plain = self._all_are_plain and low == high

    def warn(self, trained: dict[str, float] | None) -> None:
        """Warn where values can't be what was meant.

        Parameters
        ----------
        trained : dict of str to float or None
            The training images' :meth:`summary`, which is empty where none was read; None in the first training.
        """
        if not self._of_types:
            return
        if trained is None and self._all_are_plain:
            warn(
                "Every image of X has one value all over: there is nothing to learn, and all other images will be "
                "called anomalous. Look at what was read."
            )
        scaled = [[self._scale(kind, value) for value in pair] for kind, pair in self._of_types.items()]
        lowest, highest = min(low for low, _ in scaled), max(high for _, high in scaled)
        largest = max(high for _, high in self._of_types.values())
        known = max(trained.values(), default=0.0) if trained else 0.0
        # Figures are rounded, or else each frame of a camera would give a warning of its own.
        if self.value_range is None and largest < 2**16 and any(_is_wide(kind) for kind in self._of_types):
            reason = "By the range of their type, as integers are scaled, all of these are nearly black"
        elif highest > FAR_OUTSIDE or lowest < -FAR_OUTSIDE:
            reason = f"Scaled, they reach from {_rounded(lowest)} to {_rounded(highest)}, and not from 0 to 1"
        elif self.value_range is None and lowest < FAR_BELOW_BLACK:
            reason = (
                f"Scaled, they reach down to {_rounded(lowest)}, while images are taken as 0 to 1, and the backbone "
                "normalises them by itself"
            )
        elif (
            trained is None
            and self.value_range is None
            and set(self._of_types) == {"uint16"}
            and largest < 2**12
        ):
            reason = f"That is {largest / 2**16:.1g} of the range of their type, as of a camera of 12 bits or fewer"
        elif (
            known
            and {*self._of_types, *(trained or ())} != {"uint8"}
            and not (known / FAR_BELOW < highest < known * FAR_ABOVE)
        ):
            reason = f"Scaled, they reach up to {_rounded(highest)}, those of the training images to {_rounded(known)}"
        else:
            return
        warn(
            f"X holds {' and '.join(sorted(self._of_types))} values up to {_rounded(largest)}. {reason}. Set "
            "value_range=(low, high) to the values of black and white, or convert the images."
        )

    def _scale(self, kind: str, value: float) -> float:
        dtype = getattr(torch, kind)
        is_integer = not dtype.is_floating_point and dtype != torch.bool
        start, end = self.value_range or (0, torch.iinfo(dtype).max if is_integer else 1)
        return (value - start) / (end - start)


def _rounded(value: float) -> str:
    """One digit that counts, without an exponent where that is short: 200, 4000, 0.05."""
    return f"{float(f'{value:.0e}'):.6g}"


def _is_wide(kind: str) -> bool:
    dtype: torch.dtype = getattr(torch, kind)
    return not dtype.is_floating_point and dtype.itemsize > 2
