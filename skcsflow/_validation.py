"""What the parameters and y of the estimator may be."""

import os
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skcsflow._device import PRECISIONS
from skcsflow._training import LR_SCHEDULES
from skcsflow.nn import AnomalyMapMode, ScoreMode

__all__ = [
    "PAPER_PARAMS",
    "PARAMETER_CONSTRAINTS",
    "check_feature_smoothing",
    "check_image_shape",
    "check_input_size",
    "normal_rows",
]

PAPER_PARAMS: dict[str, Any] = {
    "backbone": "tf_efficientnet_b5.aa_in1k",
    "input_size": 768,
    "n_coupling_blocks": 4,
    "cross_conv_hidden_channels": 1024,
    "clamp": 3.0,
    "whiten": False,
    "feature_noise": 0.0,
    "feature_smoothing": 1,
    "n_epochs": 240,
    "batch_size": 16,
    "learning_rate": 2e-4,
    "lr_schedule": "constant",
    "weight_decay": 1e-5,
    "max_grad_norm": 1.0,
    "score_mode": "mean",
    "map_mode": "max",
    "map_smoothing": 0.0,
}
"""The paper's configuration: ``CSFlowDetector(**PAPER_PARAMS)``."""

PARAMETER_CONSTRAINTS: dict[str, list[Any]] = {
    "n_coupling_blocks": [Interval(Integral, 1, None, closed="left")],
    "cross_conv_hidden_channels": [Interval(Integral, 1, None, closed="left")],
    "clamp": [Interval(Real, 0, None, closed="neither")],
    "num_channels": [Interval(Integral, 1, None, closed="left")],
    "backbone": [str],
    "weights": [str, os.PathLike, None],
    "input_size": [Interval(Integral, 32, None, closed="left"), tuple, list],
    "whiten": ["boolean"],
    "feature_noise": [Interval(Real, 0, None, closed="left")],
    "feature_smoothing": [Interval(Integral, 1, None, closed="left")],
    "n_epochs": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "lr_schedule": [StrOptions(set(LR_SCHEDULES))],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
    "contamination": [Interval(Real, 0, 0.5, closed="right")],
    "score_mode": [StrOptions({str(mode) for mode in ScoreMode})],
    "map_mode": [StrOptions({str(mode) for mode in AnomalyMapMode})],
    "map_smoothing": [Interval(Real, 0, None, closed="left")],
    "map_size": [StrOptions({"auto", "image"})],
    "image_shape": [tuple, list, None],
    "memory": [None, str, os.PathLike, HasMethods(["cache"])],
    "store_backbone": ["boolean"],
    "device": [str, torch.device],
    "precision": [StrOptions(set(PRECISIONS))],
    "engine": [StrOptions({"torch", "openvino"})],
    "n_jobs": [
        Interval(Integral, 1, None, closed="left"),
        Interval(Integral, None, -1, closed="right"),
        None,
    ],
    "random_state": ["random_state"],
    "warm_start": ["boolean"],
    "verbose": ["verbose"],
}
"""Types and ranges, as scikit-learn's validation takes them."""


def check_input_size(input_size: Any) -> tuple[int, int]:
    """Check the parameter `input_size`, and give it as (H, W)."""
    size = (input_size, input_size) if isinstance(input_size, Integral) else tuple(input_size)
    if len(size) != 2 or not all(isinstance(n, Integral) and int(n) >= 32 for n in size):
        raise ValueError(
            f"input_size must be an int or a pair of ints (H, W), each 32 or more, got {input_size!r}."
        )
    return int(size[0]), int(size[1])


def check_feature_smoothing(smoothing: int) -> None:
    """Check that the parameter `feature_smoothing` is odd."""
    if smoothing % 2 == 0:
        raise ValueError(f"feature_smoothing must be odd, got {smoothing!r}.")


def check_image_shape(shape: Any) -> None:
    """Check the parameter `image_shape`."""
    if shape is not None and (
        len(shape) not in (2, 3) or not all(isinstance(n, Integral) and int(n) > 0 for n in shape)
    ):
        raise ValueError(f"image_shape must be None, (H, W) or (H, W, C), got {shape!r}.")


def normal_rows(y: ArrayLike | None, n: int) -> NDArray[np.int64]:
    """Rows to learn from: all, less those that a y of exactly +1 and -1 labels -1."""
    rows = np.arange(n)
    if y is None:
        return rows
    labels = np.asarray(y)
    if labels.shape[:1] != (n,):
        raise ValueError(f"X has {n} images, but y has shape {labels.shape}.")
    if labels.shape == (n, 1):  # a data frame's column
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iufO":
        return rows
    if not all(isinstance(label, Real) and abs(label) == 1 for label in labels.tolist()):
        return rows
    rows = rows[labels == 1]
    if len(rows) == 0:
        raise ValueError("y labels every row -1, so there is no normal image to learn from.")
    return rows
