"""Run every benchmark, one process each, and tell at the end which failed."""

import subprocess
import sys

BENCHMARKS = (
    "import_time",
    "scoring",
    "fitting",
    "time_to_quality",
    "patchcore",
    "elpv_quality",
    "false_alarms",
    "metrics",
    "search_memory",
    "memory_growth",
    "row_independence",
    "neighbour",
    "large_images",
    "file_sizes",
    "export",
    "scale",
    "serving",
    "fuzz",
)

if __name__ == "__main__":
    failed = []
    for name in BENCHMARKS:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode:
            failed.append(name)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
