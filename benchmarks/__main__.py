"""Run every benchmark, one process each."""

import subprocess
import sys

BENCHMARKS = ("elpv_quality", "search_memory", "row_independence", "file_sizes", "scale")

for name in BENCHMARKS:
    print(f"\n== {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
