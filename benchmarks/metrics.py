"""Metrics beside scikit-learn's and anomalib's: seconds, memory and how far they agree.

    python -m benchmarks.metrics [--images 1000 100000] [--sizes 20 100] [--n-large 1000] [--repeats 5]

First, `f1_max` of the scores of 1,000 and of 100,000 images, one in ten of them defective. Then pixel metrics, all
values in memory: 20 and 100 maps of 256 x 256 pixels, float32, within [0, 1] and heavy-tailed, with defects
in about 3 % of the pixels. Each side has a process of its own; all take turns, and figures are medians. scikit-learn
gets flattened pixels, and has no PRO and no AUPIMO. "of ours" is a ratio of medians. Differences are to ours.

Last, 1,000 maps of 768 x 768 pixels in files that are mapped into memory, 3 GB in a temporary folder: exact, and in
2**16 bins, each in a fresh process. "More" is what the peak grew by since just before, so that torch, which importing
the package imports, isn't in it.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from benchmarks._workers import Worker, measure_in_turns, peak_bytes, workers

METRICS = ("pixel_roc_auc_score", "pixel_average_precision_score", "pixel_f1_max", "pro_auc_score")
ALL_METRICS = ("f1_max", *METRICS, "aupimo_score")  # first, that of images; last, one that has no bins
SIDES = ("ours", "scikit-learn", "anomalib")
N_BINS = 2**16


def make_image(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One mask and its map: discs, that stand out from noise with heavy tails to a varying degree."""
    mask = np.zeros((size, size), dtype=bool)
    rows, columns = np.ogrid[:size, :size]
    for _ in range(rng.integers(0, 4)):
        (row, column), radius = rng.integers(0, size, size=2), rng.uniform(0.02, 0.14) * size
        mask |= (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    amap = rng.standard_normal((size, size), dtype=np.float32)
    amap += np.float32(rng.uniform(0.5, 3)) * mask
    return mask, np.exp(1.5 * amap - 18)  # below 1: anomalib puts other maps through a sigmoid


def make_stack(n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks and maps in memory."""
    rng = np.random.default_rng(0)
    images = [make_image(rng, size) for _ in range(n)]
    return np.stack([mask for mask, _ in images]), np.stack([amap for _, amap in images])


def make_scores(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, 1 for a defect, and scores within [0, 1], float32."""
    rng = np.random.default_rng(0)
    labels = (rng.random(n) < 0.1).astype(np.int64)
    return labels, (1 / (1 + np.exp(-rng.normal(2 * labels)))).astype(np.float32)


class Side:
    """One side of the comparison, in a process of its own; on images where size is 0, else on maps."""

    def __init__(self, side: str, n: int, size: int) -> None:
        self.masks, self.maps = make_stack(n, size) if size else make_scores(n)
        every = {"ours": ours, "scikit-learn": of_sklearn, "anomalib": of_anomalib}[side]()
        names = ALL_METRICS[1:] if size else ALL_METRICS[:1]
        self.metrics = {name: every[name] for name in names if name in every}

    def names(self) -> list[str]:
        """Metrics that this side has."""
        return list(self.metrics)

    def measure(self, metric: str) -> tuple[float, float]:
        """A metric's seconds and value."""
        start = perf_counter()
        value = float(self.metrics[metric](self.masks, self.maps))
        return perf_counter() - start, value


def ours() -> dict[str, Any]:
    """Our metrics."""
    from skcsflow import metrics

    return {name: getattr(metrics, name) for name in ALL_METRICS}


def of_sklearn() -> dict[str, Any]:
    """scikit-learn's, on flattened pixels."""
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    def f1_max(y: np.ndarray, scores: np.ndarray) -> float:
        precision, recall, _ = precision_recall_curve(y, scores)
        return np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))

    functions = (f1_max, roc_auc_score, average_precision_score, f1_max)
    return {
        name: lambda masks, maps, function=function: function(masks.ravel(), maps.ravel())
        for name, function in zip(ALL_METRICS, functions, strict=False)
    }


def of_anomalib() -> dict[str, Any]:
    """anomalib's, on tensors that share the arrays' memory."""
    import torch
    from anomalib.metrics.aupr import _AUPR
    from anomalib.metrics.aupro import _AUPRO
    from anomalib.metrics.auroc import _AUROC
    from anomalib.metrics.f1_score import _F1Max
    from anomalib.metrics.pimo.pimo import _AUPIMO

    def evaluate(make: Any, masks: np.ndarray, maps: np.ndarray) -> float:
        metric = make()
        metric.update(torch.from_numpy(maps), torch.from_numpy(masks).int())
        return metric.compute()

    makers = (_F1Max, _AUROC, _AUPR, _F1Max, partial(_AUPRO, fpr_limit=0.3), _AUPIMO)
    return {name: partial(evaluate, make) for name, make in zip(ALL_METRICS, makers, strict=True)}


class Large:
    """Maps in files, in a fresh process."""

    def __init__(self, folder: str, n: int, size: int) -> None:
        from skcsflow import metrics

        self.metrics = metrics
        shape = (n, size, size)
        self.masks = np.memmap(Path(folder) / "masks", bool, "r", shape=shape)
        self.maps = np.memmap(Path(folder) / "maps", np.float32, "r", shape=shape)
        self.before = peak_bytes()

    def measure(self, metric: str, n_bins: int | None) -> dict[str, float]:
        """Seconds, value and memory."""
        start, cpu_start = perf_counter(), process_time()
        value = getattr(self.metrics, metric)(self.masks, self.maps, n_bins=n_bins)
        seconds, cpu_seconds = perf_counter() - start, process_time() - cpu_start
        peak = peak_bytes()
        return {
            "seconds": seconds,
            "CPU seconds": cpu_seconds,
            "value": value,
            "peak RSS MB": peak / 1e6,
            "more MB": (peak - self.before) / 1e6,
        }


def write_files(folder: str, n: int, size: int) -> None:
    """Write masks and maps to files, image by image."""
    rng = np.random.default_rng(1)
    with open(Path(folder) / "masks", "wb") as masks, open(Path(folder) / "maps", "wb") as maps:
        for _ in range(n):
            mask, amap = make_image(rng, size)
            mask.tofile(masks)
            amap.tofile(maps)


def compare(n: int, size: int, repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """Measure all sides and metrics on n maps, or on the scores of n images where size is 0."""
    sides = {name: ("benchmarks.metrics", "Side", {"side": name, "n": n, "size": size}) for name in SIDES}
    with workers(sides) as running:
        ways = {
            (metric, name): partial(worker.ask, "measure", metric)
            for name, worker in running.items()
            for metric in worker.ask("names")
        }
        ways = {
            (metric, name): ways[metric, name]
            for metric in ALL_METRICS
            for name in SIDES
            if (metric, name) in ways
        }
        measure_in_turns(ways, 1)  # to warm up
        measured = measure_in_turns(ways, repeats)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for (metric, name), pairs in measured.items():
        seconds = float(np.median([s for s, _ in pairs]))
        of_metric = results.setdefault(metric, {})
        reference = of_metric.get("ours", {"seconds": seconds, "value": pairs[0][1]})
        of_metric[name] = {
            "seconds": seconds,
            "of ours": seconds / reference["seconds"],
            "value": pairs[0][1],
            "difference": pairs[0][1] - reference["value"],
        }
    return results


def measure_large(n: int, size: int) -> dict[str, dict[str, dict[str, float]]]:
    """Exact and in bins, on n maps in files."""
    results: dict[str, dict[str, dict[str, float]]] = {metric: {} for metric in METRICS}
    with tempfile.TemporaryDirectory() as folder:
        write_files(folder, n, size)
        for metric in METRICS:
            for name, n_bins in (("exact", None), ("binned", N_BINS)):
                with Worker("benchmarks.metrics", "Large", folder=folder, n=n, size=size) as worker:
                    results[metric][name] = worker.ask("measure", metric, n_bins)
                print(f"{metric}, {name}: {results[metric][name]}", flush=True)
            results[metric]["binned"]["difference"] = (
                results[metric]["binned"]["value"] - results[metric]["exact"]["value"]
            )
    return results


def main() -> None:
    """Run, print the tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 100_000], help="numbers of scores")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[20, 100], help="numbers of maps of 256 x 256"
    )
    parser.add_argument("--n-large", type=int, default=1000, help="number of maps of 768 x 768")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    from benchmarks._report import print_table, write  # imports torch, which has no place in the workers

    results = {}
    cases = [(f"scores of {n} images", n, 0) for n in args.images]
    cases += [(f"{n} maps of 256 x 256", n, 256) for n in args.sizes]
    for case, n, size in cases:
        results[case] = found = compare(n, size, args.repeats)
        print(f"\n{case}")
        rows = [
            [
                metric,
                name,
                f"{side['seconds']:.2g}",
                side["of ours"],
                side["value"],
                f"{side['difference']:.1e}",
            ]
            for metric, of_metric in found.items()
            for name, side in of_metric.items()
        ]
        print_table(["metric", "side", "seconds", "of ours", "value", "difference"], rows)
    print(f"\n{args.n_large} maps of 768 x 768, in files")
    results[f"{args.n_large} maps of 768 x 768"] = large = measure_large(args.n_large, 768)
    columns = ["seconds", "CPU seconds", "value", "peak RSS MB", "more MB"]
    rows = [
        [metric, name, *[side[c] for c in columns], f"{side.get('difference', 0):.1e}"]
        for metric, of_metric in large.items()
        for name, side in of_metric.items()
    ]
    print_table(["metric", "mode", *columns, "difference"], rows)
    write("metrics", {"repeats": args.repeats, "n_bins": N_BINS, "results": results})


if __name__ == "__main__":
    main()
