"""Images flattened into the rows of a matrix, the way scikit-learn's own checks pass data."""

import os
from math import isqrt, prod
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from skcsflow._images._containers import IMAGE_TYPES, is_arrow_table, is_missing

__all__ = ["check_rows", "is_row_matrix", "resolve_image_shape"]


def is_row_matrix(X: Any) -> bool:
    """Whether X is to be read as a 2-D matrix of flattened images, as scikit-learn checks it."""
    if isinstance(X, (Tensor, Image.Image, str, os.PathLike)):
        return False
    if is_arrow_table(X):
        X = np.asarray(X)
    if hasattr(X, "to_numpy") and not hasattr(X, "columns") and len(getattr(X, "shape", ())) < 2:
        if hasattr(X, "to_pylist"):  # pyarrow's, which has no shape
            return False
        X = X.to_numpy()  # a series of polars may hold arrays
    if hasattr(X, "dtype") or hasattr(X, "to_numpy"):
        if len(X.shape) == 2:
            return not _holds_images(X)
        return len(X.shape) < 2 and not _is_object(X)
    if isinstance(X, (list, tuple)):
        # A list of numbers or of lists: let scikit-learn's check_array say what is wrong with it.
        first = next((item for item in X if not is_missing(item)), None)
        if isinstance(first, (list, tuple)):
            return not any(map(_is_image, first))  # such as (image, label), which is a row of nothing
        return isinstance(first, (int, float, np.number)) or (
            isinstance(first, np.ndarray) and first.ndim < 2
        )
    return hasattr(X, "__array__")


def check_rows(X: Any) -> None:
    """Check that the rows of a nested list have one length."""
    if not isinstance(X, (list, tuple)):
        return  # scikit-learn checks the rest
    for i, row in enumerate(X):
        if np.ma.is_masked(row):
            raise ValueError(
                f"X[{i}] is a masked array with masked values. Fill them, such as with filled(0)."
            )
    # Arrays of no dimension have the method, but no length.
    lengths = [
        len(row) if hasattr(row, "__len__") and getattr(row, "shape", (1,)) != () else None for row in X
    ]
    for i, length in enumerate(lengths):
        if length != lengths[0]:
            raise ValueError(
                f"X is ragged: X[0] holds {lengths[0]} values, X[{i}] holds {length}. Rows must be flattened "
                "images of one shape; images of different shapes are passed as arrays (H, W)."
            )


def _is_image(item: Any) -> bool:
    return item is None or (isinstance(item, IMAGE_TYPES) and getattr(item, "ndim", 2) >= 2)


def _holds_images(X: Any) -> bool:
    values = X.to_numpy() if hasattr(X, "to_numpy") else X
    if values.dtype.kind in "UT":
        return True
    return values.dtype.kind == "O" and any(isinstance(v, IMAGE_TYPES) for v in values.flat)


def _is_object(X: Any) -> bool:
    values = X.to_numpy() if hasattr(X, "to_numpy") else X
    return values.dtype.kind in "OUT"


def resolve_image_shape(image_shape: tuple[int, ...] | None, n_features: int) -> tuple[int, ...]:
    """Shape of the images that the rows of a 2-D array hold.

    Parameters
    ----------
    image_shape : tuple of int (H, W) or (H, W, C), or None
        The parameter; None means a square grey image where `n_features` is a square
        number, and a strip one pixel high otherwise.
    n_features : int
        Length of the rows.

    Returns
    -------
    tuple of int
        The shape.

    Raises
    ------
    ValueError
        Where the shape doesn't have `n_features` elements.
    """
    if image_shape is None:
        side = isqrt(n_features)
        return (side, side) if side * side == n_features else (1, n_features)
    if prod(image_shape) != n_features:
        raise ValueError(
            f"image_shape={tuple(image_shape)} has {prod(image_shape)} elements, "
            f"but the rows of X have {n_features}."
        )
    return tuple(image_shape)
