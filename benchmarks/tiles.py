"""Small defects in large images: tiles beside plain resizing.

    python -m benchmarks.tiles [--surfaces granite fabric wood] [--seed 1000] [--sides "resized to 256" ...]

Surfaces of `make_defects` at 1024 x 1024 pixels, 32 images to learn from, 24 good and 24 defective ones to test with. A
defect is one of a surface of 96 x 96 pixels, scratch, crack, spot or blend, pasted at a random place: on average 0.02 %
of the image, 14 x 14 pixels. Seeds of 1000 and up are for reporting only; choices are made on seeds 900 to 999.

"found" is the share of the defective images that `predict` calls anomalous, "flagged" that of the good ones. Pixel
figures are taken of every second row and column. Each result is kept as soon as it is there, in the state file: after
an interruption the same command goes on.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks._report import RESULTS, print_table, write
from benchmarks._resume import Key, Prepared, Results, run_jobs, source_digest
from skcsflow import CSFlowDetector
from skcsflow.datasets import SURFACES, make_defects
from skcsflow.metrics import pixel_roc_auc_score, pro_auc_score

SIZE = 1024
PATCH = 96
AREAS = 120, 420  # pixels of a defect
N_TRAIN, N_GOOD, N_DEFECTIVE = 32, 24, 24
STEP = 2  # of the pixels that count in pixel figures
SIDES: dict[str, dict[str, Any]] = {
    "resized to 256": {},
    "resized to 512": {"input_size": 512},
    "tiles of 512": {"tile_size": 512},
    "tiles of 256": {"tile_size": 256},
}


class Data(NamedTuple):
    """Images, and the masks of the defective ones."""

    train: NDArray[np.uint8]
    good: NDArray[np.uint8]
    defective: NDArray[np.uint8]
    masks: NDArray[np.bool_]


@lru_cache(maxsize=1)  # jobs of the same images follow each other
def load(surface: str, seed: int) -> Data:
    """Large images of a surface, some of them with a small defect."""
    images = make_defects(
        N_TRAIN + N_GOOD + N_DEFECTIVE, 0, surface=surface, size=SIZE, random_state=seed
    ).images
    kinds = ["scratch", "crack", "spot", "blend"]
    patches = make_defects(0, 8 * N_DEFECTIVE, surface=surface, defect=kinds, size=PATCH, random_state=seed)
    areas = patches.masks.sum(axis=(1, 2))
    chosen = np.flatnonzero((areas >= AREAS[0]) & (areas <= AREAS[1]))
    masks = np.zeros((N_DEFECTIVE, SIZE, SIZE), dtype=bool)
    rng = np.random.RandomState(seed)
    for k, (image, mask) in enumerate(zip(images[-N_DEFECTIVE:], masks, strict=True)):
        i = chosen[k % len(chosen)]
        row, column = rng.randint(0, SIZE - PATCH, 2)
        place = slice(row, row + PATCH), slice(column, column + PATCH)
        image[place][patches.masks[i]] = patches.images[i][patches.masks[i]]
        mask[place] = patches.masks[i]
    return Data(*np.split(images, [N_TRAIN, N_TRAIN + N_GOOD]), masks)


def fit_and_test(surface: str, side: str, seed: int) -> dict[str, float]:
    """Figures of one surface and side."""
    data = load(surface, seed)
    detector = CSFlowDetector(random_state=0, **SIDES[side])
    start = perf_counter()
    detector.fit(data.train)
    fit_seconds = perf_counter() - start
    test = np.concatenate([data.good, data.defective])
    is_defective = np.arange(len(test)) >= len(data.good)
    start = perf_counter()
    scores = detector.score_samples(test)
    score_seconds = perf_counter() - start
    maps = np.stack([m[::STEP, ::STEP] for m in detector.iter_maps(data.defective)])
    masks = data.masks[:, ::STEP, ::STEP]
    return {
        "image AUROC": float(roc_auc_score(is_defective, -scores)),
        "pixel AUROC": float(pixel_roc_auc_score(masks, maps)),
        "AU-PRO": float(pro_auc_score(masks, maps)),
        "found": float(np.mean(scores[is_defective] < detector.offset_)),
        "flagged": float(np.mean(scores[~is_defective] < detector.offset_)),
        "fit seconds": fit_seconds,
        "ms per image": 1000 * score_seconds / len(test),
        "defect's share": float(data.masks.mean()),
    }


def prepare(surface: str, side: str, seed: int) -> Prepared:
    """What a result is made with, and how."""
    made_with = {"skcsflow": source_digest(), "params": SIDES[side], "seed": seed}
    return made_with, partial(fit_and_test, surface, side, seed)


def print_results(results: Results) -> None:
    """Print all results, and each side's means."""
    rows = [[*key, *result.values()] for key, result in results.items()]
    for side in dict.fromkeys(side for _, side in results):
        of_side = [list(result.values()) for (_, s), result in results.items() if s == side]
        rows.append(["mean", side, *np.mean(of_side, axis=0).tolist()])
    print_table(["surface", "side", *(next(iter(results.values())) if results else [])], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what isn't done yet, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--surfaces", nargs="+", choices=SURFACES, default=["granite", "fabric", "wood"])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), metavar="SIDE")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--state", type=Path, default=RESULTS / "tiles.state.json")
    args = parser.parse_args(argv)
    jobs: dict[Key, Callable[[], Prepared]] = {
        (surface, side): partial(prepare, surface, side, args.seed)
        for surface in args.surfaces
        for side in args.sides
    }
    results, errors = run_jobs(args.state, jobs, print_results)
    if results:
        write("tiles", {"seed": args.seed, "results": {" / ".join(k): r for k, r in results.items()}})
    sys.exit(f"failed: {len(errors)}" if errors else 0)


if __name__ == "__main__":
    main()
