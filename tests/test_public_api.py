"""What users may import and call. What goes or changes here needs the deprecation that CONTRIBUTING.md promises."""

import importlib
import pkgutil

import skcsflow

NAMES = {
    "skcsflow": [
        "CSFlowDetector",
        "FeatureCacheInfo",
        "GroupedDetector",
        "Inspection",
        "InspectionTable",
        "PAPER_PARAMS",
        "Region",
        "__version__",
        "feature_cache_info",
        "find_regions",
        "load",
        "save",
    ],
    "skcsflow.calibration": [
        "conformal_p_values",
        "conformal_threshold",
        "optimal_threshold",
        "prediction_limit",
    ],
    "skcsflow.cli": ["main"],
    "skcsflow.datasets": [
        "DEFECTS",
        "SURFACES",
        "list_images",
        "load_elpv",
        "load_image_folder",
        "make_defects",
        "read_mask",
    ],
    "skcsflow.export": ["to_onnx", "verify_onnx"],
    "skcsflow.metrics": [
        "aupimo_score",
        "f1_max",
        "pixel_average_precision_score",
        "pixel_f1_max",
        "pixel_roc_auc_score",
        "pro_auc_score",
        "pro_score",
    ],
    "skcsflow.model_selection": [
        "OneClassKFold",
        "anomaly_average_precision",
        "anomaly_f1",
        "anomaly_roc_auc",
    ],
    "skcsflow.monitoring": ["DriftMonitor", "discoveries"],
    "skcsflow.nn": [
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
    ],
    "skcsflow.plotting": ["AnomalyMapDisplay", "HistoryDisplay", "RocByKindDisplay", "ScoreHistogramDisplay"],
    "skcsflow.report": ["write_report"],
    "skcsflow.serving": ["create_app", "serve", "watch"],
}
METHODS = {
    "CSFlowDetector": [
        "calibrate",
        "decision_function",
        "fit",
        "fit_predict",
        "get_feature_names_out",
        "inspect",
        "iter_maps",
        "p_values",
        "partial_fit",
        "predict",
        "predict_masks",
        "predict_regions",
        "save_maps",
        "score",
        "score_samples",
        "transform",
    ],
    "GroupedDetector": [
        "calibrate",
        "decision_function",
        "fit",
        "fit_predict",
        "p_values",
        "predict",
        "score",
        "score_samples",
    ],
}


def test_public_modules_export_these_names_and_no_others():
    modules = [
        f"skcsflow.{m.name}" for m in pkgutil.iter_modules(skcsflow.__path__) if not m.name.startswith("_")
    ]
    found = {name: sorted(importlib.import_module(name).__all__) for name in ["skcsflow", *modules]}
    assert found == NAMES


def test_detectors_have_these_methods_and_no_others():
    for name, methods in METHODS.items():
        kind = getattr(skcsflow, name)
        ours = [k for k in kind.__mro__ if k.__module__.split(".")[0] == "skcsflow"]
        assert sorted({n for k in ours for n in vars(k) if not n.startswith("_")}) == methods, name
