"""The estimator: parameters, fit, scores; maps; thresholds; saving; a table of what it says."""

from skcsflow._detector._estimator import DOCUMENTATION, CSFlowDetector
from skcsflow._detector._inspection import Inspection
from skcsflow._detector._parameters import ACTING_AFTER_FIT, PAPER_PARAMS
from skcsflow._detector._persistence import pack_together, share_backbone, unpack_together
from skcsflow._detector._table import InspectionTable

__all__ = [
    "ACTING_AFTER_FIT",
    "DOCUMENTATION",
    "PAPER_PARAMS",
    "CSFlowDetector",
    "Inspection",
    "InspectionTable",
    "pack_together",
    "share_backbone",
    "unpack_together",
]
