"""Run every benchmark, one process each."""

import subprocess
import sys

BENCHMARKS = (
    "import_time",
    "scoring",
    "fitting",
    "time_to_quality",
    "patchcore",
    "elpv_quality",
    "search_memory",
    "row_independence",
    "file_sizes",
    "scale",
)

if __name__ == "__main__":
    for name in BENCHMARKS:
        print(f"\n== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
