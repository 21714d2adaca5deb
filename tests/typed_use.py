"""What type checkers say of a user's code: run by ``mypy --strict`` and ``pyright``, and never executed."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import skcsflow
from skcsflow import CSFlowDetector, GroupedDetector, Inspection, Region
from skcsflow.calibration import conformal_p_values, conformal_threshold
from skcsflow.datasets import list_images
from skcsflow.metrics import pixel_f1_max, pixel_roc_auc_score, pro_auc_score
from skcsflow.model_selection import OneClassKFold
from skcsflow.monitoring import DriftMonitor, discoveries
from skcsflow.nn import CSFlowModel


def use_the_detector(X: list[str]) -> None:
    detector = CSFlowDetector(input_size=(256, 320), random_state=0).fit("parts/good")
    assert_type(detector, CSFlowDetector)
    assert_type(detector.calibrate(X, fpr=0.01), CSFlowDetector)
    assert_type(detector.partial_fit(X), CSFlowDetector)
    assert_type(detector.predict(X), NDArray[np.int64])
    assert_type(detector.fit_predict(X), NDArray[np.int64])
    assert_type(detector.score_samples(X), NDArray[np.float64])
    assert_type(detector.decision_function(X), NDArray[np.float64])
    assert_type(detector.p_values(X), NDArray[np.float64])
    for found in detector.inspect(X):
        assert_type(found, Inspection)
        assert_type(found.regions, list[Region])
    assert_type(detector.score(X), float)
    assert_type(detector.offset_, float)
    skcsflow.save(detector, "detector.skops")


def use_many(table: Any) -> None:
    grouped = GroupedDetector(CSFlowDetector()).fit(table)
    assert_type(grouped, GroupedDetector)
    assert_type(grouped.predict(table), NDArray[np.int64])
    assert_type(grouped.detectors_, dict[Any, CSFlowDetector])


def use_the_tools(scores: NDArray[np.float64], masks: NDArray[np.bool_], maps: NDArray[np.float64]) -> None:
    assert_type(list_images("parts"), list[str])
    assert_type(conformal_threshold(scores, fpr=0.1), float)
    assert_type(conformal_p_values(scores, scores), NDArray[np.float64])
    assert_type(pro_auc_score(masks, maps), float)
    assert_type(pixel_roc_auc_score(masks, maps), float)
    assert_type(pixel_f1_max(masks, maps), float)
    assert_type(pixel_f1_max(masks, maps, return_threshold=True), tuple[float, float])
    assert_type(discoveries(scores), NDArray[np.bool_])
    assert_type(DriftMonitor(scores), DriftMonitor)
    assert_type(OneClassKFold(3), OneClassKFold)
    assert_type(CSFlowModel((256, 256), 16), CSFlowModel)
