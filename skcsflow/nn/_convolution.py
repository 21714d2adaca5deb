"""The flow's convolutions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SubnetConv2d", "crop_kernel"]


def crop_kernel(
    weight: Tensor, size: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[Tensor, list[int]]:
    """Cut off the places of a kernel that lie on the padding wherever the kernel is put.

    On a map of 2 x 2 positions a kernel of 5 x 5 meets the map with its inner 3 x 3 alone. The
    other places only multiply zeros. Their gradients are 0 too, but torch 2.14 leaves them
    unwritten, as whatever was in memory, in bfloat16 with stride 2 on maps one position wide.

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
    """A convolution, not dilated and in one group, that computes only where its kernels meet the map."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve maps (B, in_channels, H, W)."""
        assert not isinstance(self.padding, str)
        weight, padding = crop_kernel(self.weight, x.shape[2:], self.stride, self.padding)
        if _is_for_onednn(x):
            # What F.conv2d calls too, but for a batch of one small map, whose last digits would differ.
            return torch.mkldnn_convolution(x, weight, self.bias, padding, self.stride, (1, 1), 1)
        return F.conv2d(x, weight, self.bias, self.stride, padding)


def _is_for_onednn(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()  # for other engines, which don't know it
        and not torch.compiler.is_compiling()
    )
