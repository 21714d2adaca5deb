"""The flow's convolutions, by the way that is fastest for their maps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skcsflow.nn._column_conv import column_conv2d, pays_in_columns
from skcsflow.nn._winograd import winograd_conv2d

__all__ = ["SubnetConv2d", "crop_kernel"]

_WIDE = 2**15
"""Pairs of channels from which on a convolution's products cost more than Winograd's additions."""


def crop_kernel(
    weight: Tensor, size: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[Tensor, list[int]]:
    """Cut off the places of a kernel that lie on the padding wherever the kernel is put.

    On a map of 2 x 2 positions a kernel of 5 x 5 meets the map with its inner 3 x 3 alone. The
    others cost products with zeros. And their gradients, which are 0, are now and then not
    written by torch 2.14 in bfloat16 with AVX-512: seen with stride 2 on maps one position wide.

    Parameters
    ----------
    weight : Tensor of shape (out_channels, in_channels, height, width)
        The kernels, not dilated.
    size, stride, padding : sequence of two int
        Height and width of the maps, stride and padding.

    Returns
    -------
    weight : Tensor of shape (out_channels, in_channels, cropped height, cropped width)
        A view of what is left of the kernels; they themselves where nothing is to be cut off.
    padding : list of two int
        The padding that they have the same output with.
    """
    cropped_padding = []
    for dim, (n, s, p) in enumerate(zip(size, stride, padding, strict=True), start=2):
        k = weight.shape[dim]
        n_outputs = (n + 2 * p - k) // s + 1
        last = s * (n_outputs - 1) - p  # where in the map the kernel starts that is put last
        start, stop = max(0, -last), min(k, p + n)
        is_cut = (start, stop) != (0, k) and start <= p and start < stop
        if is_cut and (n + 2 * (p - start) - (stop - start)) // s + 1 == n_outputs:
            weight = weight.narrow(dim, start, stop - start)
            p -= start
        cropped_padding.append(p)
    return weight, cropped_padding


class SubnetConv2d(nn.Conv2d):
    """A convolution, not dilated and in one group, that computes only where its kernels meet the map.

    In training on the CPU, wide ones take Winograd's way, and in bfloat16 that of columns, where it is faster.
    """

    def forward(self, x: Tensor) -> Tensor:
        # A single image, as in scoring, would not repay the transform of the kernels.
        is_training_on_cpu = self.training and x.device.type == "cpu"
        is_autocast = torch.is_autocast_enabled("cpu")
        if (
            is_training_on_cpu
            and not is_autocast
            and self.stride == (1, 1)
            and self.kernel_size[0] in (3, 5)
            and self.in_channels * self.out_channels >= _WIDE
        ):
            assert self.bias is not None
            return winograd_conv2d(x, self.weight, self.bias)
        assert not isinstance(self.padding, str)
        weight, padding = crop_kernel(self.weight, x.shape[2:], self.stride, self.padding)
        # Autocast leaves float64 as it is.
        is_lowered = is_autocast and torch.float64 not in (x.dtype, weight.dtype)
        if is_training_on_cpu and is_lowered and pays_in_columns(x, weight, self.stride):
            dtype = torch.get_autocast_dtype("cpu")
            return column_conv2d(x, weight, self.bias, self.stride, padding, dtype)
        return F.conv2d(x, weight, self.bias, self.stride, padding)
