"""Seconds to import, and from the start of Python to the first score.

    python -m benchmarks.import_time [--repeats 7]

`import skcsflow` beside `import torch, timm`, which it needs, and beside the import of anomalib's CS-Flow;
and a default detector, loaded from a joblib file, that scores one ELPV cell. Every time in a fresh process,
from its start until it says that it is done; all take turns, and figures are medians. Memory is the most that
the process ever held.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import joblib
import numpy as np

from benchmarks._report import print_table, write
from benchmarks._workers import measure_in_turns
from skcsflow import CSFlowDetector
from skcsflow.datasets import load_elpv

STATEMENTS = {
    "nothing": "pass",
    "import torch, timm": "import torch, timm",
    "import skcsflow": "import skcsflow",
    "import anomalib's CS-Flow": "import anomalib.models.image.csflow.torch_model",
}
FIRST_SCORE = """
import joblib, numpy
joblib.load({detector!r}).score_samples(numpy.load({images!r}))
"""
PRINT_MEMORY = "from benchmarks._workers import peak_bytes; print(peak_bytes())"


def run(statement: str) -> tuple[float, float]:
    """Seconds from the start of Python until a statement has run, and the process's peak memory in MB."""
    program = f"{statement}\nprint('done', flush=True)\n{PRINT_MEMORY}"
    command = [sys.executable, "-W", "ignore", "-c", program]
    start = perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while (line := process.stdout.readline()) and line != "done\n":
            pass
        seconds = perf_counter() - start
        memory = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"This failed: {statement}")
    return seconds, int(memory) / 1e6


def main() -> None:
    """Run, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    images = load_elpv(subset="mono").images
    with tempfile.TemporaryDirectory() as folder:
        paths = {"detector": f"{folder}/detector.joblib", "images": f"{folder}/images.npy"}
        joblib.dump(CSFlowDetector(n_epochs=1, random_state=0).fit(images[:16]), paths["detector"])
        np.save(paths["images"], images[:1])
        statements = {**STATEMENTS, "load and score one image": FIRST_SCORE.format(**paths)}
        size = Path(paths["detector"]).stat().st_size / 1e6
        sides = {name: (lambda statement=statement: run(statement)) for name, statement in statements.items()}
        measure_in_turns(sides, 1)  # until all files are in the system's cache
        turns = measure_in_turns(sides, repeats)
    medians = {name: np.median(of_side, axis=0).tolist() for name, of_side in turns.items()}
    base, _ = medians["import torch, timm"]
    rows = [[name, seconds, seconds / base, memory] for name, (seconds, memory) in medians.items()]
    print_table(["from the start of Python", "seconds", "ratio", "peak memory MB"], rows)
    results = {name: {"seconds": s, "peak_memory_mb": m} for name, (s, m) in medians.items()}
    write("import_time", {"repeats": repeats, "results": results, "detector_mb": size})


if __name__ == "__main__":
    main()
