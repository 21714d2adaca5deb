"""Connected regions."""

import numpy as np
import pytest

from skcsflow import Region, find_regions
from skcsflow._regions import label_regions


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


@pytest.mark.parametrize(
    ("values", "threshold", "min_area", "message"),
    [
        (np.zeros(3), 0.0, 1, r"shape \(H, W\), got shape \(3,\)"),
        (np.zeros((0, 3)), 0.0, 1, r"anomaly_map has no pixels: its shape is \(0, 3\)"),
        (np.zeros((3, 3)), np.nan, 1, "threshold is NaN"),
        (np.zeros((3, 3)), 0.0, 0, "min_area must be an int of at least 1, got 0"),
        (np.zeros((3, 3)), 0.0, 1.5, r"min_area must be an int of at least 1, got 1\.5"),
    ],
)
def test_find_regions_refuses(values, threshold, min_area, message):
    with pytest.raises(ValueError, match=message):
        find_regions(values, threshold, min_area=min_area)
