"""Masks and maps in any of the forms that users have them, read one image at a time."""

# SPDX-License-Identifier: BSD-3-Clause

import mmap
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning

__all__ = ["Image", "Pixels", "check_weights", "warn_undefined"]


class Image(NamedTuple):
    """One image, as `Pixels` gives it.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool
        True where defective.
    map : ndarray of shape (H, W)
        The anomaly map. May be the user's own memory: not to be written to.
    is_good : bool
        Whether no pixel is defective.
    weight : float
        The image's weight.
    """

    mask: NDArray[np.bool_]
    map: NDArray[Any]
    is_good: bool
    weight: float


class Pixels:
    """Checked masks and maps, read one image at a time and as often as needed.

    Iterating gives an `Image` for each one of non-zero weight.

    Parameters
    ----------
    masks, maps : array-like of shape (n, H, W), or sequence of array-like of shape (H_i, W_i)
        Masks, non-zero where defective, and anomaly maps.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images.
    name : str, default="maps"
        What messages call the maps.

    Attributes
    ----------
    dtype : dtype
        The maps' common type; half precision and booleans are widened, as they sort slowly.
    coarsest : dtype
        The smallest of their own types that are of floats, or else the common type.
    weights : ndarray of shape (n,), float64, or None
        Weights; None where those that aren't 0 are all the same.
    n_defective, n_normal : int
        Pixels of images of non-zero weight.

    Raises
    ------
    ValueError
        Where shapes or lengths don't agree, there is no image or no pixel in one, or a mask holds NaN. Maps
        that hold NaN or infinity raise it when they are read.
    TypeError
        Where masks or maps aren't a sequence, or hold other things than numbers.
    """

    def __init__(
        self, masks: Any, maps: Any, sample_weight: ArrayLike | None = None, name: str = "maps"
    ) -> None:
        self._name = name
        self._masks, self._maps = _as_images(masks, "masks"), _as_images(maps, name)
        n = len(self._maps)
        if len(self._masks) != n:
            raise ValueError(
                f"masks and {name} must be of the same length, got {len(self._masks)} masks and {n} {name}."
            )
        for i, (mask, amap) in enumerate(zip(self._masks, self._maps, strict=True)):
            if mask.shape != amap.shape:
                raise ValueError(
                    f"masks and {name} must have the same shapes, but masks[{i}] has shape {mask.shape} and "
                    f"{name}[{i}] has shape {amap.shape}."
                )
        dtypes = {amap.dtype for amap in self._maps}
        self.dtype = np.result_type(*dtypes)
        self.coarsest = min(
            (d for d in dtypes if d.kind == "f"), key=lambda d: d.itemsize, default=self.dtype
        )
        if self.dtype == bool:
            self.dtype = np.dtype(np.uint8)
        elif self.dtype == np.float16:
            self.dtype = np.dtype(np.float32)
        weights = check_weights(sample_weight, n, name)
        self._counted = list(range(n)) if weights is None else np.flatnonzero(weights).tolist()
        if weights is not None and len(set(weights[self._counted])) < 2:
            weights = None  # no metric depends on their scale
        self.weights = weights
        self._defective = [self._count_defective(i) for i in self._counted]
        self.n_defective = sum(self._defective)
        self.n_normal = sum(self._maps[i].size for i in self._counted) - self.n_defective

    def __iter__(self) -> Iterator[Image]:
        for i, n_defective in zip(self._counted, self._defective, strict=True):
            amap = np.asarray(self._maps[i]).astype(self.dtype, copy=False)
            # NaN comes through both, and neither needs an array of its own.
            if not (np.isfinite(amap.min()) and np.isfinite(amap.max())):
                row, column = np.argwhere(~np.isfinite(amap))[0]
                raise ValueError(
                    f"{self._name} must be finite, but {self._name}[{i}] holds {amap[row, column]} at row {row}, "
                    f"column {column}."
                )
            weight = 1.0 if self.weights is None else float(self.weights[i])
            yield Image(np.asarray(self._masks[i]) != 0, amap, n_defective == 0, weight)
            _release(self._masks[i])
            _release(self._maps[i])

    def _count_defective(self, i: int) -> int:
        mask = np.asarray(self._masks[i])
        if mask.dtype.kind == "f" and np.isnan(mask).any():
            raise ValueError(f"masks must not hold NaN, but masks[{i}] does.")
        count = int(np.count_nonzero(mask))
        _release(self._masks[i])
        return count


def check_weights(sample_weight: ArrayLike | None, n: int, name: str) -> NDArray[np.float64] | None:
    """Check the weights of n images.

    Parameters
    ----------
    sample_weight : array-like of shape (n,) or None
        Weights.
    n : int
        How many are needed.
    name : str
        What they belong to, for messages.

    Returns
    -------
    ndarray of shape (n,), float64, or None
        The weights, multiplied by a power of two that brings the largest near 1.

    Raises
    ------
    ValueError
        Where they have another shape, or one is negative, NaN or infinite.
    """
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (n,):
        raise ValueError(
            f"sample_weight must have shape ({n},), one weight per element of {name}, got shape {weights.shape}."
        )
    for i in np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))[:1]:
        raise ValueError(
            f"sample_weight must be finite and not negative, but sample_weight[{i}] is {weights[i]}."
        )
    # No metric depends on their scale. Near 1, their products are neither too small nor too large for float64;
    # by a power of two, no bit of them changes, but for those too small to count beside the largest.
    return np.ldexp(weights, -np.frexp(weights.max(initial=0))[1])


def warn_undefined(metric: str, missing: str, sample_weight: ArrayLike | None, *, stacklevel: int) -> None:
    """Warn, as scikit-learn does, that a metric is NaN for want of images or pixels of a kind."""
    warnings.warn(
        f"There are no {missing}{' of non-zero weight' if sample_weight is not None else ''}. "
        f"{metric} is not defined in that case and is NaN.",
        UndefinedMetricWarning,
        stacklevel=stacklevel,
    )


def _as_images(images: Any, name: str) -> Sequence[NDArray[Any]]:
    """Check dimensions and types, without reading any pixel of a file."""
    if not isinstance(images, list | tuple | np.ndarray):
        if not hasattr(images, "__array__"):
            raise TypeError(
                f"{name} must be an array of shape (n, H, W) or a sequence of arrays of shape (H, W), got "
                f"{type(images).__name__}."
            )
        images = np.asarray(images)
    if isinstance(images, np.ndarray) and images.dtype != object:
        if images.ndim != 3:
            raise ValueError(
                f"{name} must have shape (n, H, W), or be a sequence of arrays of shape (H, W), got shape "
                f"{images.shape}."
            )
        found: Sequence[NDArray[Any]] = list(images)
    else:
        found = [np.asanyarray(image) for image in images]
    if not found:
        raise ValueError(f"{name} is empty.")
    for i, image in enumerate(found):
        if image.ndim != 2:
            raise ValueError(f"{name}[{i}] must have shape (H, W), got shape {image.shape}.")
        if image.size == 0:
            raise ValueError(f"{name}[{i}] has no pixels: its shape is {image.shape}.")
        if image.dtype.kind not in "biuf":
            raise TypeError(f"{name} must hold real numbers, but {name}[{i}] has dtype {image.dtype}.")
    return found


def _release(image: NDArray[Any]) -> None:
    """Let go of the pages of a file that is mapped for reading.

    They would stay in memory until it runs out, and count as this process's. Whoever reads them again gets them from
    the system's cache. Other modes are left alone: dropping a copy-on-write page would undo what was written.
    """
    if getattr(image, "mode", None) != "r" or not hasattr(mmap, "MADV_DONTNEED"):
        return
    base: Any = image
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)
