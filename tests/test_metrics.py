"""Metrics of maps and scores, against scikit-learn and against loops over thresholds."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import ndimage
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from skcsflow.datasets import load_image_folder, read_mask
from skcsflow.metrics import (
    aupimo_score,
    f1_max,
    pixel_average_precision_score,
    pixel_f1_max,
    pixel_roc_auc_score,
    pro_auc_score,
    pro_score,
)

PIXEL_METRICS = [pixel_roc_auc_score, pixel_average_precision_score, pixel_f1_max]
METRICS = [*PIXEL_METRICS, pro_auc_score]
EXACT = {"rel": 0, "abs": 1e-12}


def sklearn_f1_max(y, scores, sample_weight=None):
    """The best F1 score, and how many scores are called defective for it, as few as that takes."""
    precision, recall, thresholds = precision_recall_curve(y, scores, sample_weight=sample_weight)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)[:-1]
    return f1.max(), np.sum(scores >= thresholds[np.flatnonzero(f1 >= f1.max() - 1e-15)[-1]])


EXPECTED = {
    pixel_roc_auc_score: roc_auc_score,
    pixel_average_precision_score: average_precision_score,
    pixel_f1_max: lambda *args, **kwargs: sklearn_f1_max(*args, **kwargs)[0],
}


def make_masks(rng, shapes, share_good=0.3):
    """Rectangles, some of which touch or overlap; some images have none."""
    masks = []
    for height, width in shapes:
        mask = np.zeros((height, width), dtype=bool)
        for _ in range(0 if rng.rand() < share_good else rng.randint(1, 4)):
            row, column = rng.randint(height), rng.randint(width)
            mask[row : row + rng.randint(1, 6), column : column + rng.randint(1, 6)] = True
        masks.append(mask)
    return masks


def make_maps(rng, masks, shift=1.0, decimals=None):
    """Heavy-tailed values, with ties where they are rounded."""
    maps = [(rng.normal(size=mask.shape) + shift * mask) ** 3 for mask in masks]
    return maps if decimals is None else [np.round(m, decimals) for m in maps]


@pytest.fixture(params=[None, 0], ids=["distinct", "ties"])
def data(request):
    """Stacks of 8 masks and maps of 20 x 24 pixels."""
    rng = np.random.RandomState(0)
    masks = make_masks(rng, [(20, 24)] * 8)
    return np.array(masks), np.array(make_maps(rng, masks, decimals=request.param))


@pytest.fixture(scope="module")
def many():
    """24 masks of 64 x 64 pixels with defects in 3 % of them, and standard normal noise to make maps of."""
    rng = np.random.RandomState(1)
    masks = np.array(make_masks(rng, [(64, 64)] * 24, share_good=0))
    masks[:, 20:30, 20:30] |= rng.rand(24, 1, 1) < 0.5
    return masks, rng.normal(size=masks.shape) + 1.5 * masks


def slow_pro_curve(masks, maps, weights=None):
    """Every threshold in turn, every region in turn."""
    weights = np.ones(len(masks)) if weights is None else weights
    regions, normal = [], []
    for mask, amap, weight in zip(masks, maps, weights, strict=True):
        labels, n = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(amap[labels == k], weight) for k in range(1, n + 1)]
        normal.append((amap[~mask], weight))
    curve = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        fp = sum(w * np.sum(values >= threshold) for values, w in normal)
        overlap = sum(w * np.mean(values >= threshold) for values, w in regions)
        curve.append((fp / sum(w * v.size for v, w in normal), overlap / sum(w for _, w in regions)))
    return curve


def slow_area(curve, max_fpr):
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x1 > max_fpr:
            y1 = y0 + (y1 - y0) * (max_fpr - x0) / (x1 - x0)
            return (area + (max_fpr - x0) * (y0 + y1) / 2) / max_fpr
        area += (x1 - x0) * (y0 + y1) / 2
    return area / max_fpr


# Values


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("metric", PIXEL_METRICS)
def test_pixel_metric_agrees_with_sklearn(metric, weighted, data):
    masks, maps = data
    weights = np.random.RandomState(2).rand(len(masks)) if weighted else None
    if weighted:
        weights[3] = 0
    of_pixels = None if weights is None else np.repeat(weights, masks[0].size)
    expected = EXPECTED[metric](masks.ravel(), maps.ravel(), sample_weight=of_pixels)
    actual = metric(masks, maps, sample_weight=weights)
    assert type(actual) is float
    assert actual == pytest.approx(expected, **EXACT)


@pytest.mark.parametrize("metric", PIXEL_METRICS)
def test_pixel_metric_random_mixed_sizes_agrees_with_sklearn(metric):
    for seed in range(20):
        rng = np.random.RandomState(seed)
        shapes = [tuple(rng.randint(1, 12, size=2)) for _ in range(rng.randint(2, 6))]
        masks = [rng.rand(*shape) < rng.rand() for shape in shapes]
        masks[0][0, 0], masks[1][0, 0] = True, False
        maps = make_maps(rng, masks, decimals=rng.randint(-1, 2))
        weights = rng.randint(0, 3, size=len(masks)) if seed % 2 else np.ones(len(masks))
        weights[:2] = 1, 2
        y, scores = (np.concatenate([a.ravel() for a in arrays]) for arrays in (masks, maps))
        of_pixels = np.repeat(weights, [m.size for m in masks])
        expected = EXPECTED[metric](y, scores, sample_weight=of_pixels)
        assert metric(masks, maps, sample_weight=weights) == pytest.approx(expected, **EXACT)


def test_pixel_f1_max_threshold_gives_the_score_and_is_the_highest(data):
    masks, maps = data
    f1, threshold = pixel_f1_max(masks, maps, return_threshold=True)
    expected, n_called = sklearn_f1_max(masks.ravel(), maps.ravel())
    called = maps > threshold
    assert called.sum() == np.sum(maps >= threshold) == n_called
    assert 2 * np.sum(called & masks) / (called.sum() + masks.sum()) == pytest.approx(f1, **EXACT)
    assert f1 == pytest.approx(expected, **EXACT)


def test_pixel_f1_max_threshold_of_equal_scores_is_the_highest():
    # 1 of 1 and 2 of 4 both make 2/3.
    masks, maps = np.array([[[1, 0, 0, 1]]]), np.array([[[9, 5, 5, 5]]])  # half-way from 9 to 5 is 7
    assert pixel_f1_max(masks, maps, return_threshold=True) == (2 / 3, 7)


@pytest.mark.parametrize("weighted", [False, True])
def test_pro_auc_score_agrees_with_a_loop_over_thresholds(weighted, data):
    masks, maps = (stack[:, :14, :14] for stack in data)
    weights = np.arange(8) / 2 if weighted else None
    curve = slow_pro_curve(masks, maps, weights)
    areas = []
    for max_fpr in (0.003, 0.05, 0.3, 0.77, 1.0, 1):
        areas.append(pro_auc_score(masks, maps, max_fpr=max_fpr, sample_weight=weights))
        assert type(areas[-1]) is float
        assert areas[-1] == pytest.approx(slow_area(curve, max_fpr), **EXACT)
    assert 0 <= areas[0] < areas[1] < areas[2] < areas[3] < areas[4] < 0.95


def test_pro_auc_score_random_mixed_sizes_agrees_with_a_loop_over_thresholds():
    for seed in range(20):
        rng = np.random.RandomState(seed)
        masks = [rng.rand(*rng.randint(2, 9, size=2)) < 0.3 for _ in range(3)]
        masks[0][:2, 0] = True, False
        maps = make_maps(rng, masks, decimals=rng.randint(-1, 3))
        max_fpr = rng.uniform(0.01, 1)
        expected = slow_area(slow_pro_curve(masks, maps), max_fpr)
        assert pro_auc_score(masks, maps, max_fpr=max_fpr) == pytest.approx(expected, **EXACT)


def test_pro_auc_score_default_max_fpr_is_three_tenths(data):
    assert pro_auc_score(*data) == pro_auc_score(*data, max_fpr=0.3)


def test_pro_auc_score_of_one_region_is_the_roc_auc():
    rng = np.random.RandomState(0)
    mask = np.zeros((1, 20, 20), dtype=bool)
    mask[0, 5:9, 5:9] = True
    maps = rng.normal(size=mask.shape) + mask
    assert pro_auc_score(mask, maps, max_fpr=1) == pytest.approx(pixel_roc_auc_score(mask, maps), **EXACT)


def test_pro_auc_score_regions_of_different_size_count_alike():
    masks, maps = np.zeros((1, 40, 40)), np.zeros((1, 40, 40))
    masks[0, :30, :30] = masks[0, 35:37, 35:37] = 1
    large_found, small_found = maps.copy(), maps.copy()
    large_found[0, :30, :30] = small_found[0, 35:37, 35:37] = 1
    # One region is found at once, the other rises from 0 to 1 with all normal pixels: 1/2 + 1/2 * 0.3 / 2.
    assert pro_auc_score(masks, large_found) == pytest.approx(0.575, **EXACT)
    assert pro_auc_score(masks, small_found) == pytest.approx(0.575, **EXACT)
    assert pixel_roc_auc_score(masks, large_found) > 0.99
    assert pixel_roc_auc_score(masks, small_found) < 0.51


def test_pro_auc_score_diagonal_neighbours_are_one_region():
    masks, maps = np.zeros((1, 6, 6)), np.zeros((1, 6, 6))
    masks[0, 0, 0] = masks[0, 1, 1] = masks[0, 0, 2] = masks[0, 5, 5] = 1
    maps[0, 5, 5] = 1
    assert pro_auc_score(masks, maps) == pytest.approx(0.575, **EXACT)  # 1 of 2 regions, not 1 of 4


def test_pro_auc_score_regions_of_neighbouring_images_stay_apart():
    masks, maps = np.zeros((3, 4, 4)), np.zeros((3, 4, 4))
    masks[:2, 1:3, 1:3] = 1  # touches itself in the next image
    masks[2, 3, 3] = 1
    maps[2, 3, 3] = 1
    assert pro_auc_score(masks, maps) == pytest.approx(1 / 3 + 2 / 3 * 0.15, **EXACT)


@pytest.mark.parametrize("n_bins", [None, 64])
@pytest.mark.parametrize("metric", METRICS)
def test_metric_perfect_and_inverted_maps(metric, n_bins, data):
    masks, _ = data
    perfect = masks + np.random.RandomState(0).rand(*masks.shape) / 2
    assert metric(masks, perfect, n_bins=n_bins) == 1
    share = masks.mean()
    worst = {pixel_average_precision_score: share, pixel_f1_max: 2 * share / (1 + share)}.get(metric, 0)
    assert metric(masks, -perfect, n_bins=n_bins) == pytest.approx(worst, abs=share / 1.8)


@pytest.mark.parametrize("n_bins", [None, 16])
@pytest.mark.parametrize("metric", METRICS)
def test_metric_constant_maps_are_chance(metric, n_bins, data):
    masks, maps = data
    share = masks.mean()
    expected = {
        pixel_roc_auc_score: 0.5,
        pixel_average_precision_score: share,
        pixel_f1_max: 2 * share / (1 + share),
        pro_auc_score: 0.15,
    }[metric]
    assert metric(masks, np.full_like(maps, -3), n_bins=n_bins) == pytest.approx(expected, **EXACT)


# What must not matter


@pytest.mark.parametrize("metric", METRICS)
def test_metric_monotone_transform_changes_nothing(metric, data):
    masks, maps = data
    ranks = np.unique(maps, return_inverse=True)[1].reshape(maps.shape)
    expected = metric(masks, maps)
    assert metric(masks, ranks) == expected
    assert metric(masks, np.exp(ranks / 100) - 50) == expected


@pytest.mark.parametrize("metric", METRICS)
def test_metric_order_of_images_changes_nothing(metric, data):
    masks, maps = data
    order = np.random.RandomState(0).permutation(len(masks))
    weights = np.arange(1.0, 9)
    assert metric(masks[order], maps[order]) == pytest.approx(metric(masks, maps), **EXACT)
    assert metric(masks[order], maps[order], sample_weight=weights[order]) == pytest.approx(
        metric(masks, maps, sample_weight=weights), **EXACT
    )


@pytest.mark.parametrize("n_bins", [None, 2**16])
@pytest.mark.parametrize("metric", METRICS)
def test_metric_weights_are_repeats_of_images(metric, n_bins, data):
    masks, maps = data
    weights = np.array([1, 0, 2, 3, 1, 0, 1, 2])
    expected = metric(np.repeat(masks, weights, axis=0), np.repeat(maps, weights, axis=0))
    assert metric(masks, maps, sample_weight=weights, n_bins=n_bins) == pytest.approx(expected, **EXACT)
    assert metric(masks, maps, sample_weight=weights / 7, n_bins=n_bins) == pytest.approx(expected, **EXACT)


@pytest.mark.parametrize("metric", METRICS)
def test_metric_equal_weights_are_none(metric, data):
    masks, maps = data
    assert metric(masks, maps, sample_weight=[0.1] * 8) == metric(masks, maps)
    some = [0, 1, 1, 1, 0, 1, 1, 1]
    assert metric(masks, maps, sample_weight=some) == metric(masks[np.nonzero(some)], maps[np.nonzero(some)])


@pytest.mark.parametrize("metric", METRICS)
def test_metric_type_of_masks_changes_nothing(metric, data):
    masks, maps = data
    expected = metric(masks, maps)
    for other in (masks.astype(np.uint8) * 255, masks.astype(int), masks * 0.25, -masks.astype(np.int8)):
        assert metric(other, maps) == expected


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.int8, np.uint8, bool])
def test_metric_type_of_maps_values_are_compared_as_they_are(dtype, data):
    masks, maps = data
    typed = np.clip(maps, 0, 100).astype(dtype)
    for metric in METRICS:
        expected = pytest.approx(metric(masks, typed.astype(np.longdouble)), **EXACT)
        assert metric(masks, typed) == expected
        assert metric(masks, typed, n_bins=2**16) == expected


def test_metric_integers_beyond_floats_stay_apart():
    masks, maps = np.array([[[0, 1]]]), np.array([[[2**60, 2**60 + 1]]])
    assert pixel_roc_auc_score(masks, maps) == 1
    assert pixel_f1_max(masks, maps, return_threshold=True) == (1.0, 2**60)


@pytest.mark.parametrize("n_bins", [None, 16])
def test_metric_zeros_of_both_signs_tie(n_bins):
    masks, maps = np.array([[[0, 0, 1, 1]]]), np.array([[[0.0, -0.0, 0.0, -0.0]]])
    assert pixel_roc_auc_score(masks, maps, n_bins=n_bins) == 0.5
    assert pixel_average_precision_score(masks, -maps, n_bins=n_bins) == 0.5
    assert pro_auc_score(masks, maps, max_fpr=1, n_bins=n_bins) == 0.5


@pytest.mark.parametrize("n_bins", [None, 32])
@pytest.mark.parametrize("metric", METRICS)
def test_metric_layouts_change_nothing_and_inputs_stay(metric, n_bins, data):
    masks, maps = data
    objects = np.empty(8, dtype=object)
    objects[:] = list(maps)
    kept_masks, kept_maps = masks.copy(), maps.copy()
    expected = metric(masks, maps, n_bins=n_bins)
    for layout in (
        list(maps),
        tuple(maps),
        objects,
        maps.tolist(),
        np.asfortranarray(maps),
        torch.tensor(maps),
    ):
        assert metric(masks, layout, n_bins=n_bins) == expected
        assert metric(list(masks), layout, n_bins=n_bins) == expected
    np.testing.assert_array_equal(masks, kept_masks)
    np.testing.assert_array_equal(maps, kept_maps)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_metric_memmaps_change_nothing(mode, data, tmp_path):
    masks, maps = data
    np.save(tmp_path / "masks.npy", masks)
    np.save(tmp_path / "maps.npy", maps)
    of_file = [np.load(tmp_path / f"{name}.npy", mmap_mode=mode) for name in ("masks", "maps")]
    if mode == "c":  # changes that are in memory only must survive
        maps = maps.copy()
        maps[0, 0] = of_file[1][0, 0] = 7
    for metric in METRICS:
        for n_bins in (None, 32):
            expected = metric(masks, maps, n_bins=n_bins)
            assert metric(*of_file, n_bins=n_bins) == expected
            assert metric(list(of_file[0]), list(of_file[1]), n_bins=n_bins) == expected
    np.testing.assert_array_equal(of_file[1], maps)


def test_metric_global_random_state_is_not_used(data):
    before = np.random.get_state()  # noqa: NPY002
    pixel_roc_auc_score(*data, n_bins=4)
    after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(after[1], before[1])
    assert after[2:] == before[2:]


# Bins

DISTRIBUTIONS = {
    "heavy tails": lambda z, rng: np.exp(6 * z),
    "narrow range": lambda z, rng: 1000 + 1e-3 * z,
    "many zeros": lambda z, rng: np.where(rng.rand(*z.shape) < 0.6, 0, np.abs(z)),
    "many zeros and a narrow range": lambda z, rng: np.where(rng.rand(*z.shape) < 0.6, 0, 1000 + z),
    "negative values": lambda z, rng: z,
    "negative heavy tails": lambda z, rng: -np.exp(-6 * z),
    "a far outlier": lambda z, rng: np.where(np.arange(z.size).reshape(z.shape) == 99, -1e30, 1 + 1e-4 * z),
    "few levels": lambda z, rng: np.round(2 * z),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_binned_metric_agrees_with_exact(name, many):
    masks, noise = many
    values = DISTRIBUTIONS[name](noise, np.random.RandomState(0))
    for maps in (values.astype(np.float64), values.astype(np.float32)):
        for metric in METRICS:
            expected = metric(masks, maps)
            assert metric(masks, maps, n_bins=2**12) == pytest.approx(expected, abs=1e-3)
            assert metric(masks, maps, n_bins=2**16) == pytest.approx(expected, abs=1e-4)
        expected = pro_auc_score(masks, maps, max_fpr=0.02)
        assert pro_auc_score(masks, maps, max_fpr=0.02, n_bins=2**16) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("metric", METRICS)
def test_binned_metric_enough_bins_for_all_values_is_exact(metric, data):
    masks, maps = data
    assert metric(masks, maps, n_bins=2 * maps.size) == pytest.approx(metric(masks, maps), **EXACT)


@pytest.mark.parametrize("metric", METRICS)
def test_binned_metric_weights_agree_with_exact(metric, many):
    masks, maps = many
    weights = np.random.RandomState(0).uniform(0, 5, size=len(masks))
    expected = metric(masks, maps, sample_weight=weights)
    assert metric(masks, maps, sample_weight=weights, n_bins=2**14) == pytest.approx(expected, abs=1e-4)
    assert abs(expected - metric(masks, maps)) > 1e-4


@pytest.mark.parametrize("metric", METRICS)
def test_binned_metric_mixed_sizes_agree_with_exact(metric):
    rng = np.random.RandomState(0)
    masks = make_masks(rng, [tuple(rng.randint(8, 200, size=2)) for _ in range(20)])
    maps = make_maps(rng, masks)
    assert metric(masks, maps, n_bins=2**13) == pytest.approx(metric(masks, maps), abs=1e-3)


@pytest.mark.parametrize("metric", METRICS)
def test_binned_metric_rare_defects_agree_with_exact(metric):
    # Far fewer defective pixels than normal ones in the highest bin, were bins quantiles of all pixels.
    rng = np.random.RandomState(0)
    maps = rng.normal(size=(20, 128, 128))
    masks = np.zeros_like(maps)
    masks[0, 3, 3:8] = 1
    maps[0, 3, 3:8] = [3.9, 3.6, 3.5, 3.3, 3.2]
    assert metric(masks, maps, n_bins=2**10) == pytest.approx(metric(masks, maps), abs=1e-3)


@pytest.mark.parametrize("n_bins", [2, 3, 10, 100, 1000])
def test_binned_pixel_f1_max_is_reached_at_its_threshold(n_bins, many):
    masks, maps = many
    f1, threshold = pixel_f1_max(masks, maps, n_bins=n_bins, return_threshold=True)
    for called in (maps > threshold, maps >= threshold):
        assert 2 * np.sum(called & masks) / (called.sum() + masks.sum()) == pytest.approx(f1, **EXACT)
    assert f1 <= pixel_f1_max(masks, maps)


@pytest.mark.parametrize("metric", METRICS)
def test_binned_metric_repeats_bit_for_bit(metric, many):
    assert metric(*many, n_bins=50) == metric(*many, n_bins=50)


def test_binned_metric_memory_stays_bounded(tmp_path):
    rng = np.random.RandomState(0)
    one, mask = rng.rand(512, 512).astype(np.float32), np.zeros((512, 512), dtype=bool)
    mask[100:150, 100:150] = True
    with open(tmp_path / "maps", "wb") as maps, open(tmp_path / "masks", "wb") as masks:
        for i in range(60):
            (one + i / 1000).tofile(maps)
            mask.tofile(masks)
    masks = np.memmap(tmp_path / "masks", bool, "r", shape=(60, 512, 512))
    maps = np.memmap(tmp_path / "maps", np.float32, "r", shape=(60, 512, 512))
    pro_auc_score(masks[:2], maps[:2], n_bins=2**12)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    except OSError:
        pytest.skip("only Linux tells the peak from here on")
    before = peak_megabytes()
    pixel_f1_max(masks, maps, n_bins=2**12)
    pro_auc_score(masks, maps, n_bins=2**12)
    assert peak_megabytes() - before < 20  # the files are 79, one map is 1


def peak_megabytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


# What is refused


@pytest.mark.parametrize(
    ("masks", "maps", "message"),
    [
        (
            np.zeros((2, 4, 4)),
            np.zeros((2, 4, 5)),
            r"masks\[0\] has shape \(4, 4\) and maps\[0\] .* \(4, 5\)",
        ),
        ([np.zeros((2, 2))] * 3, [np.zeros((2, 2))] * 2 + [np.zeros((2, 3))], r"masks\[2\] .* maps\[2\]"),
        (np.zeros((2, 4, 4)), np.zeros((3, 4, 4)), "2 masks and 3 maps"),
        (np.zeros((4, 4)), np.zeros((4, 4)), r"masks must have shape \(n, H, W\).*got shape \(4, 4\)"),
        (np.zeros((1, 4, 4)), np.zeros((1, 1, 4, 4)), r"maps must have shape .*\(1, 1, 4, 4\)"),
        (
            [np.zeros((4, 4))],
            [np.zeros((1, 4, 4))],
            r"maps\[0\] must have shape \(H, W\), got shape \(1, 4, 4\)",
        ),
        (
            [np.zeros((4, 4))] * 2,
            [np.zeros((4, 4)), None],
            r"maps\[1\] must have shape \(H, W\), got shape \(\)",
        ),
        (np.zeros((0, 4, 4)), np.zeros((0, 4, 4)), "masks is empty"),
        ([], [], "masks is empty"),
        (np.zeros((1, 0, 4)), np.zeros((1, 0, 4)), r"masks\[0\] has no pixels: its shape is \(0, 4\)"),
        (np.full((1, 2, 2), np.nan), np.zeros((1, 2, 2)), r"masks\[0\] does"),
    ],
)
def test_metric_faulty_images_raise(masks, maps, message):
    for metric in METRICS:
        with pytest.raises(ValueError, match=message):
            metric(masks, maps)


def folder_with_masks(root, sizes):
    """What load_image_folder gives for a folder of good and cracked images, and the masks as arrays."""
    rng = np.random.RandomState(0)
    masks = []
    for i, size in enumerate(sizes):
        kind = "good" if i % 2 else "crack"
        mask = np.zeros(size, dtype=bool)
        mask[3 : 6 + i, 2:9] = kind == "crack"
        for name in ("train/good", f"test/{kind}"):
            path = root / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.randint(256, size=size).astype(np.uint8)).save(path)
        if kind == "crack":
            path = root / "ground_truth/crack" / f"{i}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((255 * mask).astype(np.uint8)).save(path)
        masks.append((kind != "crack", mask))
    return load_image_folder(root), [mask for _, mask in sorted(masks, key=lambda item: item[0])]


def pro_of_positive_maps(masks, maps):
    return pro_score(masks, [m > 0 for m in maps])


def aupimo_of_few_pixels(masks, maps):
    return aupimo_score(masks, maps, fpr_bounds=(0.01, 0.1))


METRICS_OF_MASKS = [*METRICS, pro_of_positive_maps, aupimo_of_few_pixels]


@pytest.mark.parametrize("form", ["array", "list", "own sizes", "tensors"])
def test_metric_takes_the_masks_of_an_image_folder(form, tmp_path):
    sizes = [(20, 24), (30, 22), (24, 20), (26, 28)] if form == "own sizes" else [(20, 24)] * 4
    data, masks = folder_with_masks(tmp_path, sizes)
    assert [mask is None for mask in data.masks] == [False, False, True, True]
    maps = make_maps(np.random.RandomState(1), masks)
    given = {"array": np.array, "tensors": lambda maps: torch.tensor(np.array(maps))}.get(form, list)(maps)
    for metric in METRICS_OF_MASKS:
        assert metric(data.masks, given) == metric(masks, maps)
        assert np.isfinite(metric(masks, maps))


def test_metric_takes_paths_among_other_masks(tmp_path):
    data, masks = folder_with_masks(tmp_path, [(20, 24)] * 4)
    maps = np.array(make_maps(np.random.RandomState(1), masks))
    np.save(tmp_path / "mask.npy", 7.5 * masks[1])
    expected = pro_auc_score(masks, maps)
    for given in (
        data.masks.tolist(),
        tuple(data.masks),
        pd.Series(data.masks, index=[5, 6, 7, 8]),
        [Path(data.masks[0]), masks[1], None, masks[3]],
        [data.masks[0], tmp_path / "mask.npy", masks[2].tolist(), Image.fromarray(masks[3])],
    ):
        assert pro_auc_score(given, maps) == expected
    assert pro_auc_score(np.array(data.masks[:2].tolist()), maps[:2]) == pro_auc_score(masks[:2], maps[:2])
    for n_bins in (None, 64):
        actual = pixel_f1_max(data.masks, maps, n_bins=n_bins, sample_weight=[1, 2, 3, 0])
        assert actual == pixel_f1_max(masks, maps, n_bins=n_bins, sample_weight=[1, 2, 3, 0])


def test_metric_reads_a_mask_as_read_mask_does(tmp_path):
    mask = np.zeros((24, 32), dtype=bool)
    mask[8:16, 8:24] = True
    Image.fromarray((255 * mask).astype(np.uint8)).save(tmp_path / "mask.jpg", quality=30)
    maps = np.where(read_mask(tmp_path / "mask.jpg"), 2.0, 1.0)
    assert pixel_f1_max([tmp_path / "mask.jpg"], maps[None]) == 1.0


def test_metric_reads_several_masks_of_one_image(tmp_path):
    data, masks = folder_with_masks(tmp_path, [(20, 24)] * 4)
    second = np.zeros((20, 24), dtype=np.uint8)
    second[15:18, 2:20] = 255
    first = Path(data.masks[1])
    first.with_name("2").mkdir()
    first = first.rename(first.with_name("2") / "0.png")
    Image.fromarray(second).save(first.with_name("1.png"))
    data = load_image_folder(tmp_path)
    assert data.masks[1] == (str(first), str(first.with_name("1.png")))
    maps = make_maps(np.random.RandomState(1), masks)
    expected = [masks[0], masks[1] | (second > 0), *masks[2:]]
    for metric in METRICS_OF_MASKS:
        assert metric(data.masks, maps) == metric(expected, maps) != metric(masks, maps)
    rows = [tuple(map(tuple, mask.tolist())) for mask in expected]  # tuples, but not of paths
    assert pro_auc_score(rows, maps) == pro_auc_score(expected, maps)


def test_metric_of_images_without_any_mask_is_undefined():
    with pytest.warns(UndefinedMetricWarning, match="no defective pixels in masks"):
        assert np.isnan(pro_auc_score([None, None], np.ones((2, 4, 5))))


def test_metric_masks_in_files_that_do_not_fit_are_named(tmp_path):
    data, _ = folder_with_masks(tmp_path, [(20, 24)] * 4)
    name = re.escape(f"masks[1] ({str(data.masks[1])!r})")
    for metric in METRICS_OF_MASKS:
        with pytest.raises(ValueError, match=rf"{name} has shape \(20, 24\) and .*iter_maps"):
            metric(data.masks, [np.zeros((20, 24)), *np.zeros((3, 16, 16))])
    Path(data.masks[1]).write_text("nothing")
    path = re.escape(repr(str(data.masks[1])))
    with pytest.raises(ValueError, match=f"{path} could not be read"):
        pro_auc_score(data.masks, np.zeros((4, 20, 24)))
    Path(data.masks[1]).unlink()
    with pytest.raises(ValueError, match=f"{path}: there is no such file"):
        pro_auc_score(data.masks, np.zeros((4, 20, 24)))


def test_metric_paths_of_maps_are_refused(tmp_path):
    np.save(tmp_path / "map.npy", np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"maps\[0\] must have shape \(H, W\), got shape \(\)"):
        pro_auc_score(np.ones((1, 4, 4)), [str(tmp_path / "map.npy")])


@pytest.mark.parametrize("n_bins", [None, 16])
@pytest.mark.parametrize("metric", METRICS)
def test_metric_map_not_finite_raises_with_its_position(metric, n_bins):
    for value in (np.nan, np.inf, -np.inf):
        for defective in (True, False):
            masks, maps = np.zeros((3, 4, 5), dtype=bool), np.zeros((3, 4, 5), dtype=np.float32)
            masks[1, :2] = defective
            maps[1, 1, 2] = value
            with pytest.raises(ValueError, match=re.escape(f"maps[1] holds {value} at row 1, column 2")):
                metric(masks, maps, n_bins=n_bins)


@pytest.mark.parametrize(
    ("masks", "maps", "message"),
    [
        ("mask", np.zeros((1, 2, 2)), "masks must be an array .* got str"),
        (np.zeros((1, 2, 2)), None, "maps must be an array .* got NoneType"),
        (np.zeros((1, 2, 2)), iter(np.zeros((1, 2, 2))), "got iterator"),
        (np.full((1, 2, 2), "x"), np.zeros((1, 2, 2)), r"masks\[0\] has dtype <U1"),
        (np.zeros((1, 2, 2)), np.zeros((1, 2, 2), dtype=complex), r"maps\[0\] has dtype complex128"),
    ],
)
def test_metric_other_types_raise(masks, maps, message):
    for metric in METRICS:
        with pytest.raises(TypeError, match=message):
            metric(masks, maps)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], r"shape \(8,\).*got shape \(2,\)"),
        (np.ones((8, 1)), r"got shape \(8, 1\)"),
        (1.0, r"got shape \(\)"),
        ([1, 1, -0.5, 1, 1, 1, 1, 1], r"sample_weight\[2\] is -0.5"),
        ([1, 1, 1, np.nan, 1, 1, 1, 1], r"sample_weight\[3\] is nan"),
        ([1, 1, 1, 1, np.inf, 1, 1, 1], r"sample_weight\[4\] is inf"),
    ],
)
def test_metric_faulty_weights_raise(weights, message):
    for metric in METRICS:
        with pytest.raises(ValueError, match=message):
            metric(np.zeros((8, 1, 1)), np.zeros((8, 1, 1)), sample_weight=weights)


@pytest.mark.parametrize("n_bins", [1, 0, -4, 100.5, "auto"])
def test_metric_faulty_n_bins_raises(n_bins):
    for metric in METRICS:
        with pytest.raises(ValueError, match=f"'n_bins' parameter of {metric.__name__}.*Got {n_bins!r}"):
            metric([[[0, 1]]], [[[0, 1]]], n_bins=n_bins)


@pytest.mark.parametrize("max_fpr", [0, 0.0, -0.1, 1.01, 30, np.nan, None, "0.3"])
def test_pro_auc_score_faulty_max_fpr_raises(max_fpr):
    with pytest.raises(ValueError, match=f"'max_fpr' parameter of pro_auc_score.*Got {max_fpr!r}"):
        pro_auc_score([[[0, 1]]], [[[0, 1]]], max_fpr=max_fpr)


# Where a metric isn't defined


@pytest.mark.parametrize("n_bins", [None, 16])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("value", "kind"), [(False, "defective"), (True, "normal")])
def test_metric_one_kind_of_pixels_warns_and_is_nan(metric, value, kind, n_bins):
    masks, maps = np.full((2, 4, 4), value), np.arange(32.0).reshape(2, 4, 4)
    with pytest.warns(
        UndefinedMetricWarning, match=f"no {kind} pixels in masks.*{metric.__name__}"
    ) as caught:
        assert np.isnan(metric(masks, maps, n_bins=n_bins))
    assert caught[0].filename == __file__


@pytest.mark.parametrize("metric", METRICS)
def test_metric_only_kind_of_weight_zero_warns_and_is_nan(metric):
    masks, maps = np.zeros((2, 4, 4)), np.zeros((2, 4, 4))
    masks[1, 0, 0] = 1
    with pytest.warns(UndefinedMetricWarning, match="no defective pixels in masks of non-zero weight"):
        assert np.isnan(metric(masks, maps, sample_weight=[1, 0]))
    with pytest.warns(UndefinedMetricWarning, match="no defective pixels"):
        assert np.isnan(metric(masks, maps, sample_weight=[0, 0]))


def test_pixel_f1_max_undefined_has_no_threshold():
    with pytest.warns(UndefinedMetricWarning):
        result = pixel_f1_max(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), return_threshold=True)
    assert np.isnan(result).tolist() == [True, True]


# Whole images


def image_scores(seed, decimals):
    rng = np.random.RandomState(seed)
    defect = rng.permutation(np.repeat([False, True], [30, 10]))
    return defect, np.round(rng.normal(size=40) + defect, decimals), rng.rand(40)


@pytest.mark.parametrize("decimals", [0, 8])
@pytest.mark.parametrize("weighted", [False, True])
def test_f1_max_agrees_with_sklearn(decimals, weighted):
    for seed in range(10):
        defect, scores, weights = image_scores(seed, decimals)
        weights[5] = 0
        weights = weights if weighted else None
        expected, n_called = sklearn_f1_max(defect, scores, sample_weight=weights)
        f1, threshold = f1_max(defect, scores, sample_weight=weights, return_threshold=True)
        assert f1 == pytest.approx(expected, **EXACT)
        assert np.sum(scores > threshold) == np.sum(scores >= threshold) == n_called
        assert f1_max(defect, scores, sample_weight=weights) == f1


def test_f1_max_reads_all_labels():
    defect, scores, _ = image_scores(0, 8)
    expected = f1_max(defect, scores, return_threshold=True)
    for y in (
        np.where(defect, -1, 1),
        defect.astype(np.uint8),
        np.where(defect, "crack", "good"),
        pd.Series(np.where(defect, -1.0, 1.0), index=np.arange(40)[::-1]),
        defect[:, np.newaxis].astype(object),
    ):
        assert f1_max(y, scores, return_threshold=True) == expected


def test_f1_max_inputs_stay():
    defect, scores, _ = image_scores(0, 8)
    kept = scores.copy()
    f1_max(defect, scores)
    np.testing.assert_array_equal(scores, kept)


@pytest.mark.parametrize(("dtype", "expected"), [(np.float32, 1.0), (np.int64, 1.0), (bool, 0.5)])
def test_f1_max_threshold_is_a_float_between_scores(dtype, expected):
    found = f1_max([0, 1, 0], np.array([0, 2, 0]).astype(dtype), return_threshold=True)[1]
    assert found == expected
    assert type(found) is float


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_f1_max_threshold_tells_any_two_values_apart(dtype):
    one, huge, tiny = dtype(1), np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    above = np.nextafter(one, dtype(2))
    for normal, defective in (
        (one, above),
        (above, np.nextafter(above, dtype(2))),  # their middle is rounded up
        (-huge, huge),
        (tiny, 2 * tiny),
        (one, one / 2),  # no value is below the threshold
        (one, one),
    ):
        values = np.array([normal, defective])
        assert values.dtype == dtype
        for f1, threshold in (
            pixel_f1_max([[[0, 1]]], values[None, None], return_threshold=True),
            pixel_f1_max([[[0, 1]]], values[None, None], n_bins=16, return_threshold=True),
            f1_max([0, 1], values, return_threshold=True),
        ):
            assert f1 == (1 if defective > normal else pytest.approx(2 / 3))
            assert (values > threshold).tolist() == [defective <= normal, True]


@pytest.mark.parametrize("n_bins", [None, 16])
def test_pixel_f1_max_threshold_tells_integers_apart(n_bins):
    for defective in (2**60 + 300, 2**63 - 1, 255):
        for difference in (1, 10, 200):
            maps = np.array([[[defective - difference, defective]]])
            f1, threshold = pixel_f1_max([[[0, 1]]], maps, n_bins=n_bins, return_threshold=True)
            assert f1 == 1
            assert (maps > threshold).tolist() == [[[False, True]]]


@pytest.mark.parametrize("n_bins", [None, 2**12])
def test_pixel_f1_max_threshold_of_maps_of_two_types(n_bins):
    rng = np.random.RandomState(0)
    for _ in range(20):
        masks = rng.rand(2, 30, 30) < 0.2
        maps = [
            (rng.normal(size=(30, 30)) + mask).astype(t) for mask, t in zip(masks, ("f2", "f4"), strict=True)
        ]
        f1, threshold = pixel_f1_max(list(masks), maps, n_bins=n_bins, return_threshold=True)
        called = np.stack([m > threshold for m in maps])
        assert 2 * np.sum(called & masks) / (called.sum() + masks.sum()) == pytest.approx(f1, **EXACT)


def test_f1_max_threshold_of_small_unsigned_integers():
    scores = np.array([0, 255, 254], dtype=np.uint8)
    assert f1_max([0, 1, 0], scores, return_threshold=True) == (1.0, 254.5)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_metric_scale_of_weights_changes_nothing(scale, data):
    weights = np.arange(1.0, 9.0)
    for metric in METRICS:
        for n_bins in (None, 64):
            expected = metric(*data, sample_weight=weights, n_bins=n_bins)
            actual = metric(*data, sample_weight=scale * weights, n_bins=n_bins)
            assert actual == pytest.approx(expected, **EXACT)
    defect, scores, _ = image_scores(0, 8)
    weights = np.arange(1.0, 41.0)
    expected = f1_max(defect, scores, sample_weight=weights)
    assert f1_max(defect, scores, sample_weight=scale * weights) == pytest.approx(expected, **EXACT)


# PRO of masks


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", [bool, np.uint8, np.float64])
def test_pro_score_is_the_mean_overlap_of_regions(kind, weighted, data):
    masks, maps = data
    weights = np.arange(8.0) if weighted else np.ones(8)
    overlaps, of_regions = [], []
    for mask, called, weight in zip(masks, maps > 0.5, weights, strict=True):
        labels, n = ndimage.label(mask, structure=np.ones((3, 3)))
        overlaps += [called[labels == k].mean() for k in range(1, n + 1)]
        of_regions += [weight] * n
    predicted = 255 * (maps > 0.5).astype(kind) if kind is np.uint8 else (maps > 0.5).astype(kind)
    actual = pro_score(masks, predicted, sample_weight=weights if weighted else None)
    assert type(actual) is float
    assert 0 < actual < 1
    assert actual == pytest.approx(np.average(overlaps, weights=of_regions), **EXACT)
    assert pro_score(list(masks), list(predicted), sample_weight=weights) == pytest.approx(actual, **EXACT)


def test_pro_score_is_a_point_of_the_curve(data):
    masks, maps = data
    threshold = np.median(maps[masks])
    fpr, expected = np.mean(maps[~masks] >= threshold), pro_score(masks, maps >= threshold)
    assert expected in [pytest.approx(y) for x, y in slow_pro_curve(masks, maps) if x == pytest.approx(fpr)]


def test_pro_score_limits(data):
    masks, _ = data
    assert pro_score(masks, masks) == pro_score(masks, np.ones_like(masks)) == 1
    assert pro_score(masks, ~masks) == pro_score(masks, np.zeros_like(masks)) == 0


def test_pro_score_maps_instead_of_masks_raise(data):
    with pytest.raises(ValueError, match=r"must hold 0 and 1, or 0 and 255, got .*pass maps > threshold"):
        pro_score(*data)


@pytest.mark.parametrize(
    ("masks", "predicted", "weights", "message"),
    [
        (np.ones((2, 4, 4)), np.ones((2, 4, 5)), None, r"predicted_masks\[0\] has shape \(4, 5\)"),
        (np.ones((2, 4, 4)), np.ones((3, 4, 4)), None, "2 masks and 3 predicted_masks"),
        (np.ones((4, 4)), np.ones((4, 4)), None, "masks must have shape"),
        (
            np.ones((1, 2, 2)),
            np.full((1, 2, 2), np.nan),
            None,
            r"predicted_masks\[0\] holds nan at row 0, column 0\..*leave such images out",
        ),
        (np.ones((1, 2, 2)), np.ones((1, 2, 2)), [-1], r"sample_weight\[0\] is -1"),
    ],
)
def test_pro_score_faulty_input_raises(masks, predicted, weights, message):
    with pytest.raises(ValueError, match=message):
        pro_score(masks, predicted, sample_weight=weights)


@pytest.mark.parametrize("weights", [None, [0, 1]])
def test_pro_score_no_region_warns_and_is_nan(weights):
    masks = np.zeros((2, 4, 4))
    masks[0, 1, 1] = weights is not None
    with pytest.warns(UndefinedMetricWarning, match=r"no defective pixels in masks.*pro_score") as caught:
        assert np.isnan(pro_score(masks, masks, sample_weight=weights))
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "y_true is None"),
        ([], "y_true is empty"),
        ([[1, 0, 1]], r"y_true must have shape \(n,\), got shape \(1, 3\)"),
        ([1, 1, 1], "y_true is ambiguous: all of its 3 labels are 1"),
        ([0, 1, 2], "got 0, 1, 2"),
        ([-1, 0, 1], "got -1, 0, 1"),
        (["ok", "bad", "ok"], "got 'ok', 'bad'"),
        ([0, np.nan, 1], "y_true lacks a label: it is nan at row 1"),
        ([0, 1], r"y_score must have shape \(2,\).*got shape \(3,\)"),
    ],
)
def test_f1_max_faulty_labels_raise(y, message):
    with pytest.raises(ValueError, match=message):
        f1_max(y, [0.1, 0.2, 0.3])


def test_f1_max_score_not_finite_raises_with_its_row():
    with pytest.raises(
        ValueError, match=r"y_score must be finite, but is nan at row 1.*leave such images out"
    ):
        f1_max([0, 1], [0, np.nan])


def test_f1_max_scores_of_other_types_raise():
    with pytest.raises(TypeError, match="y_score must hold real numbers, got dtype <U1"):
        f1_max([0, 1], ["a", "b"])


def test_f1_max_faulty_weights_raise():
    with pytest.raises(ValueError, match=r"sample_weight\[1\] is -1.0"):
        f1_max([0, 1], [0, 1], sample_weight=[1, -1])
    with pytest.raises(ValueError, match=r"one weight per element of y_true, got shape \(3,\)"):
        f1_max([0, 1], [0, 1], sample_weight=[1, 1, 1])


@pytest.mark.parametrize(
    ("y", "weights", "kind"),
    [
        ([0, 0], None, "defective"),
        ([True, True], None, "normal"),
        ([-1, -1], None, "normal"),
        ([0, 1], [1, 0], "defective"),
        ([1, -1], [0, 0], "defective"),
    ],
)
def test_f1_max_one_kind_of_images_warns_and_is_nan(y, weights, kind):
    with pytest.warns(UndefinedMetricWarning, match=f"no {kind} images in y_true") as caught:
        assert np.isnan(f1_max(y, [0, 1], sample_weight=weights))
    assert caught[0].filename == __file__
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(f1_max(y, [0, 1], sample_weight=weights, return_threshold=True)).all()
