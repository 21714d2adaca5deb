"""Decoded images -> floating images from 0 to 1, of one size, on the device that computes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["scale", "standardize"]


def standardize(
    images: Sequence[Tensor], size: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Scale images to the range from 0 to 1, and resize them.

    Parameters
    ----------
    images : sequence of Tensors of shape (C, H, W)
        Images as :meth:`ImageCollection.decode` gives them, on the CPU, of any sizes. Integers are
        scaled by the range of their type; floats are taken as they are.
    size : tuple of int (H, W)
        The wanted size. Bilinear, with antialiasing where an image shrinks.
    dtype : torch.dtype
        The wanted type.
    device : torch.device
        Where they are scaled and resized. Images that share shape and type are copied there at once.

    Returns
    -------
    Tensor of shape (n, C, *size)
        The images.
    """
    first = images[0]
    if any(image.shape != first.shape or image.dtype != first.dtype for image in images):
        return torch.cat([standardize([image], size, dtype, device) for image in images])
    # One channel shown several times: copy and resize it once.
    is_grey = all(image.stride(0) == 0 for image in images)
    if is_grey:
        images = [image[:1] for image in images]
    # torch keeps memory that is pinned: a copy to it takes a tenth of the time of one to new memory.
    pinned = torch.empty((len(images), *images[0].shape), dtype=first.dtype, pin_memory=device.type == "cuda")
    batch = torch.stack(list(images), out=pinned).to(device, non_blocking=True)
    batch = _to_unit_range(batch)
    if tuple(batch.shape[-2:]) != tuple(size):
        batch = F.interpolate(batch, size=size, mode="bilinear", align_corners=False, antialias=True)
    return batch.to(dtype).expand(-1, first.shape[0], -1, -1)


def scale(images: Tensor, low: float, high: float) -> Tensor:
    """Scale images so that `low` becomes 0 and `high` 1."""
    return (_to_floating(images) - low) / (high - low)


def _to_unit_range(images: Tensor) -> Tensor:
    is_integer = not images.is_floating_point() and images.dtype != torch.bool
    floating = _to_floating(images)
    return floating / torch.iinfo(images.dtype).max if is_integer else floating


def _to_floating(images: Tensor) -> Tensor:
    is_wide = images.dtype == torch.float64 or (not images.is_floating_point() and images.dtype.itemsize > 2)
    return images.to(torch.float64 if is_wide else torch.float32)
