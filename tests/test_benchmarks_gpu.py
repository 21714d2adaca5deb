"""The command that measures a GPU, without one: results part by part, going on, parts that fail or hang."""

import json
import sys
from pathlib import Path

import pytest

# The benchmarks are no part of the installed package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _report, gpu
from skcsflow.nn import _convolution


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The folder of results is a temporary one; gives the path of the file."""
    folder = tmp_path / "benchmarks" / "results"
    folder.parent.mkdir()
    monkeypatch.setattr(_report, "__file__", str(tmp_path / "benchmarks" / "_report.py"))
    for module in (_report, gpu):
        monkeypatch.setattr(module, "RESULTS", folder)
    return folder / "gpu.json"


@pytest.fixture
def run(results, monkeypatch):
    """Run parts of which each gives what `answers` holds, and tell which were run."""
    answers = {"peaks": {"result": {"x": 1.0}}, "default fit": {"error": "ValueError: no"}}

    def run(names=("peaks", "default fit"), device="a GPU", again=False, seconds=100, folder=None):
        ran = []

        def answer(name, limit, is_trial):
            assert 0 < limit <= gpu.PARTS[name].limit
            ran.append(name)
            return answers[name]

        monkeypatch.setattr(gpu, "run_part", answer)
        return ran, gpu.run_all(names, device, again, seconds, folder, False)

    run.answers = answers
    return run


def test_results_are_kept_and_failures_are_tried_again(run, results):
    ran, entries = run()
    assert ran == ["peaks", "default fit"]
    kept = json.loads(results.read_text())["results"]["a GPU"]
    assert kept == json.loads(json.dumps(entries))
    assert kept["peaks"]["result"] == {"x": 1.0}
    assert kept["peaks"]["environment"]["packages"]["torch"] is not None
    assert kept["default fit"]["error"] == "ValueError: no"
    ran, entries = run()
    assert ran == ["default fit"]
    assert entries["peaks"] == kept["peaks"]


def test_each_device_has_results_of_its_own(run, results):
    run()
    ran, _ = run(device="another GPU")
    assert ran == ["peaks", "default fit"]
    assert list(json.loads(results.read_text())["results"]) == ["a GPU", "another GPU"]


def test_again_measures_again_but_a_failure_replaces_no_result(run, results):
    run()
    run.answers["peaks"] = {"error": "took longer than 60 s"}
    ran, entries = run(again=True)
    assert ran == ["peaks", "default fit"]
    assert entries["peaks"]["error"] == "took longer than 60 s"
    assert json.loads(results.read_text())["results"]["a GPU"]["peaks"]["result"] == {"x": 1.0}


def test_no_part_begins_when_the_time_is_over(run, results):
    assert run(seconds=5) == ([], {})
    assert not results.exists()


def test_results_are_copied(run, results, tmp_path):
    run(folder=tmp_path / "out")
    assert (tmp_path / "out" / "gpu.json").read_text() == results.read_text()


def test_a_part_that_hangs_or_dies_is_ended_and_says_so(monkeypatch, tmp_path):
    program = tmp_path / "program"
    monkeypatch.setattr(gpu.sys, "executable", str(program))
    for text, limit, expected in (
        ("sleep 60", 0.2, "took longer than 0 s"),
        ("exit 3", 30, "ended with exit code 3 and without a result"),
    ):
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        assert gpu.run_part("peaks", limit, True) == {"error": expected}


def test_serve_writes_results_and_errors(monkeypatch, tmp_path):
    for measure, expected in (
        (lambda job: {"x": job.repeats}, {"result": {"x": 1}}),
        (lambda job: 1 / 0, {"error": "ZeroDivisionError: division by zero"}),
    ):
        monkeypatch.setitem(gpu.PARTS, "peaks", gpu.Part(measure, 1))
        gpu.serve("peaks", tmp_path / "answer", gpu.TRIAL)
        assert json.loads((tmp_path / "answer").read_text()) == expected


@pytest.mark.slow
def test_one_part_of_a_dry_run_writes_nothing(results, capsys):
    with pytest.raises(SystemExit) as end:
        gpu.main(["--dry-run", "--only", "default fit"])
    assert end.value.code == 0
    assert "second fit s" in capsys.readouterr().out
    assert not results.exists()
    of_repository = Path(gpu.__file__).parent / "results" / "gpu.json"
    assert not of_repository.exists() or "CPU" not in json.loads(of_repository.read_text())["results"]


def test_without_a_gpu_it_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--dry-run" in capsys.readouterr().err


def test_operations_of_the_cpus_own_convolutions_are_counted(monkeypatch):
    detector = gpu.new_detector(gpu.TRIAL, **gpu.TRIAL.default).fit(gpu.noise_images(2, 64))
    found = gpu.count_paper(gpu.TRIAL, detector)
    monkeypatch.setattr(_convolution, "_is_for_onednn", lambda x: False)
    assert gpu.count_paper(gpu.TRIAL, detector) == found
