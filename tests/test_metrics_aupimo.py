"""AUPIMO against values computed by hand and against a loop over thresholds."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from skcsflow.metrics import aupimo_score

EXACT = {"rel": 0, "abs": 1e-12}
BOUNDS = (0.005, 0.2)


def make_images(rng, shapes, decimals=None, n_good=3):
    """Masks and maps, the first `n_good` without a defect; with ties where maps are rounded."""
    masks = [(rng.rand(*shape) < 0.2) & (i >= n_good) for i, shape in enumerate(shapes)]
    for mask in masks[n_good:]:
        mask[0, 0] = True
    maps = [rng.normal(size=mask.shape) + rng.uniform(0, 4) * mask for mask in masks]
    return masks, maps if decimals is None else [np.round(m, decimals) for m in maps]


@pytest.fixture(params=[None, 1], ids=["distinct", "ties"])
def data(request):
    """Stacks of 8 masks and maps of 20 x 24 pixels, the first three of good images."""
    masks, maps = make_images(np.random.RandomState(0), [(20, 24)] * 8, request.param)
    return np.array(masks), np.array(maps)


def slow_scores(masks, maps, bounds, weights=None):
    """Every threshold in turn, every image in turn, between the rates nearest to the bounds."""
    weights = np.ones(len(masks)) if weights is None else weights
    good = [i for i, mask in enumerate(masks) if not np.any(mask)]
    scores = np.full(len(masks), np.nan)
    for i in np.flatnonzero(weights):
        if i in good:
            continue
        curve = []
        for threshold in np.unique(np.concatenate([np.ravel(m) for m in maps]))[::-1]:
            rates = [np.mean(maps[k] >= threshold) for k in good]
            curve.append((np.average(rates, weights=weights[good]), np.mean(maps[i][masks[i]] >= threshold)))
        x, y = np.array(curve).T
        low, high = nearest(x[x > 0], bounds)
        x, y = np.log(x[(x >= low) & (x <= high)]), y[(x >= low) & (x <= high)]
        area = np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)
        scores[i] = min(area / np.log(bounds[1] / bounds[0]), 1)
    return scores


def nearest(rates, bounds):
    return tuple(rates[np.argmin(np.abs(rates - bound))] for bound in bounds)


def sorted_scores(masks, maps, bounds):
    """All values of good images at once; every defective pixel in turn."""
    values, counts = np.unique(maps[~masks.any(axis=(1, 2))], return_counts=True)
    rates = np.cumsum(counts[::-1])[::-1] / counts.sum()
    low, high = np.log(nearest(rates, bounds))
    scores = np.full(len(masks), np.nan)
    for i in np.flatnonzero(masks.any(axis=(1, 2))):
        found = []
        for value in maps[i][masks[i]]:
            above, at = np.sum(rates[values > value][:1]), np.sum(rates[values >= value][:1])
            before, after = np.log(max(above, 1e-99)), np.log(max(at, 1e-99))
            start, end = np.clip([before, after], low, high)
            growing = (
                0 if after == before else (end - start) * ((start + end) / 2 - before) / (after - before)
            )
            found.append((high - end + growing) / np.log(bounds[1] / bounds[0]))
        scores[i] = min(np.mean(found), 1)
    return scores


# Values


def test_aupimo_score_values_by_hand():
    # Rates are 0.1 at 10, 0.2 at 9, 0.3 at 8 and 0.4 at 7. The range of the logarithm is log 4.
    masks, maps = np.zeros((3, 1, 10)), np.zeros((3, 1, 10))
    maps[0] = np.arange(1, 11)
    masks[1:, 0, :4] = 1
    maps[1, 0, :4] = [
        11,  # always found: 1
        8.5,  # found from 0.2 on: log(0.4 / 0.2) / log 4
        7,  # half of it from 0.3 to 0.4: log(0.4 / 0.3) / 2 / log 4
        3,  # never
    ]
    maps[2, 0, :4] = [10, 9, 8.99, 6.99]  # 1; half from 0.1 to 0.2, and then all; from 0.2 on; never
    expected = [
        np.nan,
        (1 + 0.5 + np.log(4 / 3) / 2 / np.log(4)) / 4,
        (1 + (0.25 + 0.5) + 0.5) / 4,
    ]
    scores = aupimo_score(masks, maps, fpr_bounds=(0.1, 0.4), per_image=True)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)
    mean = aupimo_score(masks, maps, fpr_bounds=(0.1, 0.4))
    assert mean == pytest.approx(np.mean(expected[1:]), **EXACT)


def test_aupimo_score_bounds_between_rates_give_way_to_the_nearest_rates():
    masks, maps = np.zeros((6, 1, 10)), np.zeros((6, 1, 10))
    maps[0] = np.arange(1, 11)  # rates of 0.1 to 1
    masks[1:, 0, 0] = 1
    maps[1:, 0, 0] = [
        11,  # found at all rates from 0.2 to 0.3
        8.5,  # the same
        8,  # half of it, while the rate grows from 0.2 to 0.3
        7.99,  # from 0.3 on
        0,  # never
    ]
    found = np.array([np.nan, 1, 1, 0.5, 0, 0])
    for bounds in [(0.17, 0.28), (0.22, 0.33), (0.22, 0.28)]:
        scores = aupimo_score(masks, maps, fpr_bounds=bounds, per_image=True)
        # Perfect maps score 0.81 at the first bounds, and 1.68 but for the clipping at the last.
        expected = np.minimum(found * np.log(0.3 / 0.2) / np.log(bounds[1] / bounds[0]), 1)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)
        mean = aupimo_score(masks, maps, fpr_bounds=bounds)
        assert mean == pytest.approx(np.nanmean(expected), **EXACT)


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 2, 0]])
def test_aupimo_score_bounds_half_way_between_rates_take_the_higher_ones(order):
    masks, maps = np.zeros((3, 1, 8)), np.zeros((3, 1, 8))
    masks[2, 0, 0], maps[2, 0, 0] = 1, 14.5
    maps[0], maps[1] = np.arange(0, 16, 2), np.arange(1, 16, 2)  # rates are sixteenths
    bounds = (3 / 32, 13 / 32)
    expected = pytest.approx(np.log(7 / 2) / np.log(13 / 3), **EXACT)
    assert aupimo_score(masks[order], maps[order], fpr_bounds=bounds) == expected
    weights = np.array([3, 3, 1])[order]
    assert aupimo_score(masks[order], maps[order], fpr_bounds=bounds, sample_weight=weights) == expected


def test_aupimo_score_few_good_pixels_keep_a_perfect_map_from_one():
    # With more than 1 / 1e-5 of them, too.
    masks, maps = np.zeros((2, 400, 400)), np.zeros((2, 400, 400))
    maps[0] = np.arange(400 * 400).reshape(400, 400)
    masks[1, 0, 0], maps[1, 0, 0] = 1, 400 * 400
    assert aupimo_score(masks, maps) == pytest.approx(np.log10(16 / 2), **EXACT)


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [BOUNDS, (0.0021, 0.03), (0.03, 0.04), (0.1, 1), [0.0777, 0.5]])
def test_aupimo_score_agrees_with_a_loop_over_thresholds(bounds, data):
    masks, maps = data
    scores = aupimo_score(masks, maps, fpr_bounds=bounds, per_image=True)
    assert scores.shape == (8,)
    assert scores.dtype == np.float64
    expected = slow_scores(masks, maps, bounds)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)
    mean = aupimo_score(masks, maps, fpr_bounds=bounds)
    assert type(mean) is float
    assert mean == pytest.approx(np.nanmean(expected), **EXACT)


@pytest.mark.slow
def test_aupimo_score_random_mixed_sizes_and_weights_agree_with_a_loop():
    for seed in range(20):
        rng = np.random.RandomState(seed)
        shapes = [tuple(rng.randint(3, 15, size=2)) for _ in range(12)]
        masks, maps = make_images(rng, shapes, rng.randint(1, 3), n_good=8)
        order = rng.permutation(12)
        masks, maps = [masks[i] for i in order], [maps[i] for i in order]
        weights = rng.randint(0, 3, size=12) / 3 if seed % 2 else np.ones(12)
        weights[np.argsort(order)[[0, 11]]] = 1
        bounds = (0.25, rng.uniform(0.3, 1))
        scores = aupimo_score(masks, maps, fpr_bounds=bounds, sample_weight=weights, per_image=True)
        expected = slow_scores(masks, maps, bounds, weights)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)
        is_scored = ~np.isnan(expected)
        mean = aupimo_score(masks, maps, fpr_bounds=bounds, sample_weight=weights)
        assert mean == pytest.approx(np.average(expected[is_scored], weights=weights[is_scored]), **EXACT)


def test_aupimo_score_default_bounds():
    rng = np.random.RandomState(0)
    masks = np.zeros((12, 100, 100), dtype=bool)
    masks[10:, :10, :10] = True
    maps = rng.normal(size=masks.shape) + 4 * masks
    score = aupimo_score(masks, maps)  # 100,000 good pixels are just enough
    assert score == aupimo_score(masks, maps, fpr_bounds=(1e-5, 1e-4))
    assert 0.1 < score < 0.9


def test_aupimo_score_perfect_and_inverted_maps(data):
    masks, _ = data
    perfect = masks + np.random.RandomState(0).rand(*masks.shape) / 2
    assert aupimo_score(masks, perfect, fpr_bounds=BOUNDS) == 1
    assert aupimo_score(masks, -perfect, fpr_bounds=BOUNDS) == 0
    is_good = ~masks.any(axis=(1, 2))
    scores = aupimo_score(masks, perfect, fpr_bounds=BOUNDS, per_image=True)
    np.testing.assert_array_equal(scores, np.where(is_good, np.nan, 1))


def test_aupimo_score_defect_at_the_highest_good_value_is_found():
    masks, maps = np.zeros((2, 1, 10)), np.zeros((2, 1, 10))
    maps[0] = np.arange(10)
    masks[1, 0, 0], maps[1, 0, 0] = 1, 9
    assert aupimo_score(masks, maps, fpr_bounds=(0.1, 0.5)) == 1


# What must not matter


def test_aupimo_score_monotone_transform_changes_nothing(data):
    masks, maps = data
    ranks = np.unique(maps, return_inverse=True)[1].reshape(maps.shape)
    expected = aupimo_score(masks, maps, fpr_bounds=BOUNDS, per_image=True)
    for other in (ranks, np.exp(ranks / 100) - 50, -np.exp(-6.0 * ranks / ranks.max())):
        np.testing.assert_array_equal(aupimo_score(masks, other, fpr_bounds=BOUNDS, per_image=True), expected)


def test_aupimo_score_normal_pixels_of_defective_images_change_nothing(data):
    masks, maps = data
    expected = aupimo_score(masks, maps, fpr_bounds=BOUNDS)
    assert (
        aupimo_score(
            masks, np.where(~masks & masks.any(axis=(1, 2), keepdims=True), 99, maps), fpr_bounds=BOUNDS
        )
        == expected
    )


def test_aupimo_score_equal_values_of_several_good_images_add_up():
    masks, maps = np.zeros((6, 1, 10)), np.full((6, 1, 10), 5)
    maps[0, 0, :5] = 9  # a rate of 0.1 at 9 and of 1 at 5
    masks[5, 0, 0] = 1
    assert aupimo_score(masks, maps, fpr_bounds=(0.1, 0.6)) == pytest.approx(
        np.log(10) / np.log(6) / 2, **EXACT
    )


@pytest.mark.parametrize("bounds", [(1e-3, 1e-2), (1e-2, 1)])
def test_aupimo_score_order_of_images_permutes_scores(bounds):
    # In ascending order, every image has more of the highest values than all before it.
    rng = np.random.RandomState(0)
    masks, maps = (np.array(stack) for stack in make_images(rng, [(20, 24)] * 60, 3, n_good=50))
    maps[:50] += np.linspace(0, 3, 50)[:, np.newaxis, np.newaxis]
    maps[50:] -= np.linspace(0, 3, 10)[:, np.newaxis, np.newaxis]
    expected = aupimo_score(masks, maps, fpr_bounds=bounds, per_image=True)
    np.testing.assert_allclose(expected, sorted_scores(masks, maps, bounds), rtol=0, atol=1e-12)
    for order in (np.arange(60)[::-1], rng.permutation(60)):
        scores = aupimo_score(masks[order], maps[order], fpr_bounds=bounds, per_image=True)
        np.testing.assert_allclose(scores, expected[order], rtol=0, atol=1e-12)


def test_aupimo_score_weights_are_repeats_of_images(data):
    masks, maps = data
    weights = np.array([1, 0, 2, 3, 1, 0, 1, 2])
    expected = aupimo_score(
        np.repeat(masks, weights, axis=0), np.repeat(maps, weights, axis=0), fpr_bounds=BOUNDS
    )
    for scale in (1, 1 / 7, 1e300):
        actual = aupimo_score(masks, maps, fpr_bounds=BOUNDS, sample_weight=scale * weights)
        assert actual == pytest.approx(expected, **EXACT)
    scores = aupimo_score(masks, maps, fpr_bounds=BOUNDS, sample_weight=weights, per_image=True)
    np.testing.assert_array_equal(np.isnan(scores), (weights == 0) | ~masks.any(axis=(1, 2)))


def test_aupimo_score_type_of_masks_changes_nothing(data):
    masks, maps = data
    expected = aupimo_score(masks, maps, fpr_bounds=BOUNDS)
    for other in (masks.astype(np.uint8) * 255, masks.astype(int), masks * 0.25, -masks.astype(np.int8)):
        assert aupimo_score(other, maps, fpr_bounds=BOUNDS) == expected


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.int8, np.uint8, bool])
def test_aupimo_score_type_of_maps_values_are_compared_as_they_are(dtype, data):
    masks, maps = data
    typed = (np.clip(maps, 0, 10) if dtype is bool else np.clip(10 * maps, 0, 100)).astype(dtype)
    bounds = (typed[:3].mean(), 1) if dtype is bool else (0.01, 0.2)
    expected = slow_scores(masks, typed, bounds)
    assert 0 < np.nanmean(expected) < 1
    scores = aupimo_score(masks, typed, fpr_bounds=bounds, per_image=True)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)


def test_aupimo_score_integers_beyond_floats_stay_apart():
    masks, maps = np.zeros((2, 1, 4), dtype=bool), np.zeros((2, 1, 4), dtype=np.int64)
    maps[0] = 2**60 + np.arange(4)  # rates of 1, 0.75, 0.5 and 0.25
    masks[1, 0, 0], maps[1, 0, 0] = (
        True,
        2**60 + 2,
    )  # half of it from 0.25 to 0.5, half of the range; then all
    assert aupimo_score(masks, maps, fpr_bounds=(0.25, 1)) == pytest.approx(0.75, **EXACT)


def test_aupimo_score_zeros_of_both_signs_tie():
    masks, maps = np.array([[[0, 0, 0]], [[1, 0, 0]]]), np.array([[[1, 0.0, -0.0]], [[-0.0, 0, 0]]])
    expected = pytest.approx(0.5, **EXACT)
    assert aupimo_score(masks, maps, fpr_bounds=(1 / 3, 1)) == expected
    assert aupimo_score(masks, maps * [[[1, -1, -1]], [[-1, 1, 1]]], fpr_bounds=(1 / 3, 1)) == expected


def test_aupimo_score_layouts_change_nothing_and_inputs_stay(data, tmp_path):
    masks, maps = data
    np.save(tmp_path / "maps.npy", maps)
    kept_masks, kept_maps = masks.copy(), maps.copy()
    expected = aupimo_score(masks, maps, fpr_bounds=BOUNDS)
    for layout in (
        list(maps),
        maps.tolist(),
        np.asfortranarray(maps),
        torch.tensor(maps),
        np.load(tmp_path / "maps.npy", mmap_mode="r"),
        list(np.load(tmp_path / "maps.npy", mmap_mode="c")),
    ):
        assert aupimo_score(list(masks), layout, fpr_bounds=np.array(BOUNDS)) == expected
    np.testing.assert_array_equal(masks, kept_masks)
    np.testing.assert_array_equal(maps, kept_maps)


def test_aupimo_score_memory_stays_bounded(tmp_path):
    rng = np.random.RandomState(0)
    one, mask = rng.rand(512, 512).astype(np.float32), np.zeros((512, 512), dtype=bool)
    with open(tmp_path / "maps", "wb") as maps, open(tmp_path / "masks", "wb") as masks:
        for i in range(60):
            (one + i / 1000).tofile(maps)  # each image has more high values than the ones before
            mask[100:150, 100:150] = i >= 50
            mask.tofile(masks)
    masks = np.memmap(tmp_path / "masks", bool, "r", shape=(60, 512, 512))
    maps = np.memmap(tmp_path / "maps", np.float32, "r", shape=(60, 512, 512))
    aupimo_score(masks[49:51], maps[49:51])
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    except OSError:
        pytest.skip("only Linux tells the peak from here on")
    before = peak_megabytes()
    aupimo_score(masks, maps)
    assert peak_megabytes() - before < 20  # the files are 79, one map is 1


def peak_megabytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


# What is refused


@pytest.mark.parametrize(
    "bounds",
    [
        (1e-4, 1e-5),
        (0.1, 0.1),
        (0, 0.1),
        (-0.1, 0.1),
        (0.1, 1.01),
        (np.nan, 0.1),
        (0.1, np.nan),
        (0.1,),
        (0.1, 0.2, 0.3),
        0.1,
        None,
        "ab",
        ("0.1", "0.2"),
    ],
)
def test_aupimo_score_faulty_bounds_raise(bounds, data):
    with pytest.raises(
        ValueError, match=f"fpr_bounds must be .*0 < lower < upper <= 1.*got {re.escape(repr(bounds))}"
    ):
        aupimo_score(*data, fpr_bounds=bounds)


def test_aupimo_score_faulty_per_image_raises(data):
    with pytest.raises(ValueError, match=r"'per_image' parameter of aupimo_score.*Got 'yes'"):
        aupimo_score(*data, per_image="yes")


def test_aupimo_score_no_good_image_raises(data):
    masks, maps = data
    with pytest.raises(ValueError, match=r"masks has no good image among its 5\..* add some, .* all zero"):
        aupimo_score(masks[3:], maps[3:])
    weights = [0, 0, 0, 1, 1, 1, 1, 1]
    with pytest.raises(ValueError, match="masks has no good image of non-zero weight among its 8"):
        aupimo_score(masks, maps, sample_weight=weights)


def test_aupimo_score_no_defective_image_raises(data):
    masks, maps = data
    with pytest.raises(
        ValueError, match=r"masks has no defective image among its 3\..* add some, .*non-zero"
    ):
        aupimo_score(masks[:3], maps[:3])
    with pytest.raises(ValueError, match="masks has no defective image of non-zero weight among its 4"):
        aupimo_score(masks[:4], maps[:4], sample_weight=[1, 1, 1, 0])


def test_aupimo_score_too_few_good_pixels_raise():
    masks, maps = np.zeros((2, 4, 5)), np.arange(40.0).reshape(2, 4, 5)
    masks[1, 0, 0] = 1
    message = (
        r"fpr_bounds=\(0.04, 0.5\) can't be resolved by the 20 pixels of good images: at the value 19.0, .* jumps "
        r"from 0 to 0.05\. Pass more good images \(a lower bound of 0.04 takes 25 pixels or more\), .* a lower bound "
        r"of 0.05 or more\."
    )
    with pytest.raises(ValueError, match=message):
        aupimo_score(masks, maps, fpr_bounds=(0.04, 0.5))
    assert aupimo_score(masks, maps, fpr_bounds=(0.05, 0.5)) == 1
    # Even where 0.05 is nearer than 0.
    with pytest.raises(ValueError, match=r"jumps from 0 to 0.05\."):
        aupimo_score(masks, maps, fpr_bounds=(0.0499, 0.5))


def test_aupimo_score_suggested_lower_bound_is_taken():
    rng = np.random.RandomState(0)
    for _ in range(20):
        masks, maps = make_images(rng, [tuple(rng.randint(3, 30, size=2)) for _ in range(6)])
        weights = rng.rand(6)
        with pytest.raises(ValueError, match="a lower bound of") as caught:
            aupimo_score(masks, maps, sample_weight=weights)
        lower = float(re.search(r"a lower bound of (\S+) or more\.$", str(caught.value))[1])
        assert 0 <= aupimo_score(masks, maps, sample_weight=weights, fpr_bounds=(lower, 1)) <= 1


def test_aupimo_score_highest_good_values_equal_raise():
    masks, maps = np.zeros((2, 1, 100)), np.zeros((2, 1, 100))
    masks[1, 0, 0], maps[0] = 1, np.minimum(np.arange(100), 90)
    with pytest.raises(ValueError, match=r"at the value 90.0, .* from 0 to 0.1\. .* fewer equal values"):
        aupimo_score(masks, maps, fpr_bounds=(0.05, 0.2))


@pytest.mark.parametrize(
    ("bounds", "rate", "value"), [((0.21, 0.29), "0.2", 4), ((0.31, 0.49), "0.4", 3), ((0.91, 0.99), "1", 0)]
)
def test_aupimo_score_bounds_with_the_same_nearest_rate_raise(bounds, rate, value):
    masks, maps = np.zeros((2, 1, 100)), np.zeros((2, 1, 100))
    masks[1, 0, 0], maps[0] = 1, np.arange(100) // 20  # rates of 0.2, 0.4, 0.6, 0.8 and 1
    message = (
        rf"fpr_bounds={re.escape(str(bounds))} can't be resolved by the 100 pixels of good images: the nearest .* "
        rf"rate to both is {rate}, at the value {value}\.0\. Pass bounds that are farther apart, more good images, or "
    )
    with pytest.raises(ValueError, match=message):
        aupimo_score(masks, maps, fpr_bounds=bounds)
    assert aupimo_score(masks, maps, fpr_bounds=(0.29, 0.31)) == 0
    assert aupimo_score(masks, maps + 9 * masks, fpr_bounds=(0.29, 0.31)) == 1


def test_aupimo_score_bounds_equal_to_rates_but_for_rounding_give_perfect_maps_one():
    for n in range(2, 40):
        masks, maps = np.zeros((2, n, 3)), np.zeros((2, n, 3))
        masks[1, 0, 0], maps[1, 0, 0], maps[0] = 1, n, np.arange(n)[:, np.newaxis]
        for k in range(1, n):
            assert aupimo_score(masks, maps, fpr_bounds=(k / n, (k + 1) / n)) == 1
            assert aupimo_score(masks, maps, fpr_bounds=(1 / n, (k + 1) / n)) == 1
            assert aupimo_score(masks, -maps, fpr_bounds=(1 / n, (k + 1) / n)) == 0


def test_aupimo_score_constant_maps_raise():
    masks = np.zeros((2, 4, 4))
    masks[1, 0, 0] = 1
    with pytest.raises(ValueError, match=r"jumps from 0 to 1\. .* fewer equal values among the highest\.$"):
        aupimo_score(masks, np.ones_like(masks), fpr_bounds=(0.25, 1))


def test_aupimo_score_shapes_that_differ_raise(data):
    masks, maps = data
    with pytest.raises(ValueError, match=r"masks\[0\] has shape \(20, 24\) and maps\[0\] .* \(20, 23\)"):
        aupimo_score(masks, maps[:, :, 1:])
    with pytest.raises(ValueError, match="8 masks and 7 maps"):
        aupimo_score(masks, maps[1:])
    with pytest.raises(ValueError, match=r"masks must have shape \(n, H, W\).*got shape \(20, 24\)"):
        aupimo_score(masks[0], maps[0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [1, 5])
def test_aupimo_score_map_not_finite_raises_with_its_position(row, value, data):
    masks, maps = data
    maps[row, 3, 2] = value
    with pytest.raises(ValueError, match=re.escape(f"maps[{row}] holds {value} at row 3, column 2")):
        aupimo_score(masks, maps, fpr_bounds=BOUNDS)


def test_aupimo_score_other_types_raise(data):
    masks, maps = data
    with pytest.raises(TypeError, match=r"maps\[0\] has dtype complex128"):
        aupimo_score(masks, maps.astype(complex))
    with pytest.raises(TypeError, match=r"masks must be an array .* got NoneType"):
        aupimo_score(None, maps)


def test_aupimo_score_faulty_weights_raise(data):
    with pytest.raises(ValueError, match=r"sample_weight\[2\] is -0.5"):
        aupimo_score(*data, sample_weight=[1, 1, -0.5, 1, 1, 1, 1, 1])
    with pytest.raises(ValueError, match=r"shape \(8,\).*got shape \(2,\)"):
        aupimo_score(*data, sample_weight=[1, 1])
