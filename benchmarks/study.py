"""How the defaults were chosen: one thing changed at a time, on data that are never reported.

    python -m benchmarks.study --cache FOLDER [--device cuda] [--recipes NAME ...] [--sets NAME ...]

A recipe is the default detector with some parameters changed. Each is fitted and tested on each data set: surfaces of
`make_defects` with seeds 900 to 999, photographed surfaces (``benchmarks/_photos.py``), and ELPV's mono cells, split by
seeds 10 and up. Seeds that are reported elsewhere are others. Features are kept in FOLDER, so that recipes with the
same strides share them. Results are kept in ``benchmarks/results/study.json`` one by one: after an interruption the
same command goes on.

"flagged" is the share of fresh good images that are called anomalous by ``contamination="auto"``, "found" that of
defective ones. "disagree" is the share of all test images that are called anomalous without any pixel above the map's
threshold, or the reverse.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks._data import split_normal
from benchmarks._photos import PHOTOS, cut_pictures
from benchmarks._report import RESULTS, print_table
from benchmarks._resume import Prepared, Results, run_jobs, source_digest
from skcsflow import CSFlowDetector
from skcsflow.datasets import SURFACES, load_elpv, make_defects
from skcsflow.metrics import pixel_roc_auc_score, pro_auc_score

SIZE = 256
N_GOOD, N_DEFECTIVE = 100, 60
"""Fresh good images and defective ones to test with, of surfaces."""

RECIPES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "whitening alone": {"n_epochs": 1, "learning_rate": 1e-9},
    "steps 300": {"n_epochs": 300},
    "steps 1200": {"n_epochs": 1200},
    "batch 16": {"batch_size": 16, "n_epochs": 300},
    "float32": {"precision": "float32"},
    "noise 0.1": {"feature_noise": 0.1},
    "noise 0.5": {"feature_noise": 0.5},
    "rate 2e-3": {"learning_rate": 2e-3},
    "rate 8e-3": {"learning_rate": 8e-3},
    "hidden 16": {"cross_conv_hidden_channels": 16},
    "hidden 64": {"cross_conv_hidden_channels": 64},
    "one block": {"n_coupling_blocks": 1},
    "three blocks": {"n_coupling_blocks": 3},
    "kernels 1 3": {"kernel_size": (1, 3)},
    "kernels 3 5": {"kernel_size": (3, 5)},
    "strides 8 16 32": {"strides": (8, 16, 32)},
    "strides 16 32 64": {"strides": (16, 32, 64)},
    "strides 8 to 128": {"strides": (8, 16, 32, 64, 128)},
    "strides 32 64 128": {"strides": (32, 64, 128)},
    "mean score": {"score_mode": "mean"},
    "map of the largest scale": {"map_mode": "max"},
}
"""Steps are given as epochs of all images at once, see `fit_and_test`."""


class Data(NamedTuple):
    """Images to train on and to test with, and masks of the defective ones if there are any."""

    train: NDArray[np.uint8]
    good: NDArray[np.uint8]
    defective: NDArray[np.uint8]
    masks: NDArray[np.bool_] | None


@cache
def surface(name: str, n_train: int, seed: int) -> Data:
    """Images of a synthetic surface."""
    drawn = make_defects(n_train + N_GOOD, N_DEFECTIVE, surface=name, size=SIZE, random_state=seed)
    train, good, defective = np.split(drawn.images, [n_train, n_train + N_GOOD])
    return Data(train, good, defective, drawn.masks[-N_DEFECTIVE:])


@cache
def photo(name: str, n_train: int, seed: int) -> Data:
    """Pictures of a photographed surface."""
    return Data(*cut_pictures(name, n_train, N_GOOD, N_DEFECTIVE, SIZE, seed))


@cache
def solar_cells(n_train: int, seed: int) -> Data:
    """ELPV's mono cells."""
    cells = load_elpv(subset="mono")
    train, good = split_normal(seed, cells.images[cells.probability == 0])
    return Data(train[:n_train], good, cells.images[cells.probability == 1], None)


SETS: dict[str, Callable[[], Data]] = {
    **{name: partial(surface, name, 96, 900 + k) for k, name in enumerate(SURFACES)},
    **{name: partial(photo, name, 100, 950 + k) for k, name in enumerate(PHOTOS)},
    "solar cells": partial(solar_cells, 441, 10),
    "40 of circuit": partial(surface, "circuit", 40, 910),
    "20 of fabric": partial(surface, "fabric", 20, 911),
    "40 solar cells": partial(solar_cells, 40, 11),
}


def fit_and_test(params: dict[str, Any], load: Callable[[], Data]) -> dict[str, float]:
    """Fit a recipe to a data set, and test it."""
    data = load()
    params = dict(params)
    if params.get("n_epochs", 0) > 1:  # steps
        batch_size = CSFlowDetector(**params).batch_size
        params["n_epochs"] = -(-params["n_epochs"] // -(-int(0.8 * len(data.train)) // batch_size))
    detector = CSFlowDetector(input_size=SIZE, **params)
    start = perf_counter()
    detector.fit(data.train)
    seconds = perf_counter() - start
    images = np.concatenate([data.good, data.defective])
    is_defective = np.arange(len(images)) >= len(data.good)
    scores, maps = detector.score_samples(images), detector.transform(images)
    is_flagged = scores < detector.offset_
    has_pixels = maps.max(axis=(1, 2)) > detector.map_threshold_
    result = {
        "image AUROC": float(roc_auc_score(is_defective, -scores)),
        "flagged": float(is_flagged[~is_defective].mean()),
        "found": float(is_flagged[is_defective].mean()),
        "disagree": float((is_flagged != has_pixels).mean()),
        "loss": float(detector.history_["loss"][-1]),
        "held-out log-likelihood": float(detector.score(data.good)),
        "fit seconds": seconds,
    }
    if data.masks is not None:
        masks = np.concatenate([np.zeros((len(data.good), SIZE, SIZE), dtype=bool), data.masks])
        result["pixel AUROC"] = float(pixel_roc_auc_score(masks, maps))
        result["AU-PRO"] = float(pro_auc_score(masks, maps))
    return result


def prepare(params: dict[str, Any], set_name: str) -> Prepared:
    """What a result is made with, and how."""
    made_with = {"parameters": {k: str(v) for k, v in params.items()}, "nn": source_digest("nn")}
    return made_with, partial(fit_and_test, params, SETS[set_name])


def print_results(results: Results) -> None:
    """Print each recipe's means over surfaces, photographs and solar cells, and the differences from the defaults."""
    groups = {"surfaces": SURFACES, "photographs": PHOTOS, "solar cells": ("solar cells",)}
    columns = {
        "surfaces": ("image AUROC", "pixel AUROC", "AU-PRO", "flagged", "found", "disagree"),
        "photographs": ("image AUROC", "pixel AUROC", "AU-PRO"),
        "solar cells": ("image AUROC", "flagged", "found", "disagree"),
    }
    rows = []
    for recipe in dict.fromkeys(recipe for recipe, _ in results):
        row: list[Any] = [recipe]
        for group, names in groups.items():
            done = [n for n in names if (recipe, n) in results and ("defaults", n) in results]
            for column in columns[group]:
                values = [results[recipe, n][column] for n in done]
                row.append(float(np.mean(values)) if values else None)
        seconds = [results[key]["fit seconds"] for key in results if key[0] == recipe]
        rows.append([*row, float(np.median(seconds))])
    print_table(["recipe", *(f"{g}: {c}" for g in groups for c in columns[g]), "fit seconds"], rows)
    small = [[*key, *results[key].values()] for key in results if key[1] not in sum(groups.values(), ())]
    for row in small:
        print(row)


def main(argv: Sequence[str] | None = None) -> None:
    """Run recipes on data sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, metavar="FOLDER", help="where features are kept")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="NAME")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="NAME")
    args = parser.parse_args(argv)
    common = {"random_state": 0, "device": args.device, "memory": args.cache}
    jobs = {
        (recipe, name): partial(prepare, {**RECIPES[recipe], **common}, name)
        for recipe in args.recipes
        for name in args.sets
    }
    run_jobs(RESULTS / "study.json", jobs, print_results)


if __name__ == "__main__":
    main()
