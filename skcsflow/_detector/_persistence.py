"""Fitted model <-> plain numpy arrays and versions, for pickle and joblib."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import timm
import torch

from skcsflow._checks import warn
from skcsflow._compute import backbone_layout
from skcsflow._digests import digest_of
from skcsflow._version import __version__
from skcsflow.nn import CSFlowModel, MultiScaleFeatureExtractor

__all__ = [
    "digest_of_state",
    "pack_model",
    "pack_together",
    "place_model",
    "share_backbone",
    "unpack_model",
    "unpack_together",
    "warn_of_other_versions",
]

_BACKBONE = "feature_extractor"
"""The part of a model that is the same in all detectors with its fingerprint."""

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
        ``config``: what builds such a model; ``arrays``: of each of its parts the state, as numpy arrays by
        name; ``fingerprint``: of the feature extractor; ``versions``: of the packages
        that made it.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile wraps the model
    return {
        "config": dict(model.config),
        "arrays": {
            part: {name: t.detach().cpu().numpy().copy() for name, t in module.state_dict().items()}
            for part, module in model.named_children()
        },
        "fingerprint": model.feature_extractor.fingerprint(),
        "versions": dict(_VERSIONS),
    }


def unpack_model(packed: dict[str, Any], device: torch.device) -> CSFlowModel:
    """Build the model that :func:`pack_model` was given.

    Parameters
    ----------
    packed : dict
        What :func:`pack_model` returned. In ``arrays``, the ``feature_extractor`` may be a
        :class:`~skcsflow.nn.MultiScaleFeatureExtractor` of that fingerprint, which the model shares with others.
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
    config, arrays = packed["config"], dict(packed["arrays"])
    shared = arrays.pop(_BACKBONE) if isinstance(arrays[_BACKBONE], MultiScaleFeatureExtractor) else None
    model = CSFlowModel(**{**config, "weights": None}, feature_extractor=shared)
    model.config["weights"] = config["weights"]
    dtype = next(array.dtype for array in arrays["flow"].values() if array.dtype.kind == "f")
    model.to(torch.from_numpy(np.zeros(0, dtype)).dtype)
    for part, state in arrays.items():
        # Copies only of what torch can't take as it is: the paper's flow alone has 1.1 GB.
        tensors = {name: torch.from_numpy(a if a.flags.writeable else a.copy()) for name, a in state.items()}
        model.get_submodule(part).load_state_dict(tensors)
    if shared is None and (found := model.feature_extractor.fingerprint()) != packed["fingerprint"]:
        raise ValueError(
            f"The backbone={config['backbone']!r} that was built here is not the one that this CSFlowDetector was "
            f"fitted with: its fingerprint is {found}, not {packed['fingerprint']}. The file may be damaged, or timm "
            "another version."
        )
    return place_model(model, device)


def digest_of_state(state: dict[str, Any]) -> str:
    """A digest of a detector's state, in which the fingerprint stands for the backbone's arrays."""
    packed = state["model_"]
    arrays = {part: a for part, a in packed["arrays"].items() if part != _BACKBONE}
    return digest_of({**state, "model_": {**packed, "arrays": arrays}})


def share_backbone(model: CSFlowModel, backbones: dict[tuple[str, str], MultiScaleFeatureExtractor]) -> None:
    """Give a model the backbone of others that has the same weights, or note its own for others.

    Parameters
    ----------
    model : CSFlowModel
        The model.
    backbones : dict of (str, str) to MultiScaleFeatureExtractor
        Backbones by fingerprint and device.
    """
    extractor = model.feature_extractor
    model.feature_extractor = backbones.setdefault((extractor.fingerprint(), str(model.device)), extractor)


def pack_together(detectors: Iterable[Any]) -> dict[str, Any]:
    """Turn fitted detectors into plain data, with each backbone once.

    Parameters
    ----------
    detectors : iterable of CSFlowDetector
        The detectors, which stay as they are.

    Returns
    -------
    dict
        ``states``: a list of what pickle would take of each, but without their backbones; ``backbones``: those, by
        their fingerprints.
    """
    states: list[dict[str, Any]] = []
    backbones: dict[str, dict[str, Any]] = {}
    for detector in detectors:
        state = detector.__getstate__()
        backbone = state["model_"]["arrays"].pop(_BACKBONE)
        backbones.setdefault(state["model_"]["fingerprint"], backbone)
        states.append(state)
    return {"states": states, "backbones": backbones}


def unpack_together(packed: dict[str, Any], new: Callable[[], Any]) -> Iterator[Any]:
    """Build the detectors that :func:`pack_together` was given; they share their backbones.

    Parameters
    ----------
    packed : dict
        What :func:`pack_together` returned.
    new : callable
        Makes a detector that isn't fitted.

    Yields
    ------
    CSFlowDetector
        The detectors, in turn.

    Raises
    ------
    ValueError
        Where a backbone isn't the one that was packed, or anything else was damaged.
    """
    backbones = dict(packed["backbones"])
    for state in packed["states"]:
        model = state["model_"]
        arrays = {**model["arrays"], _BACKBONE: backbones[model["fingerprint"]]}
        detector = new()
        detector.__setstate__({**state, "model_": {**model, "arrays": arrays}})
        backbones[model["fingerprint"]] = detector.model_.feature_extractor
        yield detector


def warn_of_other_versions(packed: dict[str, Any]) -> None:
    """Warn where a model was packed by another version of a package it depends on."""
    for name, stored in packed["versions"].items():
        if stored != _VERSIONS[name]:
            warn(
                f"This CSFlowDetector was saved with {name} {stored} and is loaded with {name} {_VERSIONS[name]}; "
                "scores may differ.",
                UserWarning,
            )


def place_model(model: CSFlowModel, device: torch.device, dtype: torch.dtype | None = None) -> CSFlowModel:
    """Put a model on a device, in the memory layout that convolutions like best."""
    model.to(device, dtype)
    model.flow.to(memory_format=torch.channels_last)
    model.feature_extractor.to(memory_format=backbone_layout(device))
    return model.eval()
