"""The figures of boxes and masks in the benchmark of regions."""

import sys
from pathlib import Path

import numpy as np
import pytest

# The benchmarks are no part of the installed package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.regions import REACH, compare, true_defects


def mask(*boxes, size=(60, 80)):
    """A mask that is True in boxes of (first row, first column, last row + 1, last column + 1)."""
    filled = np.zeros(size, dtype=bool)
    for r0, c0, r1, c1 in boxes:
        filled[r0:r1, c0:c1] = True
    return filled


def test_true_defects_joins_what_is_up_to_twice_the_reach_apart():
    pieces = (0, 10, 4, 13), (0, 13 + 2 * REACH, 4, 40), (30, 0, 34, 4)
    labels = true_defects(mask(*pieces))
    assert labels.max() == 2
    assert true_defects(mask((0, 10, 4, 13), (0, 14 + 2 * REACH, 4, 40))).max() == 2
    assert labels[0, 10] == labels[0, 39] != labels[30, 0]
    assert not labels[~mask(*pieces)].any()
    assert true_defects(mask()).max() == 0


def test_compare_of_hand_made_masks():
    true = mask((0, 0, 10, 10), (40, 40, 50, 50))
    predicted = mask((0, 0, 10, 20), (30, 70, 32, 72))  # twice one defect, not the other, and a false region
    figures = compare([(predicted, true), (mask(), mask()), (mask((5, 5, 6, 6)), mask())])
    assert figures == pytest.approx(
        {
            "box IoU": 0.25,
            "box area ratio": 2.0,
            "found": 0.5,
            "false regions, good": 0.5,
            "false regions, defective": 1.0,
            "pixel IoU": 100 / 304,
            "pixel F1": 200 / (200 + 104 + 100 + 1),
            "good images marked": 0.5,
        }
    )


def test_compare_where_no_box_overlaps_a_defect_raises():
    with pytest.raises(ValueError, match="No predicted box overlaps any defect"):
        compare([(mask(), mask((0, 0, 2, 2))), (mask(), mask())])
