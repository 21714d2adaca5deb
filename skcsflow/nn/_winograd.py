"""Convolutions with fewer multiplications, for wide maps in training on the CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["winograd_conv2d"]

# Toom-Cook with the points 0, 1, -1, infinity (kernel 3), and 2, -2 beside them (kernel 5), for each kernel size:
# input transform, kernel transform, output transform (Lavin and Gray, CVPR 2016, section 4.1).
_TRANSFORMS = {
    3: (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]],
        [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, 1]],
    ),
    5: (
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        [
            [1 / 4, 0, 0, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 2 / 24, 4 / 24, 8 / 24, 16 / 24],
            [1 / 24, -2 / 24, 4 / 24, -8 / 24, 16 / 24],
            [0, 0, 0, 0, 1],
        ],
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 1]],
    ),
}

_CHUNK_BYTES = 16 * 2**20
"""Size of the transformed maps that are worked on at a time: larger ones leave the caches, and the heap."""


def winograd_conv2d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    r"""Convolve as ``F.conv2d(x, weight, bias, padding=kernel_size // 2)`` does, by Winograd's algorithm.

    Every 2 x 2 outputs take 16 products per pair of channels instead of 36 where the kernel
    is 3 x 3, and 36 instead of 100 where it is 5 x 5: :math:`Y = A^T [(G g G^T) \odot (B^T d B)] A`
    for each tile :math:`d` of the input, summed over its channels by one matrix product
    per place in the tile. The transforms cost additions that only wide maps repay.

    Parameters
    ----------
    x : Tensor of shape (B, C, H, W)
        Input maps.
    weight : Tensor of shape (N, C, k, k)
        Kernels; k is 3 or 5.
    bias : Tensor of shape (N,)
        Added to the output.

    Returns
    -------
    Tensor of shape (B, N, H, W)
        Output maps, channels last in memory.

    References
    ----------
    A. Lavin, S. Gray: Fast Algorithms for Convolutional Neural Networks, CVPR 2016.
    """
    y: Tensor = _WinogradConv2d.apply(x, weight, bias)
    return y


class _WinogradConv2d(torch.autograd.Function):
    # Transformed maps and kernels are twice as large as what they are made of: they are made
    # again for the gradients instead of being kept, so that memory stays as it is without.

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        _, _, to_output = _matrices(weight)
        height, width = x.shape[2:]
        transposed_kernels = _transform_kernels(weight).transpose(1, 2)  # (n * n, C, N)
        y = x.new_empty(len(x), height + height % 2, width + width % 2, len(weight))
        for images in _chunks(x, weight):
            products = torch.bmm(_transform_tiles(x[images], weight), transposed_kernels)
            tiles = (to_output @ products.flatten(1)).view(
                2, 2, -1, y.shape[1] // 2, y.shape[2] // 2, len(weight)
            )
            y[images] = tiles.permute(2, 3, 0, 4, 1, 5).reshape(y[images].shape)
        y += bias
        return y[:, :height, :width].permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (dy,) = gradients
        x, weight = ctx.saved_tensors
        to_tiles, to_kernels, to_output = _matrices(weight)
        n_out, n_in, size = weight.shape[:3]
        n = size + 1  # a tile's height and width
        height, width = x.shape[2:]
        kernels = _transform_kernels(weight)
        d_kernels = torch.zeros_like(kernels)
        dx = x.new_empty(len(x), height, width, n_in)
        dy = F.pad(dy.permute(0, 2, 3, 1), (0, 0, 0, width % 2, 0, height % 2))
        n_rows, n_columns = dy.shape[1] // 2, dy.shape[2] // 2
        for images in _chunks(x, weight):
            blocks = dy[images].reshape(-1, n_rows, 2, n_columns, 2, n_out).permute(2, 4, 0, 1, 3, 5)
            d_products = (to_output.T @ blocks.reshape(4, -1)).view(n * n, -1, n_out)
            d_kernels.baddbmm_(d_products.transpose(1, 2), _transform_tiles(x[images], weight))
            d_tiles = to_tiles.T @ torch.bmm(d_products, kernels).flatten(1)
            # Tiles overlap: each is n / 2 blocks of 2 x 2 high and wide, and starts a block after the one before.
            d_tiles = d_tiles.view(n // 2, 2, n // 2, 2, -1, n_rows, n_columns, n_in)
            padded = dx.new_zeros(d_tiles.shape[4], n_rows + n // 2 - 1, 2, n_columns + n // 2 - 1, 2, n_in)
            for i in range(n // 2):
                for j in range(n // 2):
                    padded[:, i : i + n_rows, :, j : j + n_columns] += d_tiles[i, :, j].permute(
                        2, 3, 0, 4, 1, 5
                    )
            margin = size // 2
            rows, columns = slice(margin, margin + height), slice(margin, margin + width)
            dx[images] = padded.flatten(3, 4).flatten(1, 2)[:, rows, columns]
        d_weight = to_kernels.T @ d_kernels.transpose(0, 1)  # (N, k * k, C)
        d_weight = d_weight.view(n_out, size, size, n_in).permute(0, 3, 1, 2)
        return dx.permute(0, 3, 1, 2), d_weight, dy.sum(dim=(0, 1, 2))


def _matrices(weight: Tensor) -> list[Tensor]:
    """Transforms of a flattened tile, kernel and block of products, in the weights' precision."""
    factors = [
        torch.tensor(m, dtype=weight.dtype, device=weight.device) for m in _TRANSFORMS[weight.shape[-1]]
    ]
    return [torch.kron(m, m) for m in factors]


def _chunks(x: Tensor, weight: Tensor) -> list[slice]:
    """Slices of the images, few enough for each to have small transformed maps."""
    n = weight.shape[-1] + 1
    bytes_per_image = n * n * -(-x.shape[2] // 2) * -(-x.shape[3] // 2) * max(weight.shape[:2]) * x.itemsize
    step = max(1, _CHUNK_BYTES // bytes_per_image)
    return [slice(i, i + step) for i in range(0, len(x), step)]


def _transform_kernels(weight: Tensor) -> Tensor:
    """Kernels at each of the n * n places of a tile: (n * n, N, C)."""
    _, to_kernels, _ = _matrices(weight)
    # (N, k * k, C): no copy where channels are last in memory.
    flat = weight.permute(0, 2, 3, 1).flatten(1, 2)
    return (to_kernels @ flat).transpose(0, 1)


def _transform_tiles(x: Tensor, weight: Tensor) -> Tensor:
    """Tiles of the input at each of their n * n places: (n * n, number of tiles, C)."""
    to_tiles, _, _ = _matrices(weight)
    size = weight.shape[-1]
    height, width = x.shape[2:]
    margin = size // 2
    padding = (0, 0, margin, margin + width % 2, margin, margin + height % 2)
    padded = F.pad(x.permute(0, 2, 3, 1), padding)
    n = size + 1
    tiles = padded.unfold(1, n, 2).unfold(2, n, 2)  # (B, rows, columns, C, n, n)
    places = tiles.permute(4, 5, 0, 1, 2, 3).reshape(n * n, -1)
    return (to_tiles @ places).view(n * n, -1, x.shape[1])
