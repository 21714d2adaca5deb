"""Any collection of images that a user has -> decoded images, one by one."""

import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from skcsflow._images._reader import ImageFile, decode_file, load_file, read_pil

__all__ = ["ImageCollection", "check_images"]


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
        """Image `i`: :meth:`load` and :meth:`decode` in one."""
        return self.decode(i, self.load(i))

    def load(self, i: int) -> Any:
        """What image `i` is made of: the bytes of a file, the array of a PIL image, anything else as it is."""
        item = self.items[i]
        if isinstance(item, (str, os.PathLike)):
            return load_file(item, self._name(i))
        if isinstance(item, Image.Image):
            return read_pil(item, self._name(i), self.num_channels)
        return item

    def digest(self, content: Any) -> bytes:
        """Digest of what :meth:`load` gave, and of all else that :meth:`decode` depends on."""
        parts: list[Any] = [self.num_channels, self.channels_first, self.row_shape]
        if isinstance(content, ImageFile):
            parts.append(content.is_npy)
            data = content.data
        elif isinstance(content, Tensor):
            parts += [str(content.dtype), tuple(content.shape)]
            data = content.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
        else:
            array = np.asarray(content)
            parts += [str(array.dtype), array.shape]
            data = array.tobytes()
        digest = blake2b(repr(parts).encode(), digest_size=32)
        digest.update(data)
        return digest.digest()

    def decode(self, i: int, content: Any) -> Tensor:
        """Decode and check image `i`.

        Parameters
        ----------
        i : int
            Its row, for messages.
        content : object
            What :meth:`load` gave.

        Returns
        -------
        Tensor of shape (num_channels, H, W)
            The image, on the CPU and in its own type; see :func:`standardize`.

        Raises
        ------
        TypeError, ValueError
            Where it is no image, has other channels, or holds NaN or infinity.
        """
        name = self._name(i)
        item = decode_file(content, self.num_channels, name) if isinstance(content, ImageFile) else content
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
        if image.is_floating_point() and not torch.isfinite(image).all():
            raise ValueError(f"Input X contains NaN or infinity: {name} does.")
        return _fit_channels(image, self.num_channels, name)

    def _name(self, i: int) -> str:
        item = self.items[i]
        return f"X[{i}] ({os.fspath(item)!r})" if isinstance(item, (str, os.PathLike)) else f"X[{i}]"


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
    raise ValueError(
        f"{name} has {n} channels, but num_channels={num_channels}. Set num_channels to what the images have."
    )
