"""Images and masks in folders laid out like MVTec AD."""

# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from sklearn.utils import Bunch

_EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
_GOOD = "good"
_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH_HEIGHT = (256, 257)

_DESCR = """\
Images in the MVTec AD layout, read from {root}
:Training images: {n_train}, all good
:Test images: {n_test}, {n_good} of them good
:Kinds of defect: {kinds}
:Masks: {n_masks}
"""


def load_image_folder(root: str | os.PathLike[str], *, category: str | None = None) -> Bunch:
    """List the images, labels and masks of a folder in the MVTec AD layout.

    The layout is ``train/good/*``, ``test/good/*``, ``test/<defect>/*`` and, with the same ``<defect>``
    names, ``ground_truth/<defect>/<stem>_mask.png`` or ``ground_truth/<defect>/<stem>.png``. Only
    ``train/good`` is required. Of each file only the header is read, which tells its size: the paths can be
    passed to an estimator as they are, and :func:`read_mask` reads a mask.

    Files count as images by their extension (png, jpg, jpeg, bmp, tif, tiff, webp, in any case). Hidden files
    and folders, whose names begin with a dot, are ignored. Everything is sorted by name, so the order is the
    same on every system.

    Parameters
    ----------
    root : str or path-like
        The folder that holds ``train``, or the folder above it if `category` is given. ``~`` is expanded.
    category : str or None, default=None
        Name of a folder in `root`, such as "bottle". None means that `root` itself holds ``train``.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        train : ndarray of shape (n_train,), dtype object
            Paths of the training images, as str.
        y_train : ndarray of shape (n_train,), dtype int64
            All +1.
        train_sizes : ndarray of shape (n_train, 2), dtype int64
            Height and width of the training images in pixels, after the rotation that their EXIF data ask for.
        test : ndarray of shape (n_test,), dtype object
            Paths of the test images, as str. Empty if there is no folder ``test``.
        y_test : ndarray of shape (n_test,), dtype int64
            +1 for the images of ``test/good``, -1 for all others.
        test_sizes : ndarray of shape (n_test, 2), dtype int64
            Height and width of the test images, and so of their masks.
        defect : ndarray of shape (n_test,), dtype str
            The kind of defect, which is the name of the image's folder; "good" for good ones.
        masks : ndarray of shape (n_test,), dtype object
            Path of each test image's mask, as str, or None where there is none: good images, and defective
            ones that nobody has annotated. Tell the two apart by `y_test` before you compute pixel metrics.
        target_names : dict of int to str
            What the two labels mean.
        DESCR : str
            The counts, in words.

    Raises
    ------
    FileNotFoundError
        If `root`, `category` or ``train/good`` does not exist or is no folder.
    ValueError
        If a folder of images is empty, an image lies in ``test`` itself, a folder there is named "Good", a mask
        belongs to no image, to two, or differs in size from its image, an image has two masks, or a file is no
        image. Files that end too early are not found out before they are decoded. The message names the path.

    See Also
    --------
    read_mask : Read one mask as a boolean array.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from skcsflow.datasets import load_image_folder, read_mask
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for name in ("train/good/0.png", "test/dent/0.png", "ground_truth/dent/0_mask.png"):
    ...         path = Path(root, name)
    ...         path.parent.mkdir(parents=True)
    ...         Image.new("L", (32, 24), 255).save(path)
    ...     data = load_image_folder(root)
    ...     mask = read_mask(data.masks[0])
    >>> data.defect.tolist(), data.y_test.tolist(), data.test_sizes.tolist(), mask.shape
    (['dent'], [-1], [[24, 32]], (24, 32))
    """
    base = Path(root).expanduser()
    _require_folder(base, "root")
    if category is not None:
        base = base / category
        _require_folder(base, f"category {category!r}")
    train_folder = base / "train" / _GOOD
    _require_folder(train_folder, "the folder of good training images")
    train = _images_in(train_folder)

    test: list[Path] = []
    test_sizes: list[tuple[int, int]] = []
    masks: list[Path | None] = []
    truth = base / "ground_truth"
    kinds = _test_folders(base / "test")
    for kind in kinds:
        images = _images_in(kind)
        sizes = [_upright_size(path) for path in images]
        test.extend(images)
        test_sizes.extend(sizes)
        masks.extend(_match_masks(images, sizes, truth / kind.name))
    _refuse_orphan_folders(truth, {kind.name for kind in kinds})

    defect = np.array([path.parent.name for path in test], dtype=np.str_)
    y_test = np.where(defect == _GOOD, 1, -1).astype(np.int64)
    return Bunch(
        train=_object_array(map(str, train)),
        y_train=np.ones(len(train), dtype=np.int64),
        train_sizes=_size_array(map(_upright_size, train)),
        test=_object_array(map(str, test)),
        y_test=y_test,
        test_sizes=_size_array(test_sizes),
        defect=defect,
        masks=_object_array(None if mask is None else str(mask) for mask in masks),
        target_names={1: "good", -1: "defective"},
        DESCR=_DESCR.format(
            root=base,
            n_train=len(train),
            n_test=len(test),
            n_good=int(np.sum(y_test == 1)),
            kinds=", ".join(kind.name for kind in kinds if kind.name != _GOOD) or "none",
            n_masks=sum(mask is not None for mask in masks),
        ),
    )


def read_mask(path: str | os.PathLike[str] | None, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read a mask as a boolean array, True where the image is defective.

    A pixel is True where any colour channel is non-zero; alpha is ignored. In JPEG and lossy WebP files, whose
    compression leaves noise around the edges, it must be above half of the largest value.

    Parameters
    ----------
    path : str, path-like or None
        The mask's file. None, which stands for "no defect", gives an empty mask of the given `shape`.
    shape : tuple of (int, int) or None, default=None
        Height and width to resize to, by nearest neighbour. None keeps the mask's own size.

    Returns
    -------
    mask : ndarray of shape (height, width), dtype bool
        The mask.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file cannot be read as an image, `shape` is not two positive integers, or `path` and `shape`
        are both None.

    Examples
    --------
    >>> from skcsflow.datasets import read_mask
    >>> read_mask(None, shape=(2, 3)).any()
    np.False_
    """
    if shape is not None:
        is_pair = isinstance(shape, tuple | list) and len(shape) == 2
        if not is_pair or not all(isinstance(side, int | np.integer) and side > 0 for side in shape):
            raise ValueError(f"shape must be two positive integers (height, width) or None, got {shape!r}.")
    if path is None:
        if shape is None:
            raise ValueError("shape must be given where path is None, got None for both.")
        return np.zeros(shape, dtype=bool)
    try:
        with Image.open(path) as image:
            lossy = image.format in ("JPEG", "MPO") or (image.format == "WEBP" and _is_lossy_webp(path))
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
                upright = upright.convert("RGB")
            values = np.asarray(upright)
            bands = upright.getbands()
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"The mask {os.fspath(path)!r} cannot be read as an image: {error}") from error
    if values.ndim == 3:
        values = values[..., [band != "A" for band in bands]].max(axis=2)
    mask = values > 127 if lossy else values != 0
    if shape is not None and mask.shape != tuple(shape):
        resized = Image.fromarray(mask).resize((int(shape[1]), int(shape[0])), Image.Resampling.NEAREST)
        mask = np.asarray(resized)
    return np.array(mask, dtype=bool)


def _is_lossy_webp(path: str | os.PathLike[str]) -> bool:
    return b"VP8L" not in Path(path).read_bytes()  # what the chunk of lossless pixels is called


def _require_folder(path: Path, what: str) -> None:
    if not path.is_dir():
        raise FileNotFoundError(f"No such folder, for {what}: {str(path)!r}.")


def _visible(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda p: p.name)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _EXTENSIONS and path.is_file()


def _images_in(folder: Path) -> list[Path]:
    images = [path for path in _visible(folder) if _is_image(path)]
    if not images:
        extensions = ", ".join(sorted(_EXTENSIONS))
        raise ValueError(f"No images ({extensions}) in the folder {str(folder)!r}.")
    return images


def _test_folders(test: Path) -> list[Path]:
    if not test.is_dir():
        return []
    for path in _visible(test):
        if _is_image(path):
            raise ValueError(
                f"The test image {str(path)!r} lies in no folder of its own kind; expected test/good/ or "
                "test/<defect>/."
            )
        if path.is_dir() and path.name != _GOOD and path.name.lower() == _GOOD:
            raise ValueError(f"{str(path)!r} would be a kind of defect. Name it {_GOOD!r}, for good images.")
    return [path for path in _visible(test) if path.is_dir()]


def _match_masks(images: list[Path], sizes: list[tuple[int, int]], folder: Path) -> list[Path | None]:
    """Find each image's mask in `folder`, and refuse masks that fit no image or more than one."""
    by_stem: dict[str, Path] = {}
    for path in _visible(folder) if folder.is_dir() else []:
        if _is_image(path):
            if path.stem in by_stem:
                raise ValueError(f"Two masks of one name: {str(by_stem[path.stem])!r} and {str(path)!r}.")
            by_stem[path.stem] = path

    owner: dict[Path, Path] = {}
    masks: list[Path | None] = []
    for image, size in zip(images, sizes, strict=True):
        found = [by_stem[stem] for stem in (f"{image.stem}_mask", image.stem) if stem in by_stem]
        if len(found) > 1:
            raise ValueError(f"Two masks for the image {str(image)!r}: {str(found[0])!r}, {str(found[1])!r}.")
        mask = found[0] if found else None
        if mask is not None:
            if mask in owner:
                raise ValueError(
                    f"The mask {str(mask)!r} fits two images: {str(owner[mask])!r} and {str(image)!r}."
                )
            owner[mask] = image
            _require_same_size(image, size, mask)
        masks.append(mask)

    for mask in by_stem.values():
        if mask not in owner:
            raise ValueError(f"The mask {str(mask)!r} has no image in {str(images[0].parent)!r}.")
    return masks


def _refuse_orphan_folders(truth: Path, kinds: set[str]) -> None:
    for folder in _visible(truth) if truth.is_dir() else []:
        if folder.is_dir() and folder.name not in kinds and any(map(_is_image, _visible(folder))):
            test = truth.parent / "test" / folder.name
            raise ValueError(f"The folder of masks {str(folder)!r} has no folder of images {str(test)!r}.")


def _require_same_size(image: Path, size: tuple[int, int], mask: Path) -> None:
    mask_size = _upright_size(mask)
    if mask_size != size:
        raise ValueError(
            f"The mask {str(mask)!r} is {mask_size[0]} x {mask_size[1]} pixels (height x width), but its image "
            f"{str(image)!r} is {size[0]} x {size[1]}."
        )


def _upright_size(path: Path) -> tuple[int, int]:
    """Height and width after the rotation that the EXIF data ask for, without decoding the pixels."""
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
            quarter_turned = exif.get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception as error:  # decoders raise all kinds on files that are not what they seem
        raise ValueError(f"The file {str(path)!r} cannot be read as an image: {error}") from error
    return (width, height) if quarter_turned else (height, width)


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
            file.seek(length + 4, os.SEEK_CUR)  # what is left of the chunk, and its check sum
    return False


def _size_array(sizes: Iterable[tuple[int, int]]) -> np.ndarray:
    return np.array(list(sizes), dtype=np.int64).reshape(-1, 2)


def _object_array(values: Iterable[str | None]) -> np.ndarray:
    items = list(values)
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array
