"""Scores of many image files, written to Parquet as they come: time, memory and size by the number of images.

    python -m benchmarks.many_images [--n-images 500 1000 4000] [--n-rows 250] [--input-size 256] [--engine torch]

The loop is that of docs/integrations/with_parquet.py, with the default detector. Each number of images is scored in a
process of its own. The first two give a straight line, and that the costs expected of the last.
"""

import argparse
import os
import tempfile
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from benchmarks._report import print_table, write
from benchmarks.many_detectors import in_process
from benchmarks.scale import AnonymousPeak, path_of, resident_memory, write_images
from skcsflow import CSFlowDetector, load, save


def fit(folder: Path, args: argparse.Namespace) -> None:
    """Save a detector; how well it is trained changes no cost."""
    warnings.simplefilter("ignore")
    detector = CSFlowDetector(input_size=args.input_size, n_epochs=1, random_state=0, engine=args.engine)
    save(detector.fit([path_of(folder, i) for i in range(20)]), folder / "detector.joblib")


def score(folder: Path, n_images: int, n_rows: int) -> dict[str, Any]:
    """Score files in parts of so many rows."""
    warnings.simplefilter("ignore")
    parts = folder / f"scores-{n_images}"
    parts.mkdir()
    detector = load(folder / "detector.joblib")
    detector.score_samples([path_of(folder, 0)])  # what comes once
    before = resident_memory()["anonymous"]
    peak = AnonymousPeak()
    peak.start()
    start = perf_counter()
    for first in range(0, n_images, n_rows):
        files = [str(path_of(folder, i)) for i in range(first, min(first + n_rows, n_images))]
        scores = detector.score_samples(files)
        verdicts = np.where(scores >= detector.offset_, 1, -1)
        unfinished = parts / "unfinished"
        pyarrow.parquet.write_table(
            pyarrow.table({"file": files, "score": scores, "verdict": verdicts}), unfinished
        )
        os.replace(unfinished, parts / f"part-{first:09}.parquet")
    seconds = perf_counter() - start
    peak.stopped.set()
    peak.join()
    return {
        "seconds": seconds,
        "images per second": n_images / seconds,
        "more memory, MB": peak.peak - before,
        "Parquet, bytes per image": sum(path.stat().st_size for path in parts.iterdir()) / n_images,
    }


def main() -> None:
    """Run, print a table and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-images", type=int, nargs=3, default=[500, 1000, 4000])
    parser.add_argument("--n-rows", type=int, default=250)
    parser.add_argument("--input-size", type=int, default=256)
    parser.add_argument("--engine", default="torch")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder, max(args.n_images))
        in_process(fit, folder, args)
        results = {n: in_process(score, folder, n, args.n_rows) for n in args.n_images}
    few, more, most = args.n_images
    slope = (results[more]["seconds"] - results[few]["seconds"]) / (more - few)
    expected = results[more]["seconds"] + slope * (most - more)
    print_table(("images", *results[few]), [(n, *found.values()) for n, found in results.items()])
    print(f"Seconds expected of {most} images: {expected:.1f}; measured: {results[most]['seconds']:.1f}")
    found = {"arguments": vars(args), "results": results, "expected_seconds": expected}
    write("many_images", found)


if __name__ == "__main__":
    main()
