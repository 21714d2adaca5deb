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


def of_ranks(maps):
    """Ranks of the values in place of them, and how many thresholds put one on each rank and one between."""
    _, ranks = np.unique(maps, return_inverse=True)
    ranks = ranks.reshape(maps.shape).astype(np.float64)
    return ranks, 2 * int(ranks[:10].max() - ranks[:10].min()) + 1


def anomalib_aupimo(masks, maps, n_thresholds, bounds):
    metric = pimo._AUPIMO(n_thresholds, bounds, return_average=False, force=True)
    metric.update(torch.from_numpy(maps), torch.from_numpy(masks).int())
    return metric.compute()[1].aupimos.numpy()


def rates_near(maps, bounds):
    """The false-positive rates that are nearest to the bounds."""
    good = np.sort(maps[:10].ravel())
    rates = 1 - np.searchsorted(good, np.unique(good)) / len(good)
    return tuple(float(rates[np.argmin(np.abs(rates - bound))]) for bound in bounds)


@pytest.mark.parametrize("seed", range(6))
def test_aupimo_score_agrees(seed):
    masks, maps = structured(seed)
    ranks, n_thresholds = of_ranks(maps)
    for bounds in ((0.0005, 0.005), (0.01, 0.3)):
        near = rates_near(maps, bounds)
        expected = anomalib_aupimo(masks, ranks, n_thresholds, near)
        actual = aupimo_score(masks, maps, fpr_bounds=near, per_image=True)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
        mean = aupimo_score(masks, maps, fpr_bounds=near)
        assert mean == pytest.approx(np.nanmean(expected), abs=1e-12)


def test_aupimo_score_agrees_with_default_thresholds():
    masks, maps = structured(2)
    expected = anomalib_aupimo(masks, maps, 300_000, (0.001, 0.01))
    actual = aupimo_score(masks, maps, fpr_bounds=(0.001, 0.01), per_image=True)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_aupimo_score_cuts_at_the_bounds_where_anomalib_takes_the_nearest_rates(seed):
    # It divides by the range between the bounds nevertheless.
    masks, maps = structured(seed)
    ranks, n_thresholds = of_ranks(maps)
    bounds = (0.00273, 0.03113)
    near = rates_near(maps, bounds)
    ratio = np.log(near[1] / near[0]) / np.log(bounds[1] / bounds[0])
    expected = anomalib_aupimo(masks, ranks, n_thresholds, bounds)
    actual = ratio * aupimo_score(masks, maps, fpr_bounds=near, per_image=True)
    np.testing.assert_allclose(np.minimum(actual, 1), expected, rtol=0, atol=1e-12)
    assert (
        1e-4
        < np.nanmax(np.abs(aupimo_score(masks, maps, fpr_bounds=bounds, per_image=True) - expected))
        < 0.05
    )
