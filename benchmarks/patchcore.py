"""Beside anomalib's PatchCore: AUROC, fitting and scoring, on ELPV cells.

    python -m benchmarks.patchcore [--subset all|mono] [--seeds 0 1 2 3 4] [--thinning 40] [--every 1]

Each seed draws 1,131 of the 1,508 functional cells to learn from; the other 377 and the 715 that are defective
with probability 1 are the test, the split sizes of arXiv 2310.12790, whose PatchCore has an AUROC of 0.916. Of the mono
cells, 441 are to learn from, and 147 and 313 the test. Both sides have EfficientNet-Lite0 with ImageNet weights and
images of 256 x 256 pixels; ours is the default detector.

PatchCore is anomalib's torch model, with features of strides 8 and 16 (152 channels, 32 x 32 patches), 9
neighbours, and its own choice of the coreset. What is not anomalib's default: the backbone (a Wide ResNet-50
there), and that one patch in 40, drawn at random, goes into the choice of the coreset. That makes 28,900 patches,
of which 10 % are kept, 0.25 % of all. The choice takes time in proportion to the patches that go in times those
that are kept, so all 1.16 million would take 1,600 times as long; that time is extrapolated from the one measured.

Each side has a process of its own; they take turns, one seed each. Scoring includes maps on PatchCore's side, which
has no scores without; ours makes those of every scale. Memory is the most that the process ever held. "of the floor" is
how near scoring comes to the floor of `benchmarks/_floor.py`.
"""

import argparse
from typing import Any

import numpy as np

from benchmarks._floor import measure_peak
from benchmarks._report import print_table, write
from benchmarks._workers import keep_heaps_whole, workers

BATCH_SIZE = 16
CORESET_RATIO = 0.1
"""anomalib's default."""
PUBLISHED = 0.916


def run_seed(seed: int, subset: str | None, thinning: int, every: int) -> dict[str, dict[str, float]]:
    """Fit and test both sides on one split."""
    peak = measure_peak()
    split = {"seed": seed, "subset": subset, "every": every}
    sides = {
        "PatchCore": ("benchmarks._peers", "PatchCore", split),
        "ours": ("benchmarks._ours", "Fitter", split),
    }
    with workers(sides) as running:
        bank = running["PatchCore"].ask("fit", thinning=thinning, coreset_ratio=CORESET_RATIO)
        once, epochs = running["ours"].ask("fit")
        tests = {
            "PatchCore": running["PatchCore"].ask("test", BATCH_SIZE),
            "ours": running["ours"].ask("test"),
        }
        by_maps = running["PatchCore"].ask("test_by_maps")
        memory = {name: worker.peak_memory() for name, worker in running.items()}
        work = {name: worker.ask("scoring_work") for name, worker in running.items()}
    fit_seconds = {
        "PatchCore": bank["features_seconds"] + bank["coreset_seconds"],
        "ours": once + sum(epochs),
    }
    results: dict[str, dict[str, Any]] = {
        name: {
            "auroc": auroc,
            "images/s": 1 / seconds,
            "of the floor": work[name].floor(peak, BATCH_SIZE) / seconds,
            "fit seconds": fit_seconds[name],
            "peak memory MB": memory[name],
        }
        for name, (auroc, seconds) in tests.items()
    }
    of_all_patches = bank["features_seconds"] + thinning**2 * bank["coreset_seconds"]
    results["PatchCore"]["fit seconds with all patches"] = of_all_patches
    results["PatchCore"]["auroc by the map"] = by_maps
    results["PatchCore"]["n_patches"] = bank["n_patches"]
    results["PatchCore"]["n_kept"] = bank["n_kept"]
    return results


def summarize(seeds: dict[int, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Mean AUROC and medians of the rest, over the seeds that are done."""
    first = next(iter(seeds.values()))
    return {
        side: {
            name: float(
                (np.mean if name.startswith("auroc") else np.median)(
                    [found[side][name] for found in seeds.values()]
                )
            )
            for name in first[side]
        }
        for side in ("PatchCore", "ours")
    }


def main() -> None:
    """Run all seeds, print the table, and write the results after each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--subset", choices=("all", "mono"), default="all")
    parser.add_argument(
        "--thinning",
        type=int,
        help="one patch in so many goes into the coreset's choice; 40, of mono cells 16",
    )
    parser.add_argument("--every", type=int, default=1, help="one image in so many, for a trial run")
    args = parser.parse_args()
    keep_heaps_whole()
    subset = None if args.subset == "all" else args.subset
    if args.thinning is None:
        args.thinning = 16 if subset else 40
    seeds: dict[int, dict[str, dict[str, float]]] = {}
    for seed in args.seeds:
        seeds[seed] = run_seed(seed, subset, args.thinning, args.every)
        print(f"seed {seed}: {seeds[seed]}", flush=True)
        summary = summarize(seeds)
        write(
            f"patchcore_{subset}" if subset else "patchcore",
            {"arguments": vars(args), "summary": summary, "seeds": seeds, "published": PUBLISHED},
        )
    columns = list(summary["ours"])
    rows = [[side, *(values[name] for name in columns)] for side, values in summary.items()]
    rows.append(["ratio", *(summary["ours"][name] / summary["PatchCore"][name] for name in columns)])
    print_table(["mean AUROC, medians", *columns], rows)
    hours = summary["PatchCore"]["fit seconds with all patches"] / 3600
    print(f"PatchCore with all patches in the choice of its coreset, extrapolated: {hours:.1f} hours to fit")
    print(f"PatchCore's AUROC by the map: {summary['PatchCore']['auroc by the map']:.3f}")
    print(f"PatchCore's AUROC on all cells in arXiv 2310.12790: {PUBLISHED}")


if __name__ == "__main__":
    main()
