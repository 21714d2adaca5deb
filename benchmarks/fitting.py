"""Fitting beside anomalib: the same network, the same batches, the same number of epochs.

    python -m benchmarks.fitting [--sizes 256 768] [--n-images 32 8] [--n-epochs 4] [--repeats 2]

EfficientNet-B5 and a flow of 1024 hidden channels, batches of 16, in float32, and in bfloat16 (by autocast on
both sides) where the processor is faster in it: anomalib's torch model in a plain loop, its Lightning
module in its own engine, and `CSFlowDetector.fit`. anomalib computes the features in every epoch; we compute
them once. So what is done once (anomalib makes the model and sets up; we also extract features, and score the
training images at the end) and what every epoch costs are measured apart, and 240 epochs, the paper's number,
are the sum of the one and 240 of the other. Each fit has a process of its own; the sides take turns in one run, and
figures are medians. Ratios are to anomalib's plain loop. Memory is the most that the process ever held, the
interpreter and all imports included. The floor is that of `benchmarks/_floor.py`, for the work that the side
does, at rates measured in the same run.

A part is one size in one precision. Each is kept as soon as it is there: after an interruption the same command goes
on.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks._floor import Peak, Work, measure_peak
from benchmarks._ours import PEERS_NETWORK
from benchmarks._parts import parser_of_parts, run_parts
from benchmarks._report import print_table
from benchmarks._resume import Results
from benchmarks._workers import Worker, measure_in_turns

BATCH_SIZE = 16
PAPER_EPOCHS = 240


class Fit(NamedTuple):
    """Seconds of what is done once and of each epoch, the most memory in MB, and ours: the work that was done."""

    once: float
    epochs: list[float]
    peak_memory: float
    work: tuple[Work, Work] | None


def fit(start: Callable[[], Worker], is_ours: bool, n_images: int, **params: Any) -> Fit:
    """Fit in a process that ends with it: gradients and moments of the wide flow take gigabytes on each side."""
    with start() as worker:
        once, epochs = worker.ask("fit", n_images, **params)
        peak_memory = worker.peak_memory()
        return Fit(once, epochs, peak_memory, worker.ask("fitting_work") if is_ours else None)


def compare(input_size: int, precision: str, n_images: int, n_epochs: int, repeats: int) -> dict[str, Any]:
    """Measure all sides at one size in one precision."""
    how = {"n_epochs": n_epochs, "input_size": input_size, "batch_size": BATCH_SIZE}
    peak = measure_peak(getattr(torch, precision))
    ours = {**PEERS_NETWORK, "precision": precision}
    sides = {
        "anomalib, loop": partial(Worker, "benchmarks._peers", "Trainer", precision=precision),
        "anomalib, engine": partial(Worker, "benchmarks._peers", "EngineTrainer", precision=precision),
        "ours": partial(Worker, "benchmarks._ours", "Fitter"),
    }
    fits = measure_in_turns(
        {
            name: partial(fit, start, name == "ours", n_images, **how, **(ours if name == "ours" else {}))
            for name, start in sides.items()
        },
        repeats,
    )
    work = fits["ours"][0].work
    assert work is not None
    of_features, of_step = work
    batch_size = min(n_images, BATCH_SIZE)
    features_floor, step_floor = of_features.floor(peak, batch_size), of_step.floor(peak, batch_size)
    results = {}
    for name, turns in fits.items():
        once = float(np.median([turn.once for turn in turns])) / n_images
        epoch = float(np.median([seconds for turn in turns for seconds in turn.epochs])) / n_images
        floor = step_floor + (0 if name == "ours" else features_floor)
        results[name] = {
            "once": once,
            "epoch": epoch,
            "of the floor": floor / epoch,
            "240 epochs": once + PAPER_EPOCHS * epoch,
            "peak memory MB": max(turn.peak_memory for turn in turns),
        }
    for name in ("epoch", "240 epochs"):
        for side in results.values():
            side[f"{name}, times faster"] = results["anomalib, loop"][name] / side[name]
    return {"peak": peak._asdict(), "sides": results}


def print_results(results: Results) -> None:
    """Print a table of each part."""
    for key, found in results.items():
        print(f"\n{', '.join(key)}, seconds per image; {Peak(**found['peak'])}")
        rows = [[name, *side.values()] for name, side in found["sides"].items()]
        print_table(["side", *found["sides"]["ours"]], rows)


def main() -> None:
    """Run, print the tables and write the results."""
    parser = parser_of_parts(__doc__, repeats=2)
    parser.add_argument("--n-epochs", type=int, default=4)
    run_parts("fitting", parser.parse_args(), compare, print_results)


if __name__ == "__main__":
    main()
