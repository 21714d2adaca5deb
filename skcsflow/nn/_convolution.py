"""The flow's convolutions, computed with no more products than their maps ask for."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skcsflow.nn._winograd import winograd_conv2d

__all__ = ["SubnetConv2d", "crop_kernel"]

_WIDE = 2**15
"""Pairs of channels from which on a convolution's products cost more than Winograd's additions."""


def crop_kernel(
    weight: Tensor, size: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[Tensor, list[int]]:
    """Cut off the places of a kernel that lie on the padding wherever the kernel is put.

    On a map of 2 x 2 positions a kernel of 5 x 5 meets the map with its inner 3 x 3 alone. The
    others cost products with zeros. And their gradients, which are 0, torch 2.14 leaves as
    they were in memory where it computes in bfloat16 with AVX-512, on maps of one position.

    Parameters
    ----------
    weight : Tensor of shape (out_channels, in_channels, height, width)
        The kernels, not dilated.
    size, stride, padding : sequence of two int
        Height and width of the maps, stride and padding.

    Returns
    -------
    weight : Tensor of shape (out_channels, in_channels, cropped height, cropped width)
        A view of the kernels; the whole of them where nothing is to be cut off.
    padding : list of two int
        The padding that they have the same output with.
    """
    cropped_padding = []
    for dim, (n, s, p) in enumerate(zip(size, stride, padding, strict=True), start=2):
        k = weight.shape[dim]
        last_start = s * ((n + 2 * p - k) // s) - p  # in the map, of the last place that the kernel is put at
        start, stop = max(0, -last_start), min(k, p + n)
        if 0 <= start <= p and (n + 2 * (p - start) - (stop - start)) // s == (n + 2 * p - k) // s:
            weight = weight.narrow(dim, start, stop - start)
            p -= start
        cropped_padding.append(p)
    return weight, cropped_padding


class SubnetConv2d(nn.Conv2d):
    """A convolution that takes Winograd's way where that is faster: wide, in training, on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        # A single image, as in scoring, would not repay the transform of the kernels.
        if (
            self.training
            and x.device.type == "cpu"
            and self.stride == (1, 1)
            and self.kernel_size[0] in (3, 5)
            and self.in_channels * self.out_channels >= _WIDE
            and not torch.is_autocast_enabled("cpu")
        ):
            assert self.bias is not None
            return winograd_conv2d(x, self.weight, self.bias)
        assert not isinstance(self.padding, str)
        weight, padding = crop_kernel(self.weight, x.shape[2:], self.stride, self.padding)
        return F.conv2d(x, weight, self.bias, self.stride, padding)
