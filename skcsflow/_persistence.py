"""Fitted model <-> plain numpy arrays and versions, for pickle and joblib."""

import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from skcsflow.nn import CSFlowModel
from skcsflow.nn._weights import local_weights

__all__ = ["pack_model", "unpack_model"]

_EXTRACTOR = "feature_extractor."
_VERSIONED = ("skcsflow", "timm", "torch")


def pack_model(model: CSFlowModel, *, with_backbone: bool = True) -> dict[str, Any]:
    """Turn a model into plain data, leaving it as it is.

    Parameters
    ----------
    model : CSFlowModel
        The model, on any device.
    with_backbone : bool, default=True
        Whether the backbone's weights are among the arrays.

    Returns
    -------
    dict
        ``config``: what builds such a model; ``arrays``: its state as numpy arrays by
        name; ``fingerprint``: of the feature extractor; ``versions``: of the packages
        that made it.
    """
    arrays = {
        name: t.detach().cpu().numpy().copy()
        for name, t in model.state_dict().items()
        if with_backbone or not name.startswith(_EXTRACTOR)
    }
    return {
        "config": dict(model.config),
        "arrays": arrays,
        "fingerprint": model.feature_extractor.fingerprint(),
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
        The model, in evaluation mode. No network is touched.

    Raises
    ------
    OSError
        Where it was packed without the backbone's weights, and they aren't here.
    ValueError
        Where those that are here are others.

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
    config, arrays = packed["config"], packed["arrays"]
    has_backbone = any(name.startswith(_EXTRACTOR) for name in arrays)
    try:
        weights = None if has_backbone else local_weights(config["backbone"], config["weights"])
        model = CSFlowModel(**{**config, "weights": weights})
    except OSError as error:
        raise OSError(
            f"This CSFlowDetector was saved with store_backbone=False, and the weights={config['weights']!r} of "
            f"its backbone={config['backbone']!r} are not here. {error}"
        ) from error
    model.config["weights"] = config["weights"]
    dtype = next(array.dtype for array in arrays.values() if array.dtype.kind == "f")
    model.to(torch.from_numpy(np.zeros(0, dtype)).dtype)
    # Copies only of what torch can't take as it is: the paper's flow alone has 1.1 GB.
    state = {name: torch.from_numpy(a if a.flags.writeable else a.copy()) for name, a in arrays.items()}
    extractor_state = {} if has_backbone else model.feature_extractor.state_dict(prefix=_EXTRACTOR)
    model.load_state_dict({**extractor_state, **state})
    if (found := model.feature_extractor.fingerprint()) != packed["fingerprint"]:
        raise ValueError(
            f"The backbone={config['backbone']!r} with weights={config['weights']!r} that was found here is not "
            f"the one that this CSFlowDetector was fitted with: its fingerprint is {found}, not "
            f"{packed['fingerprint']}."
        )
    return place_model(model, device)


def place_model(model: CSFlowModel, device: torch.device, dtype: torch.dtype | None = None) -> CSFlowModel:
    """Put a model on a device, in the memory layout that convolutions like best."""
    model.to(device, dtype)
    return model.to(memory_format=torch.channels_last).eval()
