"""What users hold images in -> a sequence of them."""

import os
from collections.abc import Collection, Iterator, Mapping, MappingView, Set
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from skcsflow._checks import as_path, expand_home
from skcsflow._images._remote import find_urls, is_url

__all__ = [
    "EXTENSIONS",
    "IMAGE_TYPES",
    "as_sequence",
    "check_tensor",
    "find_images",
    "is_arrow_table",
    "is_missing",
    "list_images",
    "visible_entries",
    "walk_files",
]

EXTENSIONS = frozenset(
    {
        ".png", ".jpg", ".jpeg", ".jfif", ".jp2", ".j2k", ".jpx", ".bmp", ".tif", ".tiff", ".webp", ".pbm", ".pgm",
        ".pnm", ".ppm", ".npy",
    }
)  # fmt: skip
"""Of files that are taken for images, in lower case. Not GIF, whose files are mostly animations."""

IMAGE_TYPES = (str, os.PathLike, bytes, bytearray, memoryview, BytesIO, Image.Image, np.ndarray, Tensor)
"""What an image may be given as."""


def check_tensor(tensor: Tensor, name: str) -> None:
    """Check that a tensor holds its values, one for each place.

    Raises
    ------
    TypeError
        Where it doesn't.
    """
    if tensor.is_meta:
        raise TypeError(f"{name} is a tensor on the meta device, which has no values. Pass one that has.")
    if tensor.is_nested:
        raise TypeError(f"{name} is a nested tensor. Pass the list of its tensors: list(X.unbind()).")
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} is a sparse tensor ({tensor.layout}). Pass a dense one: X.to_dense().")


def is_missing(item: Any) -> bool:
    """Whether it stands for an image that is missing: None, or what tables hold for it, NaN or pandas' NA."""
    return item is None or (isinstance(item, float) and item != item) or type(item).__name__ == "NAType"


def is_arrow_table(X: Any) -> bool:
    """Whether X is a table of pyarrow, or a batch of its rows."""
    return hasattr(X, "to_pylist") and hasattr(X, "column_names")


def list_images(folder: str | os.PathLike[str], *, recursive: bool = False) -> list[str]:
    """List the image files of a folder, sorted.

    Images are files with the extension png, jpg, jpeg, jfif, jp2, j2k, jpx, bmp, tif, tiff, webp, pbm, pgm, pnm, ppm
    or npy, in upper or lower case. Hidden files and folders, whose names begin with a dot, are left out. Links to files
    are followed, and with `recursive` those to folders too, wherever they lead.

    Parameters
    ----------
    folder : str or path-like
        The folder; ``~`` is expanded. Or its URL, such as ``"s3://bucket/good"`` or ``"zip://good::parts.zip"``, with
        ``pip install "skcsflow[remote]"``.
    recursive : bool, default=False
        Whether folders in it are looked through too.

    Returns
    -------
    list of str
        Paths of the images, sorted by name, folder by folder.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If it is a file, there is no image in it, or with `recursive` a folder in it is a link to one above.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from skcsflow.datasets import list_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.JPG", "a.png"):
    ...         Image.new("L", (8, 8)).save(Path(folder, name))
    ...     [Path(path).name for path in list_images(folder)]
    ['a.png', 'b.JPG']
    """
    if is_url(folder):
        return find_remote_images(os.fspath(folder), "folder", recursive=recursive)
    return find_images(as_path(folder, "folder"), "folder", recursive=recursive)


def as_sequence(X: Any) -> Any:
    """X itself, or the images of the folder that it names, or of the one column of a table of pyarrow.

    Parameters
    ----------
    X : object
        What a user gave as images.

    Returns
    -------
    object
        A list of paths in place of the path of a folder, a column of pyarrow in place of a table; anything else as it
        is, other tables and those of numbers too.

    Raises
    ------
    FileNotFoundError, ValueError
        Where X is the path of no folder, or of one without images.
    TypeError
        Where X is one image in place of several, or can't be read in any order and more than once.
    """
    if isinstance(X, str | os.PathLike):
        if not os.fspath(X):
            raise ValueError("X is an empty string. Pass the path of a folder.")
        if is_url(X):
            return find_remote_images(os.fspath(X), "X", recursive=False)
        return find_images(expand_home(X), "X", recursive=False)
    if isinstance(X, Image.Image):
        raise TypeError("X is one PIL image, not a collection of images. Pass [X].")
    if isinstance(X, bytes | bytearray | memoryview) or hasattr(X, "getvalue"):
        raise TypeError("X is the content of one file, not a collection of images. Pass [X].")
    if isinstance(X, Mapping | MappingView | Set):
        keys = f" with the keys {', '.join(map(repr, list(X)[:5]))}" if isinstance(X, Mapping) else ""
        raise TypeError(f"X is a {type(X).__name__}{keys}; pass the images in it, as a list or an array.")
    if isinstance(X, Iterator):
        raise TypeError(f"X is a {type(X).__name__}, which can be read only once. Pass list(X).")
    if is_arrow_table(X) and len(X.column_names) == 1 and np.asarray(X).dtype == object:
        return X.column(0)
    return X


def find_images(folder: Path, name: str, *, recursive: bool) -> list[str]:
    """The images of a folder, which messages call `name`."""
    if folder.is_file():
        raise ValueError(f"{name}={str(folder)!r} is a file. Pass a folder, or a list of files: [{name}].")
    if not folder.is_dir():
        hint = " Pass the folder itself, or sorted(glob.glob(...))." if "*" in str(folder) else ""
        raise FileNotFoundError(f"There is no folder {name}={str(folder)!r}.{hint}")
    paths = list(walk_files(folder, EXTENSIONS, recursive=recursive))
    if not paths:
        folders = [path.name for path in visible_entries(folder) if path.is_dir()]
        hint = ""
        if folders and not recursive:
            hint = (
                f" It holds the folders {', '.join(map(repr, folders[:5]))}{', ...' if len(folders) > 5 else ''}: pass "
                "one of them, or list_images(..., recursive=True)."
            )
        extensions = ", ".join(sorted(extension[1:] for extension in EXTENSIONS))
        raise ValueError(f"There are no images ({extensions}) in the folder {name}={str(folder)!r}.{hint}")
    return [str(path) for path in paths]


def find_remote_images(url: str, name: str, *, recursive: bool) -> list[str]:
    """The images below a URL, which messages call `name`."""
    urls = find_urls(url, name, EXTENSIONS, recursive=recursive)
    if not urls:
        hint = "" if recursive else " Pass list_images(..., recursive=True), which also looks further down."
        raise ValueError(f"There are no images in {name}={url!r}.{hint}")
    return urls


def walk_files(
    folder: Path, extensions: Collection[str], *, recursive: bool, above: tuple[Path, ...] = ()
) -> Iterator[Path]:
    """Files with these extensions, in lower case, sorted by name; then, folder by folder, those further down.

    Raises
    ------
    ValueError
        Where a folder is a link to one that it lies in.
    """
    real = folder.resolve()
    if real in above:
        raise ValueError(f"The folder {str(folder)!r} is a link to a folder that it lies in. Remove it.")
    entries = visible_entries(folder)
    yield from (path for path in entries if path.suffix.lower() in extensions and path.is_file())
    if recursive:
        for path in entries:
            if path.is_dir():
                yield from walk_files(path, extensions, recursive=True, above=(*above, real))


def visible_entries(folder: Path) -> list[Path]:
    """Files and folders whose names don't begin with a dot, sorted by name; none if there is no folder."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda p: p.name)
