"""Image files and PIL images -> arrays, by one set of rules for the detector, the data sets and the plots."""

import os
import struct
import threading
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

__all__ = ["ImageFile", "decode_file", "image_size", "load_file", "read_image", "read_pil"]

_ORIENTATION = 0x0112
"""The EXIF tag of an image's rotation."""

_TIFF_WIDTH_HEIGHT = (256, 257)

_LOADING = threading.Lock()
"""PIL opens images lazily; where one image is in X twice, two threads must not load it at once."""


class ImageFile(NamedTuple):
    """The bytes of an image file.

    Attributes
    ----------
    is_npy : bool
        Whether it is NumPy's format, and else one that Pillow reads.
    data : bytes
        The whole file.
    """

    is_npy: bool
    data: bytes


def load_file(path: str | os.PathLike[str], name: str) -> ImageFile:
    """Read a file's bytes without decoding them.

    Parameters
    ----------
    path : path
        The file.
    name : str
        What messages call the image, such as ``"X[3] ('part.png')"``.

    Returns
    -------
    ImageFile
        The bytes.

    Raises
    ------
    ValueError
        Where there is no such file, or it can't be read.
    """
    path = Path(path).expanduser()
    try:
        return ImageFile(path.suffix.lower() == ".npy", path.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"{name}: there is no such file.") from error
    except OSError as error:
        raise ValueError(f"{name} could not be read as an image: {error}") from error


def decode_file(file: ImageFile, num_channels: int, name: str) -> NDArray[Any]:
    """Decode the bytes of an image file.

    Parameters
    ----------
    file : ImageFile
        What :func:`load_file` gave.
    num_channels : int
        4 keeps an alpha channel; it is dropped otherwise.
    name : str
        What messages call the image.

    Returns
    -------
    ndarray of shape (H, W) or (H, W, C)
        The pixels, in the type that the file has, upright as its EXIF data say.

    Raises
    ------
    ValueError
        Where no format fits, or the file is damaged.
    """
    if not file.data:
        raise ValueError(f"{name} could not be read as an image: the file has 0 bytes")
    try:
        if file.is_npy:
            array: NDArray[Any] = np.load(BytesIO(file.data), allow_pickle=False)
            return array
        with Image.open(BytesIO(file.data)) as image:
            return _to_array(ImageOps.exif_transpose(image), num_channels)
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} could not be read as an image: no format that Pillow knows") from error
    except Exception as error:  # decoders raise all kinds of errors on damaged files
        raise ValueError(f"{name} could not be read as an image: {error}") from error


def read_image(path: str | os.PathLike[str], name: str, num_channels: int = 3) -> NDArray[Any]:
    """Read an image file: :func:`load_file` and :func:`decode_file` in one."""
    return decode_file(load_file(path, name), num_channels, name)


def read_pil(image: Image.Image, name: str, num_channels: int = 3) -> NDArray[Any]:
    """Read the pixels of a PIL image, by the rules and with the errors of :func:`decode_file`."""
    try:
        with _LOADING:
            image = ImageOps.exif_transpose(image)
        return _to_array(image, num_channels)
    except Exception as error:
        raise ValueError(f"{name} could not be read as an image: {error}") from error


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of an image file, upright as its EXIF data say, without decoding its pixels.

    Raises
    ------
    ValueError
        Where the file can't be read as an image, naming it.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.format == "TIFF":
                # Newer versions of Pillow give the size after the rotation, older ones the one before.
                width, height = (int(image.tag_v2[tag]) for tag in _TIFF_WIDTH_HEIGHT)  # type: ignore[attr-defined]
            if image.format == "PNG" and not _has_late_metadata(path):
                # Pillow's own method for PNG decodes the pixels, to see what comes after them.
                exif = Image.Image.getexif(image)
            else:
                exif = image.getexif()
            is_quarter_turned = exif.get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception as error:  # decoders raise all kinds of errors on damaged files
        raise ValueError(f"The file {str(path)!r} cannot be read as an image: {error}") from error
    return (width, height) if is_quarter_turned else (height, width)


def _to_array(image: Image.Image, num_channels: int) -> NDArray[Any]:
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("1", "LA"):
        image = image.convert("L")
    elif image.mode == "RGBA":
        image = image if num_channels == 4 else image.convert("RGB")
    elif image.mode not in ("L", "RGB", "F", "I") and not image.mode.startswith("I;16"):
        image = image.convert("RGB")  # palettes, CMYK, YCbCr and the like
    array = np.array(image)
    if image.mode == "I":
        # How Pillow opens 16-bit files of some formats. Which images of a set reach
        # beyond 16 bits must not decide how each of them is scaled.
        if array.min() < 0 or array.max() > np.iinfo(np.uint16).max:
            raise ValueError(
                f"its 32-bit values reach from {array.min()} to {array.max()}, which is more than 16 bits; "
                "pass arrays of the type whose range they are to be scaled by"
            )
        array = array.astype(np.uint16)
    return array


def _has_late_metadata(path: Path) -> bool:
    """Whether a PNG file has metadata after its pixels that may ask for a rotation."""
    after_pixels = False
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if after_pixels and kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                text = file.read(min(length, 64))
                keyword = text.split(b"\0")[0]
                if kind == b"eXIf" or keyword in (b"Raw profile type exif", b"XML:com.adobe.xmp"):
                    return True
                length -= len(text)
            after_pixels |= kind == b"IDAT"
            file.seek(length + 4, os.SEEK_CUR)  # the rest of the chunk, and its check sum
    return False
