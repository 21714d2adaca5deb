"""The examples that run exported files, without this package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import BY_DEFAULT, FAST
from PIL import Image

from skcsflow import CSFlowDetector
from skcsflow.datasets import make_defects
from skcsflow.export import to_onnx

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package)

EXAMPLES = Path(__file__).parents[2] / "examples"
NOT_NEEDED = ("skcsflow", "torch", "sklearn", "scipy", "cv2")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A detector, its file, images as files, and what the detector says of them."""
    folder = tmp_path_factory.mktemp("exported")
    data = make_defects(n_normal=16, n_defective=3, size=64, random_state=0)
    detector = CSFlowDetector(**{**FAST, **BY_DEFAULT, "strides": (16, 32)}).fit(data.images[:13])
    images = data.images[13:]
    paths = []
    for i, image in enumerate(images):
        paths.append(folder / f"{i}.ppm")
        Image.fromarray(image[: 64 - i]).save(paths[-1])
    to_onnx(detector, folder / "detector.onnx", X=images)
    return folder / "detector.onnx", paths, list(detector.inspect(paths))


def assert_lines_say(lines, expected):
    """Scores, labels and numbers of marked pixels, as the programs in C++ print them."""
    assert len(lines) == len(expected) == 6
    for line, e in zip(lines, expected, strict=True):
        _, score, label, n_marked = line.split("\t")
        assert float(score) == pytest.approx(e.score, rel=3e-5, abs=3e-5)
        assert int(label) == e.verdict
        assert abs(int(n_marked) - e.mask.sum()) <= 2


@pytest.mark.slow
def test_the_example_in_python_needs_neither_this_package_nor_torch(exported, tmp_path):
    path, images, expected = exported
    block = f"import sys; sys.modules.update(dict.fromkeys({NOT_NEEDED!r})); import runpy; "
    block += f"sys.argv = sys.argv[1:]; runpy.run_path({str(EXAMPLES / 'onnx_inference.py')!r})"
    command = [sys.executable, "-c", block, "onnx_inference.py", path, *images, "--masks", tmp_path]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    assert done.stderr == ""
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(lines) == len(expected) == 6
    for (name, score, label, _), image, e in zip(lines, images, expected, strict=True):
        assert name == str(image)
        assert float(score) == pytest.approx(e.score, rel=3e-5, abs=3e-5)
        assert label == ("good" if e.verdict == 1 else "anomalous")
        mask = np.asarray(Image.open(tmp_path / f"{image.stem}.png")) > 0
        assert np.sum(mask != e.mask) <= 2


def compile_and_run(name, exported, flags, folder):
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        pytest.skip("there is no C++ compiler: neither CXX nor g++")
    path, images, expected = exported
    program = folder / name
    source = EXAMPLES / "cpp" / f"{name}.cpp"
    subprocess.run([compiler, "-std=c++17", "-O1", str(source), "-o", str(program), *flags], check=True)
    command = [str(program), str(path), *map(str, images)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert_lines_say(done.stdout.splitlines(), expected)
    refused = subprocess.run(
        [str(program), str(path), str(path)], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "is no binary PGM or PPM" in refused.stderr


def link_to(library):
    return [str(library), f"-Wl,-rpath,{library.parent}"]


@pytest.mark.slow
def test_the_example_in_cpp_by_openvino(exported, tmp_path):
    openvino = pytest.importorskip("openvino")
    root = Path(openvino.__file__).parent
    libraries = sorted((root / "libs").glob("libopenvino.so*"))
    if not libraries or not (root / "include").is_dir():
        pytest.skip("this package of openvino holds no headers, or no library for Linux")
    flags = ["-I", str(root / "include"), *link_to(libraries[0])]
    compile_and_run("inspect_openvino", exported, flags, tmp_path)


@pytest.mark.slow
def test_the_example_in_cpp_by_onnxruntime(exported, tmp_path):
    import onnxruntime

    folders = [Path(p) for p in (os.environ.get("ONNXRUNTIME_INCLUDE"), "/usr/include/onnxruntime") if p]
    found = [f for f in folders if (f / "onnxruntime_cxx_api.h").is_file()]
    if not found:
        pytest.skip(
            "no headers of ONNX Runtime: set ONNXRUNTIME_INCLUDE to the folder of onnxruntime_cxx_api.h"
        )
    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    if not libraries:
        pytest.skip("this package of onnxruntime holds no library for Linux")
    library = (
        tmp_path / "libonnxruntime.so.1"
    )  # the name that programs look for, which the package doesn't have
    library.symlink_to(libraries[0])
    compile_and_run("inspect_onnxruntime", exported, ["-I", str(found[0]), *link_to(library)], tmp_path)
