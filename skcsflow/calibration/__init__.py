"""Thresholds for scores: with a promised rate of false alarms, or the best one by labels."""

from skcsflow.calibration._thresholds import conformal_p_values, conformal_threshold, optimal_threshold

__all__ = ["conformal_p_values", "conformal_threshold", "optimal_threshold"]
