"""All categories of MVTec AD, or of any folder in its layout, with the default and with the paper's parameters.

    python -m benchmarks.mvtec FOLDER [--params default paper] [--categories bottle cable] [--device cuda]

FOLDER holds one folder for each category, with train/good, test/<kind> and ground_truth/<kind>: MVTec AD as it comes,
VisA or Magnetic Tile Defects (MTD) brought into that layout, or what `python -m benchmarks._tree` writes. Detectors
learn from train/good and are tested on test. Nothing is chosen by the test images.

Figures are AUROC and the best F1 score (F1-max) of images; AUROC, average precision and AU-PRO up to a false-positive
rate of 0.3 of pixels; seconds to fit, and milliseconds to score an image that is read from its file. Pixels are
those of the images at their own size; good images count with empty masks, defective ones that have no mask don't
count, and "no mask" says how many these are. Pixel metrics are computed in 65,536 bins, from maps that wait in the
folder for temporary files (TMPDIR), four bytes a pixel, those of one category at a time.

Each result is kept as soon as it is there, in the state file: after an interruption the same command goes on. What was
kept is done again where parameters, the source of skcsflow, or the names or sizes of the files have changed.
Categories and parameters that are left out keep their results in the JSON, where the other arguments are the same.

Published AUROC stands beside ours, by the name of the category: that of anomalib's CS-Flow, of images and of pixels
(EfficientNet-B5, seed 42, from its documentation), and that of the CS-Flow paper (EfficientNet-B5), of images: of MTD,
and the mean of the 15 categories of MVTec AD. Other figures of the paper could not be had when this was written.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.utils import Bunch

from benchmarks._report import RESULTS, print_table, with_earlier, write
from benchmarks._resume import Key, Prepared, Results, run_jobs, source_digest
from skcsflow import PAPER_PARAMS, CSFlowDetector
from skcsflow._images import mask_files
from skcsflow.datasets import load_image_folder, read_mask
from skcsflow.metrics import f1_max, pixel_average_precision_score, pixel_roc_auc_score, pro_auc_score

PARAMS: dict[str, dict[str, Any]] = {"default": {}, "paper": PAPER_PARAMS}
MAX_FPR = 0.3
N_BINS = 2**16

ANOMALIB = {
    "carpet": (0.995, 1.0, 0.847, 0.936),
    "grid": (0.982, 0.989, 0.746, 0.878),
    "leather": (1.0, 1.0, 0.851, 0.917),
    "tile": (0.972, 0.998, 0.775, 0.872),
    "wood": (0.988, 0.998, 0.677, 0.782),
    "bottle": (1.0, 1.0, 0.853, 0.889),
    "cable": (0.97, 0.996, 0.863, 0.935),
    "capsule": (0.907, 0.981, 0.882, 0.961),
    "hazelnut": (0.995, 0.994, 0.895, 0.957),
    "metal_nut": (0.972, 1.0, 0.932, 0.953),
    "pill": (0.953, 0.98, 0.92, 0.95),
    "screw": (0.896, 0.95, 0.779, 0.947),
    "toothbrush": (0.969, 0.919, 0.892, 0.951),
    "transistor": (0.987, 1.0, 0.96, 0.974),
    "zipper": (0.987, 0.999, 0.803, 0.919),
}
"""AUROC of anomalib's CS-Flow on MVTec AD: of images at 256 and at 768 px, then of pixels at both."""
PAPER_MEAN, PAPER_MTD = 0.987, 0.993
"""Image AUROC of the paper: mean of the categories of MVTec AD, and Magnetic Tile Defects."""
MTD = ("mtd", "magnetic_tile", "magnetic_tiles", "magnetic_tile_defects")

OURS = ("image AUROC", "image F1-max", "pixel AUROC", "pixel AP", "AU-PRO", "fit seconds", "ms per image")
PUBLISHED = (
    "anomalib 256 px", "anomalib 768 px", "anomalib pixels 256 px", "anomalib pixels 768 px", "paper 768 px"
)  # fmt: skip
COUNTS = ("train", "test", "no mask")
COLUMNS = (
    "image AUROC", "anomalib 256 px", "anomalib 768 px", "paper 768 px", "image F1-max",
    "pixel AUROC", "anomalib pixels 256 px", "anomalib pixels 768 px", "pixel AP", "AU-PRO",
    "fit seconds", "ms per image", *COUNTS,
)  # fmt: skip


def find_categories(root: Path) -> list[str]:
    """Names of the folders that hold ``train/good``."""
    return sorted(path.name for path in root.iterdir() if (path / "train" / "good").is_dir())


def run(
    root: Path, categories: Iterable[str], params: Mapping[str, Mapping[str, Any]], state: Path
) -> tuple[Results, dict[Key, str]]:
    """Measure each category with each set of parameters, and print the tables.

    Parameters
    ----------
    root : path
        Folder that holds the categories.
    categories : iterable of str
        Names of folders in it.
    params : mapping of str to mapping
        Sets of parameters for :class:`CSFlowDetector`, by name.
    state : path
        File that keeps results between runs.

    Returns
    -------
    results, errors : dict
        By category and name of the parameters.
    """
    jobs: dict[Key, Callable[[], Prepared]] = {
        (category, name): partial(prepare, root, category, chosen)
        for name, chosen in params.items()
        for category in categories
    }
    return run_jobs(state, jobs, print_results)


def prepare(root: Path, category: str, params: Mapping[str, Any]) -> Prepared:
    """What the result of a category is made with, and how."""
    data = load_image_folder(root, category=category)
    n_defective = int(np.sum(data.y_test == -1))
    if n_defective in (0, len(data.y_test)):
        raise ValueError(
            f"{str(root / category)!r} needs good and defective test images, got {len(data.y_test) - n_defective} "
            f"good and {n_defective} defective ones."
        )
    detector = CSFlowDetector(**params)
    made_with = {
        "parameters": {name: str(value) for name, value in detector.get_params().items()},
        "skcsflow": source_digest(),
        "cuda": torch.cuda.is_available(),
        "data": fingerprint(
            root,
            [*data.train, *data.test, *chain.from_iterable(mask_files(mask) or () for mask in data.masks)],
        ),
    }
    return made_with, partial(measure, detector, data)


def fingerprint(root: Path, paths: Iterable[str | os.PathLike[str]]) -> str:
    """Digest of the names and sizes of files."""
    files = [Path(path) for path in paths]
    lines = [f"{path.relative_to(root).as_posix()} {path.stat().st_size}" for path in files]
    return blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def measure(detector: CSFlowDetector, data: Bunch) -> dict[str, Any]:
    """Fit and test on one category."""
    start = perf_counter()
    detector.fit(data.train)
    fit_seconds = perf_counter() - start
    start = perf_counter()
    scores = -detector.score_samples(data.test)
    seconds = perf_counter() - start
    is_defective = data.y_test == -1
    has_mask = np.array([path is not None for path in data.masks])
    return {
        "image AUROC": float(roc_auc_score(is_defective, scores)),
        "image F1-max": float(f1_max(is_defective, scores)),
        **pixel_metrics(detector, data, ~is_defective | has_mask),
        "fit seconds": fit_seconds,
        "ms per image": 1000 * seconds / len(scores),
        "train": len(data.train),
        "test": len(data.test),
        "no mask": int(np.sum(is_defective & ~has_mask)),
        "device": str(detector.device_),
    }


def pixel_metrics(detector: CSFlowDetector, data: Bunch, annotated: np.ndarray) -> dict[str, float | None]:
    """AUROC, average precision and AU-PRO of pixels; None where no image has a mask."""
    if not any(path is not None for path in data.masks):
        return {"pixel AUROC": None, "pixel AP": None, "AU-PRO": None}
    sizes = [(int(height), int(width)) for height, width in data.test_sizes[annotated]]
    with TemporaryDirectory() as folder:
        masks = on_disk(Path(folder, "masks"), map(read_mask, data.masks[annotated], sizes), sizes, np.bool_)
        maps = on_disk(Path(folder, "maps"), detector.iter_maps(data.test[annotated]), sizes, np.float32)
        return {
            "pixel AUROC": float(pixel_roc_auc_score(masks, maps, n_bins=N_BINS)),
            "pixel AP": float(pixel_average_precision_score(masks, maps, n_bins=N_BINS)),
            "AU-PRO": float(pro_auc_score(masks, maps, max_fpr=MAX_FPR, n_bins=N_BINS)),
        }


def on_disk(
    path: Path, arrays: Iterable[np.ndarray], sizes: Sequence[tuple[int, int]], dtype: type
) -> list[np.ndarray]:
    """Write arrays one by one to one file, and give them as views of the file."""
    with path.open("wb") as file:
        for array, size in zip(arrays, sizes, strict=True):
            if array.shape != size:
                raise ValueError(f"An array of shape {size} was to come, got {array.shape}.")
            file.write(np.ascontiguousarray(array, dtype=dtype))
    values = np.memmap(path, dtype=dtype, mode="r")
    ends = np.cumsum([height * width for height, width in sizes])
    return [
        values[end - height * width : end].reshape(height, width)
        for end, (height, width) in zip(ends, sizes, strict=True)
    ]


def plain(category: str) -> str:
    """A category's name as publications have it."""
    return category.lower().replace(" ", "_").replace("-", "_")


def published(category: str) -> list[float | None]:
    """Published AUROC of a category, in the order of `PUBLISHED`."""
    name = plain(category)
    return [*ANOMALIB.get(name, [None] * (len(PUBLISHED) - 1)), PAPER_MTD if name in MTD else None]


def mean_row(of_category: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over the categories that have a value; published ones only over those same categories."""
    row = {name: _mean([result[name] for result in of_category.values()]) for name in OURS}
    theirs = [published(category)[:-1] for category in of_category]
    for name, values in zip(PUBLISHED[:-1], zip(*theirs, strict=True), strict=True):
        row[name] = None if None in values else _mean(values)
    row["paper 768 px"] = PAPER_MEAN if set(map(plain, of_category)) == set(ANOMALIB) else None
    return row


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def print_results(results: Results) -> None:
    """Print a table for each set of parameters."""
    for name, of_category in by_params(results).items():
        header = ["category", *COLUMNS]
        rows = []
        for category, result in of_category.items():
            row = {**result, **dict(zip(PUBLISHED, published(category), strict=True)), "category": category}
            rows.append([row[column] for column in header])
        mean = {"category": "mean", **mean_row(of_category)}
        rows.append([mean.get(column) for column in header])
        print(f"\n{name} parameters")
        print_table(header, [["" if cell is None else cell for cell in row] for row in rows])


def by_params(results: Results) -> dict[str, dict[str, dict[str, Any]]]:
    """Results by name of the parameters, then by category."""
    grouped: dict[str, dict[str, dict[str, Any]]] = {}
    for (category, name), result in results.items():
        grouped.setdefault(name, {})[category] = result
    return grouped


def main(argv: Sequence[str] | None = None) -> None:
    """Run all categories, print the tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("root", type=Path, help="folder that holds the categories")
    parser.add_argument("--params", nargs="+", choices=PARAMS, default=list(PARAMS))
    parser.add_argument("--categories", nargs="+", help="names of folders; all that hold train/good")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0, help="random state of the detectors")
    parser.add_argument("--name", default="mvtec", help="results go to benchmarks/results/NAME.json")
    parser.add_argument("--state", type=Path, help="state file; benchmarks/results/NAME.state.json")
    args = parser.parse_args(argv)
    if not args.root.is_dir():
        parser.error(f"no such folder: {args.root}")
    categories = args.categories or find_categories(args.root)
    if not categories:
        parser.error(f"no folder in {args.root} holds train/good")
    params = {
        name: {**PARAMS[name], "device": args.device, "random_state": args.seed} for name in args.params
    }
    try:
        results, errors = run(
            args.root, categories, params, args.state or RESULTS / f"{args.name}.state.json"
        )
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
    if results:
        arguments = {"device": args.device, "seed": args.seed, "root": args.root.name}
        asked = [(name, category) for name in params for category in categories]
        grouped = with_earlier(args.name, arguments, by_params(results), asked)
        write(
            args.name,
            {
                "arguments": arguments,
                "results": grouped,
                "mean": {name: mean_row(of_category) for name, of_category in grouped.items()},
                "failed": [" / ".join(key) for key in errors],
            },
        )
    sys.exit(f"failed: {len(errors)}" if errors else 0)


if __name__ == "__main__":
    main()
