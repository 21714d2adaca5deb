"""Names of images for a page."""

import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from skcsflow._images import ImageCollection

__all__ = ["check_names", "clean", "names_of"]


def names_of(images: ImageCollection) -> list[str]:
    """Name images by their files, with the folders in which they differ, or by their rows.

    Parameters
    ----------
    images : ImageCollection
        The images.

    Returns
    -------
    list of str
        A name of each.
    """
    rows = [f"X[{row}]" for row in range(len(images))]
    if not isinstance(images.items, list | tuple | np.ndarray):
        return rows
    is_path = [isinstance(item, str | os.PathLike) for item in images.items]
    paths = [PurePath(os.fspath(item)) for item, known in zip(images.items, is_path, strict=True) if known]
    try:
        common = os.path.commonpath([path.parent for path in paths])
    except ValueError:  # none at all, or absolute and relative ones, or on several drives
        common = ""
    shown = iter(clean(path.relative_to(common).as_posix()) for path in paths)
    return [next(shown) if known else row for known, row in zip(is_path, rows, strict=True)]


def check_names(names: Sequence[Any], n: int) -> list[str]:
    """Check that there is a name for each of n images."""
    if isinstance(names, str) or not hasattr(names, "__len__"):
        raise TypeError(f"names must be a sequence of {n} names, one for each image, got {names!r}.")
    if len(names) != n:
        raise ValueError(f"X has {n} images, but names has {len(names)}. Pass one name for each image.")
    return [clean(str(name)) for name in names]


def clean(text: str) -> str:
    """Text that can be written as UTF-8: names of files need not be text."""
    return text.encode("utf-8", "replace").decode()
