"""The names that anomalib's flow has for its weights -> ours."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["AnomalibWeights", "read_anomalib_weights"]

_ANOMALIB_KEY = re.compile(r"(?:.*\.)?module_list\.(\d+)\.cross_convolution([12])\.(.+)")
_ANOMALIB_CONVS = {
    "conv_scale0_0": "expand.0",
    "conv_scale1_0": "expand.1",
    "conv_scale2_0": "expand.2",
    "conv_scale0_1": "project.0",
    "conv_scale1_1": "project.1",
    "conv_scale2_1": "project.2",
    "up_conv10": "up.0",
    "up_conv21": "up.1",
    "down_conv01": "down.0",
    "down_conv12": "down.1",
}
_UNFIT = "state_dict does not hold the weights of anomalib's CsFlowModel"


class AnomalibWeights(NamedTuple):
    """Weights of anomalib's flow under our names.

    Attributes
    ----------
    blocks : list of dict of str to Tensor
        A state dict of :class:`~skcsflow.nn.CrossScaleCoupling` for each block.
    channels : int
        Channels of the feature maps.
    hidden_channels : int
        Hidden channels of the subnets.
    dtype : torch.dtype
        Type of the weights.
    """

    blocks: list[dict[str, Tensor]]
    channels: int
    hidden_channels: int
    dtype: torch.dtype


def read_anomalib_weights(state_dict: Mapping[str, Tensor]) -> AnomalibWeights:
    """Find the weights of the flow in a state dict of anomalib's ``CsFlowModel``.

    Raises
    ------
    ValueError
        Where it holds no, or not all, weights of such a flow.
    """
    blocks = _group_by_block(state_dict)
    try:
        first, second = (blocks[0][f"subnet{k}.expand.0.weight"] for k in (1, 2))
    except KeyError as error:
        raise ValueError(f"{_UNFIT}: {error}") from error
    return AnomalibWeights(blocks, first.shape[1] + second.shape[1], first.shape[0], first.dtype)


def _group_by_block(state_dict: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """One state dict of a CrossScaleCoupling for each of anomalib's coupling layers, in order."""
    blocks: dict[int, dict[str, Tensor]] = {}
    gammas: dict[tuple[int, str], dict[int, Tensor]] = {}
    for key, value in state_dict.items():
        match = _ANOMALIB_KEY.fullmatch(key)
        if match is None:
            continue
        index, subnet, name = int(match[1]), f"subnet{match[2]}", match[3]
        weights = blocks.setdefault(index, {})
        conv, _, kind = name.partition(".")
        if gamma := re.fullmatch(r"gamma(\d+)", name):
            gammas.setdefault((index, subnet), {})[int(gamma[1])] = value
        elif conv in _ANOMALIB_CONVS:
            weights[f"{subnet}.{_ANOMALIB_CONVS[conv]}.{kind}"] = value
        else:
            raise ValueError(f"{_UNFIT}: it has no {key!r}.")
    for (index, subnet), gains in gammas.items():
        blocks[index][f"{subnet}.gamma"] = torch.cat([gains[i] for i in sorted(gains)])
    if not blocks:
        raise ValueError(
            "state_dict holds no weights of anomalib's CsFlowModel: no key contains "
            "'module_list.<k>.cross_convolution'."
        )
    # Its modules are a permutation, which has no weights, and a coupling layer in turn.
    expected = range(1, max(blocks) + 1, 2)
    if sorted(blocks) != list(expected):
        raise ValueError(
            f"{_UNFIT}: module_list.<k> should have some for k = {list(expected)}, got {sorted(blocks)}."
        )
    return [blocks[index] for index in sorted(blocks)]
