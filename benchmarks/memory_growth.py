"""What a process's memory grows by over many fits, and over many calls of predict with either engine.

    python -m benchmarks.memory_growth [--n-fits 200] [--n-calls 10000]

Each runs in a process of its own. Growth is counted from a tenth of the way on, as libraries take memory in their first
calls: the resident memory at the end less that at the tenth, in MB.
"""

import argparse
import ctypes
import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import perf_counter

from benchmarks._report import print_table, write
from skcsflow import CSFlowDetector
from skcsflow.datasets import make_defects

PARAMS = {"input_size": 64, "n_epochs": 1, "random_state": 0}


def resident() -> float:
    """MB that this process holds in memory, without what it has freed and the C library keeps for later."""
    with suppress(AttributeError, OSError):  # of other C libraries
        ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def grow(what: str, n: int) -> tuple[float, float, float]:
    """MB at a tenth of the way, MB at the end, and seconds."""
    warnings.simplefilter("ignore")
    images = make_defects(n_normal=16, n_defective=0, size=64, random_state=0).images
    if what == "fit":

        def call() -> None:
            CSFlowDetector(**PARAMS).fit(images)
    else:
        detector = CSFlowDetector(**PARAMS, engine=what).fit(images)

        def call() -> None:
            detector.predict(images[:1])

    start, early = perf_counter(), 0.0
    for k in range(n):
        if k == n // 10:
            early = resident()
        call()
    return early, resident(), perf_counter() - start


def main() -> None:
    """Run, print a table and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-fits", type=int, default=200)
    parser.add_argument("--n-calls", type=int, default=10_000)
    args = parser.parse_args()
    rows, results = [], {}
    for what in ("fit", "torch", "openvino"):
        n = args.n_fits if what == "fit" else args.n_calls
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            early, late, seconds = pool.submit(grow, what, n).result()
        rows.append((what if what == "fit" else f"predict, {what}", n, early, late, late - early, seconds))
        results[what] = {"n": n, "mb_at_a_tenth": early, "mb_at_the_end": late, "seconds": seconds}
    print_table(("", "times", "MB at a tenth", "MB at the end", "growth", "seconds"), rows)
    write("memory_growth", {"results": results})


if __name__ == "__main__":
    main()
