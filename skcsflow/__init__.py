"""CS-Flow image anomaly detection as a scikit-learn estimator."""

from skcsflow._detector import PAPER_PARAMS, CSFlowDetector, Inspection, InspectionTable
from skcsflow._features import FeatureCacheInfo, feature_cache_info
from skcsflow._files import load, save
from skcsflow._grouped import GroupedDetector
from skcsflow._regions import Region, find_regions
from skcsflow._version import __version__

__all__ = [
    "PAPER_PARAMS",
    "CSFlowDetector",
    "FeatureCacheInfo",
    "GroupedDetector",
    "Inspection",
    "InspectionTable",
    "Region",
    "__version__",
    "feature_cache_info",
    "find_regions",
    "load",
    "save",
]

for _class in (CSFlowDetector, FeatureCacheInfo, GroupedDetector, Inspection, InspectionTable, Region):
    _class.__module__ = __name__  # where users import it from
