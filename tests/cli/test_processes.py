"""Commands as a user starts them: each a process of its own. All are tested within one in test_cli.py."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from test_cli import SETTINGS, mvtec_like, write_images

from skcsflow import load, save
from skcsflow.cli import main
from skcsflow.cli._deploy import DEPLOY_COMMANDS
from skcsflow.cli._detect import DETECT_COMMANDS
from skcsflow.cli._evaluate import EVALUATE_COMMANDS
from skcsflow.datasets import list_images

pytestmark = pytest.mark.slow

COMMANDS = [*DETECT_COMMANDS, *EVALUATE_COMMANDS, *DEPLOY_COMMANDS]
COMMAND = [sys.executable, "-m", "skcsflow"]


def start(folder, *args, **options):
    return subprocess.Popen(
        [*COMMAND, *map(str, args)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "", **options},
    )


def run(folder, *args, code=0):
    process = start(folder, *args)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("processes")
    write_images(root / "good", 12)
    write_images(root / "fresh", 21, seed=1)
    write_images(root / "new", 4, seed=2)
    mvtec_like(root / "parts")
    run(root, "fit", "good", "-o", "detector.skops", *SETTINGS)
    run(root, "calibrate", "fresh", "--fpr", "0.1")
    return root


def test_the_script_is_installed():
    script = shutil.which("skcsflow", path=os.path.dirname(sys.executable))
    if script is None:
        pytest.skip("the package is not installed, only on the path")
    found = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("skcsflow ")


def test_every_command_has_help(root, capsys):
    out, _ = run(root, "--help")
    for command in COMMANDS:
        assert command.name in [line.split()[0] for line in out.splitlines() if line.strip()]
        with pytest.raises(SystemExit) as error:  # in this process: each start takes seconds
            main([command.name, "--help"])
        assert error.value.code == 0
        assert command.examples[0] in capsys.readouterr().out


def test_score_and_report(root):
    out, _ = run(root, "score", "new", "--json")
    scores = [row["score"] for row in json.loads(out)["images"]]
    detector = load(root / "detector.skops")
    np.testing.assert_array_equal(scores, detector.score_samples(list_images(root / "new")))
    out, err = run(root, "report", "new", "-o", "report.html", "--title", "Monday")
    assert "image/s" in err  # progress
    assert "Monday" in (root / "report.html").read_text(encoding="utf-8")


def test_evaluate(root):
    out, _ = run(root, "evaluate", "parts", "--json", *SETTINGS)
    assert json.loads(out)["defects"].keys() == {"bright", "dark"}


def test_export_and_verify(root):
    pytest.importorskip("onnxscript")
    run(root, "export", "-o", "model.onnx", "--check", "new")
    assert main(["verify", *(str(root / name) for name in ("model.onnx", "detector.skops", "new"))]) == 0
    other = load(root / "detector.skops")
    other.offset_ += 10  # all labels are others
    save(other, root / "other.skops")
    out, _ = run(root, "verify", "model.onnx", "other.skops", "new", code=3)
    assert out.startswith("They DIFFER")


def test_serve_answers_until_it_is_told_to_stop(root):
    pytest.importorskip("fastapi")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start(root, "serve", "line=detector.skops", "--port", port, SKCSFLOW_API_KEY="secret")
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5)
            break
        except OSError:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)
    file = list_images(root / "new")[0]
    request = urllib.request.Request(
        f"{address}/inspect/line", Path(file).read_bytes(), {"Content-Type": "image/png"}
    )
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request)
    for header in ("X-API-Key", "Authorization"):
        request.add_header(header, "secret" if header == "X-API-Key" else "Bearer secret")
    with urllib.request.urlopen(request) as response:
        found = json.load(response)
    assert found["score"] == load(root / "detector.skops").score_samples([file])[0]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_watch_inspects_what_comes(root, tmp_path):
    pytest.importorskip("watchfiles")
    (tmp_path / "in").mkdir()
    process = start(root, "watch", tmp_path / "in", tmp_path / "out", "--settle", "0.1")
    for file in list_images(root / "new"):
        shutil.copy(file, tmp_path / "in")
    results = tmp_path / "out" / "results.jsonl"
    for _ in range(600):
        if results.exists() and results.read_text().count("\n") == 4:
            break
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err.endswith("images inspected: 4\n")
    assert [json.loads(line)["file"] for line in out.splitlines()] == ["00.png", "01.png", "02.png", "03.png"]


def test_ctrl_c_is_clean(root, tmp_path):
    write_images(tmp_path / "many", 400)
    process = start(root, "score", tmp_path / "many", "-o", tmp_path / "scores.csv")
    for _ in range(100):  # until the progress bar shows
        if process.stderr.read(1):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.rstrip().endswith("skcsflow: interrupted")
    assert "Traceback" not in err
    assert not (tmp_path / "scores.csv").exists()


def test_errors_are_one_line_and_pipes_may_end(root):
    _, err = run(root, "score", "missing", code=1)
    assert err.count("\n") == 1
    first = subprocess.run(
        f"{' '.join(COMMAND)} score new -q | head -n 1", shell=True, cwd=root, capture_output=True, text=True
    )
    assert first.stdout.startswith("file,score,label")
    assert "Traceback" not in first.stderr
