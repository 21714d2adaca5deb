"""Folders in the MVTec AD layout: where they are, what images lie in them, and what to do about other layouts."""

import os
from pathlib import Path

from skcsflow._images import EXTENSIONS, visible_entries, walk_files

__all__ = ["find_files", "find_folder", "find_good_folder", "find_images", "find_kinds"]

_EXTENSIONS = EXTENSIONS - {".npy"}
"""Of files whose size can be read without their pixels."""

_NAMES_OF_GOOD = frozenset({"good", "normal", "ok"})
"""Names of folders, in lower case, that nobody gives to a kind of defect."""

_NAMES_OF_MASKS = frozenset({"gt", "ground_truth", "mask", "masks", "xyz"})
"""Names of folders, in lower case, that hold masks or, in MVTec 3D-AD, point clouds."""

_VISA = """\
{base!r} holds VisA as it is downloaded. Its authors' script rearranges it: run prepare_data.py of \
https://github.com/amazon-science/spot-diff with --split-type 1cls, and read the folders that it writes."""

_KOLEKTOR = """\
The mask {mask!r} lies beside its image {image!r}, as in KolektorSDD and KolektorSDD2, where only the mask tells \
whether an image is good. Move the files to train/{good}, test/{good}, test/<defect> and ground_truth/<defect>: an \
image is good where read_mask(mask).any() is False."""


def find_folder(base: Path, name: str) -> Path:
    """Path of the folder in `base` that has this name in any case; `base` / `name` if there is none.

    Raises
    ------
    ValueError
        If there are two.
    """
    found = [path for path in _folders_in(base) if path.name.lower() == name]
    if len(found) > 1:
        raise ValueError(
            f"The names of the folders {str(found[0])!r} and {str(found[1])!r} differ in case only. Merge them."
        )
    return found[0] if found else base / name


def find_good_folder(base: Path, good: str) -> Path:
    """Path of the folder of good training images.

    Raises
    ------
    FileNotFoundError
        If there is none. The message says what `good` or `category` may be meant.
    ValueError
        If there is none because `base` holds VisA or KolektorSDD.
    """
    train = find_folder(base, "train")
    if (train / good).is_dir():
        return train / good
    if (base / "Data" / "Images").is_dir() or (base / "split_csv").is_dir():
        raise ValueError(_VISA.format(base=str(base)))
    files = [path for path in visible_entries(train) if _is_image(path)]
    if pair := _find_side_by_side(files or sorted(base.glob("kos*/*.*")), {"_gt", "_label"}):
        raise ValueError(_KOLEKTOR.format(image=str(pair[0]), mask=str(pair[1]), good=good))
    hint = ""
    if files:
        hint = f" Move the images that lie directly in {str(train)!r} there."
    elif names := [path.name for path in _folders_in(train)]:
        likely = [*(name for name in names if name.lower() in _NAMES_OF_GOOD), *names][0]
        hint = f" train holds {_listed(names)}: pass the name of the folder of good images, such as good={likely!r}."
    elif names := [path.name for path in _folders_in(base) if os.path.isdir(path / "train")]:
        hint = f" {str(base)!r} holds {_listed(names)}: pass one of them, such as category={names[0]!r}."
    raise FileNotFoundError(
        f"train/{good} must be a folder, but there is none at {str(train / good)!r}.{hint}"
    )


def find_kinds(test: Path, good: str) -> list[Path]:
    """Folders in `test`: one for each kind of defect, and one for good images.

    Raises
    ------
    ValueError
        If an image lies beside them, or a folder for good images isn't called `good`.
    """
    for path in visible_entries(test):
        if _is_image(path):
            raise ValueError(
                f"The image {str(path)!r} lies directly in the folder test. Move it to test/{good}/ or "
                "test/<defect>/."
            )
    kinds = _folders_in(test)
    for path in kinds:
        if path.name != good and path.name.lower() in {*_NAMES_OF_GOOD, good.lower()}:
            raise ValueError(f"The folder {str(path)!r} would be a kind of defect. Rename it to {good!r}.")
    return kinds


def find_images(folder: Path, mask_suffix: str) -> list[Path]:
    """Images to train on or to test with, in a folder and in the folders below it, sorted by name.

    Raises
    ------
    ValueError
        If there are none, or masks are among them.
    """
    images = find_files(folder)
    if not images:
        extensions = ", ".join(sorted(_EXTENSIONS))
        raise ValueError(f"No images ({extensions}) in the folder {str(folder)!r}.")
    way_out = "Move masks to ground_truth/<defect>/."
    for path in images:
        names = [folder.name, *path.relative_to(folder).parts[:-1]]
        if wrong := [name for name in names if name.lower() in _NAMES_OF_MASKS]:
            raise ValueError(
                f"The file {str(path)!r} is no image to inspect: it lies in a folder {wrong[0]!r}. {way_out}"
            )
    if pair := _find_side_by_side(images, {"_mask", "_gt", mask_suffix.lower()} - {""}):
        raise ValueError(f"The mask {str(pair[1])!r} lies beside its image {str(pair[0])!r}. {way_out}")
    return images


def find_files(folder: Path) -> list[Path]:
    """Files of images or masks in a folder and in the folders below it, sorted; none if there is no folder.

    Raises
    ------
    ValueError
        If a folder is a link to one that it lies in.
    """
    found = walk_files(folder, _EXTENSIONS, recursive=True)
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _find_side_by_side(files: list[Path], suffixes: set[str]) -> tuple[Path, Path] | None:
    """Find an image with a mask beside it, whose name has one of these suffixes."""
    images = {path.with_suffix(""): path for path in files}
    for path in files:
        for suffix in suffixes:
            stem = path.stem[: -len(suffix)]
            if stem and path.stem.lower().endswith(suffix) and path.with_name(stem) in images:
                return images[path.with_name(stem)], path
    return None


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + ", ..." * (len(names) > 5)


def _folders_in(folder: Path) -> list[Path]:
    return [path for path in visible_entries(folder) if path.is_dir()]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _EXTENSIONS and path.is_file()
