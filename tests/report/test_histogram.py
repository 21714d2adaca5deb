"""The histogram's bars, and the places of its threshold."""

import numpy as np
import pytest

from skcsflow.report._histogram import histogram

RNG = np.random.RandomState(0)
GOOD, BAD = RNG.normal(0, 1, 60), RNG.normal(-5, 2, 20)


def edges_of(found, threshold):
    return threshold + found.step * np.array([found.first, found.last])


@pytest.mark.parametrize(
    ("scores", "threshold"),
    [
        (np.r_[GOOD, BAD], -2.0),
        (GOOD, 40.0),
        (GOOD, -3.21),
        (np.zeros(5), 0.0),
        (np.full(5, 7.0), 7.5),
        (np.array([1e-9, 2e-9]), 1.5e-9),
        (np.r_[GOOD, -1e12], -2.0),
        (np.array([np.nan, 1.0]), 0.5),
        (np.array([np.nan]), -0.5),
    ],
)
def test_histogram_holds_the_threshold_and_whole_bars(scores, threshold):
    found = histogram(scores, None, threshold)
    low, high = edges_of(found, threshold)
    assert low < threshold < high
    assert found.first % 5 == found.last % 5 == 0
    assert found.step > 0
    assert (found.last - found.first) / 5 <= 60
    assert all(bar.x >= 0 and bar.x + bar.width <= 100.01 for bar in found.bars)
    assert all(bar.y >= 0 and abs(bar.y + bar.height - 100) < 0.01 for bar in found.bars)
    assert sum(int(bar.title.split()[0]) for bar in found.bars) == (~np.isnan(scores)).sum()
    assert all(0 <= position <= 100 for position, _ in found.ticks)
    assert 4 <= len(found.ticks) <= 11


def test_histogram_stacks_defects_on_good_images():
    defect = np.repeat([False, True], [6, 2])
    found = histogram(np.array([1.0, 1.0, 2.0, 2.0, 1.5, 1.5, 1.0, 0.0]), defect, 0.9)
    at_one = next(bar for bar in found.bars if bar.kind == "good")
    upon = next(bar for bar in found.bars if bar.kind == "defect" and bar.x == at_one.x)
    assert found.highest == 3
    assert (at_one.y, at_one.height) == pytest.approx((100 / 3, 200 / 3), abs=0.01)
    assert (upon.y, upon.height) == pytest.approx((0, 100 / 3), abs=0.01)


def test_scores_at_the_threshold_lie_right_of_it():
    found = histogram(np.array([-1.0, 0.3, 1.0]), None, 0.3)
    place = 100 * -found.first / (found.last - found.first)
    assert any(abs(bar.x - place) < 0.01 for bar in found.bars)


def test_scores_far_out_are_counted_in_the_outermost_bars():
    found = histogram(np.r_[GOOD, -1e3, -1e4, 1e3], None, -2.0)
    assert (found.n_below, found.n_above) == (2, 1)
    assert found.bars[0].title.startswith("2 images")
