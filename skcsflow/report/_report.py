"""A report on images, as one file."""

import os
import platform
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_is_fitted

from skcsflow._checks import as_array, as_path
from skcsflow._images import (
    ImageCollection,
    as_sequence,
    check_images,
    is_row_matrix,
    resolve_image_shape,
)
from skcsflow._labels import check_labels, is_defect
from skcsflow._version import __version__
from skcsflow._whole_files import writing_whole
from skcsflow.report._histogram import histogram
from skcsflow.report._names import check_names, clean, names_of
from skcsflow.report._page import render
from skcsflow.report._pictures import colour_scale, draw_map, draw_thumbnail, shrink_map

__all__ = ["write_report"]

_MANY_IMAGES = 400
_SIDE_OF_FEW, _SIDE_OF_MANY = 320, 160
_MOST_REGIONS = 20
"""Of an image, drawn and listed. A noisy map can have thousands."""


def write_report(
    detector: Any,
    X: Any,
    path: str | os.PathLike[str],
    *,
    y: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    title: str | None = None,
    min_area: int = 1,
    thumbnail_size: int | None = None,
) -> Path:
    """Inspect images, and write what is found as a page for a browser.

    The page is one file that needs nothing else, and no network. It has the scores as a histogram whose threshold can
    be moved, and a table of all images that can be sorted and filtered, with their anomaly maps and regions.

    Read more in the :doc:`user guide </report>`.

    Parameters
    ----------
    detector : CSFlowDetector
        A fitted detector. With ``on_error="nan"``, images that can't be read are in the report, with the reason.
    X : array-like of images
        Images, see :meth:`CSFlowDetector.fit`. Each goes through the network once. It is read once more to draw it.
    path : str or path-like
        The file to write, such as ``"report.html"``. A file that is there is replaced, once the new one is whole.
    y : array-like of shape (n,), default=None
        Labels, see :meth:`CSFlowDetector.fit`. With them the page shows which defects are found, and what are false
        alarms. Strings are shown as they are.
    names : sequence of str of length n, default=None
        Names of the images. None: those of their files, with the folders in which they differ, or else ``X[0]``,
        ``X[1]`` and so on.
    title : str, default=None
        The page's title. None: "Inspection of n images".
    min_area : int, default=1
        Regions of fewer pixels are left out.
    thumbnail_size : int, default=None
        Pixels along the longer side of the pictures, at least 16. None: 320, and 160 for more than 400 images. The page
        takes at most 0.23 bytes for each pixel of such a square, and 2 to 4 kB beside, for each image.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        Where the folder of `path` doesn't exist, or `path` is a folder itself.
    NotFittedError
        Where the detector isn't fitted.
    TypeError, ValueError
        Where `detector` is something else, a parameter can't be used, `y` or `names` don't fit X, or an image can't
        be read and the detector has ``on_error="raise"``. No file is left then, and one that was there stays.

    Examples
    --------
    >>> import tempfile
    >>> from skcsflow import CSFlowDetector
    >>> from skcsflow.datasets import make_defects
    >>> from skcsflow.report import write_report
    >>> data = make_defects(n_normal=16, n_defective=2, random_state=0)
    >>> detector = CSFlowDetector(input_size=64, n_epochs=1, random_state=0).fit(data.images[:12])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_report(detector, data.images, f"{folder}/report.html", y=data.target)
    ...     path.read_text(encoding="utf-8")[:15]
    '<!doctype html>'
    """
    if not hasattr(detector, "inspect"):
        raise TypeError(
            f"detector must be a CSFlowDetector, got {type(detector).__name__}. Of a pipeline or a search pass the "
            "detector in it."
        )
    check_is_fitted(detector)
    if not np.isfinite(detector.offset_):
        raise ValueError(
            f"The detector's offset_ is {detector.offset_}. Set it to a threshold, or calibrate."
        )
    path = as_path(path, "path")
    if path.is_dir():
        raise IsADirectoryError(f"path is a folder: {str(path)!r}. Name a file in it, such as report.html.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to write path={str(path)!r} in.")
    if not isinstance(title, str | None):
        raise TypeError(f"title must be a str or None, got {title!r}.")
    X = as_sequence(X)
    images = _open_images(detector, X)
    n = len(images)
    defect, kinds = _read_labels(y, n)
    names = names_of(images) if names is None else check_names(names, n)
    side = _check_side(thumbnail_size, n)

    rows = []
    # The file is made first: where nothing can be written, one learns it before all the work.
    with writing_whole(path) as unfinished:
        found = detector.inspect(X, min_area=min_area)
        with closing(found):  # its threads end here, also where the caller keeps the error
            for i, (inspection, name, kind) in enumerate(zip(found, names, kinds, strict=True)):
                rows.append(_row(i, inspection, name, kind, images, side))
        facts = _facts(detector, rows, defect, title)
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(render(facts))
    return path


def _open_images(detector: Any, X: Any) -> ImageCollection:
    """The images as the detector takes their values, to draw them."""
    num_channels = detector.model_.config["num_channels"]
    if is_row_matrix(X):
        given = detector.image_shape_ or detector.image_shape
        rows = as_array(X, "X")
        if rows.ndim != 2:
            raise ValueError(
                f"X must have shape (n, n_features) where it holds numbers, got shape {rows.shape}."
            )
        shape = resolve_image_shape(given, rows.shape[1])
        return ImageCollection(rows, num_channels, row_shape=shape, value_range=detector.value_range)
    return check_images(X, num_channels, detector.value_range, max_pixels=detector.max_pixels)


def _read_labels(y: ArrayLike | None, n: int) -> tuple[NDArray[np.bool_] | None, list[str | None]]:
    """Which images are defective, and what to call their kinds."""
    if y is None:
        return None, [None] * n
    defect = is_defect(y)
    if len(defect) != n:
        raise ValueError(f"X has {n} images, but y has {len(defect)} labels.")
    labels = check_labels(y)
    return defect, [
        clean(label) if isinstance(label, str) else ("defect" if is_bad else "good")
        for label, is_bad in zip(labels, defect, strict=True)
    ]


def _check_side(thumbnail_size: int | None, n: int) -> int:
    if thumbnail_size is None:
        return _SIDE_OF_FEW if n <= _MANY_IMAGES else _SIDE_OF_MANY
    is_int = isinstance(thumbnail_size, Integral) and not isinstance(thumbnail_size, bool)
    if not is_int or thumbnail_size < 16:
        raise ValueError(f"thumbnail_size must be None or an int of at least 16, got {thumbnail_size!r}.")
    return int(thumbnail_size)


def _row(
    i: int, inspection: Any, name: str, kind: str | None, images: ImageCollection, side: int
) -> dict[str, Any]:
    """What the page says of one image: all that is kept of it."""
    row = {
        "index": i,
        "name": name,
        "kind": kind,
        "error": None if inspection.error is None else clean(inspection.error),
        "score": inspection.score,
        "p_value": None if np.isnan(inspection.p_value) else inspection.p_value,
        "is_flagged": inspection.verdict < 0,
    }
    if inspection.error is not None:
        return row
    picture, (height, width), shown = draw_thumbnail(images, i, side)
    return row | {
        "picture": picture,
        "map": shrink_map(inspection.anomaly_map),
        "height": height,
        "width": width,
        "shown": shown,
        "peak": float(inspection.anomaly_map.max()),
        "flagged_area": float(inspection.mask.mean()),
        "regions": inspection.regions[:_MOST_REGIONS],
        "n_regions": len(inspection.regions),
    }


def _facts(
    detector: Any, rows: list[dict[str, Any]], defect: NDArray[np.bool_] | None, title: str | None
) -> dict[str, Any]:
    """All that the page says."""
    readable = [row for row in rows if row["error"] is None]
    scale = colour_scale([row["map"] for row in readable], detector.map_threshold_) if readable else None
    scores = np.array([row["score"] for row in rows])
    flagged = np.array([row["is_flagged"] for row in rows])
    if defect is not None:
        for row, is_bad in zip(rows, defect.tolist(), strict=True):
            row["is_defect"] = is_bad
    known = ~np.isnan(scores)
    auroc = None
    if defect is not None and len(np.unique(defect[known])) == 2:
        auroc = float(roc_auc_score(defect[known], -scores[known]))
    return {
        "title": f"Inspection of {_count(len(rows), 'image')}" if title is None else clean(title),
        # The worst first; those that can't be read before all others.
        "rows": sorted(rows, key=lambda row: (row["error"] is None, row["score"])),
        "draw_map": None if scale is None else partial(draw_map, scale=scale),
        "has_labels": defect is not None,
        "kinds": sorted({row["kind"] for row in rows if row["kind"] is not None}),
        "has_p_values": hasattr(detector, "calibration_scores_"),
        "n_unreadable": len(rows) - len(readable),
        "flagged": int(flagged.sum()),
        "n_defects": 0 if defect is None else int(defect.sum()),
        "n_found": 0 if defect is None else int(flagged[defect].sum()),
        "n_good": 0 if defect is None else int((~defect).sum()),
        "n_false_alarms": 0 if defect is None else int(flagged[~defect].sum()),
        "auroc": auroc,
        "threshold": float(detector.offset_),
        "rate": _rate(detector),
        "map_threshold": float(detector.map_threshold_),
        "scale": scale,
        "histogram": histogram(scores, defect, float(detector.offset_)),
        "backbone": detector.model_.config["backbone"],
        "input_size": detector.model_.input_size,
        "date": datetime.now(UTC),
        "versions": {
            "skcsflow": __version__,
            "torch": torch.__version__,
            "Python": platform.python_version(),
        },
    }


def _rate(detector: Any) -> str:
    """What share of good images the threshold is meant to flag, as far as the detector knows."""
    calibration = getattr(detector, "calibration_scores_", None)
    if calibration is not None:
        share = float((calibration < detector.offset_).mean())
        return f"{100 * share:.1f} % of the {len(calibration)} good images of the calibration lie below the threshold"
    if detector.contamination == "auto":
        return "about 5 % of fresh good images are aimed at"
    return f"{100 * detector.contamination:g} % of the training images are aimed at; of fresh good ones it is more"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
