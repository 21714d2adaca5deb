"""What the estimator's parameters may be, and the paper's values of them."""

import os
from math import isfinite
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions, validate_parameter_constraints

from skcsflow._checks import check_size
from skcsflow._compute import ENGINES, PRECISIONS
from skcsflow._images import LARGEST_SIDE, SMALLEST_TILE
from skcsflow._training import LR_SCHEDULES
from skcsflow.nn import AnomalyMapMode, ScoreMode

__all__ = [
    "ACTING_AFTER_FIT",
    "MOST_HIDDEN",
    "MOST_KERNEL",
    "PAPER_PARAMS",
    "PARAMETER_CONSTRAINTS",
    "check_counts",
    "check_image_shape",
    "check_input_size",
    "check_parameters_in_use",
    "check_value_range",
]

PAPER_PARAMS: dict[str, Any] = {
    "input_size": 768,
    "backbone": "tf_efficientnet_b5.aa_in1k",
    "strides": (32, 64, 128),
    "n_coupling_blocks": 4,
    "cross_conv_hidden_channels": 1024,
    "kernel_size": (3, 3, 3, 5),
    "clamp": 3.0,
    "whiten": False,
    "n_epochs": 240,
    "batch_size": 16,
    "learning_rate": 2e-4,
    "lr_schedule": "constant",
    "weight_decay": 1e-5,
    "max_grad_norm": 1.0,
    "feature_noise": 0.0,
    "contamination": 0.01,
    "score_mode": "mean",
    "map_mode": "max",
    "precision": "float32",
}
"""The paper's configuration: ``CSFlowDetector(**PAPER_PARAMS)``."""

MOST_HIDDEN = 2**16
"""Hidden channels, at most."""

MOST_KERNEL = 63
"""Size of a kernel, at most."""

MOST_COUNT = 2**31 - 1
"""Epochs, and images of a batch, at most: what torch counts with."""

PARAMETER_CONSTRAINTS: dict[str, list[Any]] = {
    # input
    "input_size": [Interval(Integral, 32, LARGEST_SIDE, closed="both"), "array-like"],
    "roi": ["array-like", str, os.PathLike, None],
    "tile_size": [Interval(Integral, SMALLEST_TILE, LARGEST_SIDE, closed="both"), "array-like", None],
    "tile_overlap": [Interval(Real, 0, 0.9, closed="both")],
    "keep_aspect": ["boolean"],
    "num_channels": [Interval(Integral, 1, 2**12, closed="both")],
    "image_shape": ["array-like", None],
    "value_range": ["array-like", None],
    "on_error": [StrOptions({"raise", "nan"})],
    "max_pixels": [Interval(Integral, 1, None, closed="left"), None],
    # backbone
    "backbone": [str],
    "weights": [str, os.PathLike, None],
    "strides": ["array-like"],
    # flow
    "n_coupling_blocks": [Interval(Integral, 1, 1000, closed="both")],
    "cross_conv_hidden_channels": [Interval(Integral, 1, MOST_HIDDEN, closed="both"), "array-like"],
    "kernel_size": [Interval(Integral, 1, MOST_KERNEL, closed="both"), "array-like"],
    "clamp": [Interval(Real, 0, 50, closed="right")],  # exp(50) is near what float32 holds once it is squared
    "whiten": ["boolean"],
    # training
    "n_epochs": [StrOptions({"auto"}), Interval(Integral, 1, MOST_COUNT, closed="both")],
    "batch_size": [Interval(Integral, 1, MOST_COUNT, closed="both")],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "lr_schedule": [StrOptions(set(LR_SCHEDULES))],
    "weight_decay": [Interval(Real, 0, 100, closed="both")],
    "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
    "feature_noise": [Interval(Real, 0, 100, closed="both")],  # whitened features have a deviation of 1
    "warm_start": ["boolean"],
    "random_state": ["random_state"],
    # decision
    "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
    "score_mode": [StrOptions({str(mode) for mode in ScoreMode})],
    # maps
    "map_mode": [StrOptions({str(mode) for mode in AnomalyMapMode})],
    # computing
    "memory": [None, str, os.PathLike, HasMethods(["cache"])],
    "checkpoint": [None, str, os.PathLike],
    "distributed": ["boolean"],
    "device": [str, torch.device],
    "precision": [StrOptions(set(PRECISIONS))],
    "engine": [StrOptions(set(ENGINES))],
    "n_jobs": [
        Interval(Integral, 1, None, closed="left"),
        Interval(Integral, None, -1, closed="right"),
        None,
    ],
    "verbose": ["verbose"],
}
"""Types and ranges, as scikit-learn's validation takes them."""

ACTING_AFTER_FIT = (
    "image_shape",
    "value_range",
    "on_error",
    "max_pixels",
    "memory",
    "engine",
    "n_jobs",
    "verbose",
)
"""Parameters that are used, and so checked, in every call after `fit` too."""


def check_parameters_in_use(detector: Any, *others: str) -> None:
    """Check the parameters that act after `fit`, and `others`: they may have been set since."""
    names = (*ACTING_AFTER_FIT, *others)
    validate_parameter_constraints(
        {name: PARAMETER_CONSTRAINTS[name] for name in names},
        {name: getattr(detector, name) for name in names},
        caller_name=type(detector).__name__,
    )
    check_image_shape(detector.image_shape)
    check_value_range(detector.value_range)


def check_input_size(input_size: Any) -> tuple[int, int]:
    """Check the parameter `input_size`, and give it as (H, W)."""
    return check_size(input_size, "input_size", least=32, most=LARGEST_SIDE)


def check_image_shape(shape: Any) -> None:
    """Check the parameter `image_shape`."""
    sides = _items(shape)
    is_shape = len(sides) in (2, 3) and all(isinstance(n, Integral) and int(n) > 0 for n in sides)
    if shape is not None and not is_shape:
        raise ValueError(f"image_shape must be None, (H, W) or (H, W, C), got {shape!r}.")


def check_counts(value: Any, name: str, most: int, n: int, of: str) -> tuple[int, ...]:
    """Check a parameter that is one int for all, or an int for each.

    Parameters
    ----------
    value : int or sequence of int
        The parameter.
    name : str
        Its name, for error messages.
    most : int
        The largest value allowed.
    n : int
        How many there are.
    of : str
        What of, for error messages.

    Returns
    -------
    tuple of int
        One for each.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    counts = (value,) * n if isinstance(value, Integral) else _items(value)
    if len(counts) != n or not all(isinstance(k, Integral) and 1 <= int(k) <= most for k in counts):
        raise ValueError(
            f"{name} must be an int from 1 to {most}, or one for each of {n} {of}, got {value!r}."
        )
    return tuple(map(int, counts))


def _items(value: Any) -> tuple[Any, ...]:
    """Items of a sequence or array; none of what is neither."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(value) if isinstance(value, list | tuple) else ()


def check_value_range(value_range: Any) -> tuple[float, float] | None:
    """Check the parameter `value_range`, and give it as floats."""
    if value_range is None:
        return None
    values = _items(value_range)
    if (
        len(values) != 2
        or not all(isinstance(value, Real) and isfinite(value) for value in values)
        or not values[0] < values[1]
    ):
        raise ValueError(
            f"value_range must be None or two numbers, the values of black and of white, the first below the second; "
            f"got {value_range!r}."
        )
    return float(values[0]), float(values[1])
