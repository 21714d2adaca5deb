"""Images and masks in folders laid out like MVTec AD."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.utils import Bunch

from skcsflow._checks import check_size
from skcsflow._images import image_size, read_mask_file

_EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
_GOOD = "good"

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
    ``train/good`` is required. Of each file only the size is read: an estimator takes the paths as they
    are, and :func:`read_mask` reads a mask.

    Images are files with the extension png, jpg, jpeg, bmp, tif, tiff or webp, in upper or lower case. Hidden
    files and folders, whose names begin with a dot, are ignored. Everything is sorted by name, so the order is
    the same on every system.

    Parameters
    ----------
    root : str or path-like
        The folder that holds ``train``, or its parent folder if `category` is given. ``~`` is expanded.
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
            Height and width of the training images in pixels, upright as their EXIF data say.
        test : ndarray of shape (n_test,), dtype object
            Paths of the test images, as str. Empty if there is no folder ``test``.
        y_test : ndarray of shape (n_test,), dtype int64
            +1 for the images of ``test/good``, -1 for all others.
        test_sizes : ndarray of shape (n_test, 2), dtype int64
            Height and width of the test images and of their masks.
        defect : ndarray of shape (n_test,), dtype str
            The kind of defect, which is the name of the image's folder; "good" for good ones.
        masks : ndarray of shape (n_test,), dtype object
            Path of each test image's mask, as str, or None if there is no mask: for good images, and for
            defective images without annotation. Use `y_test` to leave the latter out of pixel metrics.
        target_names : dict of int to str
            The meaning of the two labels.
        DESCR : str
            A description with the numbers of images.

    Raises
    ------
    FileNotFoundError
        If `root`, `category` or ``train/good`` doesn't exist or isn't a folder.
    ValueError
        If a folder of images is empty, an image lies directly in ``test``, a folder there is named "Good", a mask
        belongs to no image or to two, or differs in size from its image, an image has two masks, or a file isn't
        an image. The message names the path. Truncated files are only noticed when they are decoded.

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
    _check_folder(base, "root")
    if category is not None:
        base = base / category
        _check_folder(base, f"category {category!r}")
    train_folder = base / "train" / _GOOD
    _check_folder(train_folder, "train/good")
    train = _images_in(train_folder)

    test: list[Path] = []
    test_sizes: list[tuple[int, int]] = []
    masks: list[Path | None] = []
    truth = base / "ground_truth"
    kinds = _test_folders(base / "test")
    for kind in kinds:
        images = _images_in(kind)
        sizes = [image_size(path) for path in images]
        test.extend(images)
        test_sizes.extend(sizes)
        masks.extend(_match_masks(images, sizes, truth / kind.name))
    _check_mask_folders(truth, {kind.name for kind in kinds})

    defect = np.array([path.parent.name for path in test], dtype=np.str_)
    y_test = np.where(defect == _GOOD, 1, -1).astype(np.int64)
    return Bunch(
        train=_object_array(map(str, train)),
        y_train=np.ones(len(train), dtype=np.int64),
        train_sizes=_size_array(map(image_size, train)),
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


def read_mask(
    path: str | os.PathLike[str] | None, shape: int | tuple[int, int] | None = None
) -> NDArray[np.bool_]:
    """Read a mask as a boolean array, True where the image is defective.

    A pixel is True if any colour channel is non-zero; alpha is ignored. In JPEG and lossy WebP files, whose
    compression leaves noise around edges, a channel must be above half of its largest value.

    Parameters
    ----------
    path : str, path-like or None
        An image file, or a .npy file. None stands for "no defect" and gives an empty mask of the given `shape`.
    shape : int, pair of ints (H, W) or None, default=None
        Height and width to resize to, by nearest neighbour. None keeps the mask's own size.

    Returns
    -------
    mask : ndarray of shape (height, width), dtype bool
        The mask.

    Raises
    ------
    ValueError
        If the file doesn't exist or can't be read as an image, `shape` isn't made of positive ints, or `path`
        and `shape` are both None.

    Examples
    --------
    >>> from skcsflow.datasets import read_mask
    >>> read_mask(None, shape=(2, 3)).any()
    np.False_
    """
    size = None if shape is None else check_size(shape, "shape")
    if path is None:
        if size is None:
            raise ValueError("shape must be given if path is None, got None for both.")
        return np.zeros(size, dtype=bool)
    mask = read_mask_file(path, f"The mask {os.fspath(path)!r}")
    if size is None or mask.shape == size:
        return mask
    resized = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)
    return np.array(resized, dtype=bool)


def _check_folder(path: Path, name: str) -> None:
    if not path.is_dir():
        raise FileNotFoundError(f"{name} must be a folder, but there is none at {str(path)!r}.")


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
                f"The image {str(path)!r} lies directly in the folder test. Move it to test/good/ or "
                "test/<defect>/."
            )
        if path.is_dir() and path.name != _GOOD and path.name.lower() == _GOOD:
            raise ValueError(f"The folder {str(path)!r} would be a kind of defect. Rename it to {_GOOD!r}.")
    return [path for path in _visible(test) if path.is_dir()]


def _match_masks(images: list[Path], sizes: list[tuple[int, int]], folder: Path) -> list[Path | None]:
    """Find each image's mask in `folder`, and check that each mask belongs to exactly one image."""
    by_stem: dict[str, Path] = {}
    for path in _visible(folder) if folder.is_dir() else []:
        if _is_image(path):
            if path.stem in by_stem:
                raise ValueError(
                    f"Two masks have the same name: {str(by_stem[path.stem])!r} and {str(path)!r}."
                )
            by_stem[path.stem] = path

    owner: dict[Path, Path] = {}
    masks: list[Path | None] = []
    for image, size in zip(images, sizes, strict=True):
        found = [by_stem[stem] for stem in (f"{image.stem}_mask", image.stem) if stem in by_stem]
        if len(found) > 1:
            raise ValueError(
                f"The image {str(image)!r} has two masks: {str(found[0])!r} and {str(found[1])!r}."
            )
        mask = found[0] if found else None
        if mask is not None:
            if mask in owner:
                raise ValueError(
                    f"The mask {str(mask)!r} belongs to two images: {str(owner[mask])!r} and {str(image)!r}."
                )
            owner[mask] = image
            _check_same_size(image, size, mask)
        masks.append(mask)

    for mask in by_stem.values():
        if mask not in owner:
            raise ValueError(f"The mask {str(mask)!r} belongs to no image in {str(images[0].parent)!r}.")
    return masks


def _check_mask_folders(truth: Path, kinds: set[str]) -> None:
    for folder in _visible(truth) if truth.is_dir() else []:
        if folder.is_dir() and folder.name not in kinds and any(map(_is_image, _visible(folder))):
            test = truth.parent / "test" / folder.name
            raise ValueError(f"The masks in {str(folder)!r} need a folder of images {str(test)!r}.")


def _check_same_size(image: Path, size: tuple[int, int], mask: Path) -> None:
    mask_size = image_size(mask)
    if mask_size != size:
        raise ValueError(
            f"The mask {str(mask)!r} is {mask_size[0]} x {mask_size[1]} pixels (height x width), but its image "
            f"{str(image)!r} is {size[0]} x {size[1]}."
        )


def _size_array(sizes: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    return np.array(list(sizes), dtype=np.int64).reshape(-1, 2)


def _object_array(values: Iterable[str | None]) -> NDArray[Any]:
    items = list(values)
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array
