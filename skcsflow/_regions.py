"""Connected regions of masks, and of anomaly maps above a threshold."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from skcsflow._checks import as_array, explain_nan

__all__ = ["Region", "check_min_area", "find_regions", "label_regions", "mark_pixels", "regions_of_mask"]

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


class Region(NamedTuple):
    """A connected region of an anomaly map.

    Attributes
    ----------
    bbox : tuple of int (min_row, min_col, max_row, max_col)
        The smallest box around the region, in pixels; `max_row` and `max_col` lie outside,
        as in a slice.
    area : int
        Number of pixels.
    peak : float
        The highest value of the map in the region.
    peak_position : tuple of int (row, col)
        The pixel with the highest value.
    """

    bbox: tuple[int, int, int, int]
    area: int
    peak: float
    peak_position: tuple[int, int]


def find_regions(
    anomaly_map: ArrayLike,
    threshold: float,
    *,
    min_area: int = 1,
    level: Callable[[float], float] | None = None,
) -> list[Region]:
    """Find the connected regions where an anomaly map is above a threshold.

    Parameters
    ----------
    anomaly_map : array-like of shape (H, W)
        The map; higher is more anomalous.
    threshold : float
        Regions consist of the pixels whose value is above it.
    min_area : int, default=1
        Regions with fewer pixels are left out.
    level : callable, default=None
        Takes the peak of a region and gives the least value of its pixels; lower ones are left out, which
        may split it. None: regions are all that is above the threshold.

    Returns
    -------
    list of Region
        The regions, sorted by their peaks, highest first. Pixels that touch at a side or a
        corner belong to one region.

    Raises
    ------
    TypeError
        If the map doesn't hold real numbers, or `level` can't be called.
    ValueError
        If the map isn't two-dimensional, has no pixels or holds NaN, `threshold` or a level is NaN or no
        number, or `min_area` is less than 1.

    Examples
    --------
    >>> from skcsflow import find_regions
    >>> find_regions([[0, 3, 0, 0], [0, 5, 0, 9]], threshold=1)
    [Region(bbox=(1, 3, 2, 4), area=1, peak=9.0, peak_position=(1, 3)), \
Region(bbox=(0, 1, 2, 2), area=2, peak=5.0, peak_position=(1, 1))]

    Of each region only what is at least two thirds as high as its peak:

    >>> find_regions([[0, 3, 0, 0], [0, 5, 0, 9]], threshold=1, level=lambda peak: 2 / 3 * peak)
    [Region(bbox=(1, 3, 2, 4), area=1, peak=9.0, peak_position=(1, 3)), \
Region(bbox=(1, 1, 2, 2), area=1, peak=5.0, peak_position=(1, 1))]
    """
    values = as_array(anomaly_map, "anomaly_map")
    if values.ndim != 2:
        raise ValueError(f"anomaly_map must have shape (H, W), got shape {values.shape}.")
    if values.size == 0:
        raise ValueError(f"anomaly_map has no pixels: its shape is {values.shape}.")
    if values.dtype.kind not in "biuf":
        raise TypeError(f"anomaly_map must hold real numbers, got dtype {values.dtype}.")
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError(
            f"anomaly_map holds NaN, which is neither above nor below a threshold.{explain_nan(np.nan)}"
        )
    if not isinstance(threshold, Real) or np.isnan(float(threshold)):
        raise ValueError(f"threshold must be a number, got {threshold!r}.")
    if level is not None and not callable(level):
        raise TypeError(f"level must be a function or None, got {level!r}.")
    check_min_area(min_area)
    return regions_of_mask(values, mark_pixels(values, threshold, level), min_area)


def mark_pixels(
    anomaly_map: NDArray[Any], threshold: float, level: Callable[[float], float] | None = None
) -> NDArray[np.bool_]:
    """Mark the pixels that :func:`find_regions` makes regions of.

    Parameters
    ----------
    anomaly_map : ndarray of shape (H, W)
        The map; higher is more anomalous.
    threshold : float
        Only pixels above it are marked.
    level : callable, default=None
        As in :func:`find_regions`.

    Returns
    -------
    ndarray of shape (H, W), bool
        The mask. It holds the peak of each region above the threshold, and so at least one pixel where the
        map has any above it.

    Examples
    --------
    >>> import numpy as np
    >>> from skcsflow._regions import mark_pixels
    >>> mark_pixels(np.array([[2, 9, 6, 0, 2]]), 1, lambda peak: peak / 2)
    array([[False,  True,  True, False,  True]])
    """
    # As a float64, because NumPy would round a Python float to the map's float32.
    mask = anomaly_map > np.float64(threshold)
    if level is None or not mask.any():
        return mask
    labels, _ = label_regions(mask)
    for i, box in enumerate(ndimage.find_objects(labels), start=1):
        region, values = labels[box] == i, anomaly_map[box]
        peak = float(values[region].max())
        least: Any = level(peak)
        if not isinstance(least, Real) or np.isnan(float(least)):
            raise ValueError(f"level must give a number, but gives {least!r} for a peak of {peak:g}.")
        # A level above its peak would leave nothing.
        mask[box] &= ~region | (values >= min(np.float64(least), np.float64(peak)))
    return mask


def regions_of_mask(anomaly_map: NDArray[Any], mask: NDArray[np.bool_], min_area: int) -> list[Region]:
    """Describe the connected regions of a mask, see :func:`find_regions`.

    Parameters
    ----------
    anomaly_map : ndarray of shape (H, W)
        The map.
    mask : ndarray of shape (H, W), bool
        Which of its pixels belong to regions.
    min_area : int
        Regions with fewer pixels are left out.

    Returns
    -------
    list of Region
        The regions, sorted by their peaks, highest first.
    """
    values = anomaly_map
    labels, n_regions = label_regions(mask)
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


def check_min_area(min_area: Any) -> None:
    """Check the parameter `min_area`."""
    if not isinstance(min_area, Integral) or int(min_area) < 1:
        raise ValueError(f"min_area must be an int of at least 1, got {min_area!r}.")


def label_regions(mask: NDArray[Any]) -> tuple[NDArray[np.int32], int]:
    """Number the connected regions of a mask.

    Parameters
    ----------
    mask : ndarray of shape (H, W)
        Non-zero pixels belong to regions. Those that touch at a side or a corner belong to one.

    Returns
    -------
    labels : ndarray of shape (H, W), int32
        The region of each pixel, numbered from 1; 0 outside of all regions.
    n_regions : int
        Number of regions.

    Examples
    --------
    >>> import numpy as np
    >>> from skcsflow._regions import label_regions
    >>> label_regions(np.array([[1, 0, 0, 1], [0, 1, 0, 1]]))
    (array([[1, 0, 0, 2],
           [0, 1, 0, 2]], dtype=int32), 2)
    """
    labels, n_regions = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
    return labels, int(n_regions)
