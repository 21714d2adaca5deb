"""Masks, maps and weights as users pass them -> checked arrays, one image at a time."""

import mmap
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning

from skcsflow._checks import as_array, check_weights, explain_nan, warn
from skcsflow._images import mask_files
from skcsflow.datasets import read_mask

__all__ = ["Image", "Pixels", "warn_undefined"]


class Image(NamedTuple):
    """The mask, the map and the weight of one image.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool
        True where defective.
    map : ndarray of shape (H, W)
        The anomaly map. It may be the user's own array, so it must not be changed.
    is_good : bool
        Whether no pixel is defective.
    weight : float
        The image's weight.
    position : int
        Its place among all images, those of weight zero included.
    """

    mask: NDArray[np.bool_]
    map: NDArray[Any]
    is_good: bool
    weight: float
    position: int


class Pixels:
    """Checked masks and maps, read one image at a time.

    Iterating gives an `Image` for each image of non-zero weight, as often as needed.

    Parameters
    ----------
    masks, maps : array-like of shape (n, H, W), or sequence of array-like of shape (H_i, W_i)
        Masks, non-zero where defective, and anomaly maps. A sequence of masks may hold paths of files, which
        are read, and None for masks that are empty, as `load_image_folder` gives them.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images.
    name : str, default="maps"
        What error messages call the maps.

    Attributes
    ----------
    dtype : dtype
        The common type of the maps; float16 and booleans are widened, because they sort slowly.
    coarsest_dtype : dtype
        The smallest floating type among the maps, or else the common type.
    weights : ndarray of shape (n,), float64, or None
        Weights; None if those that aren't 0 are all the same.
    n_images : int
        Number of all images.
    n_defective, n_normal : int
        Numbers of pixels in images of non-zero weight.
    n_good : int
        Number of pixels in the images of non-zero weight that have no defective pixel.
    good_weight : float
        Total weight of these images.

    Raises
    ------
    ValueError
        If shapes or lengths don't agree, there is no image, an image has no pixels, or a mask holds NaN or can't
        be read. Maps that hold NaN or infinity raise it during the iteration.
    TypeError
        If masks or maps aren't a sequence, or don't hold numbers.
    """

    def __init__(
        self, masks: Any, maps: Any, sample_weight: ArrayLike | None = None, name: str = "maps"
    ) -> None:
        self._name = name
        self._masks, self._maps = _as_images(masks, "masks", may_be_files=True), _as_images(maps, name)
        self.n_images = n = len(self._maps)
        if len(self._masks) != n:
            raise ValueError(
                f"masks and {name} must be of the same length, got {len(self._masks)} masks and {n} {name}."
            )
        for i, (mask, amap) in enumerate(zip(self._masks, self._maps, strict=True)):
            if mask is None:
                self._masks[i] = np.broadcast_to(False, amap.shape)
            elif mask.shape != amap.shape:
                is_file = isinstance(mask, _MaskFile)
                mask_name = mask.name if is_file else f"masks[{i}]"
                hint = " A detector's iter_maps gives maps at the images' own sizes." if is_file else ""
                raise ValueError(
                    f"masks and {name} must have the same shapes, but {mask_name} has shape {mask.shape} and "
                    f"{name}[{i}] has shape {amap.shape}.{hint}"
                )
        dtypes = {amap.dtype for amap in self._maps}
        self.dtype = np.result_type(*dtypes)
        self.coarsest_dtype = min(
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
        good = [i for i, count in zip(self._counted, self._defective, strict=True) if count == 0]
        self.n_good = sum(self._maps[i].size for i in good)
        self.good_weight = float(sum(self._weight(i) for i in good))

    def __iter__(self) -> Iterator[Image]:
        for i, n_defective in zip(self._counted, self._defective, strict=True):
            amap = np.asarray(self._maps[i]).astype(self.dtype, copy=False)
            # Minimum and maximum are NaN if any value is, and need no array of booleans.
            if not (np.isfinite(amap.min()) and np.isfinite(amap.max())):
                row, column = np.argwhere(~np.isfinite(amap))[0]
                raise ValueError(
                    f"{self._name} must be finite, but {self._name}[{i}] holds {amap[row, column]} at row {row}, "
                    f"column {column}.{explain_nan(amap[row, column])}"
                )
            yield Image(np.asarray(self._masks[i]) != 0, amap, n_defective == 0, self._weight(i), i)
            _release(self._masks[i])
            _release(self._maps[i])

    def _weight(self, i: int) -> float:
        return 1.0 if self.weights is None else float(self.weights[i])

    def _count_defective(self, i: int) -> int:
        mask = np.asarray(self._masks[i])
        if mask.dtype.kind == "f" and np.isnan(mask).any():
            raise ValueError(f"masks must not hold NaN, but masks[{i}] does.")
        count = int(np.count_nonzero(mask))
        _release(self._masks[i])
        return count


def warn_undefined(metric: str, missing: str, sample_weight: ArrayLike | None) -> None:
    """Warn, as scikit-learn does, that a metric is NaN because one kind of images or pixels is missing."""
    warn(
        f"There are no {missing}{' of non-zero weight' if sample_weight is not None else ''}. "
        f"{metric} is not defined in that case and is NaN.",
        UndefinedMetricWarning,
    )


class _MaskFile:
    """A mask that was read from files. It is held in one bit per pixel, so that many fit into memory."""

    def __init__(self, paths: tuple[str | os.PathLike[str], ...], name: str) -> None:
        mask = read_mask(paths)
        self.name = name
        self.shape = mask.shape
        self._bits = np.packbits(mask)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        bits = np.unpackbits(self._bits, count=int(np.prod(self.shape)))
        return bits.reshape(self.shape).astype(bool if dtype is None else dtype)


def _as_images(images: Any, name: str, *, may_be_files: bool = False) -> list[Any]:
    """Check dimensions and types, without reading the pixels of memory-mapped files.

    With `may_be_files`, paths become `_MaskFile`, and None stays.
    """
    if not isinstance(images, list | tuple):
        if not hasattr(images, "__array__"):
            raise TypeError(
                f"{name} must be an array of shape (n, H, W) or a sequence of arrays of shape (H, W), got "
                f"{type(images).__name__}."
            )
        images = as_array(images, name)
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OUT":
        if images.ndim != 3:
            raise ValueError(
                f"{name} must have shape (n, H, W), or be a sequence of arrays of shape (H, W), got shape "
                f"{images.shape}."
            )
        arrays: list[Any] = list(images)
    elif may_be_files:
        arrays = [_as_mask(image, f"{name}[{i}]") for i, image in enumerate(images)]
    else:
        arrays = [as_array(image, f"{name}[{i}]") for i, image in enumerate(images)]
    if not arrays:
        raise ValueError(f"{name} is empty.")
    for i, image in enumerate(arrays):
        if image is None or isinstance(image, _MaskFile):
            continue
        if image.ndim != 2:
            raise ValueError(f"{name}[{i}] must have shape (H, W), got shape {image.shape}.")
        if image.size == 0:
            raise ValueError(f"{name}[{i}] has no pixels: its shape is {image.shape}.")
        if image.dtype.kind not in "biuf":
            raise TypeError(f"{name} must hold real numbers, but {name}[{i}] has dtype {image.dtype}.")
    return arrays


def _as_mask(mask: Any, name: str) -> Any:
    files = mask_files(mask)
    if files is None:
        return as_array(mask, name)
    return _MaskFile(files, f"{name} ({os.fspath(files[0])!r})") if files else None


def _release(image: Any) -> None:
    """Release the memory of a file that is mapped for reading.

    Its pages would otherwise stay in memory and count as this process's until memory runs out. The system's cache
    keeps them for the next read. Files in other modes are left alone: releasing a copy-on-write page would undo
    the user's changes.
    """
    if getattr(image, "mode", None) != "r" or not hasattr(mmap, "MADV_DONTNEED"):
        return
    base: Any = image
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)
