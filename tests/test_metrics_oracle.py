"""Comparison with anomalib's pixel metrics, whose float32 sums limit the agreement to about 1e-6.

Its AUPIMO counts in float64, and takes thresholds at equal distances.
"""

import numpy as np
import pytest
import torch
from scipy import ndimage

from skcsflow.metrics import (
    aupimo_score,
    f1_max,
    pixel_average_precision_score,
    pixel_f1_max,
    pixel_roc_auc_score,
    pro_auc_score,
)

aupro = pytest.importorskip("anomalib.metrics.aupro")
auroc = pytest.importorskip("anomalib.metrics.auroc")
aupr = pytest.importorskip("anomalib.metrics.aupr")
pimo = pytest.importorskip("anomalib.metrics.pimo.pimo")
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


def structured(seed):
    """Masks and maps of ten good images and of ten with a defect; the maps are smooth, noisy or coarse."""
    rng = np.random.RandomState(seed)
    masks = np.zeros((20, 20, 25), dtype=bool)
    for mask in masks[10:]:
        row, column = rng.randint(15, size=2)
        mask[row : row + rng.randint(2, 9), column : column + rng.randint(2, 9)] = True
        mask[rng.rand(20, 25) < 0.2] = False
        mask[row, column] = True
    maps = rng.normal(size=masks.shape)
    if seed % 3 == 0:
        maps = 4 * ndimage.gaussian_filter(maps, (0, 1.5, 1.5))
    maps += rng.uniform(0, 4, size=(20, 1, 1)) * masks
    return masks, np.round(maps, 2) if seed % 3 == 1 else maps


def of_ranks(maps, n_good=10):
    """Ranks of the values in place of them, and how many thresholds put one on each rank and one between."""
    _, ranks = np.unique(maps, return_inverse=True)
    ranks = ranks.reshape(maps.shape).astype(np.float64)
    return ranks, 2 * int(ranks[:n_good].max() - ranks[:n_good].min()) + 1


def anomalib_aupimo(masks, maps, n_thresholds, bounds):
    metric = pimo._AUPIMO(n_thresholds, bounds, return_average=False, force=True)
    metric.update(torch.from_numpy(maps), torch.from_numpy(masks).int())
    return metric.compute()[1].aupimos.numpy()


def of_counts(lower, upper):
    """Bounds that are 5,000ths: the numbers of good pixels above the threshold."""
    return lower / 5000, upper / 5000


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "bounds",
    [
        (0.001, 0.01),  # 5 and 50 pixels
        (0.00273, 0.03113),  # 13.65 and 155.65
        of_counts(1.3, 8.7),  # a perfect map scores 1.16, but for the clipping,
        of_counts(1.7, 8.3),  # and 0.87
        of_counts(2.1, 3.9),
        (0.0712, 1),
        None,
    ],
)
def test_aupimo_score_agrees(bounds, seed):
    masks, maps = structured(seed)
    ranks, n_thresholds = of_ranks(maps)
    if bounds is None:
        bounds = tuple(
            np.exp(np.sort(np.random.RandomState(seed).uniform(np.log(0.0003), 0, size=2))).tolist()
        )
    expected = anomalib_aupimo(masks, ranks, n_thresholds, bounds)
    actual = aupimo_score(masks, maps, fpr_bounds=bounds, per_image=True)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
    mean = aupimo_score(masks, maps, fpr_bounds=bounds)
    assert mean == pytest.approx(np.nanmean(expected), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "bounds"),
    [(2, (0.001, 0.01)), (2, (0.00273, 0.03113)), (5, of_counts(1.7, 8.3)), (1, (0.0123, 0.2))],
)
def test_aupimo_score_agrees_with_default_thresholds(seed, bounds):
    masks, maps = structured(seed)
    expected = anomalib_aupimo(masks, maps, 300_000, bounds)
    actual = aupimo_score(masks, maps, fpr_bounds=bounds, per_image=True)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


def test_aupimo_score_agrees_that_bounds_with_the_same_nearest_rate_are_an_error():
    masks, maps = structured(2)
    ranks, n_thresholds = of_ranks(maps)
    for bounds in (of_counts(2.6, 3.4), of_counts(0.9, 7)):
        with pytest.raises((RuntimeError, ValueError)):
            anomalib_aupimo(masks, ranks, n_thresholds, bounds)
        with pytest.raises(ValueError, match="can't be resolved"):
            aupimo_score(masks, maps, fpr_bounds=bounds)
