"""Any images that a user has -> checked tensors from 0 to 1."""

import os
import threading
from collections.abc import Sequence
from hashlib import blake2b
from io import BytesIO
from math import isqrt, prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

__all__ = ["ImageCollection", "check_images", "check_rows", "is_row_matrix", "resize", "resolve_image_shape"]

_LOADING = threading.Lock()


class ImageCollection(Sequence[Tensor]):
    """Images that are read, decoded and checked one by one, when they are asked for.

    Parameters
    ----------
    items : sequence
        Arrays, tensors, PIL images or paths, all of one kind.
    num_channels : int
        Channels that every image must end up with.
    channels_first : bool, default=False
        Whether the items are laid out (C, H, W) and not (H, W, C).
    row_shape : tuple of int or None, default=None
        Shape of the image in each row, where X is a 2-D array of flattened images.
    """

    def __init__(
        self,
        items: Any,
        num_channels: int,
        *,
        channels_first: bool = False,
        row_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.items = items
        self.num_channels = num_channels
        self.channels_first = channels_first
        self.row_shape = row_shape

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: Any) -> Any:
        """Image `i` as a Tensor of shape (num_channels, H, W), floating, from 0 to 1."""
        return self._decode(i, self.load(i))

    def load(self, i: int) -> Any:
        """What image `i` is made of: the bytes of a file, the array of a PIL image, anything else as it is."""
        item = self.items[i]
        if isinstance(item, (str, os.PathLike)):
            try:
                return _File(_is_npy(Path(item)), Path(item).read_bytes())
            except FileNotFoundError as error:
                raise ValueError(f"{self._name(i)}: there is no such file.") from error
            except OSError as error:
                raise ValueError(f"{self._name(i)} could not be read as an image: {error}") from error
        if isinstance(item, Image.Image):
            try:
                # Opening is lazy, and one image may be in X twice: two threads must not load it at once.
                with _LOADING:
                    item = ImageOps.exif_transpose(item)
                return _from_pil(item, self.num_channels)
            except Exception as error:  # decoders raise all kinds on files that are not what they seem
                raise ValueError(f"{self._name(i)} could not be read as an image: {error}") from error
        return item

    def digest(self, content: Any) -> bytes:
        """Digest of what :meth:`load` gave, and of all else that :meth:`read` makes an image of it by."""
        how: list[Any] = [self.num_channels, self.channels_first, self.row_shape]
        if isinstance(content, _File):
            how.append(content.is_npy)
            data = content.data
        elif isinstance(content, Tensor):
            how += [str(content.dtype), tuple(content.shape)]
            data = content.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
        else:
            array = np.asarray(content)
            how += [str(array.dtype), array.shape]
            data = array.tobytes()
        digest = blake2b(repr(how).encode(), digest_size=32)
        digest.update(data)
        return digest.digest()

    def read(
        self, i: int, content: Any, size: tuple[int, int], dtype: torch.dtype
    ) -> tuple[Tensor, tuple[int, int]]:
        """Image `i`, of what :meth:`load` gave, at a size and of a type; and the size that it had."""
        image = self._decode(i, content)
        resized = resize(image, size).to(dtype)
        if not torch.isfinite(resized).all():
            raise ValueError(f"Input X contains a value too large for {dtype}: X[{i}] does.")
        return resized, (image.shape[-2], image.shape[-1])

    def _name(self, i: int) -> str:
        item = self.items[i]
        return f"X[{i}] ({os.fspath(item)!r})" if isinstance(item, (str, os.PathLike)) else f"X[{i}]"

    def _decode(self, i: int, content: Any) -> Tensor:
        name, item = self._name(i), content
        if isinstance(content, _File):
            try:
                item = _decode_file(content, self.num_channels)
            except UnidentifiedImageError as error:
                raise ValueError(
                    f"{name} could not be read as an image: no format that Pillow knows"
                ) from error
            except Exception as error:
                raise ValueError(f"{name} could not be read as an image: {error}") from error
        if not isinstance(item, Tensor):
            item = np.asarray(item)
            if self.row_shape is not None:
                item = item.reshape(self.row_shape)
        _check_dtype(item.dtype, name)
        if item.ndim not in (2, 3) or 0 in item.shape:
            layout = "(C, H, W)" if self.channels_first else "(H, W, C)"
            raise ValueError(
                f"{name} has shape {tuple(item.shape)}; an image must have shape (H, W) or {layout}, none of them 0."
            )
        image = item.detach().cpu() if isinstance(item, Tensor) else _from_array(item)
        if image.ndim == 2:
            image = image[None]
        elif not self.channels_first:
            image = image.movedim(-1, 0)
        image = _fit_channels(_scale(image), self.num_channels, name)
        if not torch.isfinite(image).all():
            raise ValueError(f"Input X contains NaN or infinity: {name} does.")
        return image


def is_row_matrix(X: Any) -> bool:
    """Whether X is to be read as a 2-D matrix of flattened images, as scikit-learn checks it."""
    if isinstance(X, (Tensor, Image.Image)):
        return False
    if hasattr(X, "dtype") or hasattr(X, "to_numpy"):
        if len(X.shape) == 2:
            return not (X.shape[1] == 1 and _holds_images(X))
        return len(X.shape) < 2 and not _is_object(X)
    if isinstance(X, (list, tuple)):
        # A list of numbers or of lists: let scikit-learn's check_array say what is wrong with it.
        return len(X) > 0 and (
            isinstance(X[0], (list, tuple, int, float, np.number))
            or (isinstance(X[0], np.ndarray) and X[0].ndim < 2)
        )
    return hasattr(X, "__array__")


def check_rows(X: Any) -> None:
    """Check that the rows of a nested list have one length."""
    if not isinstance(X, (list, tuple)):
        return  # scikit-learn checks the rest
    lengths = [len(row) if hasattr(row, "__len__") else None for row in X]
    for i, length in enumerate(lengths):
        if length != lengths[0]:
            raise ValueError(
                f"X is ragged: X[0] holds {lengths[0]} values, X[{i}] holds {length}. Rows must be flattened "
                "images of one shape; images of different shapes are passed as arrays (H, W)."
            )


def _holds_images(X: Any) -> bool:
    values = X.to_numpy() if hasattr(X, "to_numpy") else X
    if values.dtype.kind in "UT":
        return True
    kinds = (str, os.PathLike, Image.Image, np.ndarray, Tensor)
    return values.dtype.kind == "O" and all(isinstance(v, kinds) for v in values.flat)


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


def check_images(X: Any, num_channels: int) -> ImageCollection:
    """Check images that aren't rows of a 2-D array.

    Parameters
    ----------
    X : array of shape (n, H, W) or (n, H, W, C), tensor of shape (n, C, H, W), or sequence
        The images; a sequence (list, tuple, 1-D object array, Series, DataFrame of one
        column) holds paths, PIL images, arrays (H, W[, C]) or tensors (C, H, W), all
        of one kind, of any sizes.
    num_channels : int
        Channels that every image must end up with.

    Returns
    -------
    ImageCollection
        The images. Each is decoded and fully checked when it is asked for.

    Raises
    ------
    TypeError
        Where X or a row of it is nothing that can be an image, or rows differ in kind.
    ValueError
        Where X is empty or has a wrong rank.
    """
    if isinstance(X, Tensor):
        if X.ndim != 4:
            raise ValueError(f"A tensor X must have shape (n, C, H, W), got {tuple(X.shape)}.")
        _check_not_empty(len(X))
        return ImageCollection(X, num_channels, channels_first=True)
    if hasattr(X, "to_numpy"):  # pandas and polars
        X = X.to_numpy()
    if isinstance(X, np.ndarray):
        if X.dtype.kind not in "OUT":
            if X.ndim not in (3, 4):
                raise ValueError(
                    f"An array X must have shape (n, H, W) or (n, H, W, C), or (n, H * W) for flattened images; "
                    f"got {X.shape}."
                )
            _check_not_empty(len(X))
            _check_dtype(X.dtype, "X")
            return ImageCollection(X, num_channels)
        if X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]
        if X.ndim != 1:
            raise ValueError(f"An array X of objects must have shape (n,), got {X.shape}.")
    if not isinstance(X, (list, tuple, np.ndarray)):
        raise TypeError(
            "X must be an array, a tensor, or a sequence of paths, PIL images or arrays; "
            f"got {type(X).__name__}."
        )
    _check_not_empty(len(X))
    kinds = [_kind(item, i) for i, item in enumerate(X)]
    for i, kind in enumerate(kinds):
        if kind != kinds[0]:
            raise TypeError(f"X mixes kinds of images: X[0] is {kinds[0]}, X[{i}] is {kind}.")
    return ImageCollection(X, num_channels, channels_first=kinds[0] == "a tensor")


def _check_not_empty(n: int) -> None:
    if n == 0:
        raise ValueError("Found array with 0 sample(s) in X while a minimum of 1 is required.")


def _check_dtype(dtype: "np.dtype[Any] | torch.dtype", name: str) -> None:
    ok = not dtype.is_complex if isinstance(dtype, torch.dtype) else dtype.kind in "buif"
    if not ok:
        raise TypeError(f"{name} has dtype {dtype}; images must be integers, booleans or real floats.")


def _kind(item: Any, i: int) -> str:
    if isinstance(item, (str, os.PathLike)):
        return "a path"
    if isinstance(item, Image.Image):
        return "a PIL image"
    if isinstance(item, Tensor):
        return "a tensor"
    if isinstance(item, np.ndarray):
        if item.ndim not in (2, 3):
            raise ValueError(f"X[{i}] has shape {item.shape}; an image must have shape (H, W) or (H, W, C).")
        return "an array"
    raise TypeError(
        f"X[{i}] is of type {type(item).__name__}; an image must be a path, a PIL image, an array or a tensor."
    )


class _File(NamedTuple):
    is_npy: bool
    data: bytes


def _is_npy(path: Path) -> bool:
    return path.suffix.lower() == ".npy"


def _decode_file(file: _File, num_channels: int) -> NDArray[Any]:
    if file.is_npy:
        return np.load(BytesIO(file.data), allow_pickle=False)
    with Image.open(BytesIO(file.data)) as image:
        return _from_pil(ImageOps.exif_transpose(image), num_channels)


def _from_pil(image: Image.Image, num_channels: int) -> NDArray[Any]:
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


def _from_array(array: NDArray[Any]) -> Tensor:
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    # A copy where torch can't take the memory as it is (read-only, negative strides).
    usable = array.flags.writeable and all(s >= 0 for s in array.strides)
    return torch.from_numpy(array if usable else array.copy())


def _fit_channels(image: Tensor, num_channels: int, name: str) -> Tensor:
    n = image.shape[0]
    if n == num_channels:
        return image.contiguous()
    if num_channels == 3 and n == 1:
        return image.contiguous().expand(3, -1, -1)
    if num_channels == 3 and n == 4:
        return image[:3].contiguous()
    raise ValueError(f"{name} has {n} channels, but num_channels={num_channels}.")


def _scale(image: Tensor) -> Tensor:
    """Integers are scaled by the range of their type; floats are taken as they are."""
    if image.dtype == torch.bool:
        return image.float()
    if image.is_floating_point():
        return image if image.dtype in (torch.float32, torch.float64) else image.float()
    return (
        image.to(torch.float64 if image.dtype.itemsize > 2 else torch.float32) / torch.iinfo(image.dtype).max
    )


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an image bilinearly, with antialiasing where it shrinks.

    Parameters
    ----------
    image : Tensor of shape (C, H, W)
        A floating image.
    size : tuple of int (H, W)
        The wanted size.

    Returns
    -------
    Tensor of shape (C, *size)
        The image.
    """
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    grey = image.stride(0) == 0  # one channel shown several times: resize it once
    source = image[:1] if grey else image
    resized = F.interpolate(source[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
    return resized.expand(len(image), -1, -1) if grey else resized
