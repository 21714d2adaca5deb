"""The curve of true and false positives, against counting by hand."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from skcsflow._threshold_curve import threshold_curve


def values(kind, seed=0):
    """Normal and defective values with ties within and between the two, neither of them sorted."""
    rng = np.random.RandomState(seed)
    drawn = rng.randint(-9, 7, 40), rng.randint(-5, 12, 15)
    return [v.astype(kind) for v in drawn]


def weights(n, seed):
    return np.random.RandomState(seed).uniform(0.1, 3, n)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", [np.int64, np.float64])
@pytest.mark.parametrize("shift", [0, -10])  # defects above the lowest normal value alone, or below it too
def test_curve_is_that_of_counting(shift, kind, weighted):
    normal, defective = values(kind)
    defective += shift
    of_normal, gain = (weights(40, 1), weights(15, 2)) if weighted else (np.ones(40), np.ones(15))
    given = (of_normal, gain) if weighted else ()
    curve = threshold_curve(normal.copy(), defective, *given)
    np.testing.assert_array_equal(curve.threshold, np.unique(defective)[::-1])
    both = np.concatenate([normal, defective])
    tp = []
    for i, t in enumerate(curve.threshold):
        tp.append(gain[defective >= t].sum())
        assert curve.gain[i] == pytest.approx(gain[defective == t].sum())
        assert curve.fp[i] == pytest.approx(of_normal[normal >= t].sum())
        assert curve.fp_above[i] == pytest.approx(of_normal[normal > t].sum())
        assert curve.lower[i] == max(both[both < t], default=t)
    np.testing.assert_allclose(curve.tp, tp)
    assert curve.n_normal == pytest.approx(of_normal.sum())
    assert type(curve.n_normal) is float
    assert {a.dtype for a in (curve.gain, curve.fp, curve.fp_above)} == {np.dtype(float)}
    assert curve.dtype == kind


def test_curve_keeps_the_type_of_the_users_values():
    assert threshold_curve(*values(np.float64), dtype=np.dtype("float16")).dtype == np.float16


@pytest.mark.parametrize("weighted", [False, True])
def test_areas_are_those_of_scikit_learn(weighted):
    normal, defective = values(np.float64)
    of_normal, gain = (weights(40, 1), weights(15, 2)) if weighted else (np.ones(40), np.ones(15))
    y, scores = np.repeat([0, 1], [40, 15]), np.concatenate([normal, defective])
    weight = np.concatenate([of_normal, gain])
    curve = threshold_curve(normal, defective, *([of_normal, gain] if weighted else []))
    assert curve.area() == pytest.approx(roc_auc_score(y, scores, sample_weight=weight), rel=1e-12)
    expected = average_precision_score(y, scores, sample_weight=weight)
    assert curve.average_precision() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 0.62, 1.0])
def test_partial_area_is_that_under_the_line_through_all_points(max_fpr):
    normal, defective = values(np.float64)
    curve = threshold_curve(normal.copy(), defective)
    thresholds = np.unique(np.concatenate([normal, defective]))[::-1]
    fpr = np.array([0, *(np.mean(normal >= t) for t in thresholds)])
    tpr = np.array([0, *(np.mean(defective >= t) for t in thresholds)])
    area = 0.0
    for (f0, t0), (f1, t1) in pairwise(zip(fpr, tpr, strict=True)):
        stop = min(f1, max_fpr)
        if f1 > f0 and stop > f0:
            area += (stop - f0) * (t0 + (t0 + (t1 - t0) * (stop - f0) / (f1 - f0))) / 2
    assert curve.area(max_fpr) == pytest.approx(area / max_fpr, rel=1e-12)


def test_areas_of_separated_values_are_one():
    curve = threshold_curve(np.array([0.1, 0.2, 0.3]), np.array([0.7, 0.8, 0.9]))
    assert (curve.area(), curve.area(0.1), curve.average_precision()) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("n", [15, 200])
def test_areas_are_never_rounded_above_one(n):
    for seed in range(20):  # most would be, some of either kind
        curve = threshold_curve(-np.arange(3.0) - 1, np.arange(float(n)), np.ones(3), weights(n, seed))
        assert max(curve.area(), curve.area(0.1), curve.average_precision()) <= 1


def test_best_f1_is_the_highest_of_all_thresholds_and_the_highest_threshold_of_the_best():
    for seed in range(20):
        normal, defective = values(np.float64, seed)
        best, threshold = threshold_curve(normal.copy(), defective).f1_max()

        def f1(t, normal=normal, defective=defective):
            tp, fp = np.sum(defective >= t), np.sum(normal >= t)
            return 2 * tp / (tp + fp + len(defective))

        found = {t: f1(t) for t in np.unique(np.concatenate([normal, defective]))}
        assert best == pytest.approx(max(found.values()), rel=1e-12)
        assert f1(threshold) == pytest.approx(best, rel=1e-12)
        highest = max(t for t, value in found.items() if value == pytest.approx(best, rel=1e-12))
        assert threshold == (highest + max(v for v in found if v < highest)) / 2


def split(normal, defective, i=0, dtype=None):
    return threshold_curve(np.array(normal), np.array(defective), dtype=dtype).split_below(i)


def test_split_lies_half_way_to_the_next_lower_value_of_either_kind():
    assert split([1.0, 4.0], [3.0, 8.0]) == 6.0
    assert split([1.0, 4.0], [3.0, 8.0], 1) == 2.0
    assert split([1.0], [3.0, 8.0]) == 5.5
    assert split([1, 4], [3, 8]) == 6.0
    assert split([1, 5], [3, 8]) == 6.5


def test_split_below_the_lowest_value_is_just_below_it():
    assert split([9.0], [1.0]) == np.nextafter(1.0, -np.inf)
    assert split([9.0], [1.0], dtype=np.dtype("float32")) == float(
        np.nextafter(np.float32(1), np.float32(-1))
    )
    assert split([9], [4]) == 3.5


def test_split_of_neighbouring_floats_is_the_lower_one():
    lower = np.nextafter(1.0, 0)
    assert split([lower], [1.0]) == lower
    # In float16 there is no number between the two, though there is in float64.
    lower = float(np.nextafter(np.float16(1), np.float16(0)))
    assert split([lower], [1.0], dtype=np.dtype("float16")) == lower


def test_split_of_large_floats_does_not_overflow():
    assert split([1.5e308], [1.7e308]) == pytest.approx(1.6e308, rel=1e-12)


@pytest.mark.parametrize("large", [2**52, 2**52 + 1, 2**53, 2**60])
@pytest.mark.parametrize("sign", [1, -1])
def test_split_of_large_integers_tells_neighbours_apart(large, sign):
    lower, upper = sorted([sign * large, sign * (large - 1)])
    found = split([lower], [upper])
    assert lower <= found < upper
    assert found == (lower + 0.5 if large == 2**52 else lower)
