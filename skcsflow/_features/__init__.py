"""Images -> feature maps of the frozen backbone, each image's once: extraction, cache, storage."""

from skcsflow._features._cache import FeatureCache, FeatureCacheInfo, feature_cache_info, open_cache
from skcsflow._features._extraction import (
    FeatureExtraction,
    ImageFeatures,
    ImageSource,
    PendingImage,
    extract_features,
)
from skcsflow._features._storage import FeatureMaps, gather_features, in_batches

__all__ = [
    "FeatureCache",
    "FeatureCacheInfo",
    "FeatureExtraction",
    "FeatureMaps",
    "ImageFeatures",
    "ImageSource",
    "PendingImage",
    "extract_features",
    "feature_cache_info",
    "gather_features",
    "in_batches",
    "open_cache",
]
