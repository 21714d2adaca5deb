"""Mask files -> boolean arrays."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skcsflow._images._reader import MAX_PIXELS, ImageFile, decode_file, load_file

__all__ = ["mask_files", "read_mask_file"]


def mask_files(mask: Any) -> tuple[str | os.PathLike[str], ...] | None:
    """Files that an entry of a sequence of masks names: none for None, and None where it is a mask itself.

    pandas makes NaN of None. Several files are the masks of one image.
    """
    if mask is None or (isinstance(mask, float) and np.isnan(mask)):
        return ()
    files = mask if isinstance(mask, tuple) and mask else (mask,)
    return files if all(isinstance(file, str | os.PathLike) for file in files) else None


def read_mask_file(
    path: str | os.PathLike[str], name: str, max_pixels: int | None = MAX_PIXELS
) -> NDArray[np.bool_]:
    """Read a file as a boolean mask.

    Parameters
    ----------
    path : path
        The file.
    name : str
        What error messages call the mask, such as ``"masks[3] ('part_mask.png')"``.
    max_pixels : int or None, default=160,000,000
        Pixels that are read at most; None: any number.

    Returns
    -------
    ndarray of shape (H, W), bool
        True where a colour channel is non-zero; alpha is ignored. In JPEG and lossy WebP files, whose
        compression leaves noise around edges, True where a channel is above half of its largest value.
        Upright, as the EXIF data of the file say.

    Raises
    ------
    ValueError
        If the file doesn't exist, can't be read as an image, has too many pixels, or holds NaN.
    """
    file = load_file(path, name)
    values = decode_file(file, 3, name, max_pixels)
    if values.ndim == 3 and values.shape[2] <= 4:
        values = values[..., :3].max(axis=2)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"{name} has shape {values.shape}; a mask must have shape (H, W) or (H, W, C).")
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError(f"{name} contains NaN.")
    return values > 127 if _is_lossy(file) else values != 0


def _is_lossy(file: ImageFile) -> bool:
    if file.is_npy:
        return False
    if file.data.startswith(b"\xff\xd8\xff"):  # JPEG
        return True
    is_webp = file.data[:4] == b"RIFF" and file.data[8:12] == b"WEBP"
    return is_webp and b"VP8L" not in file.data  # the name of a chunk of losslessly compressed pixels
