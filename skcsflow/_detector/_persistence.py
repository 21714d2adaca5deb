"""Fitted model <-> plain numpy arrays and versions, for pickle and joblib."""

import warnings
from typing import Any

import numpy as np
import timm
import torch

from skcsflow._checks import user_stack_level
from skcsflow._compute import backbone_layout
from skcsflow._version import __version__
from skcsflow.nn import CSFlowModel

__all__ = ["pack_model", "place_model", "unpack_model", "warn_of_other_versions"]

# Not from the packages' metadata, which frozen applications lack.
_VERSIONS = {"skcsflow": __version__, "timm": timm.__version__, "torch": str(torch.__version__)}


def pack_model(model: CSFlowModel) -> dict[str, Any]:
    """Turn a model into plain data, leaving it as it is.

    Parameters
    ----------
    model : CSFlowModel
        The model, on any device; or what ``torch.compile`` made of it.

    Returns
    -------
    dict
        ``config``: what builds such a model; ``arrays``: its state as numpy arrays by
        name; ``fingerprint``: of the feature extractor; ``versions``: of the packages
        that made it.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile wraps the model
    return {
        "config": dict(model.config),
        "arrays": {name: t.detach().cpu().numpy().copy() for name, t in model.state_dict().items()},
        "fingerprint": model.feature_extractor.fingerprint(),
        "versions": dict(_VERSIONS),
    }


def unpack_model(packed: dict[str, Any], device: torch.device) -> CSFlowModel:
    """Build the model that :func:`pack_model` was given.

    Parameters
    ----------
    packed : dict
        What :func:`pack_model` returned.
    device : torch.device
        Where the model goes.

    Returns
    -------
    CSFlowModel
        The model, in evaluation mode. No network is touched.

    Raises
    ------
    ValueError
        Where the backbone built here isn't the one that was packed.
    """
    config, arrays = packed["config"], packed["arrays"]
    model = CSFlowModel(**{**config, "weights": None})
    model.config["weights"] = config["weights"]
    dtype = next(array.dtype for array in arrays.values() if array.dtype.kind == "f")
    model.to(torch.from_numpy(np.zeros(0, dtype)).dtype)
    # Copies only of what torch can't take as it is: the paper's flow alone has 1.1 GB.
    model.load_state_dict(
        {name: torch.from_numpy(a if a.flags.writeable else a.copy()) for name, a in arrays.items()}
    )
    if (found := model.feature_extractor.fingerprint()) != packed["fingerprint"]:
        raise ValueError(
            f"The backbone={config['backbone']!r} that was built here is not the one that this CSFlowDetector was "
            f"fitted with: its fingerprint is {found}, not {packed['fingerprint']}."
        )
    return place_model(model, device)


def warn_of_other_versions(packed: dict[str, Any]) -> None:
    """Warn where a model was packed by another version of a package it depends on."""
    for name, stored in packed["versions"].items():
        if stored != _VERSIONS[name]:
            warnings.warn(
                f"This CSFlowDetector was saved with {name} {stored} and is loaded with {name} {_VERSIONS[name]}; "
                "scores may differ.",
                UserWarning,
                stacklevel=user_stack_level(),
            )


def place_model(model: CSFlowModel, device: torch.device, dtype: torch.dtype | None = None) -> CSFlowModel:
    """Put a model on a device, in the memory layout that convolutions like best."""
    model.to(device, dtype)
    model.flow.to(memory_format=torch.channels_last)
    model.feature_extractor.to(memory_format=backbone_layout(device))
    return model.eval()
