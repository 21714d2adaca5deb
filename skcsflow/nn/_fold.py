"""Batch norms of a frozen network folded into the convolutions before them."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["fold_batch_norms"]


@torch.no_grad()
def fold_batch_norms(network: nn.Module, example: Tensor) -> int:
    r"""Fold every batch norm that directly follows a convolution into it, in place.

    In evaluation mode a batch norm is :math:`a x + b` for each channel, so a convolution
    before it can have its weights multiplied by :math:`a`, and :math:`b` for its bias.
    One pass over the feature maps is saved for each. The products are taken in float64,
    and rounded once.

    Parameters
    ----------
    network : nn.Module
        A network in evaluation mode that is not to be trained.
    example : Tensor
        What the network takes. One pass shows which norm follows which convolution.

    Returns
    -------
    int
        How many were folded.
    """
    folded = _foldable(network, example)
    for norm, conv in folded.items():
        _fold(conv, norm)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child in folded:
                setattr(parent, name, _without_normalisation(child))
    return len(folded)


def _foldable(network: nn.Module, example: Tensor) -> dict[nn.Module, nn.Conv2d]:
    """Norms whose only input is all that uses a convolution's only output, with that convolution."""
    outputs = _Outputs()
    norms: dict[nn.Module, list[Tensor]] = {}
    hooks = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(lambda conv, _, output: outputs.add(conv, output)))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            hooks.append(
                module.register_forward_pre_hook(
                    lambda norm, args: norms.setdefault(norm, []).append(args[0])
                )
            )
    try:
        with outputs:
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    n_passes = Counter(conv for conv, _ in outputs.of.values())
    folded = {}
    for norm, inputs in norms.items():
        if len(inputs) == 1 and id(inputs[0]) in outputs.of:
            conv, _ = outputs.of[id(inputs[0])]
            if n_passes[conv] == outputs.n_uses[id(inputs[0])] == 1:
                folded[norm] = conv
    return folded


class _Outputs(TorchFunctionMode):
    """Counts how many functions take each output of a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensor too, lest its id be given again
        self.n_uses: Counter[int] = Counter()

    def add(self, conv: nn.Conv2d, output: Tensor) -> None:
        self.of[id(output)] = (conv, output)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):  # not a shape or the like
            for arg in args:
                for t in arg if isinstance(arg, (list, tuple)) else [arg]:
                    if id(t) in self.of:
                        self.n_uses[id(t)] += 1
        return result


def _fold(conv: nn.Conv2d, norm: Any) -> None:
    gain = 1 / torch.sqrt(norm.running_var.double() + norm.eps)
    if norm.affine:
        gain = gain * norm.weight.double()
    bias = -norm.running_mean.double() * gain
    if norm.affine:
        bias = bias + norm.bias.double()
    if conv.bias is not None:
        bias = bias + conv.bias.double() * gain
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter(
        (conv.weight.double() * gain[:, None, None, None]).to(dtype), requires_grad=False
    )
    conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


def _without_normalisation(norm: nn.Module) -> nn.Module:
    """What a norm does beside normalising: timm's has its activation in it."""
    rest = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]
    rest = [module for module in rest if not isinstance(module, nn.Identity)]
    return rest[0] if len(rest) == 1 else nn.Sequential(*rest)
