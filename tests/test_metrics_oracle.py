"""Comparison with anomalib's pixel metrics, whose float32 sums limit the agreement to about 1e-6."""

import numpy as np
import pytest
import torch

from skcsflow.metrics import (
    f1_max,
    pixel_average_precision_score,
    pixel_f1_max,
    pixel_roc_auc_score,
    pro_auc_score,
)

aupro = pytest.importorskip("anomalib.metrics.aupro")
auroc = pytest.importorskip("anomalib.metrics.auroc")
aupr = pytest.importorskip("anomalib.metrics.aupr")
f1_score = pytest.importorskip("anomalib.metrics.f1_score")

pytestmark = pytest.mark.filterwarnings("ignore")  # of anomalib and its dependencies


@pytest.fixture(params=[None, 1], ids=["distinct", "ties"])
def data(request):
    """Six masks and maps of 32 x 32 pixels, with values from 0 to 1, which anomalib takes without a sigmoid."""
    rng = np.random.RandomState(0)
    masks = np.zeros((6, 32, 32), dtype=bool)
    for mask in masks[:5]:
        for _ in range(3):
            row, column = rng.randint(28, size=2)
            mask[row : row + rng.randint(2, 6), column : column + rng.randint(2, 6)] = True
    maps = np.clip(rng.normal(0.3, 0.12, size=masks.shape) + 0.15 * masks, 0, 1)
    maps = maps.astype(np.float32)
    return masks, maps if request.param is None else np.round(maps, request.param)


def anomalib(metric, masks, maps):
    metric.update(torch.from_numpy(maps), torch.from_numpy(masks).int())
    return float(metric.compute())


def test_pixel_roc_auc_score_agrees(data):
    assert pixel_roc_auc_score(*data) == pytest.approx(anomalib(auroc._AUROC(), *data), abs=1e-6)


@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 1.0])
def test_pro_auc_score_agrees(max_fpr, data):
    expected = anomalib(aupro._AUPRO(fpr_limit=max_fpr), *data)
    assert pro_auc_score(*data, max_fpr=max_fpr) == pytest.approx(expected, abs=2e-6)


def test_pixel_f1_max_agrees(data):
    metric = f1_score._F1Max()
    expected = anomalib(metric, *data)
    f1, threshold = pixel_f1_max(*data, return_threshold=True)
    assert f1 == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(data[1] > threshold, data[1] >= float(metric.threshold))


def test_pixel_average_precision_score_agrees(data):
    assert pixel_average_precision_score(*data) == pytest.approx(anomalib(aupr._AUPR(), *data), abs=1e-6)


def test_pixel_roc_auc_score_needs_no_sigmoid_for_values_above_one(data):
    # anomalib puts them through a float32 sigmoid, in which high values become equal.
    masks, maps = data
    beyond = maps * 100
    assert pixel_roc_auc_score(masks, beyond) == pytest.approx(pixel_roc_auc_score(masks, maps), abs=1e-12)
    assert abs(anomalib(auroc._AUROC(), masks, beyond) - pixel_roc_auc_score(masks, beyond)) > 0.01


def test_f1_max_agrees():
    rng = np.random.RandomState(0)
    defect = np.repeat([False, True], [60, 20])
    scores = np.clip(rng.normal(0.4, 0.1, size=80) + 0.1 * defect, 0, 1)
    metric = f1_score._F1Max()
    expected = anomalib(metric, defect, scores)
    f1, threshold = f1_max(defect, scores, return_threshold=True)
    assert f1 == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(scores > threshold, scores >= float(metric.threshold))
