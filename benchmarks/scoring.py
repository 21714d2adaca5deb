"""Scoring beside anomalib: images per second, and milliseconds for one image.

    python -m benchmarks.scoring [--sizes 256 768] [--n-images 32 8] [--repeats 3]

anomalib's bare torch model (EfficientNet-B5, flow of 1024 hidden channels, in inference mode, in batches of 1
and of 16) beside a `CSFlowDetector` with the same network, with each of its engines; at 256 pixels also
beside the default detector. Both sides begin with ELPV cells, arrays of 300 x 300 bytes in memory, and end
with a score and a map per image. Float32, and bfloat16 where the processor is faster in it. Each side
has a process of its own; all take turns in one run, and figures are medians. "of anomalib" is a ratio of
medians; for images per second, to its better batch size. Memory is the most that the process ever held, the
interpreter and all imports included. "of the floor" is how near the floor of `benchmarks/_floor.py` a side
comes, at rates measured in the same run.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._floor import Peak, measure_peak
from benchmarks._ours import PEERS_NETWORK, engines, precisions
from benchmarks._report import print_table, write
from benchmarks._workers import Worker, measure_in_turns, workers

BATCH_SIZES = (1, 16)
TARGETS = {"float32": 1.8, "bfloat16": 3.0, "default": 10.0}
"""Times anomalib's images per second; the latency is to be anomalib's or less."""


def fit_and_save(path: Path, **params: Any) -> str:
    """Fit a detector, in a process that ends with it, and save it."""
    with Worker("benchmarks._ours", "Fitter") as fitter:
        fitter.ask("fit", 2, n_epochs=1, **params)
        fitter.ask("save", str(path))
    return str(path)


def compare(input_size: int, precision: str, n_images: int, repeats: int) -> dict[str, Any]:
    """Measure all sides at one size in one precision."""
    network = {"input_size": input_size, "precision": precision}
    params = {f"ours, {engine}": {**PEERS_NETWORK, **network, "engine": engine} for engine in engines()}
    if (input_size, precision) == (256, "float32"):
        params |= {f"our default, {engine}": {"engine": engine} for engine in engines()}
    with tempfile.TemporaryDirectory() as folder:
        sides: dict[str, Any] = {"anomalib": ("benchmarks._peers", "Scorer", network)}
        for name, of_side in params.items():
            path = fit_and_save(Path(folder) / f"{len(sides)}.joblib", **of_side)
            sides[name] = ("benchmarks._ours", "Scorer", {"path": path})
        peak = measure_peak(getattr(torch, precision))
        with workers(sides) as running:
            return {"peak": peak._asdict(), "sides": measure(running, peak, n_images, repeats)}


def measure(
    running: dict[str, Worker], peak: Peak, n_images: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Measure all sides in turns."""
    one = {name: partial(worker.ask, "seconds_to_score", 1, 1) for name, worker in running.items()}
    ways = [("anomalib", size) for size in sorted({min(size, n_images) for size in BATCH_SIZES})]
    ways += [(name, n_images) for name in running if name != "anomalib"]
    many = {way: partial(running[way[0]].ask, "seconds_to_score", n_images, way[1]) for way in ways}
    measure_in_turns({**one, **many}, 1)  # to warm up: networks are compiled, and their kernels chosen
    seconds = measure_in_turns(many, repeats)
    latencies = measure_in_turns(one, 3 * repeats)
    memory = {name: worker.peak_memory() for name, worker in running.items()}
    work = {name: worker.ask("work") for name, worker in running.items() if name != "anomalib"}
    work["anomalib"] = next(iter(work.values()))  # the same network
    speeds = {way: n_images / float(np.median(of_way)) for way, of_way in seconds.items()}
    best = max(speed for (name, _), speed in speeds.items() if name == "anomalib")
    results = {}
    for (name, size), speed in speeds.items():
        latency = float(np.median(latencies[name]))
        results[f"{name}, batches of {size}" if name == "anomalib" else name] = {
            "images/s": speed,
            "of anomalib": speed / best,
            "of the floor": speed * work[name].floor(peak, max(BATCH_SIZES)),
            "latency ms": 1000 * latency,
            "latency of anomalib": latency / float(np.median(latencies["anomalib"])),
            "latency of the floor": work[name].floor(peak) / latency,
            "peak memory MB": memory[name],
            "GFLOP": work[name].flops / 1e9,
            "weights MB": work[name].weight_bytes / 1e6,
        }
    return results


def main() -> None:
    """Run, print the tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 768])
    parser.add_argument("--n-images", type=int, nargs="+", default=[32, 8], help="for each size")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    results = {}
    for precision in precisions():
        for input_size, n_images in zip(args.sizes, args.n_images, strict=True):
            found = compare(input_size, precision, n_images, args.repeats)
            print(f"\n{input_size} pixels, {precision}, {n_images} images; {Peak(**found['peak'])}")
            targets = {
                name: TARGETS["default" if "default" in name else precision] for name in found["sides"]
            }
            columns = list(found["sides"]["anomalib, batches of 1"])
            rows = [[name, *side.values(), targets[name]] for name, side in found["sides"].items()]
            print_table(["side", *columns, "target"], rows)
            results[f"{input_size}, {precision}"] = found
    write("scoring", {"n_images": args.n_images, "repeats": args.repeats, "results": results})


if __name__ == "__main__":
    main()
