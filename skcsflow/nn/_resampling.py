"""Bilinear resampling of feature maps, with gradients that repeat bit for bit on every device."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["resample", "resample_by_products"]


def resample(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps bilinearly, without antialiasing, as the paper upsamples between scales.

    Parameters
    ----------
    maps : Tensor of shape (B, C, H, W)
        The maps.
    size : sequence of int (H, W)
        The wanted size.

    Returns
    -------
    Tensor of shape (B, C, *size)
        The resized maps.
    """
    if maps.is_cuda:  # there torch's own gradient adds up in an order that varies
        return resample_by_products(maps, size)
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def resample_by_products(maps: Tensor, size: Sequence[int]) -> Tensor:
    """:func:`resample` by a product with a fixed matrix for rows and one for columns.

    Without a copy where channels are last in memory.
    """
    height, width = size
    b, c, h, w = maps.shape
    rows = _bilinear_matrix(height, h, maps.dtype, maps.device)
    columns = _bilinear_matrix(width, w, maps.dtype, maps.device)
    taller = rows @ maps.permute(0, 2, 3, 1).reshape(b, h, w * c)
    wider = columns @ taller.view(b * height, w, c)
    return wider.view(b, height, width, c).permute(0, 3, 1, 2)


# Copies to a GPU in every step would have the GPU wait. Never dropped: recorded CUDA graphs go on reading them.
@cache
def _bilinear_matrix(n_out: int, n_in: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Matrix of shape (n_out, n_in) that interpolates between the centres of n_in pixels."""
    with torch.inference_mode(False):  # or it could not be used in training later
        positions = (torch.arange(n_out, dtype=torch.float64) + 0.5) * (n_in / n_out) - 0.5
        positions = positions.clamp(0, n_in - 1)
        # Each input's weight falls linearly to 0 at its neighbours.
        weights = (1 - (positions[:, None] - torch.arange(n_in)).abs()).clamp(min=0)
        return weights.to(device, dtype)
