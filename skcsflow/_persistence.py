"""Fitted model <-> plain numpy arrays and versions, for pickle and joblib."""

import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from skcsflow.nn import CSFlowModel

__all__ = ["pack_model", "unpack_model"]

_VERSIONED = ("skcsflow", "timm", "torch")


def pack_model(model: CSFlowModel) -> dict[str, Any]:
    """Turn a model into plain data, leaving it as it is.

    Parameters
    ----------
    model : CSFlowModel
        The model, on any device.

    Returns
    -------
    dict
        ``config``: what builds such a model; ``arrays``: its state as numpy arrays by
        name; ``versions``: of the packages that made it.
    """
    arrays = {name: t.detach().cpu().numpy().copy() for name, t in model.state_dict().items()}
    return {
        "config": dict(model.config),
        "arrays": arrays,
        "versions": {name: version(name) for name in _VERSIONED},
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
        The model, in evaluation mode. No network access, no weights to find.

    Warns
    -----
    UserWarning
        Where it was packed by another version of a package it depends on.
    """
    for name, stored in packed["versions"].items():
        if stored != (installed := version(name)):
            warnings.warn(
                f"This CSFlowDetector was saved with {name} {stored} and is loaded with {name} {installed}; "
                "scores may differ.",
                UserWarning,
                stacklevel=2,
            )
    model = CSFlowModel(**packed["config"], weights=None)
    arrays = packed["arrays"]
    model.to(torch.from_numpy(np.zeros(0, arrays["feature_extractor.mean"].dtype)).dtype)
    model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    return place_model(model, device)


def place_model(model: CSFlowModel, device: torch.device, dtype: torch.dtype | None = None) -> CSFlowModel:
    """Put a model on a device, in the memory layout that convolutions like best."""
    model.to(device, dtype)
    return model.to(memory_format=torch.channels_last).eval()
