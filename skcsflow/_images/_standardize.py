"""Decoded images -> floating images from 0 to 1, of one size, on the device that computes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["standardize"]

BAND_PIXELS = 2**18
"""Pixels of an image that a CPU turns into floats at a time, see :func:`_resize_in_bands`."""


def standardize(
    images: Sequence[Tensor],
    size: tuple[int, int],
    dtype: torch.dtype,
    device: torch.device,
    value_range: tuple[float, float] | None = None,
) -> Tensor:
    """Scale images to the range from 0 to 1, and resize them.

    Parameters
    ----------
    images : sequence of Tensors of shape (C, H, W)
        Images as :meth:`ImageCollection.decode` gives them, on the CPU, of any sizes.
    size : tuple of int (H, W)
        The wanted size. Bilinear, with antialiasing where an image shrinks.
    dtype : torch.dtype
        The wanted type.
    device : torch.device
        Where they are scaled and resized. Images that share shape and type are copied there at once.
    value_range : tuple of float (low, high) or None, default=None
        What becomes 0 and 1; None: integers are scaled by the range of their type, floats taken as they are.

    Returns
    -------
    Tensor of shape (n, C, *size)
        The images.
    """
    first = images[0]
    is_large = device.type == "cpu" and first.shape[1] * first.shape[2] > BAND_PIXELS
    is_mixed = any(image.shape != first.shape or image.dtype != first.dtype for image in images)
    if is_mixed or (is_large and len(images) > 1):
        return torch.cat([standardize([image], size, dtype, device, value_range) for image in images])
    # One channel shown several times: copy and resize it once.
    is_grey = all(image.stride(0) == 0 for image in images)
    if is_grey:
        images = [image[:1] for image in images]
    if is_large:
        batch = _resize_in_bands(images[0], size, value_range)
    else:
        # torch keeps memory that is pinned: a copy to it takes a tenth of the time of one to new memory.
        shape, is_pinned = (len(images), *images[0].shape), device.type == "cuda"
        pinned = torch.empty(shape, dtype=first.dtype, pin_memory=is_pinned)
        batch = torch.stack(list(images), out=pinned).to(device, non_blocking=True)
        batch = _resize(_to_unit_range(batch, value_range), size)
    return batch.to(dtype).expand(-1, first.shape[0], -1, -1)


def _resize_in_bands(image: Tensor, size: tuple[int, int], value_range: tuple[float, float] | None) -> Tensor:
    """Scale and resize a large image without ever having all of it as floats.

    Bands of rows are resized to the new width, and what comes of them to the new height. torch, too, resizes
    rows first and columns then: the results are the same bits as of the whole image at once.
    """
    n_channels, height, _ = image.shape
    narrow = torch.empty((1, n_channels, height, size[1]), dtype=_floating_type(image.dtype))
    n_rows = max(1, BAND_PIXELS // image.shape[2])
    for band, target in zip(image.split(n_rows, dim=1), narrow.split(n_rows, dim=2), strict=True):
        # Contiguous, as torch has other kernels for channels in last place.
        floating = _to_unit_range(band.contiguous()[None], value_range)
        target.copy_(_resize(floating, (band.shape[1], size[1])))
    return _resize(narrow, size)


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def _to_unit_range(images: Tensor, value_range: tuple[float, float] | None) -> Tensor:
    floating = images.to(_floating_type(images.dtype))
    if value_range is not None:
        low, high = value_range
        return (floating - low) / (high - low)
    is_integer = not images.is_floating_point() and images.dtype != torch.bool
    return floating / torch.iinfo(images.dtype).max if is_integer else floating


def _floating_type(dtype: torch.dtype) -> torch.dtype:
    is_wide = dtype == torch.float64 or (not dtype.is_floating_point and dtype.itemsize > 2)
    return torch.float64 if is_wide else torch.float32
