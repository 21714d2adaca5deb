"""Runs of many jobs that go on where they were interrupted."""

import json
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import skcsflow
from benchmarks._report import environment

Key = tuple[str, ...]
Results = dict[Key, dict[str, Any]]
Prepared = tuple[dict[str, Any], Callable[[], dict[str, Any]]]


def source_digest(room: str = ".") -> str:
    """Digest of the package's source, or of one folder of it: its version stays the same while it is worked on."""
    root = Path(skcsflow.__file__).parent / room
    digest = blake2b(digest_size=16)
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


class State:
    """Results in a JSON file, each with what it was made with.

    Parameters
    ----------
    path : path
        The file. It is replaced as a whole whenever a result is added, so it's never half written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._read()  # a file that can't be read shows now, not after hours

    def find(self, key: Key, made_with: dict[str, Any]) -> dict[str, Any] | None:
        """A result that was made with the same, or None; says which, and what has changed."""
        name = " / ".join(key)
        known = self._read().get(name)
        if known is None:
            return None
        before, now = known["made_with"], _as_json(made_with)
        changed = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
        if changed:
            print(f"{name}: done again, since these changed: {', '.join(changed)}", flush=True)
            return None
        print(f"{name}: kept from before", flush=True)
        return known["result"]

    def add(self, key: Key, made_with: dict[str, Any], result: dict[str, Any]) -> None:
        """Add a result to the file."""
        entries = self._read()  # anew, as another process may have written meanwhile
        entries[" / ".join(key)] = {"made_with": made_with, "environment": environment(), "result": result}
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            unfinished.write_text(json.dumps(entries, indent=2) + "\n")
            unfinished.replace(self.path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        try:
            return json.loads(self.path.read_text())
        except ValueError as error:
            raise ValueError(f"{str(self.path)!r} is no state file: {error}") from error


def run_jobs(
    path: Path,
    jobs: Mapping[Key, Callable[[], Prepared]],
    report: Callable[[Results], None],
) -> tuple[Results, dict[Key, str]]:
    """Do what hasn't been done yet; one job that fails doesn't keep the others from running.

    Parameters
    ----------
    path : path
        File that keeps results between runs.
    jobs : mapping of tuple of str to callable
        Each is called for what its result is made with, all that decides whether one from before still holds, and
        for a function that makes the result.
    report : callable
        Called with the results at the end, and with those there are so far on an interruption.

    Returns
    -------
    results, errors : dict
        By the keys of the jobs. Jobs that failed have an error, which is printed, and are tried again by the next run.
    """
    state = State(path)
    found: Results = {}
    errors: dict[Key, str] = {}
    waiting = []
    try:
        for key, prepare in jobs.items():
            with _collected(key, errors):
                made_with, measure = prepare()
                known = state.find(key, made_with)
                if known is None:
                    waiting.append((key, made_with, measure))
                else:
                    found[key] = known
        for key, made_with, measure in waiting:
            with _collected(key, errors):
                result = _as_json(measure())
                state.add(key, made_with, result)
                found[key] = result
                print(f"{' / '.join(key)}: {result}", flush=True)
    finally:
        found = {key: found[key] for key in jobs if key in found}
        for key, error in errors.items():
            print(f"failed: {' / '.join(key)}: {error}", flush=True)
        report(found)
    return found, errors


@contextmanager
def _collected(key: Key, errors: dict[Key, str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        errors[key] = f"{type(error).__name__}: {error}"


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    """What a value is once it has been in a file."""
    return json.loads(json.dumps(value))
