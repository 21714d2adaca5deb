"""Anything at all is passed to everything, for as long as one likes: an error with our words, or a right result.

    python -m benchmarks.fuzz [--minutes 10] [--target images ...] [--seed 0]

The targets' properties stand in tests/fuzzing; the tests run a few cases of each. hypothesis draws them: images of all
kinds in all forms, which must score the same bits as each alone; anything at all in place of images, labels, numbers
and parameters; damaged image files and uploads; damaged files of models, which are loaded in processes of their own;
and any order of a detector's calls ("states"), against a model of what it should be. A failure is what ends neither in
a documented error that names the parameter, row or file, nor in a right result; those with one message count once. The
time is shared among the targets, in rounds with new seeds. With failures, the exit code is 1.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / folder) for folder in ("fuzzing", "")]

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from states import Detectors
from targets import TARGETS

from benchmarks._report import print_table, write

STATES = "states"
CASES_PER_ROUND = {"numbers": 1000, "models": 50, "parameters": 50}
SEQUENCES_PER_ROUND, CALLS_PER_SEQUENCE = 5, 20


def play(name: str, number: int) -> tuple[int, dict[str, str]]:
    """Play one round of a target: how many cases were tried, and failures by the beginnings of their messages."""
    options: dict[str, Any] = {
        "deadline": None,
        "database": None,
        "print_blob": False,
        "suppress_health_check": list(HealthCheck),
        "phases": (Phase.generate, Phase.shrink),
    }
    tried = 0

    def note() -> None:
        nonlocal tried
        tried += 1

    before = Detectors.n_calls
    errors: Sequence[BaseException] = ()
    try:
        if name == STATES:
            options |= {"max_examples": SEQUENCES_PER_ROUND, "stateful_step_count": CALLS_PER_SEQUENCE}
            machine = seed(number)(type("Machine", (Detectors,), {}))
            run_state_machine_as_test(machine, settings=settings(**options))
        else:
            options["max_examples"] = CASES_PER_ROUND.get(name, 100)
            seed(number)(settings(**options)(TARGETS[name](note)))()
    except Exception as error:
        errors = getattr(error, "exceptions", [error])
    texts = [" ".join([f"{type(e).__name__}: {e}", *getattr(e, "__notes__", [])]) for e in errors]
    return tried + Detectors.n_calls - before, {text[:200]: text[:3000] for text in texts}


def main() -> None:
    """Run, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--target", nargs="*", choices=[*TARGETS, STATES], default=[*TARGETS, STATES])
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    args = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        before = os.getcwd()
        os.chdir(folder)
        for name in args.target:
            cases, failures, start = 0, dict[str, str](), perf_counter()
            number = args.seed
            while perf_counter() - start < 60 * args.minutes / len(args.target):
                tried, found = play(name, number)
                for text in found.keys() - failures.keys():
                    print(f"\n{name}, seed {number}:\n{found[text]}\n", flush=True)
                cases, failures, number = cases + tried, failures | found, number + 1
            results[name] = {
                "cases": cases,
                "failures": len(failures),
                "seconds": round(perf_counter() - start, 1),
                "messages": list(failures),
            }
            print(f"{name}: {cases} cases, {len(failures)} failures", flush=True)
        os.chdir(before)
    print_table(
        ["target", "cases", "failures", "seconds"],
        [[name, r["cases"], r["failures"], r["seconds"]] for name, r in results.items()],
    )
    write("fuzz", {"minutes": args.minutes, "seed": args.seed, "results": results})
    sys.exit(any(r["failures"] for r in results.values()))


if __name__ == "__main__":
    main()
