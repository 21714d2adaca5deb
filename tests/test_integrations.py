"""The files of docs/integrations, each shown on one page and run where its package is installed."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST
from PIL import Image

from skcsflow import CSFlowDetector, load, save

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent.parent / "docs" / "integrations"
SCRIPTS = {
    "processes": (),
    "parquet": ("pyarrow",),
    "dask": ("distributed",),
    "ray": ("ray",),
    "spark": ("pyspark",),
    "mlflow": ("mlflow", "sqlalchemy"),
    "hugging_face": ("skops.card",),
    "torchmetrics": ("torchmetrics",),
}
SERVERS = {
    "litserve": ([sys.executable, str(FOLDER / "with_litserve.py")], "http://127.0.0.1:8000/predict"),
    "bentoml": (
        [sys.executable, "-m", "bentoml", "serve", "with_bentoml:Inspection", "--working-dir", str(FOLDER)],
        "http://127.0.0.1:3000/inspect",
    ),
}


@pytest.fixture
def folder(tmp_path):
    """A folder with a detector and images, as the files expect it."""
    images = np.random.RandomState(0).randint(0, 256, size=(20, 64, 64), dtype=np.uint8)
    (tmp_path / "images").mkdir()
    for k, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "images" / f"{k:02}.png")
    save(CSFlowDetector(**{**FAST, "input_size": 64}).fit(images[:12]), tmp_path / "detector.skops")
    return tmp_path


def environment():
    paths = [str(FOLDER.parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYSPARK_PYTHON": sys.executable}


def skip_without(modules):
    for module in modules:
        if find_spec(module.split(".")[0]) is None:
            pytest.skip(f"needs {module}")


def test_every_file_is_run_and_shown():
    files = {path.stem.removeprefix("with_") for path in FOLDER.glob("*.py")}
    assert files == SCRIPTS.keys() | SERVERS.keys()
    pages = [path.read_text(encoding="utf-8") for path in FOLDER.parent.glob("*.rst")]
    assert {
        name: sum(f"integrations/with_{name}.py" in page for page in pages) for name in files
    } == dict.fromkeys(files, 1)


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_gives_the_detectors_results(name, folder):
    skip_without(SCRIPTS[name])
    found = subprocess.run(
        [sys.executable, str(FOLDER / f"with_{name}.py")],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    if name == "hugging_face":
        assert "good images flagged" in (folder / "hub" / "README.md").read_text(encoding="utf-8")
        load(folder / "hub" / "detector.skops")


@pytest.mark.parametrize("name", SERVERS)
def test_server_gives_the_detectors_results(name, folder):
    skip_without([name])
    command, address = SERVERS[name]
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    body += (folder / "images" / "00.png").read_bytes() + b"\r\n--x--\r\n"
    request = urllib.request.Request(address, body, {"Content-Type": "multipart/form-data; boundary=x"})
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log)
        try:
            for _ in range(120):
                assert server.poll() is None, (folder / "log").read_text()[-3000:]
                try:
                    with urllib.request.urlopen(request, timeout=10) as response:
                        found = json.load(response)
                    break
                except OSError:
                    time.sleep(1)
        finally:
            server.terminate()
            server.wait(30)
    expected = load(folder / "detector.skops").score_samples([folder / "images" / "00.png"])
    assert found["score"] == expected[0]
