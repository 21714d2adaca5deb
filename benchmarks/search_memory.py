"""A search with and without `memory`: 8 candidates by 3 folds on 300 ELPV cells.

    python -m benchmarks.search_memory [--backbones tf_efficientnet_lite0 tf_efficientnet_b5] [--n-images 300]

Counts passes of images through the backbone, over both processes of the search, and compares every score of
`cv_results_` bit for bit. The candidates differ in the flow alone, and each trains for one epoch: the fewer epochs,
the larger the share of features in the time, and the larger the gain. EfficientNet-B5 has random weights, which make no
difference to its timing.
"""

import argparse
import os
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import GridSearchCV

from benchmarks._report import print_table, write
from skcsflow import CSFlowDetector, feature_cache_info
from skcsflow.datasets import load_elpv

GRID = {"n_coupling_blocks": [1, 2], "cross_conv_hidden_channels": [16, 32], "clamp": [2.0, 3.0]}
LOG = "SKCSFLOW_BENCHMARK_LOG"


class CountingDetector(CSFlowDetector):
    """Appends a byte to the file $SKCSFLOW_BENCHMARK_LOG for every image that goes through the backbone."""

    def _new_model(self, size: tuple[int, int], seed: int) -> Any:
        model = super()._new_model(size, seed)
        model.feature_extractor.register_forward_hook(_count)
        return model


def _count(module: Any, args: tuple[torch.Tensor], output: Any) -> None:
    if args[0].min() < 0:  # noise, by which it is tried whether images may be computed together
        return
    log = os.open(os.environ[LOG], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(log, b"." * len(args[0]))
    os.close(log)


def run(
    backbone: str, images: np.ndarray, memory: str | None, n_jobs: int
) -> tuple[float, int, dict[str, Any]]:
    """Seconds, images extracted, and results of one search."""
    detector = CountingDetector(
        backbone=backbone,
        weights="auto" if "lite" in backbone else None,
        n_epochs=1,
        memory=memory,
        random_state=0,
    )
    search = GridSearchCV(detector, GRID, cv=3, n_jobs=n_jobs, refit=False, error_score="raise")
    log = Path(os.environ[LOG])
    log.write_bytes(b"")
    start = perf_counter()
    results = search.fit(images).cv_results_
    return perf_counter() - start, log.stat().st_size, results


def main() -> None:
    """Run, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="+", default=["tf_efficientnet_lite0", "tf_efficientnet_b5"])
    parser.add_argument("--n-images", type=int, default=300)
    parser.add_argument("--n-jobs", type=int, default=2)
    args = parser.parse_args()
    cells = load_elpv(subset="mono")
    images = cells.images[cells.probability == 0][: args.n_images]
    rows, results = [], {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ[LOG] = str(Path(folder) / "log")
        for backbone in args.backbones:
            memory = str(Path(folder) / backbone)
            found = {
                "without": run(backbone, images, None, args.n_jobs),
                "with": run(backbone, images, memory, args.n_jobs),
                "again": run(backbone, images, memory, args.n_jobs),
            }
            scores = [k for k in found["with"][2] if "score" in k and "time" not in k]
            same = all(
                np.array_equal(found["without"][2][k], r[2][k]) for r in found.values() for k in scores
            )
            results[backbone] = {
                "seconds": {name: seconds for name, (seconds, _, _) in found.items()},
                "extracted": {name: count for name, (_, count, _) in found.items()},
                "ratio": found["without"][0] / found["with"][0],
                "ratio_again": found["without"][0] / found["again"][0],
                "same_bits": same,
                "cache_bytes": feature_cache_info(memory).n_bytes,
            }
            for name, (seconds, count, _) in found.items():
                ratio = found["without"][0] / seconds
                rows.append([backbone, name, seconds, ratio, count, same])
            print(rows[-3:], flush=True)
    print_table(["backbone", "memory", "seconds", "times faster", "images extracted", "same bits"], rows)
    write("search_memory", {"n_images": len(images), "n_jobs": args.n_jobs, "grid": GRID, "results": results})


if __name__ == "__main__":
    main()
