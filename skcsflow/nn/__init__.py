"""The CS-Flow model in torch. It knows nothing of scikit-learn and can be used alone."""

from skcsflow.nn._anomaly_map import (
    AnomalyMapGenerator,
    AnomalyMapMode,
    ScoreMode,
    anomaly_score,
    log_likelihood,
)
from skcsflow.nn._coupling import CrossScaleCoupling, CrossScaleSubnet
from skcsflow.nn._energies import EnergyStatistics
from skcsflow.nn._extractor import MultiScaleFeatureExtractor
from skcsflow.nn._extractor import check_strides as check_strides
from skcsflow.nn._flow import CrossScaleFlow
from skcsflow.nn._loss import CSFlowLoss
from skcsflow.nn._model import CSFlowModel, CSFlowOutput
from skcsflow.nn._resampling import interpolation_matrix
from skcsflow.nn._whitening import ScaleWhitening

__all__ = [
    "AnomalyMapGenerator",
    "AnomalyMapMode",
    "CSFlowLoss",
    "CSFlowModel",
    "CSFlowOutput",
    "CrossScaleCoupling",
    "CrossScaleFlow",
    "CrossScaleSubnet",
    "EnergyStatistics",
    "MultiScaleFeatureExtractor",
    "ScaleWhitening",
    "ScoreMode",
    "anomaly_score",
    "interpolation_matrix",
    "log_likelihood",
]

for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__  # where users import it from
