"""An example of the gallery, run as the notebook that the documentation offers for download.

The documentation runs all of them as scripts.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent.parent / "examples"


def test_a_notebook_runs_without_a_warning(tmp_path):
    name = "plot_folder"
    notebook = pytest.importorskip("sphinx_gallery.notebook")
    for module in ("nbconvert", "ipykernel", "matplotlib"):
        pytest.importorskip(module)
    shutil.copy(FOLDER / f"{name}.py", tmp_path)
    notebook.python_to_jupyter_cli([str(tmp_path / f"{name}.py")])
    paths = [str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]
    found = subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", f"{name}.ipynb"],
        cwd=tmp_path,
        # Of tqdm, which huggingface_hub loads, where ipywidgets isn't installed.
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONWARNINGS": "ignore:IProgress not found",
        },
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert found.returncode == 0, found.stderr[-3000:]

    cells = json.loads((tmp_path / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert [output["text"] for output in outputs if output.get("name") == "stderr"] == []
    assert any("image/png" in output.get("data", ()) for output in outputs)
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
