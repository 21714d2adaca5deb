"""The estimator: parameters, fit, scores; maps; thresholds; saving."""

from skcsflow._detector._estimator import CSFlowDetector
from skcsflow._detector._inspection import Inspection
from skcsflow._detector._parameters import PAPER_PARAMS

__all__ = ["PAPER_PARAMS", "CSFlowDetector", "Inspection"]
