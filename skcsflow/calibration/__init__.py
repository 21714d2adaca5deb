"""Thresholds for scores, with a guaranteed false-positive rate or chosen by labels; conformal p-values."""

from skcsflow.calibration._thresholds import (
    conformal_p_values,
    conformal_threshold,
    optimal_threshold,
    prediction_limit,
)

__all__ = ["conformal_p_values", "conformal_threshold", "optimal_threshold", "prediction_limit"]
