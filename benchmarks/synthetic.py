"""Synthetic surfaces with defects: AUROC and AU-PRO beside anomalib's CS-Flow and PatchCore.

    python -m benchmarks.synthetic [--surfaces wood tiles] [--peer-epochs 60] [--seed 1000]

Each surface of `make_defects` is a data set of its own, with images of all its kinds of defect. Detectors learn from
normal images alone. Seeds of 1000 and up are for reporting only; choices are made on seeds 900 to 999.

- ours: the default detector.
- anomalib's CS-Flow: its torch model and loss in a plain loop, with its own 1024 hidden channels and batches of 32.
  Features, which it computes anew in every epoch, are computed once: it takes more time than stands here.
  Its backbone is exchanged for EfficientNet-Lite0 with ImageNet weights, which the other sides have too.
- anomalib's PatchCore: its torch model, with features of strides 8 and 16 and its own choice of the coreset, 10 %
  of the patches. One patch in THINNING, drawn at random, goes into the choice; 1 in anomalib.
- pixel difference: the distance to the mean of the training images. It must do badly, else the data are too easy.

Each side has a process of its own for each surface; they run one after the other. Its memory is the most that it ever
held, both sets of images and the maps included. Maps come with the scores, but on our side, which computes them in a
second pass that isn't timed. "by the map" is another score of an image than the side's own, the mean of the highest
3 % of its map (PatchCore's own is its maximum). AU-PRO goes up to a false-positive rate of 0.3. Each result is kept as
soon as it is there, in the state file: after an interruption the same command goes on. Sides and surfaces that are left
out keep their results in the JSON, where the other arguments are the same.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks._data import top_of_maps
from benchmarks._report import RESULTS, print_table, with_earlier, write
from benchmarks._resume import Key, Prepared, Results, run_jobs, source_digest
from benchmarks._workers import Worker, keep_heaps_whole
from skcsflow import CSFlowDetector
from skcsflow.datasets import SURFACES, make_defects
from skcsflow.metrics import pixel_roc_auc_score, pro_auc_score

MAX_FPR = 0.3
METRICS = ("image AUROC", "image AUROC by the map", "pixel AUROC", "AU-PRO")
COSTS = ("fit seconds", "ms per image", "peak memory MB")
Scored = tuple[np.ndarray, np.ndarray, float]


class Ours:
    """The default detector.

    Parameters
    ----------
    **params
        Its parameters that differ from the default.
    """

    def __init__(self, **params: Any) -> None:
        self.detector = CSFlowDetector(**params)

    def fit_images(self, images: np.ndarray) -> float:
        """Fit to images; seconds."""
        start = perf_counter()
        self.detector.fit(images)
        return perf_counter() - start

    def score_images(self, images: np.ndarray) -> Scored:
        """Scores, maps, and the seconds that the scores took."""
        start = perf_counter()
        scores = -self.detector.score_samples(images)
        seconds = perf_counter() - start
        return scores, self.detector.transform(images), seconds


class PixelDifference:
    """Euclidean distance to the mean of the training images, pixel by pixel and over the whole image."""

    def fit_images(self, images: np.ndarray) -> float:
        """Average images; seconds."""
        start = perf_counter()
        self.mean = images.mean(axis=0, dtype=np.float32)
        return perf_counter() - start

    def score_images(self, images: np.ndarray) -> Scored:
        """Scores, maps and seconds."""
        start = perf_counter()
        squares = np.stack([np.square(image - self.mean).sum(axis=-1) for image in images])
        return np.sqrt(squares.sum(axis=(1, 2))), np.sqrt(squares), perf_counter() - start


def sides(args: argparse.Namespace) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Module, class and parameters of each side."""
    common = {"input_size": args.size, "seed": args.seed}
    return {
        "ours": ("benchmarks.synthetic", "Ours", {"input_size": args.size, "random_state": args.seed}),
        "anomalib's PatchCore": (
            "benchmarks._peers",
            "ImagePatchCore",
            {**common, "thinning": args.thinning},
        ),
        "pixel difference": ("benchmarks.synthetic", "PixelDifference", {}),
        "anomalib's CS-Flow": ("benchmarks._peers", "ImageCsflow", {**common, "n_epochs": args.peer_epochs}),
    }


@cache  # of all surfaces: half a gigabyte
def draw(surface: str, size: int, seed: int, n_train: int, n_good: int, n_defective: int) -> Any:
    """The images of one surface: those to learn from, then the good ones of the test, then the defective ones."""
    return make_defects(n_train + n_good, n_defective, surface=surface, size=size, random_state=seed)


def prepare(side: tuple[str, str, dict[str, Any]], drawing: dict[str, Any]) -> Prepared:
    """What a side's result on one surface is made with, and how."""
    module, name, params = side
    made_with = {"drawing": drawing, "side": [name, params], "datasets": source_digest("datasets")}
    if module == "benchmarks._peers":
        made_with["anomalib"] = version("anomalib")
    elif name == "Ours":
        made_with["skcsflow"] = source_digest()
        made_with["parameters"] = {
            name: str(value) for name, value in CSFlowDetector(**params).get_params().items()
        }
    return made_with, partial(measure, side, drawing)


def measure(side: tuple[str, str, dict[str, Any]], drawing: dict[str, Any]) -> dict[str, Any]:
    """Fit and test one side on one surface."""
    data, n_train = draw(**drawing), drawing["n_train"]
    module, name, params = side
    with Worker(module, name, **params) as worker:
        fit_seconds = worker.ask("fit_images", data.images[:n_train])
        scores, maps, seconds = worker.ask("score_images", data.images[n_train:])
        memory = worker.peak_memory()
    masks, kinds = data.masks[n_train:], data.defect[n_train:]
    of_kind = {
        str(kind): float(roc_auc_score(kinds[rows] == kind, scores[rows]))
        for kind in dict.fromkeys(kinds[kinds != "good"])
        for rows in [(kinds == "good") | (kinds == kind)]
    }
    return {
        "image AUROC": float(roc_auc_score(kinds != "good", scores)),
        "image AUROC by the map": float(roc_auc_score(kinds != "good", top_of_maps(maps))),
        "pixel AUROC": float(pixel_roc_auc_score(masks, maps)),
        "AU-PRO": float(pro_auc_score(masks, maps, max_fpr=MAX_FPR)),
        "fit seconds": fit_seconds,
        "ms per image": 1000 * seconds / len(scores),
        "peak memory MB": memory,
        "image AUROC of each kind": of_kind,
    }


def means(results: Results, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Means of each side over the surfaces that all sides have done, of those that have done any."""
    names = [name for name in names if any(side == name for _, side in results)]
    surfaces = {surface for surface, _ in results}
    # Results of before may lack a metric.
    columns = [c for c in (*METRICS, *COSTS) if all(c in result for result in results.values())]
    complete = [s for s in surfaces if all((s, name) in results for name in names)]
    return {
        name: {c: float(np.mean([results[s, name][c] for s in complete])) for c in columns}
        for name in names
        if complete
    }


def print_results(names: Sequence[str], results: Results) -> None:
    """Print the table."""
    columns = (*METRICS, *COSTS)
    rows: list[list[Any]] = [
        [*key, *(result.get(c, "") for c in columns)] for key, result in sorted(results.items())
    ]
    rows += [
        ["mean", name, *(mean.get(c, "") for c in columns)] for name, mean in means(results, names).items()
    ]
    print_table(["surface", "side", *columns], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Run all sides on all surfaces, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--surfaces", nargs="+", choices=SURFACES, default=list(SURFACES))
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--peer-epochs", type=int, default=60, help="epochs of anomalib's CS-Flow")
    parser.add_argument(
        "--thinning", type=int, default=1, help="one patch in so many goes into PatchCore's choice"
    )
    parser.add_argument(
        "--sides", nargs="+", help="names of the sides to run, as in the table; all by default"
    )
    parser.add_argument(
        "--size", type=int, default=256, help="height and width of the images, and input_size"
    )
    parser.add_argument("--n-train", type=int, default=96, help="three batches of anomalib's CS-Flow")
    parser.add_argument("--n-good", type=int, default=60)
    parser.add_argument("--n-defective", type=int, default=120)
    parser.add_argument("--state", type=Path, help="state file; benchmarks/results/NAME.state.json")
    args = parser.parse_args(argv)
    keep_heaps_whole()
    if args.seed < 900:
        parser.error("seeds below 900 were used in development")
    name = "synthetic" if args.seed >= 1000 else "synthetic_validation"
    drawing = {n: getattr(args, n) for n in ("size", "seed", "n_train", "n_good", "n_defective")}
    chosen = sides(args)
    if args.sides is not None:
        if unknown := sorted(set(args.sides) - set(chosen)):
            parser.error(f"--sides are among {list(chosen)}, got {unknown}")
        chosen = {side: chosen[side] for side in args.sides}
    jobs: dict[Key, Callable[[], Prepared]] = {
        (surface, side): partial(prepare, chosen[side], {"surface": surface, **drawing})
        for side in chosen  # the one that takes hours comes last
        for surface in args.surfaces
    }
    try:
        results, errors = run_jobs(
            args.state or RESULTS / f"{name}.state.json", jobs, partial(print_results, list(chosen))
        )
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
    if results:
        arguments = {**drawing, "peer_epochs": args.peer_epochs, "thinning": args.thinning}
        by_surface: dict[str, dict[str, Any]] = {}
        for (surface, side), result in results.items():
            by_surface.setdefault(surface, {})[side] = result
        by_surface = with_earlier(name, arguments, by_surface, list(jobs))
        known = {(surface, side): result for surface, of in by_surface.items() for side, result in of.items()}
        write(
            name,
            {
                "arguments": arguments,
                "mean": means(known, list(sides(args))),
                "results": by_surface,
                "failed": [" / ".join(key) for key in errors],
            },
        )
    sys.exit(f"failed: {len(errors)}" if errors else 0)


if __name__ == "__main__":
    main()
