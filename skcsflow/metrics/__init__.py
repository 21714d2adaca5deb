"""Metrics: how well anomaly maps find defective pixels, and scores defective images.

They take arrays of masks, maps and scores of any model.
"""

from skcsflow.metrics._aupimo import aupimo_score
from skcsflow.metrics._image import f1_max
from skcsflow.metrics._pixel import (
    pixel_average_precision_score,
    pixel_f1_max,
    pixel_roc_auc_score,
    pro_auc_score,
    pro_score,
)

__all__ = [
    "aupimo_score",
    "f1_max",
    "pixel_average_precision_score",
    "pixel_f1_max",
    "pixel_roc_auc_score",
    "pro_auc_score",
    "pro_score",
]
