"""Any collection of images that a user has -> decoded images, one by one."""

import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import issparse
from torch import Tensor

from skcsflow._checks import as_array, warn
from skcsflow._images._containers import IMAGE_TYPES, as_sequence, check_tensor, is_arrow_table, is_missing
from skcsflow._images._framing import Framing
from skcsflow._images._ranges import ValueRanges
from skcsflow._images._reader import (
    MAX_PIXELS,
    NPY,
    ImageFile,
    check_header,
    decode_reduced,
    load_file,
    read_pil,
)

__all__ = ["DIGEST_SIZE", "DecodedImage", "ImageCollection", "check_images"]

DIGEST_SIZE = 8
"""Bytes of a short digest."""

_N_SHOWN = 20
_N_HEADERS = 8
"""Files that are opened at a time: on a network drive each takes milliseconds of waiting, whatever the processor."""
_WAY_OUT = ' Mend or leave out such images, or set on_error="nan" to go on without them.'


class DecodedImage(NamedTuple):
    """A decoded image.

    Attributes
    ----------
    pixels : Tensor of shape (num_channels, H, W)
        The image, on the CPU, in its own type and in any order in memory; see :func:`standardize`.
    size : tuple of int (H, W)
        The image's own, also where its pixels were read at a reduced size.
    """

    pixels: Tensor
    size: tuple[int, int]


class ImageCollection(Sequence[Tensor]):
    """Images that are read, decoded and checked one by one, when they are asked for.

    Parameters
    ----------
    items : sequence
        Arrays, tensors, PIL images, paths or files' contents.
    num_channels : int
        Channels that every image must end up with.
    row_shape : tuple of int or None, default=None
        Shape of the image in each row, where X is a 2-D array of flattened images.
    value_range : tuple of float (low, high) or None, default=None
        What becomes 0 and 1; None: integers are scaled by the range of their type, see :func:`standardize`.
    first_row : int, default=0
        Row that messages count from, where these are a part of a stream.
    max_pixels : int or None, default=160,000,000
        Pixels of an image that are read from a file at most; None: any number.

    Attributes
    ----------
    ranges : ValueRanges
        Values of the images that were decoded.
    contents : set of bytes or None
        Short digests of the images that were loaded, where a set is put there.
    errors : dict of int to str
        Of images that could not be read, where one goes on without them.
    complaints : dict of int to str
        What Pillow or libtiff said against images that they read all the same.
    framing : Framing
        Which parts of an image :meth:`frames` gives; at first all of it.
    """

    def __init__(
        self,
        items: Any,
        num_channels: int,
        *,
        row_shape: tuple[int, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        first_row: int = 0,
        max_pixels: int | None = MAX_PIXELS,
    ) -> None:
        self.items = items
        self.num_channels = num_channels
        self.row_shape = row_shape
        self.value_range = value_range
        self.first_row = first_row
        self.max_pixels = max_pixels
        self.ranges = ValueRanges(value_range)
        self.contents: set[bytes] | None = None
        self.errors: dict[int, str] = {}
        self.complaints: dict[int, str] = {}
        self.goes_on = False
        self.framing = Framing()
        self._reading = threading.Lock()

    @property
    def is_tiled(self) -> bool:
        """Whether an image may have many frames."""
        return self.framing.tile_size is not None

    def __len__(self) -> int:
        # zarr's arrays have no length.
        return int(self.items.shape[0]) if hasattr(self.items, "shape") else len(self.items)

    def __getitem__(self, i: Any) -> Any:
        """Pixels of image `i`: :meth:`load` and :meth:`decode` in one."""
        return self.decode(i, self.load(i)).pixels

    def check_files(self, rows: Iterable[int] | None = None) -> None:
        """Check of all files, or those of some rows, that none is missing, and that they begin as images do.

        Raises
        ------
        ValueError
            Naming the first of those that don't, and how many they are.
        """
        if not isinstance(self.items, list | tuple | np.ndarray) or _is_numeric(self.items):
            return

        def check(some: Sequence[int]) -> dict[int, str]:
            errors = {}
            for row in some:
                item = self.items[row]
                try:
                    self._check_not_missing(row, item)
                    if isinstance(item, str | os.PathLike):
                        check_header(item, self._name(row, item), self.max_pixels, self._note_complaint(row))
                except ValueError as error:
                    errors[row] = str(error)
            return errors

        chosen = range(len(self)) if rows is None else list(rows)
        # In parts, as handing each file to a thread by itself takes longer than opening a local one.
        parts = [chosen[k : k + 16] for k in range(0, len(chosen), 16)]
        with ThreadPoolExecutor(_N_HEADERS) as threads:
            checked = threads.map(check, parts) if len(parts) > 1 else map(check, parts)
            errors = {row: error for found in checked for row, error in found.items()}
        if errors:
            raise ValueError(self._list_errors(errors) + _WAY_OUT)

    def is_readable(self, i: int) -> bool:
        """Whether image `i` can be read and decoded; where it can't, `errors` says why."""
        try:
            self.frames(i, self.load(i))
        except (ValueError, TypeError) as error:
            self.errors[i] = str(error)
        return i not in self.errors

    def note_error(self, i: int, error: Exception) -> bool:
        """Take note that image `i` could not be read; gives whether to go on without it."""
        if self.goes_on:
            self.errors[i] = str(error)
        return self.goes_on

    def warn_of_errors(self, consequence: str) -> None:
        """Warn where one went on without images, and say what became of them."""
        if self.errors:
            errors = dict(sorted(self.errors.items()))
            warn(f"{self._list_errors(errors)} {consequence}")

    def warn_of_complaints(self) -> None:
        """Warn of images that were read, though Pillow or libtiff said something against their files."""
        if self.complaints:
            shown = _join(list(dict(sorted(self.complaints.items())).values()))
            warn(
                f"X has images that were read, but whose files may be damaged ({len(self.complaints)} of {len(self)}): "
                f"{shown}. Look at them; those that look right give no warning once they are saved anew."
            )

    def _note_complaint(self, i: int) -> Callable[[str], object]:
        return partial(self.complaints.__setitem__, i)

    def _list_errors(self, errors: dict[int, str]) -> str:
        messages = _join(list(errors.values()))
        if len(errors) == 1:
            return f"{messages}."
        return f"{len(errors)} of the {len(self)} images of X can't be read: {messages}."

    def load(self, i: int) -> Any:
        """What image `i` is made of: the bytes of a file, the array of a PIL image, anything else as it is."""
        content = self._item(i)
        if isinstance(content, str | os.PathLike):
            content = load_file(content, self._name(i, content))
        elif isinstance(content, Tensor):
            check_tensor(content, self._name(i))
        elif isinstance(content, Image.Image):
            content = read_pil(
                content, self._name(i, content), self.num_channels, self.max_pixels, self._note_complaint(i)
            )
        elif isinstance(content, bytes | bytearray | memoryview | BytesIO):
            data = content.getvalue() if isinstance(content, BytesIO) else bytes(content)
            content = ImageFile(data.startswith(NPY), data)
        if self.contents is not None:
            self.contents.add(self.short_digest(content))
        return content

    def digest(self, content: Any) -> bytes:
        """Digest of what :meth:`load` gave, and of all else that :meth:`frames` depends on."""
        parts: list[Any] = [self.num_channels, self.row_shape, self.value_range, self.framing.key]
        data: Any  # bytes or their like
        if isinstance(content, ImageFile):
            parts.append(content.is_npy)
            data = content.data
        elif isinstance(content, Tensor):
            parts += [str(content.dtype), tuple(content.shape)]
            data = content.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        else:
            array = as_array(content, "An image of X")
            parts += [str(array.dtype), array.shape]
            # No copy of what lies in memory in one piece.
            data = np.ascontiguousarray(array).reshape(-1) if array.dtype.kind in "buif" else array.tobytes()
        digest = blake2b(repr(parts).encode(), digest_size=32)
        digest.update(data)
        return digest.digest()

    def short_digest(self, content: Any) -> bytes:
        """The beginning of :meth:`digest`, enough to recognise an image by."""
        return self.digest(content)[:DIGEST_SIZE]

    def decode(self, i: int, content: Any, least_size: tuple[int, int] | None = None) -> DecodedImage:
        """Decode and check image `i`.

        Parameters
        ----------
        i : int
            Its row, for messages.
        content : object
            What :meth:`load` gave.
        least_size : tuple of int (H, W) or None, default=None
            Read files at a reduced size where that is no smaller, see :func:`decode_reduced`.

        Returns
        -------
        DecodedImage
            The image.

        Raises
        ------
        TypeError, ValueError
            Where it is no image, has other channels, or holds NaN or infinity.
        """
        name = self._name(i)
        is_file = isinstance(content, ImageFile)
        item, size = content, None
        if is_file:
            item, size = decode_reduced(
                content, self.num_channels, name, least_size, self.max_pixels, self._note_complaint(i)
            )
        if not isinstance(item, Tensor):
            item = as_array(item, name)
            if self.row_shape is not None:
                item = item.reshape(self.row_shape)
        channels_first = isinstance(item, Tensor)
        _check_dtype(item.dtype, name)
        if item.ndim not in (2, 3) or 0 in item.shape:
            layout = "(C, H, W)" if channels_first else "(H, W, C)"
            raise ValueError(
                f"{name} has shape {tuple(item.shape)}; an image must have shape (H, W) or {layout}, none of them 0."
            )
        if (
            item.ndim == 2
            and self.row_shape is None
            and not is_file
            and item.shape[1] in (3, 4)
            and len(item) > 8
        ):
            raise ValueError(
                f"{name} has shape {tuple(item.shape)}, which is a row of a colour image rather than a grey image "
                f"{item.shape[1]} pixels wide. Pass a single image as X[None], or [X]."
            )
        image = item.detach().cpu() if isinstance(item, Tensor) else _from_array(item)
        if image.ndim == 2:
            image = image[None]
        else:
            _check_channels(tuple(image.shape), self.num_channels, channels_first, name)
            if not channels_first:
                image = image.movedim(-1, 0)
        self.ranges.add(image, name)
        return DecodedImage(_fit_channels(image, self.num_channels), size or (image.shape[1], image.shape[2]))

    def frames(
        self, i: int, content: Any, least_size: tuple[int, int] | None = None
    ) -> tuple[list[Tensor], tuple[int, int]]:
        """Decode image `i`, see :meth:`decode`, and cut it into its frames.

        Parameters
        ----------
        i, content
            As of :meth:`decode`.
        least_size : tuple of int (H, W) or None, default=None
            As of :meth:`decode`; where frames are parts of images, these are read at their full size.

        Returns
        -------
        frames : list of Tensors of shape (num_channels, h, w)
            What goes through the network, see :class:`Framing`.
        size : tuple of int (H, W)
            The image's size.
        """
        image, size = self.decode(i, content, least_size if self.framing.shows_all else None)
        grey = None if self.value_range is None else sum(self.value_range) / 2
        return self.framing.cut(image, self._name(i), grey=grey), size

    def warn_of_values(self, trained: dict[str, float] | None) -> None:
        """Warn where values can't be what was meant, see :meth:`ValueRanges.warn`.

        Not of rows: scikit-learn's own checks pass numbers of any size, and expect no warning.
        """
        if self.row_shape is None:
            self.ranges.warn(trained)

    def _item(self, i: int) -> Any:
        if isinstance(self.items, list | tuple | np.ndarray | Tensor):
            item = self.items[int(i)]
            self._check_not_missing(i, item)
            return item
        try:
            with self._reading:  # data sets seldom expect several threads
                item = self.items[int(i)]
        except Exception as error:  # they read files by all kinds of libraries
            raise ValueError(f"X[{i}] could not be read: {error}") from error
        self._check_not_missing(i, item)
        if isinstance(item, tuple | list) and item:
            # Data sets of torch and torchvision give an image and its label.
            n_images = sum(isinstance(part, IMAGE_TYPES) and getattr(part, "ndim", 2) >= 2 for part in item)
            if n_images != 1 or not isinstance(item[0], IMAGE_TYPES):
                raise TypeError(
                    f"X[{i}] is a {type(item).__name__} of {len(item)} items, which should be an image and perhaps its "
                    "label. Pass arrays; of Hugging Face's data sets with_format('numpy') gives them."
                )
            item = item[0]
        if isinstance(item, Mapping):
            keys = list(item)
            raise TypeError(
                f"X[{i}] is a dict with the keys {', '.join(map(repr, keys[:5]))}. Pass the images alone, such as "
                f"X[{keys[0] if keys else 'image'!r}]."
            )
        return item

    def _check_not_missing(self, i: int, item: Any) -> None:
        if is_missing(item):
            raise ValueError(
                f"{self._name(i)} is {item}, as libraries and tables give in place of an image that is missing."
            )

    def _name(self, i: int, item: Any = None) -> str:
        if item is None and isinstance(self.items, list | tuple | np.ndarray):
            item = self.items[i]
        name = f"X[{self.first_row + i}]"
        return f"{name} ({os.fspath(item)!r})" if isinstance(item, str | os.PathLike) else name


def check_images(
    X: Any,
    num_channels: int,
    value_range: tuple[float, float] | None = None,
    *,
    first_row: int = 0,
    max_pixels: int | None = MAX_PIXELS,
) -> ImageCollection:
    """Check images that aren't rows of a 2-D array.

    Parameters
    ----------
    X : array of shape (n, H, W) or (n, H, W, C), tensor of shape (n, C, H, W), sequence, or path
        The images; a sequence (list, tuple, 1-D object array, Series, DataFrame of one column) holds paths,
        contents of files, PIL images, arrays (H, W[, C]) or tensors (C, H, W), all of one kind, of any sizes.
        Anything else with a length and items, such as a data set of torch or h5py, is read item by item. A
        path names a folder.
    num_channels : int
        Channels that every image must end up with.
    value_range : tuple of float (low, high) or None, default=None
        What becomes 0 and 1.
    first_row : int, default=0
        Row that messages count from.
    max_pixels : int or None, default=160,000,000
        As of :class:`ImageCollection`.

    Returns
    -------
    ImageCollection
        The images. Each is decoded and fully checked when it is asked for.

    Raises
    ------
    TypeError
        Where X or a row of it is nothing that can be an image, or is a sparse or nested tensor or one without values,
        or rows differ in kind.
    ValueError
        Where X is empty, or has a wrong rank or layout.
    """
    X = as_sequence(X)
    if is_arrow_table(X):
        X = np.asarray(X)
    if hasattr(X, "to_pylist"):  # pyarrow
        kind = X.type
        while hasattr(kind, "value_type"):
            kind = kind.value_type
        is_nested, X = kind is not X.type, X.to_pylist()
        X = np.array(X, dtype=kind.to_pandas_dtype()) if is_nested else X
    elif hasattr(X, "to_numpy"):  # pandas and polars
        X = X.to_numpy()
    if isinstance(X, np.ma.MaskedArray):
        if np.ma.is_masked(X):
            raise ValueError("X is a masked array with masked values. Fill them, such as with X.filled(0).")
        X = X.data
    if isinstance(X, Tensor):
        check_tensor(X, "X")
        if X.ndim != 4:
            raise ValueError(f"A tensor X must have shape (n, C, H, W), got {tuple(X.shape)}.")
        _check_not_empty(len(X))
        _check_channels(tuple(X.shape[1:]), num_channels, True, "X")
        return ImageCollection(X, num_channels, value_range=value_range)
    if issparse(X):
        raise TypeError(f"X is a {type(X).__name__}, which is sparse. Pass X.toarray().")
    if _is_numeric(X):
        _check_array(X, num_channels)
        return ImageCollection(X, num_channels, value_range=value_range)
    if isinstance(X, np.ndarray):
        if X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]
        if X.ndim != 1:
            hint = " Choose the column of the images, such as X['path']." if X.ndim == 2 else ""
            raise ValueError(f"An array X of objects must have shape (n,), got {X.shape}.{hint}")
    if not (hasattr(X, "__len__") and hasattr(X, "__getitem__")):
        raise TypeError(
            "X must be an array, a tensor, the path of a folder, or a sequence of paths, PIL images or arrays, with "
            f"a length and items; got {type(X).__name__}."
        )
    _check_not_empty(len(X))
    if isinstance(X, list | tuple | np.ndarray):
        if len(X) > 1 and all(isinstance(item, str) and len(item) == 1 for item in X):
            raise ValueError(
                f"X is the letters of {''.join(X)!r}, one by one: scikit-learn can't take the path of a folder. "
                "Pass list_images(folder)."
            )
        kinds = {i: _kind(item, first_row + i) for i, item in enumerate(X) if not is_missing(item)}
        first = next(iter(kinds), 0)
        for i, kind in kinds.items():
            if kind != kinds[first]:
                raise TypeError(f"X mixes kinds of images: X[{first}] is {kinds[first]}, X[{i}] is {kind}.")
    return ImageCollection(
        X, num_channels, value_range=value_range, first_row=first_row, max_pixels=max_pixels
    )


def _join(messages: list[str]) -> str:
    shown = [message.removesuffix(".") for message in messages[:_N_SHOWN]]
    others = f", and {len(messages) - len(shown)} more" if len(messages) > len(shown) else ""
    return "; ".join(shown) + others


def _is_numeric(X: Any) -> bool:
    """Whether X is an array, or its like in a file (h5py, zarr) or elsewhere (dask), of numbers."""
    return hasattr(X, "dtype") and hasattr(X, "shape") and np.dtype(X.dtype).kind not in "OUTS"


def _check_array(X: Any, num_channels: int) -> None:
    shape = tuple(X.shape)
    if len(shape) not in (3, 4):
        raise ValueError(
            f"An array X must have shape (n, H, W) or (n, H, W, C), or (n, H * W) for flattened images; got {shape}."
        )
    _check_not_empty(shape[0])
    _check_dtype(np.dtype(X.dtype), "X")
    if len(shape) == 3 and 0 not in shape and shape[-1] in {1, 3, 4, num_channels}:
        raise ValueError(
            f"X has shape {shape}, which is one image of {shape[-1]} channels rather than {shape[0]} grey images "
            f"{shape[-1]} pixels wide. Pass a single image as X[None]."
        )
    if len(shape) == 4:
        _check_channels(shape[1:], num_channels, False, "X")


def _check_not_empty(n: int) -> None:
    if n == 0:
        raise ValueError("Found array with 0 sample(s) in X while a minimum of 1 is required.")


def _check_dtype(dtype: "np.dtype[Any] | torch.dtype", name: str) -> None:
    if isinstance(dtype, torch.dtype):  # neither complex nor quantised, nor floats of a byte
        ok = (
            dtype.itemsize > 1
            if dtype.is_floating_point
            else bool(re.search(r"\.(bool|u?int\d+)$", str(dtype)))
        )
    else:
        ok = dtype.kind in "buif"
    if not ok:
        raise TypeError(f"{name} has dtype {dtype}; images must be integers, booleans or real floats.")


def _kind(item: Any, i: int) -> str:
    if isinstance(item, (str, os.PathLike)):
        return "a path"
    if isinstance(item, Image.Image):
        return "a PIL image"
    if isinstance(item, Tensor):
        check_tensor(item, f"X[{i}]")
        return "a tensor"
    if isinstance(item, bytes | bytearray | memoryview | BytesIO):
        return "the content of a file"
    if isinstance(item, np.ndarray):
        if item.ndim not in (2, 3):
            raise ValueError(f"X[{i}] has shape {item.shape}; an image must have shape (H, W) or (H, W, C).")
        return "an array"
    if isinstance(item, list | tuple):
        raise TypeError(
            f"X[{i}] is a {type(item).__name__} of {len(item)} items. Pass the image alone: of (image, label) the "
            "image, of (ok, frame), which OpenCV's cap.read() gives, the frame."
        )
    raise TypeError(
        f"X[{i}] is of type {type(item).__name__}; an image must be a path, a file's content, a PIL image, an array or "
        "a tensor."
    )


def _from_array(array: NDArray[Any]) -> Tensor:
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    # A copy where torch can't take the memory as it is (read-only, negative strides).
    usable = array.flags.writeable and all(s >= 0 for s in array.strides)
    return torch.from_numpy(array if usable else array.copy())


def _check_channels(shape: tuple[int, ...], num_channels: int, channels_first: bool, name: str) -> None:
    """Check the channels of a shape (C, H, W) or (H, W, C), and whether it looks like the other."""
    accepted = {1, 3, 4} if num_channels == 3 else {num_channels}
    here, there = (shape[0], shape[-1]) if channels_first else (shape[-1], shape[0])
    if here in accepted or 0 in shape:
        return
    if there in accepted and here > 4:
        batch = "n, " if name == "X" else ""
        layout, other = f"({batch}C, H, W)", f"({batch}H, W, C)"
        if channels_first:
            raise ValueError(
                f"Tensors must have shape {layout}, but {name} looks like {other}: {shape[0]} channels don't fit "
                f"num_channels={num_channels}. Use movedim(-1, -3)."
            )
        raise ValueError(
            f"Arrays must have shape {other}, but {name} looks like {layout}: {shape[-1]} channels don't fit "
            f"num_channels={num_channels}. Use np.moveaxis(X, -3, -1), or torch.from_numpy(X)."
        )
    raise ValueError(
        f"{name} has {here} channels, but num_channels={num_channels}. Set num_channels to what the images have."
    )


def _fit_channels(image: Tensor, num_channels: int) -> Tensor:
    return image.expand(num_channels, -1, -1) if len(image) == 1 else image[:num_channels]
