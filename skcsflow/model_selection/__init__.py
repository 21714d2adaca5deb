"""Cross-validation and scoring for any of scikit-learn's outlier detectors."""

from skcsflow.model_selection._scorers import anomaly_average_precision, anomaly_f1, anomaly_roc_auc
from skcsflow.model_selection._split import OneClassKFold

__all__ = ["OneClassKFold", "anomaly_average_precision", "anomaly_f1", "anomaly_roc_auc"]

OneClassKFold.__module__ = __name__  # where users import it from
