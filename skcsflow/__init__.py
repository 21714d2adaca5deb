"""CS-Flow image anomaly detection as a scikit-learn estimator."""

from skcsflow._cache import FeatureCacheInfo, feature_cache_info
from skcsflow._detector import PAPER_PARAMS, CSFlowDetector
from skcsflow._regions import Region, find_regions

__version__ = "0.1.0"
__all__ = [
    "PAPER_PARAMS",
    "CSFlowDetector",
    "FeatureCacheInfo",
    "Region",
    "__version__",
    "feature_cache_info",
    "find_regions",
]
