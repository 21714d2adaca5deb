"""Writes images in the MVTec AD layout: solar cells without masks, synthetic surfaces with masks.

    python -m benchmarks._tree FOLDER [--every 1] [--surfaces wood circuit]

`python -m benchmarks.mvtec FOLDER` then runs on it, where there is no MVTec AD.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks._data import elpv_split
from skcsflow.datasets import SURFACES, make_defects


def write_category(
    folder: Path,
    train: Sequence[np.ndarray],
    test: Mapping[str, Sequence[np.ndarray]],
    masks: Mapping[str, Sequence[np.ndarray]] | None = None,
) -> None:
    """Write one category.

    Parameters
    ----------
    folder : path
        The category's folder.
    train : sequence of ndarrays, uint8
        Good images to learn from.
    test : mapping of str to sequence of ndarrays, uint8
        Images to test with: "good", and the kinds of defect.
    masks : mapping of str to sequence of ndarrays, bool, default=None
        Masks of the kinds that have any, one for each image.
    """
    _save(folder / "train" / "good", train)
    for kind, images in test.items():
        _save(folder / "test" / kind, images)
    for kind, images in (masks or {}).items():
        _save(folder / "ground_truth" / kind, [255 * mask.astype(np.uint8) for mask in images], "_mask")


def write_elpv(folder: Path, *, seed: int = 0, every: int = 1) -> None:
    """Write the mono solar cells, a split of :func:`elpv_split`; nobody has drawn masks for them."""
    train, test, is_defective = elpv_split(seed, "mono", every)
    write_category(folder, train, {"good": test[~is_defective], "defective": test[is_defective]})


def write_surface(
    folder: Path,
    surface: str,
    *,
    n_train: int,
    n_good: int,
    n_defective: int,
    size: int | tuple[int, int] = 256,
    seed: int = 900,
) -> None:
    """Write one synthetic surface with every kind of defect, drawn by :func:`make_defects`."""
    data = make_defects(n_train + n_good, n_defective, surface=surface, size=size, random_state=seed)
    kinds = [str(kind) for kind in dict.fromkeys(data.defect[data.y == -1])]
    test = {kind: data.images[data.defect == kind] for kind in kinds}
    test["good"] = data.images[n_train : n_train + n_good]
    masks = {kind: data.masks[data.defect == kind] for kind in kinds}
    write_category(folder, data.images[:n_train], test, masks)


def _save(folder: Path, images: Sequence[np.ndarray], suffix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03d}{suffix}.png")


def main() -> None:
    """Write the solar cells and some surfaces, each of another size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="one image in so many, for a trial run")
    parser.add_argument("--surfaces", nargs="*", choices=SURFACES, default=["wood", "circuit"])
    args = parser.parse_args()
    write_elpv(args.folder / "elpv_mono", every=args.every)
    numbers = {"n_train": 96 // args.every, "n_good": 48 // args.every, "n_defective": 96 // args.every}
    for k, surface in enumerate(args.surfaces):
        size = (256 - 16 * k, 256 + 48 * k)
        write_surface(args.folder / f"synthetic_{surface}", surface, **numbers, size=size)


if __name__ == "__main__":
    main()
