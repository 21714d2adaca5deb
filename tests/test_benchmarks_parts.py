"""Comparisons in parts: what is measured, kept and written."""

import sys
from pathlib import Path

import pytest

# The benchmarks are no part of the installed package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _parts


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the parts with command line options; gives the exit code, what was measured and what was written."""
    monkeypatch.setattr(_parts, "RESULTS", tmp_path)
    monkeypatch.setattr(_parts, "precisions", lambda: ["float32"])

    def run_with(*options, fails=()):
        measured, written = [], {}

        def compare(input_size, precision, n_images, repeats):
            measured.append((input_size, precision, n_images, repeats))
            if input_size in fails:
                raise ValueError("no such luck")
            return {"value": input_size}

        monkeypatch.setattr(_parts, "write", lambda name, content: written.update({name: content}))
        args = _parts.parser_of_parts("A benchmark.", repeats=3).parse_args(options)
        with pytest.raises(SystemExit) as ended:
            _parts.run_parts("trial", args, compare, lambda results: None)
        return ended.value.code, measured, written

    return run_with


def test_run_parts_measures_each_size_and_writes_all(run):
    code, measured, written = run("--sizes", "64", "96", "--n-images", "4", "2")
    assert code == 0
    assert measured == [(64, "float32", 4, 3), (96, "float32", 2, 3)]
    results = {"64 pixels, float32": {"value": 64}, "96 pixels, float32": {"value": 96}}
    assert written == {"trial": {"n_images": [4, 2], "repeats": 3, "results": results}}


def test_run_parts_goes_on_with_what_failed(run, capsys):
    code, _, written = run("--sizes", "64", "96", "--n-images", "4", "2", fails=[96])
    assert code == "failed: 1"
    assert "failed: 96 pixels / float32: ValueError: no such luck" in capsys.readouterr().out
    assert list(written["trial"]["results"]) == ["64 pixels, float32"]
    code, measured, written = run("--sizes", "64", "96", "--n-images", "4", "2")
    assert code == 0
    assert measured == [(96, "float32", 2, 3)]
    assert len(written["trial"]["results"]) == 2


def test_run_parts_measures_again_with_other_options(run):
    run("--sizes", "64", "--n-images", "4")
    _, measured, _ = run("--sizes", "64", "--n-images", "4", "--repeats", "5")
    assert measured == [(64, "float32", 4, 5)]


def test_every_benchmark_is_in_the_documentations_list():
    root = Path(__file__).parents[1]
    names = [path.stem for path in (root / "benchmarks").glob("[a-z]*.py")]
    page = (root / "docs/benchmarks.rst").read_text(encoding="utf-8")
    assert [name for name in names if f"``benchmarks.{name}``" not in page] == []
