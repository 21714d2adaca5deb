"""Connected regions of a map above a threshold."""

from numbers import Integral
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

__all__ = ["Region", "find_regions"]


class Region(NamedTuple):
    """A connected region of an anomaly map.

    Attributes
    ----------
    bbox : tuple of int (min_row, min_col, max_row, max_col)
        The smallest box around it, in pixels; the last row and column are outside, as in
        a slice.
    area : int
        Number of its pixels.
    peak : float
        The map's highest value in it.
    peak_position : tuple of int (row, col)
        Where that is.
    """

    bbox: tuple[int, int, int, int]
    area: int
    peak: float
    peak_position: tuple[int, int]


def find_regions(anomaly_map: ArrayLike, threshold: float, *, min_area: int = 1) -> list[Region]:
    """Find the connected regions where a map is above a threshold.

    Parameters
    ----------
    anomaly_map : array-like of shape (H, W)
        The map; higher is more anomalous.
    threshold : float
        What a region's pixels are above.
    min_area : int, default=1
        Regions of fewer pixels are left out.

    Returns
    -------
    list of Region
        The highest peak first. Pixels that touch at a corner are in one region.

    Raises
    ------
    ValueError
        Where the map is not two-dimensional or has no pixels, `threshold` is NaN, or `min_area` is less than 1.

    Examples
    --------
    >>> from skcsflow import find_regions
    >>> find_regions([[0, 3, 0, 0], [0, 5, 0, 9]], threshold=1)
    [Region(bbox=(1, 3, 2, 4), area=1, peak=9.0, peak_position=(1, 3)), \
Region(bbox=(0, 1, 2, 2), area=2, peak=5.0, peak_position=(1, 1))]
    """
    values = np.asarray(anomaly_map)
    if values.ndim != 2:
        raise ValueError(f"anomaly_map must have shape (H, W), got shape {values.shape}.")
    if values.size == 0:
        raise ValueError(f"anomaly_map has no pixels: its shape is {values.shape}.")
    if np.isnan(threshold):
        raise ValueError("threshold is NaN, which no pixel is above.")
    if not isinstance(min_area, Integral) or min_area < 1:
        raise ValueError(f"min_area must be an int of at least 1, got {min_area!r}.")
    # As float64, or NumPy would round it to the map's float32.
    labels, n_regions = ndimage.label(values > np.float64(threshold), structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=n_regions + 1)
    regions = []
    for i, box in enumerate(ndimage.find_objects(labels), start=1):
        if areas[i] < min_area:
            continue
        rows, columns = box
        inside = np.where(labels[box] == i, values[box], -np.inf)
        row, column = np.unravel_index(np.argmax(inside), inside.shape)
        regions.append(
            Region(
                bbox=(rows.start, columns.start, rows.stop, columns.stop),
                area=int(areas[i]),
                peak=float(inside[row, column]),
                peak_position=(int(rows.start + row), int(columns.start + column)),
            )
        )
    return sorted(regions, key=lambda region: -region.peak)
