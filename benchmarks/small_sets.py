"""Few training images: AUROC beside whitening alone, and the false alarms of the default thresholds.

    python -m benchmarks.small_sets [--sizes 20 40 60 100 200] [--seeds 0 1 2 3 4] [--sets circuit ...] [--device auto]

Three surfaces of `make_defects`, drawn with the seeds 1000, 1001, ..., and the mono cells of ELPV, drawn with the seeds
0, 1, .... Each seed has 200 images to learn from, of which the first n are taken, 200 fresh good ones and 60 defective
ones to test with; of ELPV all defective ones. Default parameters. "Whitening alone" is a flow whose blocks have learnt
nothing.

"flagged" is the share of the fresh good images that `predict` calls anomalous, "with regions" the share that have a
pixel above the map's threshold, "found" the share of the defective images that `predict` calls anomalous. "disagree" is
the share of all test images that are called anomalous without such a pixel, or the reverse. All are means over the
seeds. Results are kept one by one: after an interruption the same command goes on.
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
from skcsflow._detector._thresholds import scores_and_peaks
from skcsflow.datasets import load_elpv, make_defects

SIZE = 256
N_TRAIN, N_GOOD, N_DEFECTIVE = 200, 200, 60
SETS = ("circuit", "fabric", "bottle_cap", "solar cells")
UNTRAINED: dict[str, Any] = {"n_epochs": 1, "learning_rate": 1e-9}


class Data(NamedTuple):
    """Images to learn from, and fresh good and defective ones to test with."""

    train: NDArray[np.uint8]
    good: NDArray[np.uint8]
    defective: NDArray[np.uint8]


@lru_cache(maxsize=1)  # jobs of the same images follow each other
def load(name: str, seed: int) -> Data:
    """The images of one set and seed."""
    if name == "solar cells":
        cells = load_elpv(subset="mono")
        good = np.random.RandomState(seed).permutation(np.flatnonzero(cells.probability == 0))
        rows = good[:N_TRAIN], good[N_TRAIN:][:N_GOOD], np.flatnonzero(cells.probability == 1)
        return Data(*(cells.images[r] for r in rows))
    drawn = make_defects(N_TRAIN + N_GOOD, N_DEFECTIVE, surface=name, size=SIZE, random_state=1000 + seed)
    return Data(*np.split(drawn.images, [N_TRAIN, N_TRAIN + N_GOOD]))


def fit_and_test(name: str, seed: int, n_train: int, device: str) -> dict[str, float]:
    """Figures of one seed and number of training images."""
    data = load(name, seed)
    images = np.concatenate([data.good, data.defective])
    is_defective = np.arange(len(images)) >= len(data.good)
    detector = CSFlowDetector(input_size=SIZE, random_state=seed, device=device)
    start = perf_counter()
    detector.fit(data.train[:n_train])
    seconds = perf_counter() - start
    scores, peaks = scores_and_peaks(detector, images)
    is_flagged, has_regions = scores < detector.offset_, peaks > detector.map_threshold_
    untrained = detector.set_params(**UNTRAINED).fit(data.train[:n_train])
    return {
        "AUROC": float(roc_auc_score(is_defective, -scores)),
        "AUROC, whitening alone": float(roc_auc_score(is_defective, -untrained.score_samples(images))),
        "flagged": float(is_flagged[~is_defective].mean()),
        "with regions": float(has_regions[~is_defective].mean()),
        "found": float(is_flagged[is_defective].mean()),
        "disagree": float((is_flagged != has_regions).mean()),
        "fit seconds": seconds,
    }


def prepare(name: str, seed: int, n_train: int, device: str) -> Prepared:
    """What a result is made with, and how."""
    made_with = {"skcsflow": source_digest(), "device": device}
    return made_with, partial(fit_and_test, name, seed, n_train, device)


def means(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """Means over the seeds that are done, by set and number of training images."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, n in dict.fromkeys((name, n) for name, n, _ in results):
        of_seeds = [result for (s, m, _), result in results.items() if (s, m) == (name, n)]
        mean = {column: float(np.mean([r[column] for r in of_seeds])) for column in of_seeds[0]}
        found.setdefault(name, {})[n] = {**mean, "seeds": len(of_seeds)}
    return found


def print_results(results: Results) -> None:
    """Print the means."""
    rows = [
        [name, n, *mean.values()] for name, of_set in means(results).items() for n, mean in of_set.items()
    ]
    columns = [*next(iter(results.values())), "seeds"] if results else []
    print_table(["set", "images", *columns], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what isn't done yet, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 40, 60, 100, 200])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="NAME")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--state", type=Path, default=RESULTS / "small_sets.state.json")
    args = parser.parse_args(argv)
    jobs: dict[Key, Callable[[], Prepared]] = {
        (name, str(n), str(seed)): partial(prepare, name, seed, n, args.device)
        for seed in args.seeds
        for name in args.sets
        for n in args.sizes
    }
    results, errors = run_jobs(args.state, jobs, print_results)
    if results:
        seeds = {" / ".join(key): result for key, result in results.items()}
        write("small_sets", {"seeds": args.seeds, "mean": means(results), "results": seeds})
    sys.exit(f"failed: {len(errors)}" if errors else 0)


if __name__ == "__main__":
    main()
