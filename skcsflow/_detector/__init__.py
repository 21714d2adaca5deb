"""The estimator: parameters, fit, scores; maps; thresholds; saving; and a table of what it says."""

from skcsflow._detector._estimator import CSFlowDetector
from skcsflow._detector._inspection import Inspection
from skcsflow._detector._parameters import ACTING_AFTER_FIT, PAPER_PARAMS
from skcsflow._detector._table import InspectionTable

__all__ = ["ACTING_AFTER_FIT", "PAPER_PARAMS", "CSFlowDetector", "Inspection", "InspectionTable"]
