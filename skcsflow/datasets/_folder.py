"""Images and masks in folders laid out like MVTec AD."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.utils import Bunch

from skcsflow._checks import as_path, check_size
from skcsflow._images import MAX_PIXELS, image_size, read_mask_file
from skcsflow.datasets._layouts import find_files, find_folder, find_good_folder, find_images, find_kinds

_PathLike: TypeAlias = str | os.PathLike[str]

_DESCR = """\
Images in the MVTec AD layout, read from {root}
:Training images: {n_train}, all good
:Validation images: {n_validation}, all good
:Test images: {n_test}, {n_good} of them good
:Kinds of defect: {kinds}
:Test images with masks: {n_masked}
"""


def load_image_folder(
    root: str | os.PathLike[str],
    *,
    category: str | None = None,
    good: str = "good",
    mask_suffix: str = "_mask",
) -> Bunch:
    """List the images, labels and masks of a folder in the MVTec AD layout.

    The layout is ``train/good/*``, ``test/good/*`` and ``test/<defect>/*``. Only ``train/good`` is required. The
    masks of ``test/<defect>/<stem>.png`` are, with the same ``<defect>``,

    - one file ``ground_truth/<defect>/<stem>_mask.png`` or ``ground_truth/<defect>/<stem>.png``,
    - or all files ``ground_truth/<defect>/<stem>/*.png``, as in MVTec LOCO AD and AutoVI.

    ``validation/good/*``, which MVTec LOCO AD has, is listed too. Images and masks may lie in folders below these, the
    same for both: ``ground_truth/<defect>/monday/0_mask.png`` belongs to ``test/<defect>/monday/0.png``. The names
    of the folders ``train``, ``validation``, ``test`` and ``ground_truth`` may have capitals.

    Of each file only the size is read: an estimator takes the paths as they are, and :func:`read_mask` reads masks.
    Images are files with the extensions that :func:`list_images` takes, but for npy. Hidden files and folders, whose
    names begin with a dot, are ignored. Links to files and folders are followed, wherever they lead. Everything is
    sorted by name, so the order is the same on every system.

    Parameters
    ----------
    root : str or path-like
        The folder that holds ``train``, or its parent folder if `category` is given. ``~`` is expanded.
    category : str or None, default=None
        Name of a folder in `root`, such as "bottle". None means that `root` itself holds ``train``.
    good : str, default="good"
        Name of the folders of good images; "ok" in BTAD.
    mask_suffix : str, default="_mask"
        What the name of a mask has behind the name of its image. A mask may always have the very name of its image.

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
        validation, y_validation, validation_sizes : ndarray
            The same for the images of ``validation/good``, for instance to calibrate a threshold with. Empty if
            there is no such folder.
        test : ndarray of shape (n_test,), dtype object
            Paths of the test images, as str. Empty if there is no folder ``test``.
        y_test : ndarray of shape (n_test,), dtype int64
            +1 for the images of ``test/good``, -1 for all others.
        test_sizes : ndarray of shape (n_test, 2), dtype int64
            Height and width of the test images and of their masks.
        defect : ndarray of shape (n_test,), dtype str
            The kind of defect, which is the name of the image's folder in ``test``; "good" for good ones, whatever
            `good` is.
        masks : ndarray of shape (n_test,), dtype object
            What :func:`read_mask` takes: the path of each test image's mask, as str; a tuple of paths if there are
            several; None if there is none: for good images, and for defective images without annotation. Use
            `y_test` to leave the latter out of pixel metrics.
        target_names : dict of int to str
            The meaning of the two labels.
        DESCR : str
            A description with the numbers of images.

    Raises
    ------
    FileNotFoundError
        If `root`, `category` or ``train/good`` doesn't exist or isn't a folder.
    ValueError
        If `category` or `good` is a path and no name, a folder of images is empty, masks lie among images, an image
        lies directly in ``test``, a folder there is another spelling of `good`, two folders differ in case only, a
        mask belongs to no image or to two, or differs in size from its image, an image has two masks that don't lie in
        a folder of its name, a file isn't an image, or the layout is that of VisA or KolektorSDD. The message names the
        path. Truncated files are only noticed when they are decoded.

    See Also
    --------
    read_mask : Read a mask as a boolean array.

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
    _check_name(good, "good")
    if not isinstance(mask_suffix, str):
        raise TypeError(f"mask_suffix must be a string, got {mask_suffix!r}.")
    base = as_path(root, "root")
    _check_folder(base, "root")
    if category is not None:
        _check_name(category, "category")
        base = base / category
        _check_folder(base, f"category {category!r}")
    train = find_images(find_good_folder(base, good), mask_suffix)
    validation_folder = find_folder(base, "validation") / good
    validation = find_images(validation_folder, mask_suffix) if validation_folder.is_dir() else []

    test: list[Path] = []
    test_sizes: list[tuple[int, int]] = []
    defect: list[str] = []
    masks: list[tuple[Path, ...]] = []
    truth = find_folder(base, "ground_truth")
    kinds = find_kinds(find_folder(base, "test"), good)
    for kind in kinds:
        images = find_images(kind, mask_suffix)
        sizes = [image_size(path) for path in images]
        test.extend(images)
        test_sizes.extend(sizes)
        defect.extend(["good" if kind.name == good else kind.name] * len(images))
        masks.extend(_match_masks(images, sizes, kind, truth / kind.name, mask_suffix))
    _check_all_masks_used(truth, {kind.name for kind in kinds})

    y_test = np.where(np.array(defect, dtype=np.str_) == "good", 1, -1).astype(np.int64)
    return Bunch(
        train=_object_array(map(str, train)),
        y_train=np.ones(len(train), dtype=np.int64),
        train_sizes=_size_array(map(image_size, train)),
        validation=_object_array(map(str, validation)),
        y_validation=np.ones(len(validation), dtype=np.int64),
        validation_sizes=_size_array(map(image_size, validation)),
        test=_object_array(map(str, test)),
        y_test=y_test,
        test_sizes=_size_array(test_sizes),
        defect=np.array(defect, dtype=np.str_),
        masks=_object_array(map(_as_mask_entry, masks)),
        target_names={1: "good", -1: "defective"},
        DESCR=_DESCR.format(
            root=base,
            n_train=len(train),
            n_validation=len(validation),
            n_test=len(test),
            n_good=int(np.sum(y_test == 1)),
            kinds=", ".join(kind.name for kind in kinds if kind.name != good) or "none",
            n_masked=sum(map(bool, masks)),
        ),
    )


def read_mask(
    path: _PathLike | Sequence[_PathLike] | None,
    shape: int | tuple[int, int] | None = None,
    *,
    max_pixels: int | None = MAX_PIXELS,
) -> NDArray[np.bool_]:
    """Read the mask of an image as a boolean array, True where the image is defective.

    A pixel is True if any colour channel is non-zero; alpha is ignored. In JPEG and lossy WebP files, whose
    compression leaves noise around edges, a channel must be above half of its largest value.

    Parameters
    ----------
    path : str, path-like, sequence of them or None
        An image file, or a .npy file. Several files are the masks of one image: a pixel is True if it is in any of
        them. None stands for "no defect" and gives an empty mask of the given `shape`.
    shape : int, pair of ints (H, W) or None, default=None
        Height and width to resize to, by nearest neighbour. None keeps the mask's own size.
    max_pixels : int or None, default=160,000,000
        Pixels that a file may have, by its header; None: any number.

    Returns
    -------
    mask : ndarray of shape (height, width), dtype bool
        The mask.

    Raises
    ------
    ValueError
        If a file doesn't exist, can't be read as an image or has too many pixels, the files differ in size, there is
        none in the sequence, `shape` isn't made of positive ints, or `path` and `shape` are both None.

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
        if max_pixels is not None and size[0] * size[1] > max_pixels:
            raise ValueError(f"shape={shape!r} has more pixels than max_pixels={max_pixels}.")
        return np.zeros(size, dtype=bool)
    given = [path] if isinstance(path, str | bytes | os.PathLike) or not isinstance(path, Sequence) else path
    paths = [as_path(one, "The mask path") for one in given]
    if not paths:
        raise ValueError(
            f"path must name at least one file, got {path!r}. Pass None for an image without defect."
        )
    mask = read_mask_file(paths[0], f"The mask {os.fspath(paths[0])!r}", max_pixels)
    for other in paths[1:]:
        part = read_mask_file(other, f"The mask {os.fspath(other)!r}", max_pixels)
        if part.shape != mask.shape:
            raise ValueError(
                f"The masks of one image must have the same size, but {os.fspath(paths[0])!r} has shape {mask.shape} "
                f"and {os.fspath(other)!r} has shape {part.shape}."
            )
        mask |= part
    if size is None or mask.shape == size:
        return mask
    resized = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)
    return np.array(resized, dtype=bool)


def _check_name(name: str, parameter: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{parameter} must be a string, got {name!r}.")
    if not name or name.startswith(".") or Path(name).name != name:
        raise ValueError(f"{parameter} must be the name of a folder, got {name!r}.")


def _check_folder(path: Path, name: str) -> None:
    if not path.is_dir():
        raise FileNotFoundError(f"{name} must be a folder, but there is none at {str(path)!r}.")


def _match_masks(
    images: list[Path], sizes: list[tuple[int, int]], kind: Path, folder: Path, mask_suffix: str
) -> list[tuple[Path, ...]]:
    """Find each image's masks in `folder`, and check that each mask belongs to exactly one image."""
    by_name: dict[Path, list[int]] = {}
    for row, image in enumerate(images):
        by_name.setdefault(image.relative_to(kind).with_suffix(""), []).append(row)

    masks: list[list[Path]] = [[] for _ in images]
    for mask in find_files(folder):
        name = mask.relative_to(folder).with_suffix("")
        names = [name, name.parent]  # a file of the image's name, or in a folder of its name
        if mask_suffix and name.name.endswith(mask_suffix) and name.name != mask_suffix:
            names.append(name.with_name(name.name.removesuffix(mask_suffix)))
        owners = sorted({row for name in names for row in by_name.get(name, [])})
        if not owners:
            raise ValueError(
                f"The mask {str(mask)!r} belongs to no image in {str(kind)!r}. It must be called like the image, lie "
                f"in a folder called like it, or have its name and mask_suffix={mask_suffix!r}."
            )
        if len(owners) > 1:
            first, second = (str(images[row]) for row in owners[:2])
            raise ValueError(f"The mask {str(mask)!r} belongs to two images: {first!r} and {second!r}.")
        masks[owners[0]].append(mask)

    for image, size, found in zip(images, sizes, masks, strict=True):
        own_folder = folder / image.relative_to(kind).with_suffix("")
        if len(found) > 1 and any(mask.parent != own_folder for mask in found):
            raise ValueError(
                f"The image {str(image)!r} has two masks: {str(found[0])!r} and {str(found[1])!r}. Move both to the "
                f"folder {str(own_folder)!r}, or delete one."
            )
        for mask in found:
            _check_same_size(image, size, mask)
    return [tuple(found) for found in masks]


def _check_all_masks_used(truth: Path, kinds: set[str]) -> None:
    for mask in find_files(truth):
        folder = truth / mask.relative_to(truth).parts[0]
        if folder == mask:
            raise ValueError(
                f"The mask {str(mask)!r} lies directly in the folder {truth.name}. Move it to "
                f"{truth.name}/<defect>/."
            )
        if folder.name not in kinds:
            test = find_folder(truth.parent, "test") / folder.name
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


def _as_mask_entry(masks: tuple[Path, ...]) -> str | tuple[str, ...] | None:
    if not masks:
        return None
    return str(masks[0]) if len(masks) == 1 else tuple(map(str, masks))


def _object_array(values: Iterable[Any]) -> NDArray[Any]:
    items = list(values)
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):  # at once, tuples would be taken for the rows of a matrix
        array[i] = item
    return array
