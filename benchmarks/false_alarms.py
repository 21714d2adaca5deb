"""The false-positive rate that was wanted, and the one obtained: thresholds in sample, calibrated and cross-fitted.

    python -m benchmarks.false_alarms [--n-seeds 20] [--n-cross-fitted 5] [--n-splits 200]

Mono cells of ELPV. Each seed draws 300 of the 588 functional cells to learn from; the other 288 are drawn apart into
144 to calibrate by and 144 to test with, `--n-splits` times per fit. Default detectors.

- in sample: `fit` with ``contamination=rate``, thresholds from the training images;
- calibrated: ``calibrate(fresh, fpr=rate)``, which promises at most the rate on average over calibrations;
- cross-fitted: ``calibrate(training images, fpr=rate, cv=5)``, for the first seeds only (five more fits each).

Of images the rate of `predict`, of maps the rate of images with any pixel in `predict_masks`. "sd" is the standard
deviation of what one calibration by 144 images showed on one test of 144, so the test's own noise is in it; "sd of
mean" that over seeds divided by their root, which is a little too small, as all seeds draw from the same 588 cells.
"power" is the share of the 313 surely defective cells found.
"""

import argparse
import tempfile
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._report import print_table, write
from skcsflow import CSFlowDetector
from skcsflow._detector._thresholds import scores_and_peaks
from skcsflow.calibration import conformal_threshold
from skcsflow.datasets import load_elpv

N_TRAIN = 300
RATES = (0.02, 0.05, 0.1, 0.2)


def signals(detector: CSFlowDetector, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Scores, and minus the maps' highest values: both are low where anomalous. Shape (2, n)."""
    scores, peaks = scores_and_peaks(detector, images)
    return np.stack([scores, -peaks])


def calibrated(
    held_out: NDArray[np.float64], defective: NDArray[np.float64], rate: float, n_splits: int, seed: int
) -> list[tuple[float, float]]:
    """False-positive rate and power of calibrations by one half of held-out images, on the other."""
    rng = np.random.RandomState(seed)
    found = []
    for _ in range(n_splits):
        order = rng.permutation(len(held_out))
        fresh, test = np.split(held_out[order], 2)
        threshold = conformal_threshold(fresh, rate)
        found.append((float(np.mean(test < threshold)), float(np.mean(defective < threshold))))
    return found


def run(
    good: NDArray[np.uint8],
    defects: NDArray[np.uint8],
    seed: int,
    cross_fit: bool,
    n_splits: int,
    memory: str,
) -> dict[tuple[str, str, float], list[tuple[float, float]]]:
    """False-positive rates and powers of one fit, by way, signal and wanted rate."""
    order = np.random.RandomState(seed).permutation(len(good))
    train, held_out = good[order[:N_TRAIN]], good[order[N_TRAIN:]]
    detector = CSFlowDetector(random_state=seed, memory=memory).fit(train)
    of_held_out, of_defects = signals(detector, held_out), signals(detector, defects)
    in_sample = signals(detector, train)
    scores, peaks = (
        detector._cross_fitted(train, np.zeros(N_TRAIN, dtype=bool), 5) if cross_fit else (None, None)
    )
    found: dict[tuple[str, str, float], list[tuple[float, float]]] = {}
    for rate, (k, what) in product(RATES, enumerate(("images", "maps"))):
        thresholds = {"in sample": np.percentile(in_sample[k], 100 * rate)}
        if cross_fit:
            thresholds["cross-fitted"] = conformal_threshold((scores, -peaks)[k], rate)
        for way, threshold in thresholds.items():
            of_way = (np.mean(of_held_out[k] < threshold), np.mean(of_defects[k] < threshold))
            found[way, what, rate] = [of_way]
        found["calibrated", what, rate] = calibrated(of_held_out[k], of_defects[k], rate, n_splits, seed)
    return found


def main() -> None:
    """Run all seeds, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--n-seeds", type=int, default=20)
    parser.add_argument("--n-cross-fitted", type=int, default=5, help="seeds that are cross-fitted too")
    parser.add_argument("--n-splits", type=int, default=200, help="calibrations of each fit")
    args = parser.parse_args()
    cells = load_elpv(subset="mono")
    good, defects = (cells.images[cells.probability == p] for p in (0, 1))
    found: dict[tuple[str, str, float], list[list[tuple[float, float]]]] = {}
    with tempfile.TemporaryDirectory() as memory:
        for seed in range(args.n_seeds):
            for case, of_seed in run(
                good, defects, seed, seed < args.n_cross_fitted, args.n_splits, memory
            ).items():
                found.setdefault(case, []).append(of_seed)
            print(f"seed {seed} done", flush=True)
    rows, results = [], []
    for way, what, rate in sorted(found):
        # Of each seed the mean over calibrations, which is what the promise is about, and their spread.
        values = np.array(found[way, what, rate])
        of_seeds = values[..., 0].mean(axis=1)
        result: dict[str, Any] = {
            "threshold": way,
            "of": what,
            "wanted": rate,
            "obtained": float(values[..., 0].mean()),
            "sd of mean": float(of_seeds.std(ddof=1) / np.sqrt(len(of_seeds))) if len(of_seeds) > 1 else None,
            "sd": float(values[..., 0].std()) if values[..., 0].size > 1 else None,
            "power": float(values[..., 1].mean()),
            "n_seeds": len(values),
        }
        result["within"] = result["obtained"] <= rate
        results.append(result)
        rows.append(list(result.values()))
    print_table(list(results[0]), rows)
    write("false_alarms", {"arguments": vars(args), "results": results})


if __name__ == "__main__":
    main()
