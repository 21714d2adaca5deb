"""Networks with their convolutions' weights made ready once, for many images that go through them one by one.

torch brings a convolution's weights into the order that its kernels want, and under
autocast into bfloat16, in every call. A batch shares that work; single images, as ours
are for their scores not to depend on each other, pay it each time, and in a wide flow it
takes longer than the products do.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from skcsflow._weights_cache import WeightsCache

__all__ = ["packed"]


def packed(network: nn.Module, precision: str) -> nn.Module:
    """Return a network that computes the same, up to rounding, with weights that are ready.

    Parameters
    ----------
    network : nn.Module
        A network in evaluation mode, all on one device.
    precision : {"float32", "float64", "bfloat16"}
        Precision that it will compute in, see :func:`~skcsflow._device.autocast`.

    Returns
    -------
    nn.Module
        A copy that shares all but the convolutions' weights, which are there twice
        then. Made when a network is first seen, and again when its weights have changed.
        Only for use without gradients.
    """
    if precision == "float64":
        return network
    return _PACKED.get_or_make(network, precision, lambda: _copy(network, precision))


def _copy(module: nn.Module, precision: str) -> nn.Module:
    if isinstance(module, nn.Conv2d):
        weight, bias = module.weight.detach(), module.bias
        if precision == "bfloat16":
            weight = weight.to(torch.bfloat16)
            bias = None if bias is None else bias.detach().to(torch.bfloat16)
        if _can_pack(module, weight):
            return _PackedConv2d(module, weight, bias)
        if precision == "float32":
            return module
        conv = copy.copy(module)
        conv._parameters = {
            "weight": nn.Parameter(weight, requires_grad=False),
            "bias": None if bias is None else nn.Parameter(bias, requires_grad=False),
        }
        return conv
    clone = copy.copy(module)
    clone._modules = {name: child and _copy(child, precision) for name, child in module._modules.items()}
    return clone


def _can_pack(conv: nn.Conv2d, weight: Tensor) -> bool:
    """Whether oneDNN's own operators, which torch's compiler uses, can do it, and faster."""
    return (
        weight.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
        and (weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
        # A kernel of one position is a matrix product, which needs no order of its own.
        and conv.groups == 1
        and max(conv.kernel_size) > 1
        # Not a subclass that does something else beside, such as timm's padding by the input's size.
        and type(conv)._conv_forward is nn.Conv2d._conv_forward
        and type(conv).forward.__module__.split(".")[0] in ("torch", "skcsflow")
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
    )


class _PackedConv2d(nn.Module):
    """A convolution with packed weights. How they are packed depends on the size of the maps."""

    def __init__(self, conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._weight, self._bias = weight, bias
        self._arguments = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        self._packed: dict[torch.Size, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self._weight.dtype)
        weight = self._packed.get(x.shape)
        if weight is None:
            # Threads that come here together pack the same, and keep one of it.
            weight = torch.ops.mkldnn._reorder_convolution_weight(
                self._weight, *self._arguments, list(x.shape)
            )
            self._packed[x.shape] = weight
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, self._bias, *self._arguments, "none", [], ""
        )
        return y


_PACKED: WeightsCache[Any] = WeightsCache()
