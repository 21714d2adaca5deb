"""Masks and boxes of the default detector beside the true ones, on synthetic surfaces with every kind of defect.

    python -m benchmarks.regions [--surfaces wood tiles] [--seed 1000] [--n-jobs 2]

Each surface of `make_defects` is a data set of its own, with images of all its kinds of defect. Detectors learn from
normal images alone. Seeds of 1000 and up are for reporting only; choices are made on seeds 900 to 999.

Two ways to mark pixels, of the same maps: all that lie "above map_threshold_", and those that `predict_masks` marks.
Predicted regions are the connected regions of what is marked. Pieces of the true mask that are up to 2 * REACH pixels
apart, two positions of the finest scale, count as one defect: drops of one stain, branches of a crack.

- box IoU: of a defect's box with the predicted box that overlaps it best, 0 where none does; mean over defects;
- box area ratio: of the area of that box to the true one's, median over the defects that a box overlaps;
- found: the share of defects with a marked pixel in them;
- false regions: those that hold no true pixel, per good and per defective image;
- pixel IoU: mean over defective images;
- pixel F1: of all pixels of all images together;
- good images marked: the share of the good images with any pixel marked, the same for both ways.

Each result is kept as soon as it is there, in the state file: after an interruption the same command goes on.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks._report import RESULTS, print_table, write
from benchmarks._resume import Key, Prepared, Results, run_jobs, source_digest
from skcsflow import CSFlowDetector
from skcsflow._regions import label_regions
from skcsflow.datasets import SURFACES, make_defects

REACH = 8
WAYS = ("above map_threshold_", "predict_masks")


def true_defects(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number the defects of a true mask; pieces up to twice REACH apart belong together."""
    if not mask.any():
        return np.zeros(mask.shape, dtype=np.int32)
    near = ndimage.binary_dilation(mask, np.ones((3, 3), dtype=bool), iterations=REACH)
    return label_regions(near)[0] * mask


def boxes(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Boxes of numbered regions: first row, first column, last row + 1, last column + 1."""
    found = [(r.start, c.start, r.stop, c.stop) for r, c in ndimage.find_objects(labels)]
    return np.array(found, dtype=np.int64).reshape(-1, 4)


def areas(of: NDArray[np.int64]) -> NDArray[np.int64]:
    """Areas of boxes."""
    return (of[..., 2] - of[..., 0]) * (of[..., 3] - of[..., 1])


def box_ious(box: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of a box with each of others."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = sides.clip(min=0).prod(axis=1)
    return common / (areas(box) + areas(others) - common)


def compare(pairs: Iterable[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> dict[str, float]:
    """Figures of predicted masks, each with its true one."""
    ious, ratios, found, pixel_ious = [], [], [], []
    false_regions: dict[bool, list[int]] = {False: [], True: []}
    n_marked_good = n_both = n_either = 0
    for predicted, true in pairs:
        labels, n_regions = label_regions(predicted)
        is_defective = bool(true.any())
        false_regions[is_defective].append(n_regions - np.count_nonzero(np.unique(labels[true])))
        both, either = np.count_nonzero(predicted & true), np.count_nonzero(predicted | true)
        n_both, n_either = n_both + both, n_either + either
        if not is_defective:
            n_marked_good += bool(n_regions)
            continue
        pixel_ious.append(both / either)
        defects, predicted_boxes = true_defects(true), boxes(labels)
        for i, box in enumerate(boxes(defects), start=1):
            found.append(bool(predicted[defects == i].any()))
            overlaps = box_ious(box, predicted_boxes)
            ious.append(overlaps.max(initial=0))
            if ious[-1] > 0:
                ratios.append(areas(predicted_boxes[overlaps.argmax()]) / areas(box))
    if not ratios:
        raise ValueError("No predicted box overlaps any defect: nothing to compare.")
    figures = {
        "box IoU": np.mean(ious),
        "box area ratio": np.median(ratios),
        "found": np.mean(found),
        "false regions, good": np.mean(false_regions[False]),
        "false regions, defective": np.mean(false_regions[True]),
        "pixel IoU": np.mean(pixel_ious),
        "pixel F1": 2 * n_both / (n_either + n_both),
        "good images marked": n_marked_good / len(false_regions[False]),
    }
    return {name: float(figure) for name, figure in figures.items()}


def measure(params: dict[str, Any], n_jobs: int, drawing: dict[str, Any], n_train: int) -> dict[str, Any]:
    """Fit a detector to one surface, and compare its masks in both ways."""
    data = make_defects(**drawing)
    detector = CSFlowDetector(**params, n_jobs=n_jobs).fit(data.images[:n_train])
    true = data.masks[n_train:].astype(bool)
    above, marked = [], []
    for inspection in detector.inspect(data.images[n_train:]):
        above.append(inspection.anomaly_map > np.float64(detector.map_threshold_))
        marked.append(inspection.mask)
    return {
        way: compare(zip(masks, true, strict=True)) for way, masks in zip(WAYS, (above, marked), strict=True)
    }


def prepare(params: dict[str, Any], n_jobs: int, drawing: dict[str, Any], n_train: int) -> Prepared:
    """What a surface's result is made with, and how."""
    made_with = {"drawing": drawing, "n_train": n_train, "params": params, "skcsflow": source_digest()}
    return made_with, partial(measure, params, n_jobs, drawing, n_train)


def means(results: Results) -> dict[str, dict[str, float]]:
    """Means of both ways over the surfaces."""
    return {
        way: {name: float(np.mean([r[way][name] for r in results.values()])) for name in figures}
        for way, figures in next(iter(results.values())).items()
    }


def print_results(results: Results) -> None:
    """Print the table."""
    if not results:
        return
    rows = [[*key, way, *figures.values()] for key, of in results.items() for way, figures in of.items()]
    mean = means(results)
    rows += [["mean", way, *figures.values()] for way, figures in mean.items()]
    print_table(["surface", "marked", *mean[WAYS[0]]], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what isn't done yet, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--surfaces", nargs="+", choices=SURFACES, default=list(SURFACES))
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument(
        "--size", type=int, default=256, help="height and width of the images, and input_size"
    )
    parser.add_argument("--n-train", type=int, default=96)
    parser.add_argument("--n-good", type=int, default=60)
    parser.add_argument("--n-defective", type=int, default=120)
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--state", type=Path, help="state file; benchmarks/results/NAME.state.json")
    args = parser.parse_args(argv)
    if args.seed < 900:
        parser.error("seeds below 900 were used in development")
    name = "regions" if args.seed >= 1000 else "regions_validation"
    params = {"input_size": args.size, "random_state": 0}
    drawing = {
        "n_normal": args.n_train + args.n_good,
        "n_defective": args.n_defective,
        "size": args.size,
        "random_state": args.seed,
    }
    jobs: dict[Key, Callable[[], Prepared]] = {
        (surface,): partial(prepare, params, args.n_jobs, {"surface": surface, **drawing}, args.n_train)
        for surface in args.surfaces
    }
    results, errors = run_jobs(args.state or RESULTS / f"{name}.state.json", jobs, print_results)
    if results:
        arguments = {"size": args.size, "seed": args.seed, "n_train": args.n_train}
        arguments |= {"n_good": args.n_good, "n_defective": args.n_defective}
        of_surfaces = {surface: result for (surface,), result in results.items()}
        write(name, {"arguments": arguments, "mean": means(results), "results": of_surfaces})
    sys.exit(f"failed: {len(errors)}" if errors else 0)


if __name__ == "__main__":
    main()
