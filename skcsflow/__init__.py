"""CS-Flow image anomaly detection as a scikit-learn estimator."""

from skcsflow._cache import FeatureCacheInfo, feature_cache_info
from skcsflow._detector import PAPER_PARAMS, CSFlowDetector

__version__ = "0.1.0"
__all__ = ["PAPER_PARAMS", "CSFlowDetector", "FeatureCacheInfo", "__version__", "feature_cache_info"]
