"""Connected regions."""

import numpy as np
import pytest
from scipy import ndimage

from skcsflow import Region, find_regions
from skcsflow._regions import label_regions, mark_pixels


def test_label_regions_joins_corners():
    mask = np.array([[2, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]])
    labels, n_regions = label_regions(mask)
    assert n_regions == 3
    np.testing.assert_array_equal(labels, [[1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 0, 3]])
    assert label_regions(mask > 5)[1] == 0


def test_find_regions_sorts_by_peak():
    values = np.zeros((6, 8))
    values[0, 0] = values[1, 1] = 2.0  # touch at a corner
    values[3:5, 5:8] = 3.0
    values[4, 6] = 7.0
    values[5, 0] = 9.0
    regions = find_regions(values, threshold=1.0)
    assert regions == [
        Region((5, 0, 6, 1), 1, 9.0, (5, 0)),
        Region((3, 5, 5, 8), 6, 7.0, (4, 6)),
        Region((0, 0, 2, 2), 2, 2.0, (0, 0)),
    ]
    assert find_regions(values, threshold=1.0, min_area=2) == regions[1:]
    assert find_regions(values, threshold=9.0) == []


def test_find_regions_peak_is_not_that_of_another_region_in_the_box():
    values = np.ones((5, 5))
    values[1:4, 1:4] = 0.0
    values[2, 2] = 5.0
    assert [(region.peak, region.area) for region in find_regions(values, 0.5)] == [(5.0, 1), (1.0, 16)]


def test_find_regions_compares_in_float64():
    just_below = np.nextafter(np.float64(1), 0)  # float32 would round it to 1
    assert len(find_regions(np.ones((1, 1), dtype=np.float32), just_below)) == 1


def test_find_regions_with_a_level_keeps_the_upper_part_of_each():
    values = np.array([[2, 8, 2, 0, 0], [2, 9, 2, 0, 2], [2, 2, 2, 0, 3]], dtype=np.float32)
    assert find_regions(values, 1.0, level=lambda peak: peak / 2) == [
        Region((0, 1, 2, 2), 2, 9.0, (1, 1)),
        Region((1, 4, 3, 5), 2, 3.0, (2, 4)),
    ]


def test_find_regions_with_a_level_splits_a_region_at_its_saddle():
    regions = find_regions([[9, 2, 8]], 1.0, level=lambda peak: peak / 2)
    assert [region.bbox for region in regions] == [(0, 0, 1, 1), (0, 2, 1, 3)]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (lambda peak: np.inf, [[False, False, True, False]]),
        (lambda peak: peak, [[False, False, True, False]]),
        (lambda peak: 2.0, [[False, True, True, False]]),
        (lambda peak: -np.inf, [[True, True, True, False]]),
        (None, [[True, True, True, False]]),
    ],
    ids=["above the peak", "peak", "between", "below the threshold", "none"],
)
def test_mark_pixels_lie_between_the_peak_alone_and_all_above_the_threshold(level, expected):
    np.testing.assert_array_equal(mark_pixels(np.array([[1.5, 2.0, 3.0, 1.0]]), 1.0, level), expected)


def test_mark_pixels_holds_the_peak_of_each_region_and_none_at_or_below_the_threshold():
    values = ndimage.gaussian_filter(np.random.RandomState(0).normal(size=(60, 70)), 2).astype(np.float32)
    threshold = float(np.quantile(values, 0.8))
    marked = mark_pixels(values, threshold, lambda peak: 0.4 * threshold + 0.6 * peak)
    assert not marked[values <= threshold].any()
    labels, n_regions = label_regions(values > threshold)
    peaks = ndimage.maximum_position(values, labels, range(1, n_regions + 1))
    assert n_regions > 5
    assert all(marked[peak] for peak in peaks)
    assert 0 < marked.sum() < (labels > 0).sum()


def test_mark_pixels_where_nothing_is_above_the_threshold_is_empty():
    assert not mark_pixels(np.ones((2, 2)), 1.0, lambda peak: pytest.fail("there is no peak")).any()


def test_mark_pixels_with_a_level_of_nan_raises():
    with pytest.raises(ValueError, match="level must give a number, but gives nan for a peak of 2"):
        mark_pixels(np.array([[0.0, 2.0]]), 1.0, lambda peak: np.nan)


@pytest.mark.parametrize(
    ("values", "threshold", "min_area", "message"),
    [
        (np.zeros(3), 0.0, 1, r"shape \(H, W\), got shape \(3,\)"),
        (np.zeros((0, 3)), 0.0, 1, r"anomaly_map has no pixels: its shape is \(0, 3\)"),
        (np.zeros((3, 3)), np.nan, 1, "threshold must be a number, got nan"),
        (np.zeros((3, 3)), 0.0, 0, "min_area must be an int of at least 1, got 0"),
        (np.zeros((3, 3)), 0.0, 1.5, r"min_area must be an int of at least 1, got 1\.5"),
    ],
)
def test_find_regions_refuses(values, threshold, min_area, message):
    with pytest.raises(ValueError, match=message):
        find_regions(values, threshold, min_area=min_area)
