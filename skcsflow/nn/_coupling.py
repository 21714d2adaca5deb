"""One coupling block of the cross-scale flow, and the subnet inside it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skcsflow.nn._convolution import SubnetConv2d
from skcsflow.nn._resampling import resample

__all__ = ["CrossScaleCoupling", "CrossScaleSubnet", "soft_clamp"]

_LEAKY_SLOPE = 0.1  # paper, section 4.2


def soft_clamp(s: Tensor, clamp: float) -> Tensor:
    r"""Bound the log-scales smoothly.

    Parameters
    ----------
    s : Tensor
        Log-scales as the subnet gives them.
    clamp : float
        The bound :math:`\alpha`.

    Returns
    -------
    Tensor
        :math:`a(s) = 0.636\,\alpha \arctan(s / \alpha)`, the paper's equation 6 with
        :math:`2/\pi` rounded as its code rounds it.
    """
    return (0.636 * clamp) * torch.atan(s / clamp)


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    # skip_init: the constructor's own initialisation would draw from the global
    # random state; CrossScaleSubnet.reset_parameters draws from a generator.
    conv = torch.nn.utils.skip_init(
        SubnetConv2d,
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        dtype=torch.float32,  # whatever torch's default is
    )
    assert isinstance(conv, SubnetConv2d)
    return conv


class CrossScaleSubnet(nn.Module):
    r"""Convolutions over all scales that exchange information between neighbours.

    The paper's Figure 4: :math:`h_i = \mathrm{LeakyReLU}(A_i x_i)` and

    .. math::

        r_i = \gamma_i \left( B_i h_i + U_i\,\mathrm{up}(h_{i+1}) + D_i h_{i-1} \right)

    with convolutions :math:`A, B, U`, stride-2 convolutions :math:`D`, bilinear
    upsampling, and a gain per scale that starts at 0, so that the flow starts as the
    identity.

    Parameters
    ----------
    in_channels, out_channels, hidden_channels : sequence of int
        Channels of each scale going in, coming out, and between the two convolutions. Each
        scale is half the size of the one before, rounded up.
    kernel_size : int
        Odd size of every kernel.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        hidden_channels: Sequence[int],
        kernel_size: int,
    ) -> None:
        super().__init__()
        hidden, out = hidden_channels, out_channels
        scales = range(len(in_channels))
        self.expand = nn.ModuleList(_conv(in_channels[i], hidden[i], kernel_size) for i in scales)
        self.project = nn.ModuleList(_conv(hidden[i], out[i], kernel_size) for i in scales)
        self.up = nn.ModuleList(_conv(hidden[i], out[i - 1], kernel_size) for i in scales[1:])
        self.down = nn.ModuleList(_conv(hidden[i - 1], out[i], kernel_size, stride=2) for i in scales[1:])
        self.gamma = nn.Parameter(torch.zeros(len(scales), dtype=torch.float32))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights as ``torch.nn.Conv2d`` does, and set the gains to 0."""
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_uniform_(conv.weight, a=math.sqrt(5), generator=generator)
                assert conv.bias is not None
                bound = 1 / math.sqrt(conv.weight[0].numel())
                nn.init.uniform_(conv.bias, -bound, bound, generator=generator)
        self.gamma.zero_()

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Map feature maps ``(B, in_channels[i], H_i, W_i)`` to ``(B, out_channels[i], H_i, W_i)``."""
        hidden = [F.leaky_relu(conv(x), _LEAKY_SLOPE) for conv, x in zip(self.expand, features, strict=True)]
        out = [conv(h) for conv, h in zip(self.project, hidden, strict=True)]
        for i, conv in enumerate(self.up):
            size = hidden[i].shape[-2:]
            out[i] = out[i] + conv(resample(hidden[i + 1], size))
        for i, conv in enumerate(self.down):
            down = conv(hidden[i])
            size = out[i + 1].shape[-2:]
            if down.shape[-2:] != size:  # a backbone that rounds sizes down where ours rounds up
                down = resample(down, size)
            out[i + 1] = out[i + 1] + down
        return [gamma * r for gamma, r in zip(self.gamma, out, strict=True)]


class CrossScaleCoupling(nn.Module):
    r"""Affine coupling block over all scales (the paper's Figure 3).

    The channels of each scale are split into :math:`x_1` (the first half, rounded down) and
    :math:`x_2`, which are transformed in turn:

    .. math::

        y_1 = e^{a(s)} \odot x_1 + t, \quad (s, t) = r_2(x_2); \qquad
        y_2 = e^{a(s')} \odot x_2 + t', \quad (s', t') = r_1(y_1)

    Parameters
    ----------
    channels : sequence of int
        Channels of the feature maps of each scale, at least 2.
    hidden_channels, kernel_size
        As in :class:`CrossScaleSubnet`.
    clamp : float
        Bound of the log-scales, see :func:`soft_clamp`.
    """

    def __init__(
        self, channels: Sequence[int], hidden_channels: Sequence[int], kernel_size: int, clamp: float
    ) -> None:
        super().__init__()
        self.clamp = clamp
        first = [c // 2 for c in channels]
        second = [c - c // 2 for c in channels]
        self.splits = list(zip(first, second, strict=True))
        self.subnet1 = CrossScaleSubnet(first, [2 * c for c in second], hidden_channels, kernel_size)
        self.subnet2 = CrossScaleSubnet(second, [2 * c for c in first], hidden_channels, kernel_size)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Transform the features; returns them and the log-determinant per sample, ``(B,)``."""
        x1, x2 = self._halves(features)
        log_scales, shifts = self._scales_and_shifts(self.subnet2, x2)
        y1 = [a.exp() * x + t for a, x, t in zip(log_scales, x1, shifts, strict=True)]
        log_det = _sum_per_sample(log_scales)
        log_scales, shifts = self._scales_and_shifts(self.subnet1, y1)
        y2 = [a.exp() * x + t for a, x, t in zip(log_scales, x2, shifts, strict=True)]
        log_det = log_det + _sum_per_sample(log_scales)
        return [torch.cat(halves, dim=1) for halves in zip(y1, y2, strict=True)], log_det

    def inverse(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Undo :meth:`forward`; the log-determinant is the inverse's, so of opposite sign."""
        y1, y2 = self._halves(features)
        log_scales, shifts = self._scales_and_shifts(self.subnet1, y1)
        x2 = [(y - t) * (-a).exp() for a, y, t in zip(log_scales, y2, shifts, strict=True)]
        log_det = -_sum_per_sample(log_scales)
        log_scales, shifts = self._scales_and_shifts(self.subnet2, x2)
        x1 = [(y - t) * (-a).exp() for a, y, t in zip(log_scales, y1, shifts, strict=True)]
        log_det = log_det - _sum_per_sample(log_scales)
        return [torch.cat(halves, dim=1) for halves in zip(x1, x2, strict=True)], log_det

    def _halves(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        halves = [x.split(split, dim=1) for x, split in zip(features, self.splits, strict=True)]
        return [first for first, _ in halves], [second for _, second in halves]

    def _scales_and_shifts(
        self, subnet: CrossScaleSubnet, condition: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Bounded log-scales and shifts, each a list with one tensor per scale."""
        # Under autocast the subnet answers in bfloat16; the transform stays in full precision.
        outputs = zip(subnet(condition), condition, strict=True)
        halves = [r.to(x.dtype).chunk(2, dim=1) for r, x in outputs]
        return [soft_clamp(s, self.clamp) for s, _ in halves], [t for _, t in halves]


def _sum_per_sample(maps: Sequence[Tensor]) -> Tensor:
    # Position by position first: a sum of everything would be split among threads, which changes its last bits.
    return torch.stack([m.flatten(2).sum(dim=2).sum(dim=1) for m in maps]).sum(dim=0)
