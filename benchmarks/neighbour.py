"""What a busy neighbour costs a fit: seconds on a quiet machine, and beside a process that takes one core.

    python -m benchmarks.neighbour [--n-images 48] [--n-epochs 2] [--repeats 3]

A default fit on ELPV cells, in a fresh process each time, with as many threads as torch uses and with `n_jobs=1`; each
alone, and beside a Python loop in a process of its own. They take turns, and figures are medians. Seconds are those of
`fit`, without the start of the process. "busy / quiet" is a ratio of medians. Other work on the machine spoils
the figures.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np

from benchmarks._report import print_table, write
from benchmarks._workers import Worker, measure_in_turns

N_JOBS = (None, 1)


@contextmanager
def busy_process() -> Iterator[None]:
    """A process that takes one core for as long as the context lasts."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def seconds_to_fit(n_images: int, n_epochs: int, n_jobs: int | None, is_busy: bool) -> float:
    """Seconds of a fit in a fresh process."""
    with Worker("benchmarks._ours", "Fitter") as fitter, busy_process() if is_busy else nullcontext():
        once, epochs = fitter.ask("fit", n_images, n_epochs=n_epochs, n_jobs=n_jobs)
    return once + sum(epochs)


def main() -> None:
    """Run, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-images", type=int, default=48)
    parser.add_argument("--n-epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    sides = {
        (n_jobs, is_busy): partial(seconds_to_fit, args.n_images, args.n_epochs, n_jobs, is_busy)
        for n_jobs in N_JOBS
        for is_busy in (False, True)
    }
    seconds_to_fit(args.n_images, 1, None, False)  # until all files are in the system's cache
    turns = measure_in_turns(sides, args.repeats)
    medians = {side: float(np.median(seconds)) for side, seconds in turns.items()}
    rows, results = [], {}
    for n_jobs in N_JOBS:
        quiet, busy = medians[n_jobs, False], medians[n_jobs, True]
        rows.append([f"n_jobs={n_jobs}", quiet, busy, busy / quiet])
        results[f"n_jobs={n_jobs}"] = {
            "quiet": turns[n_jobs, False],
            "busy": turns[n_jobs, True],
            "busy / quiet": busy / quiet,
        }
    print_table(["fit", "quiet s", "busy s", "busy / quiet"], rows)
    write("neighbour", {"arguments": vars(args), "results": results})


if __name__ == "__main__":
    main()
