"""Bilinear resampling of feature maps, with gradients that repeat bit for bit on every device."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["interpolation_matrix", "resample", "resample_by_products", "resize"]


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


def resize(images: Tensor, size: Sequence[int], *, antialias: bool = False) -> Tensor:
    """Resize images or maps bilinearly.

    In a graph that is exported, this is a product with a matrix for rows and one for columns, which all engines
    compute alike, for sizes that the graph learns when it runs too. OpenVINO reads ONNX's antialiased `Resize` wrongly.

    Parameters
    ----------
    images : Tensor of shape (B, C, H, W)
        The images.
    size : sequence of int (H, W)
        The wanted size.
    antialias : bool, default=False
        Whether what shrinks is smoothed before.

    Returns
    -------
    Tensor of shape (B, C, *size)
        The resized images.
    """
    if torch.compiler.is_compiling():
        rows, columns = (
            interpolation_matrix(n_out, n_in, antialias=antialias).to(images)
            for n_out, n_in in zip(size, images.shape[-2:], strict=True)
        )
        return rows @ images @ columns.T
    return F.interpolate(images, size=tuple(size), mode="bilinear", align_corners=False, antialias=antialias)


def interpolation_matrix(n_out: int, n_in: int, *, antialias: bool = False) -> Tensor:
    """Matrix that resizes a line of pixels bilinearly, as :func:`torch.nn.functional.interpolate` does.

    Positions are whole numbers until the end, so that no engine rounds them, however many pixels there are. In
    a graph that is exported, the sizes may be symbols.

    Parameters
    ----------
    n_out, n_in : int
        Pixels of the line that comes out, and of the one that goes in.
    antialias : bool, default=False
        Whether a line that shrinks is smoothed before.

    Returns
    -------
    Tensor of shape (n_out, n_in), float32
        The matrix. Each row sums to 1.

    Examples
    --------
    >>> from skcsflow.nn import interpolation_matrix
    >>> interpolation_matrix(4, 2)
    tensor([[1.0000, 0.0000],
            [0.7500, 0.2500],
            [0.2500, 0.7500],
            [0.0000, 1.0000]])
    """
    # Centres of pixels, in units of half a pixel of a line of n_out * n_in pixels.
    centres_out = (2 * torch.arange(n_out) + 1) * n_in
    centres_in = (2 * torch.arange(n_in) + 1) * n_out
    reach: Any = 2 * n_out
    if antialias:
        reach = 2 * torch.sym_max(n_out, n_in)
    else:
        first, last = centres_in[:1], centres_in[-1:]
        centres_out = torch.minimum(torch.maximum(centres_out, first), last)
    distances = (centres_in - centres_out[:, None]).abs()
    # Each pixel's weight falls linearly to 0 at the distance `reach`.
    weights = (1 - distances.float() / reach).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True) if antialias else weights


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
