"""Convolutions whose gradients are matrix products, for small wide maps in training in bfloat16 on the CPU."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["column_conv2d", "pays_in_columns"]

_WIDE = 2**14
"""Pairs of channels from which on the products take longer than writing out the columns."""

_MAX_BYTES = 2**24
"""Size of the columns up to which they stay in the caches, and are worth it."""


def pays_in_columns(x: Tensor, weight: Tensor, stride: Sequence[int]) -> bool:
    """Whether :func:`column_conv2d` is faster than torch's own gradients; parameters as there."""
    n_outputs, n_inputs, *kernel_size = weight.shape
    n_channels = n_outputs if _is_of_outputs(n_inputs, n_outputs, stride) else n_inputs
    n_columns = kernel_size[0] * kernel_size[1] * n_channels
    n_rows = x.shape[0] * x.shape[2] * x.shape[3] // (stride[0] * stride[1])
    return n_inputs * n_outputs >= _WIDE and 2 * n_rows * n_columns <= _MAX_BYTES


def column_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dtype: torch.dtype,
) -> Tensor:
    r"""Convolve as ``F.conv2d(x, weight, bias, stride, padding)`` does, with gradients by matrix products.

    What each place of a kernel meets is written out as columns, of the side that has fewer
    channels. Of the input, with :math:`\mathrm{col}^T` summing each position's columns,

    .. math:: \partial W = \partial Y^T\, \mathrm{col}(X), \qquad
              \partial X = \mathrm{col}^T(\partial Y\, W),

    or of the output's gradient, in which places are mirrored,

    .. math:: \partial W = \mathrm{col}(\partial Y)^T X, \qquad \partial X = \mathrm{col}(\partial Y)\, W.

    Where maps have few positions, this takes a half to a tenth of what oneDNN takes.

    Parameters
    ----------
    x : Tensor of shape (B, C, H, W)
        Input maps.
    weight : Tensor of shape (N, C, height, width)
        Kernels, of odd sizes.
    bias : Tensor of shape (N,) or None
        Added to the output.
    stride, padding : sequence of two int
        As in ``F.conv2d``.
    dtype : torch.dtype
        Type to multiply in. Gradients have the type of what they are of.

    Returns
    -------
    Tensor of shape (B, N, H_out, W_out)
        Output maps, of type `dtype`. They can't be differentiated twice.
    """
    y: Tensor = _ColumnConv2d.apply(x, weight, bias, list(stride), list(padding), dtype)
    return y


def _is_of_outputs(n_inputs: int, n_outputs: int, stride: Sequence[int]) -> bool:
    """Whether columns are made of the output's gradient."""
    return n_outputs < n_inputs and tuple(stride) == (1, 1)


def _columns(
    maps: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """What kernels meet, of shape (B * H_out * W_out, height * width * C)."""
    (height, width), (pad_y, pad_x) = kernel_size, padding
    padded = F.pad(maps.permute(0, 2, 3, 1), (0, 0, pad_x, pad_x, pad_y, pad_y))
    windows = padded.unfold(1, height, stride[0]).unfold(2, width, stride[1])
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, height * width * maps.shape[1])


def _sum_columns(
    columns: Tensor,
    shape: Sequence[int],
    shape_out: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """Sum for each position what :func:`_columns` makes of it; maps of this shape, at least in float32."""
    n, n_channels, height, width = shape
    _, _, height_out, width_out = shape_out
    (pad_y, pad_x), (step_y, step_x) = padding, stride
    dtype = torch.promote_types(columns.dtype, torch.float32)
    padded = columns.new_zeros(n, height + 2 * pad_y, width + 2 * pad_x, n_channels, dtype=dtype)
    windows = columns.view(n, height_out, width_out, *kernel_size, n_channels)
    for i, j in product(*map(range, kernel_size)):
        met = padded[:, i : i + step_y * height_out : step_y, j : j + step_x * width_out : step_x]
        met += windows[:, :, :, i, j]
    return padded[:, pad_y : pad_y + height, pad_x : pad_x + width].permute(0, 3, 1, 2)


class _ColumnConv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        dtype: torch.dtype,
    ) -> Tensor:
        ctx.types = x.dtype, weight.dtype, None if bias is None else bias.dtype
        ctx.stride, ctx.padding = stride, padding
        x, weight = (t.to(dtype).contiguous(memory_format=torch.channels_last) for t in (x, weight))
        ctx.save_for_backward(x, weight)
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x, weight, None if bias is None else bias.to(dtype), stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        x_type, weight_type, bias_type = ctx.types
        stride, padding = ctx.stride, ctx.padding
        grad = grad.contiguous(memory_format=torch.channels_last)
        n_outputs, n_inputs, *kernel_size = weight.shape
        grad_x = grad_weight = grad_bias = None
        if _is_of_outputs(n_inputs, n_outputs, stride):
            mirrored = [k - 1 - p for k, p in zip(kernel_size, padding, strict=True)]
            columns = _columns(grad, kernel_size, stride, mirrored)
            by_place = columns.t() @ _rows(x)
            grad_weight = by_place.view(*kernel_size, n_outputs, n_inputs).flip(0, 1).permute(2, 3, 0, 1)
            if ctx.needs_input_grad[0]:
                kernels = weight.flip(2, 3).permute(2, 3, 0, 1).reshape(-1, n_inputs)
                grad_x = (columns @ kernels).view(x.shape[0], *x.shape[2:], n_inputs).permute(0, 3, 1, 2)
        else:
            by_place = _rows(grad).t() @ _columns(x, kernel_size, stride, padding)
            grad_weight = by_place.view(n_outputs, *kernel_size, n_inputs).permute(0, 3, 1, 2)
            if ctx.needs_input_grad[0]:
                columns = _rows(grad) @ _rows(weight).view(n_outputs, -1)
                grad_x = _sum_columns(columns, x.shape, grad.shape, kernel_size, stride, padding)
        if bias_type is not None:
            grad_bias = _rows(grad).sum(0, dtype=bias_type)
        return (
            None if grad_x is None else grad_x.to(x_type),
            grad_weight.to(weight_type, memory_format=torch.channels_last),
            grad_bias,
            None,
            None,
            None,
        )


def _rows(maps: Tensor) -> Tensor:
    """Maps as a matrix, one row for each position."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
