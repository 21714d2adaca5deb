"""Image files and PIL images -> arrays, by one set of rules for the detector, the data sets and the plots."""

import math
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from skcsflow._checks import check_regular_file, expand_home, warn
from skcsflow._images._complaints import complaints_noted
from skcsflow._images._remote import is_url, read_url

__all__ = [
    "MAX_PIXELS",
    "NPY",
    "ImageFile",
    "check_header",
    "content_size",
    "decode_file",
    "decode_reduced",
    "image_size",
    "load_file",
    "read_image",
    "read_pil",
]

MAX_PIXELS = 160_000_000
"""Pixels of an image that are read by default. Cameras have up to 151 million; a small file may claim any number."""

_ORIENTATION = 0x0112
"""The EXIF tag of an image's rotation."""

_QUARTER_TURNS = (5, 6, 7, 8)
"""Its values where height and width change places."""

NPY = b"\x93NUMPY"
"""What a file of NumPy's format begins with."""

_TIFF_WIDTH_HEIGHT = (256, 257)
_TIFF_KIND_OF_PAGE = 254
_TIFF_SMALLER_OR_MASK = 0b101
"""Of that number, the bits for a page that shows the same in a smaller size, or what is transparent."""

_JPEG2000_SIZES = b"\xff\x4f\xff\x51"
"""How the part of a JPEG 2000 file begins that tells sizes and depths."""

_EMPTY = "the file has 0 bytes"

_FORMATS_OF_STRANGERS = ("BMP", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Those that are read without other programs: for EPS Pillow starts Ghostscript."""

_MOST_PAGES = 16
"""Of a stranger's TIFF, masks and smaller sizes included. To count a million of them takes minutes."""

_BAND_PIXELS = 2**18
"""Pixels that are copied out of a PIL image at a time: Pillow makes several copies on the way."""

_MOST_PIXELS_PER_BYTE_OF_JPEG = 512
"""Each block of 8 x 8 pixels has a bit at least."""

OnComplaint = Callable[[str], object]

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


@contextmanager
def _naming(name: str, on_complaint: OnComplaint | None = None) -> Iterator[None]:
    """Turn whatever goes wrong with an image into a ValueError that names it.

    What decoders say against an image that they read goes to `on_complaint`, with its name; None: into a warning.
    """
    with complaints_noted() as complaints:
        try:
            yield
        except ImportError:  # of every image
            raise
        except FileNotFoundError as error:
            raise ValueError(f"{name}: there is no such file.") from error
        except _RefusedError as error:
            raise ValueError(f"{name} {error}") from error.__cause__
        except Image.DecompressionBombError as error:
            raise ValueError(
                f"{name} has more pixels than Pillow opens: {error} Where such images are meant, set "
                "PIL.Image.MAX_IMAGE_PIXELS, and max_pixels."
            ) from error
        except Exception as error:  # decoders raise all kinds of errors on damaged files
            is_unknown = isinstance(error, UnidentifiedImageError)
            reasons = ["no format that Pillow knows" if is_unknown else str(error), *complaints]
            raise ValueError(f"{name} could not be read as an image: {'; '.join(reasons)}") from error
    if complaints:
        complaint = f"{name}: {'; '.join(complaints)}"
        if on_complaint is None:
            warn(f"Read, but perhaps damaged: {complaint}")
        else:
            on_complaint(complaint)


def _leave_to_decoding(complaint: str) -> None:
    """Say nothing where the size alone is read: the same is said of the pixels."""


class _RefusedError(ValueError):
    """Of an image that may be sound, but isn't read."""


def _check_pixels(height: int, width: int, max_pixels: int | None) -> None:
    if max_pixels is not None and height * width > max_pixels:
        raise _RefusedError(
            f"has {height} x {width} pixels (H x W), more than max_pixels={max_pixels}. Where such images are meant, "
            "set max_pixels, or pass them as arrays."
        )


def _check_image(image: Image.Image, n_bytes: int, max_pixels: int | None) -> None:
    """Check what the header of an image says of its size, before it is decoded."""
    width, height = image.size
    _check_pixels(height, width, max_pixels)
    if image.format in ("JPEG", "MPO") and width * height > _MOST_PIXELS_PER_BYTE_OF_JPEG * n_bytes:
        # The decoder would fill what is missing with grey.
        raise ValueError(f"its {n_bytes} bytes are too few for {height} x {width} pixels: it is damaged")


def load_file(path: str | os.PathLike[str], name: str) -> ImageFile:
    """Read a file's bytes without decoding them.

    Parameters
    ----------
    path : path
        The file, or its URL.
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
    ImportError
        Where it is a URL, and a package is missing that reads it.
    """
    if is_url(path):
        with _naming(name):
            data = read_url(path)
            return ImageFile(data.startswith(NPY), data)
    path = expand_home(path)
    with _naming(name):
        _check_path(path)
        return ImageFile(path.suffix.lower() == ".npy", path.read_bytes())


def _check_path(path: Path) -> None:
    try:
        check_regular_file(path, "")
    except ValueError as error:
        raise _RefusedError(str(error).strip()) from error


def check_header(
    path: str | os.PathLike[str],
    name: str,
    max_pixels: int | None = MAX_PIXELS,
    on_complaint: OnComplaint | None = None,
) -> None:
    """Check that a file is there and begins as an image does, without reading the rest of it; not of URLs.

    Raises
    ------
    ValueError
        Where it isn't, as :func:`load_file` and :func:`decode_file` do.
    """
    if is_url(path):  # each would take a request more
        return
    path = expand_home(path)
    with _naming(name, on_complaint):
        _check_path(path)
        with path.open("rb") as file:
            n_bytes = os.fstat(file.fileno()).st_size
            if n_bytes == 0:
                raise ValueError(_EMPTY)
            if path.suffix.lower() == ".npy":
                _check_pixels(*_npy_size(file, n_bytes), max_pixels)
            else:
                with Image.open(file) as image:
                    _check_image(image, n_bytes, max_pixels)


def decode_file(
    file: ImageFile, num_channels: int, name: str, max_pixels: int | None = MAX_PIXELS
) -> NDArray[Any]:
    """Decode the bytes of an image file at its full size: :func:`decode_reduced` without a `least_size`."""
    return decode_reduced(file, num_channels, name, None, max_pixels)[0]


def decode_reduced(
    file: ImageFile,
    num_channels: int,
    name: str,
    least_size: tuple[int, int] | None,
    max_pixels: int | None = MAX_PIXELS,
    on_complaint: OnComplaint | None = None,
) -> tuple[NDArray[Any], tuple[int, int] | None]:
    """Decode the bytes of an image file.

    Parameters
    ----------
    file : ImageFile
        What :func:`load_file` gave.
    num_channels : int
        4 keeps an alpha channel; it is dropped otherwise.
    name : str
        What messages call the image.
    least_size : tuple of int (H, W) or None
        Read a JPEG at a half, a quarter or an eighth of its size where that is no smaller than this, upright:
        the decoder then leaves fine detail out, which takes a fraction of the time and memory.
    max_pixels : int or None, default=160,000,000
        Pixels that the header may say at most; None: any number.
    on_complaint : callable or None, default=None
        Called with the image's name and what the decoder says against it where it reads it all the same;
        None: that becomes a warning.

    Returns
    -------
    array : ndarray of shape (H, W) or (H, W, C)
        The pixels, in the type that the file has, upright as its EXIF data say.
    size : tuple of int (H, W) or None
        The full size, upright, where they were read at a reduced size.

    Raises
    ------
    ValueError
        Where no format fits, the file is damaged, has several pages or too many pixels, or a package is missing that
        reads colours of 16 bits per channel.
    """
    with _naming(name, on_complaint):
        if not file.data:
            raise ValueError(_EMPTY)
        if file.is_npy:
            _check_pixels(*_npy_size(BytesIO(file.data), len(file.data)), max_pixels)
            array: NDArray[Any] = np.load(BytesIO(file.data), allow_pickle=False)
            return array, None
        with Image.open(BytesIO(file.data)) as image:
            _check_image(image, len(file.data), max_pixels)
            _check_one_picture(image)
            size = None
            if _has_16_bit_channels(image):
                array = _decode_16_bit_channels(file.data, num_channels)
                array = array[..., 0] if image.mode == "LA" else array
            else:
                size = None if least_size is None else _reduce(image, least_size)
                array = _to_array(image, num_channels)
            orientation = _orientation(image)
        del image  # its pixels, before they are copied once more
        return _turn(array, orientation), size


def read_image(path: str | os.PathLike[str], name: str, num_channels: int = 3) -> NDArray[Any]:
    """Read an image file: :func:`load_file` and :func:`decode_file` in one."""
    return decode_file(load_file(path, name), num_channels, name)


def read_pil(
    image: Image.Image,
    name: str,
    num_channels: int = 3,
    max_pixels: int | None = MAX_PIXELS,
    on_complaint: OnComplaint | None = None,
) -> NDArray[Any]:
    """Read the pixels of a PIL image, by the rules and with the errors of :func:`decode_reduced`."""
    with _naming(name, on_complaint):
        with _LOADING:
            if getattr(image, "tile", None):  # not decoded yet
                _check_pixels(image.height, image.width, max_pixels)
            if _has_16_bit_channels(image):
                raise ValueError(
                    "it has several channels of 16 bits, of which Pillow keeps 8. Pass the file's path in place of "
                    "the opened image"
                )
            image.load()
            orientation = _orientation(image)
        return _turn(_to_array(image, num_channels), orientation)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of an image file, upright as its EXIF data say, without decoding its pixels.

    Raises
    ------
    ValueError
        Where the file can't be read as an image, naming it.
    """
    path = Path(path)
    name = f"The file {str(path)!r}"
    check_regular_file(path, name)
    with _naming(name, _leave_to_decoding), Image.open(path) as image:
        width, height = image.size
        if image.format == "TIFF":
            # Newer versions of Pillow give the size after the rotation, older ones the one before.
            width, height = (int(image.tag_v2[tag]) for tag in _TIFF_WIDTH_HEIGHT)  # type: ignore[attr-defined]
        if image.format == "PNG" and not _has_late_metadata(path):
            # Pillow's own method for PNG decodes the pixels, to see what comes after them.
            exif = Image.Image.getexif(image)
        else:
            exif = image.getexif()
        is_quarter_turned = exif.get(_ORIENTATION, 1) in _QUARTER_TURNS
    return (width, height) if is_quarter_turned else (height, width)


def content_size(data: bytes, name: str) -> tuple[int, int]:
    """Height and width that the content of an image file says, which may come from a stranger.

    Only the header is read: a small file may say that it has more pixels than there is memory.

    Parameters
    ----------
    data : bytes
        The whole file.
    name : str
        What messages call the image.

    Returns
    -------
    tuple of int (H, W)
        Height and width, not turned as the EXIF data say.

    Raises
    ------
    ValueError
        Where it is empty, of no format that is read without other programs, or has several pages.

    Examples
    --------
    >>> from skcsflow._images import content_size
    >>> content_size(b"P5 3 2 255 abcdef", "the image")
    (2, 3)
    """
    with _naming(name, _leave_to_decoding):
        if not data:
            raise ValueError(_EMPTY)
        if data.startswith(NPY):
            return _npy_size(BytesIO(data), len(data))
        with Image.open(BytesIO(data), formats=_FORMATS_OF_STRANGERS) as image:
            if image.format == "TIFF":
                with suppress(EOFError), Image.open(BytesIO(data)) as pages:
                    pages.seek(_MOST_PAGES)
                    raise ValueError(f"it has more than {_MOST_PAGES} pages. Save each as a file of its own")
            _check_one_picture(image)
            width, height = image.size
    return height, width


def _npy_size(file: IO[bytes], n_bytes: int) -> tuple[int, int]:
    if file.read(len(NPY)) != NPY:
        raise ValueError("it is no file of NumPy's format")
    file.seek(0)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in read:
        raise ValueError(f"its version of NumPy's format, {version}, isn't read")
    shape, _, dtype = read[version](file)
    if dtype.hasobject or len(shape) not in (2, 3):
        raise ValueError(f"it has shape {shape} and type {dtype}; pass numbers of shape (H, W) or (H, W, C)")
    # NumPy takes memory for what the header says before it finds that the file is shorter.
    n_bytes -= file.tell()
    if math.prod(shape) * dtype.itemsize != n_bytes:
        raise ValueError(f"its header says shape {shape} of type {dtype}, but {n_bytes} bytes follow")
    return shape[0], shape[1]


def _reduce(image: Image.Image, least_size: tuple[int, int]) -> tuple[int, int] | None:
    """Let a JPEG be decoded at reduced size; gives its full size, upright, or None where it is not reduced."""
    if image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB"):
        return None
    width, height = image.size
    is_quarter_turned = _orientation(image) in _QUARTER_TURNS
    image.draft(None, least_size if is_quarter_turned else least_size[::-1])
    if image.size == (width, height):
        return None
    return (width, height) if is_quarter_turned else (height, width)


def _to_array(image: Image.Image, num_channels: int) -> NDArray[Any]:
    """The pixels of a PIL image, not turned, copied band by band where it is large."""
    image.load()  # some formats are turned by that
    width, height = image.size
    if width * height <= _BAND_PIXELS:
        return _narrow(np.array(_convert(image, num_channels)))
    n_rows = max(1, _BAND_PIXELS // width)
    array: NDArray[Any] | None = None
    for top in range(0, height, n_rows):
        box = (0, top, width, min(top + n_rows, height))
        band = np.asarray(_convert(image.crop(box), num_channels))
        if array is None:
            array = np.empty((height, *band.shape[1:]), band.dtype)
        array[top : top + n_rows] = band
    assert array is not None  # it has pixels
    return _narrow(array)


def _convert(image: Image.Image, num_channels: int) -> Image.Image:
    """The image in a mode that detectors take: grey, RGB, or RGBA where there are four channels."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("1", "LA"):
        image = image.convert("L")
    elif image.mode == "RGBA":
        image = image if num_channels == 4 else image.convert("RGB")
    elif image.mode not in ("L", "RGB", "F", "I") and not image.mode.startswith("I;16"):
        image = image.convert("RGB")  # palettes, CMYK, YCbCr and the like
    return image


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == np.int32:
        # How Pillow opens 16-bit files of some formats. Which images of a set reach
        # beyond 16 bits must not decide how each of them is scaled.
        if array.min() < 0 or array.max() > np.iinfo(np.uint16).max:
            raise ValueError(
                f"its 32-bit values reach from {array.min()} to {array.max()}, which is more than 16 bits; "
                "pass arrays of the type whose range they are to be scaled by"
            )
        array = array.astype(np.uint16)
    return array


def _check_one_picture(image: Image.Image) -> None:
    n_pages = getattr(image, "n_frames", 1)
    if n_pages == 1 or image.format == "MPO":  # a camera's JPEG with previews
        return
    if image.format == "TIFF":
        kinds = []
        for page in range(1, n_pages):
            image.seek(page)
            kinds.append(int(image.tag_v2.get(_TIFF_KIND_OF_PAGE, 0)))  # type: ignore[attr-defined]
        image.seek(0)
        if all(kind & _TIFF_SMALLER_OR_MASK for kind in kinds):
            return
    raise ValueError(
        f"it has {n_pages} pages, of which only the first would be seen. Save each as a file of its own, or pass them "
        "as arrays"
    )


def _has_16_bit_channels(image: Image.Image) -> bool:
    """Whether Pillow is about to reduce several channels of 16 bits to 8."""
    if image.mode not in ("RGB", "RGBA", "LA"):
        return False
    tiles = getattr(image, "tile", None) or []
    if image.format == "PPM":  # the decoder's arguments are the mode and the largest value
        return any(isinstance(tile[3], tuple) and int(tile[3][1]) > 255 for tile in tiles)
    if image.format == "JPEG2000":
        return _jpeg2000_bits(image) > 8
    return ";16" in str(tiles)


def _jpeg2000_bits(image: Image.Image) -> int:
    """Bits of the first channel, which Pillow doesn't tell; 0 where the file is closed."""
    file = getattr(image, "fp", None)
    if file is None:
        return 0
    position = file.tell()
    file.seek(0)
    start = file.read(4096)
    file.seek(position)
    sizes = start.find(_JPEG2000_SIZES)
    depth = sizes + len(_JPEG2000_SIZES) + 38  # after the lengths and the number of channels
    return (start[depth] & 0x7F) + 1 if sizes >= 0 and depth < len(start) else 0


def _orientation(image: Image.Image) -> int:
    orientation: int = image.getexif().get(_ORIENTATION, 1)
    return orientation


def _turn(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """An image upright, as the EXIF tag of its rotation says."""
    if orientation in _QUARTER_TURNS:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _decode_16_bit_channels(data: bytes, num_channels: int) -> NDArray[np.uint16]:
    try:
        import cv2
    except ImportError:
        raise ValueError(
            "it has several channels of 16 bits, which Pillow can't read. Install OpenCV, which can: pip install "
            '"skcsflow[images]", or pass arrays'
        ) from None
    array: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise ValueError("it has several channels of 16 bits, which OpenCV can't read either; pass arrays")
    if array.ndim == 3 and array.shape[2] >= 3:
        array = array[..., [2, 1, 0, *range(3, array.shape[2])]]  # from blue, green, red
        array = array if num_channels == 4 else array[..., :3]
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
