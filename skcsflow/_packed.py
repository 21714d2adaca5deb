"""Networks with their convolutions' weights made ready once, for images that pass few at a time.

torch brings a convolution's weights into the order that its kernels want, and under
autocast into bfloat16, in every call. A large batch shares that work; images that go alone
or by fours, as ours do for their scores not to depend on each other, pay it each time, and
in a wide flow it takes longer than the products do.
"""

from typing import Any

import torch
from torch import Tensor, nn

from skcsflow._weights_cache import WeightsCache
from skcsflow.nn._convolution import SubnetConv2d, crop_kernel

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
        then. Made when a network is first seen, and again when its weights have changed
        in a way that torch can tell: not through ``parameter.data``. Only for use
        without gradients.
    """
    if precision == "float64" or (precision == "float32" and not _packs_float32(network)):
        return network
    return _PACKED.get_or_make(network, precision, lambda: _copy(network, precision))


def _packs_float32(network: nn.Module) -> bool:
    return any(type(m) in _PLAIN and _can_pack(m) for m in network.modules())


def _copy(module: nn.Module, precision: str) -> nn.Module:
    if "forward" in vars(module):  # bound to the module itself: a copy would run the original's parts
        return module
    clone: nn.Module = object.__new__(type(module))
    vars(clone).update(vars(module))
    if type(module) in _PLAIN:
        assert isinstance(module, nn.Conv2d)
        if module._forward_hooks or module._forward_pre_hooks:  # they may make the weights
            return module
        if precision == "bfloat16":
            clone._parameters = {
                name: p if p is None else nn.Parameter(p.detach().bfloat16(), requires_grad=False)
                for name, p in module._parameters.items()
            }
        if _can_pack(clone):
            clone.__class__ = _PackedConv2d
            clone._packed = {}  # type: ignore[assignment]
        return clone
    clone._modules = {name: child and _copy(child, precision) for name, child in module._modules.items()}
    return clone


def _can_pack(conv: nn.Module) -> bool:
    """Whether oneDNN's own operators, which torch's compiler uses, can do it, and faster."""
    assert isinstance(conv, nn.Conv2d)
    weight = conv.weight
    return (
        weight.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
        and (
            weight.dtype == torch.float32
            or (weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
        )
        # A kernel of one position is a matrix product, which needs no order of its own.
        and conv.groups == 1
        and max(conv.kernel_size) > 1
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
    )


class _PackedConv2d(nn.Conv2d):
    """A convolution with packed weights. How they are packed depends on the size of the maps.

    It may depend on the size of the batch too; where it does, oneDNN packs anew in each call.
    """

    _packed: dict[torch.Size, tuple[Tensor, tuple[Any, ...]]]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        x = x.to(self.weight.dtype)
        size = x.shape[1:]
        if size not in self._packed:
            padding = [int(p) for p in self.padding]
            reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            if any(n + 2 * p < r for n, p, r in zip(x.shape[2:], padding, reach, strict=True)):
                return super().forward(x)  # which says what is wrong
            weight = self.weight
            if self.dilation == (1, 1):
                weight, padding = crop_kernel(weight, x.shape[2:], self.stride, padding)
            arguments = (padding, list(self.stride), list(self.dilation), self.groups)
            weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *arguments, list(x.shape))
            # Threads that come here together pack the same, and keep one of it.
            self._packed[size] = weight, arguments
        weight, arguments = self._packed[size]
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, self.bias, *arguments, "none", [], "")
        return y


_PLAIN = (nn.Conv2d, SubnetConv2d)
"""Not classes of others that derive from them, which do something beside."""

_PACKED: WeightsCache[nn.Module] = WeightsCache()
