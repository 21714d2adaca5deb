"""Scoring beside anomalib: images per second, and milliseconds for one image.

    python -m benchmarks.scoring [--sizes 256 768] [--n-images 32 8] [--repeats 3]

anomalib's network (EfficientNet-B5, flow of 1024 hidden channels) in batches of 1 and of 16, run by torch in
inference mode and by OpenVINO, beside a `CSFlowDetector` with the same network, with each of its engines; at 256 pixels
also beside the default detector. Float32, and bfloat16 where the processor is faster in it. All use the same cores.

What is timed begins with arrays of bytes in memory and ends with a map per image, on all sides. In between, images
are scaled to the range from 0 to 1, resized and normalised. There are two kinds of rows:

- "cells": ELPV cells of 300 x 300 pixels, grey, which all sides resize. Ours computes scores and maps in one pass,
  by a function that isn't public. Maps have the size of the network's input.
- "transform": the same cells in colour, cut to the size of the network's input. Ours is the public method
  `transform` alone: it computes scores too, and returns the maps.

A measurement from outside can differ in what is inside the timed region. No public method gives scores and maps
together: who calls `score_samples` and `transform` on the same images has features and flow computed twice, and finds
half our speed. A network that is handed tensors which are ready doesn't scale, resize or normalise; that is little
beside EfficientNet-B5 and a larger share of the time of a small network. Compiling a network, loading it and the first
call, in which kernels are chosen, are in no figure here.

Each side has a process of its own; all take turns in one run, and figures are medians. "of anomalib" and "of OpenVINO"
are ratios of medians, to anomalib's network run by torch and by OpenVINO, on the same kind of images; for images per
second, to the better batch size. Memory is the most that the process ever held, the interpreter and all imports
included, and with OpenVINO what the conversion took. "of the floor" is how near the floor of
`benchmarks/_floor.py` a side comes, at rates measured in the same run.

A part is one size in one precision, and takes about ten minutes. Each is kept as soon as it is there: after an
interruption the same command goes on.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._floor import Peak, measure_peak
from benchmarks._ours import PEERS_NETWORK, engines
from benchmarks._parts import parser_of_parts, run_parts
from benchmarks._report import print_table
from benchmarks._resume import Results
from benchmarks._workers import Worker, measure_in_turns, workers

BATCH_SIZES = (1, 16)
KINDS = {"cells": False, "transform": True}
"""Whether the images of each kind are cut to the input's size."""
PEERS = {"anomalib": "Scorer", "anomalib, openvino": "OpenVINOScorer"}


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
    peers = [name for name in PEERS if "openvino" not in name or "openvino" in engines()]
    with tempfile.TemporaryDirectory() as folder:
        sides: dict[str, Any] = {name: ("benchmarks._peers", PEERS[name], network) for name in peers}
        for name, of_side in params.items():
            path = fit_and_save(Path(folder) / f"{len(sides)}.joblib", **of_side)
            sides[name] = ("benchmarks._ours", "Scorer", {"path": path})
        peak = measure_peak(getattr(torch, precision))
        with workers(sides) as running:
            return {"peak": peak._asdict(), "sides": measure(running, peak, n_images, repeats)}


def measure(
    running: dict[str, Worker], peak: Peak, n_images: int, repeats: int
) -> dict[str, dict[str, float | None]]:
    """Measure all sides in turns."""
    batch_sizes = sorted({min(size, n_images) for size in BATCH_SIZES})
    one, many = {}, {}
    for kind, is_square in KINDS.items():
        for name, worker in running.items():
            one[name, kind] = partial(worker.ask, "seconds", 1, 1, is_square)
            for size in batch_sizes if name in PEERS else [n_images]:
                many[name, size, kind] = partial(worker.ask, "seconds", n_images, size, is_square)
    measure_in_turns({**one, **many}, 1)  # to warm up: networks are compiled, and their kernels chosen
    seconds = measure_in_turns(many, repeats)
    latencies = {way: float(np.median(t)) for way, t in measure_in_turns(one, 3 * repeats).items()}
    memory = {name: worker.peak_memory() for name, worker in running.items()}
    work = {name: worker.ask("work") for name, worker in running.items() if name not in PEERS}
    work |= dict.fromkeys(PEERS, next(iter(work.values())))  # the same network
    speeds = {way: n_images / float(np.median(of_way)) for way, of_way in seconds.items()}
    rows: dict[str, dict[str, float | None]] = {}
    for (name, size, kind), speed in speeds.items():
        best = {
            peer: max((v for (n, _, k), v in speeds.items() if (n, k) == (peer, kind)), default=None)
            for peer in PEERS
        }
        latency = latencies[name, kind]
        row: dict[str, float | None] = {"images/s": speed}
        for peer, of_peer in best.items():
            row[f"of {peer}"] = speed / of_peer if of_peer else None
        row["of the floor"] = speed * work[name].floor(peak, max(BATCH_SIZES))
        row["latency ms"] = 1000 * latency
        for peer in PEERS:
            row[f"latency of {peer}"] = latency / latencies[peer, kind] if peer in running else None
        row["latency of the floor"] = work[name].floor(peak) / latency
        row["peak memory MB"] = memory[name]
        row["GFLOP"] = work[name].flops / 1e9
        row["weights MB"] = work[name].weight_bytes / 1e6
        rows[f"{name}, batches of {size}: {kind}" if name in PEERS else f"{name}: {kind}"] = row
    return rows


def print_results(results: Results) -> None:
    """Print a table of each part."""
    for key, found in results.items():
        print(f"\n{', '.join(key)}; {Peak(**found['peak'])}")
        columns = list(next(iter(found["sides"].values())))
        rows = [
            [name, *("" if v is None else v for v in row.values())] for name, row in found["sides"].items()
        ]
        print_table(["side", *columns], rows)


def main() -> None:
    """Run, print the tables and write the results."""
    parser = parser_of_parts(__doc__, repeats=3)
    run_parts("scoring", parser.parse_args(), compare, print_results)


if __name__ == "__main__":
    main()
