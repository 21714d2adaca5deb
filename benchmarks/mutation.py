"""Mutation testing: how many of mutmut's small changes of flow, loss, scores and thresholds the tests notice.

    pip install mutmut
    python -m benchmarks.mutation [--processes 2] [--group GROUP ...] [--ending DIGIT ...]
    python -m benchmarks.mutation --again [--group GROUP ...]

Each group has its files and the tests of them, which are run for each change, in forked processes, until one fails.
Changes of a file are numbered: --ending 3 7 tries a fifth of them, those whose numbers end with 3 or 7.
--again tries those that survived before.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mutmut.stats import status_by_exit_code

from benchmarks._report import RESULTS, print_table

ROOT = Path(__file__).parents[1]
GROUPS = {
    "nn": (
        ["nn/_coupling.py", "nn/_flow.py", "nn/_loss.py", "nn/_energies.py"],
        ["nn/test_coupling.py", "nn/test_flow.py", "nn/test_model.py"],
    ),
    "calibration": (
        ["_threshold_curve.py", "calibration/_thresholds.py"],
        ["test_threshold_curve.py", "test_calibration.py"],
    ),
    "detector": (
        ["_scoring.py", "_detector/_thresholds.py"],
        [
            "detector/test_thresholds.py",
            "detector/test_maps.py",
            "detector/test_frames.py",
            "images/test_on_error.py",
        ],
    ),
}
# mutmut wraps each function in another, so that warnings seem to come from there.
OPTIONS = ["-p", "no:cacheprovider", "--tb=no", "--assert=plain", "-k", "not fitted_on_warns", "-m", ""]
KILLED = ("killed", "timeout", "segfault")


def run(group: str, processes: int, names: list[str]) -> dict[str, dict]:
    """Of each file of a group the numbers of mutants and of killed ones, and the changes of those that survive."""
    files, tests = GROUPS[group]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name in ("skcsflow", "tests"):
            shutil.copytree(ROOT / name, work / name, ignore=shutil.ignore_patterns("__pycache__"))
        settings = {
            "source_paths": ["skcsflow"],
            "only_mutate": [f"skcsflow/{name}" for name in files],
            "pytest_add_cli_args": OPTIONS,
            "pytest_add_cli_args_test_selection": [f"tests/{name}" for name in tests],
            "process_isolation": "forkserver",  # torch is imported once
        }
        section = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
        text = (ROOT / "pyproject.toml").read_text("utf-8")
        (work / "pyproject.toml").write_text(f"{text}\n[tool.mutmut]\n{section}", "utf-8")
        (work / "README.md").touch()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(processes), *names]
        subprocess.run(command, cwd=work, env=environment, check=True)
        found = {}
        for name in files:
            meta = json.loads((work / f"mutants/skcsflow/{name}.meta").read_text("utf-8"))
            codes = {key: code for key, code in meta["exit_code_by_key"].items() if code is not None}
            status = {key: status_by_exit_code[code] for key, code in codes.items()}
            survivors = [key for key, what in status.items() if what not in KILLED]
            found[name] = {
                "mutants": len(meta["exit_code_by_key"]),
                "tried": len(status),
                "killed": len(status) - len(survivors),
                "survivors": {key: [status[key], *_difference(key, work, environment)] for key in survivors},
            }
        return found


def _difference(key: str, work: Path, environment: dict[str, str]) -> list[str]:
    shown = subprocess.run(
        [sys.executable, "-m", "mutmut", "show", key],
        cwd=work,
        env=environment,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    return [
        line.strip()
        for line in shown.stdout.splitlines()
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--group", nargs="+", default=[*GROUPS], choices=GROUPS)
    parser.add_argument("--ending", nargs="+", type=int, choices=range(10), default=[])
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    path = RESULTS / "mutation.json"
    results = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for group in args.group:
        before = {name: results[name] for name in GROUPS[group][0] if args.again}
        survivors = [key for r in before.values() for key in r["survivors"]]
        if args.again and not survivors:
            continue
        found = run(group, args.processes, survivors or [f"*_mutmut_*{ending}" for ending in args.ending])
        for name, earlier in before.items():
            found[name]["killed"] += earlier["killed"]
            found[name]["tried"] = earlier["tried"]
        results |= found
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    rows = [
        [name, r["mutants"], r["tried"], r["killed"], f"{100 * r['killed'] / r['tried']:.0f} %"]
        for name, r in results.items()
    ]
    print_table(["file", "mutants", "tried", "killed", "share of those tried"], rows)
