"""Exported detectors: the same scores, labels and maps as the detector's, speed and file size; and INT8.

    python -m benchmarks.export [--detector detector.joblib] [--n-images 200]

The default detector is fitted on 341 functional mono cells of ELPV (the training split of seed 0), calibrated on 100
others for 5 % false alarms, and exported. `verify_onnx` compares the file, run by ONNX Runtime and by OpenVINO, with
the detector: on ELPV cells as they are (grey, 8 bits, 300 x 300 pixels), and on a fifth as many in colour, of 16 bits
(another file) and cut to 211 x 297 pixels. The C++ example, built with OpenVINO's package where there is a compiler,
prints scores and labels of the cells.

INT8: ONNX Runtime's static quantisation of the backbone's convolutions, calibrated on 64 training images; what it
changes is measured on the split's test, 147 good cells and 313 defective ones.

Milliseconds are per image and for all that there is to say of it (`inspect`; all outputs of a file, or all but the
mask), with as many threads as each engine takes by itself; medians of three rounds that take turns. Files get one image
after the other, the detector all at once.
"""

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import joblib
import numpy as np
import onnx
import onnxruntime
import openvino
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmarks._data import Split, elpv_split
from benchmarks._report import print_table, write
from skcsflow import CSFlowDetector
from skcsflow.export import to_onnx, verify_onnx

N_TIMED = 20
ROUNDS = 3
EXAMPLES = Path(__file__).parent.parent / "examples" / "cpp"


class Images(CalibrationDataReader):
    """What ONNX Runtime takes images to calibrate by from."""

    def __init__(self, images: np.ndarray) -> None:
        self._images: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Give the next image as a batch of one, or None."""
        image = next(self._images, None)
        return None if image is None else {"images": image[None]}


def quantize(source: Path, target: Path, images: np.ndarray) -> None:
    """Write the file with the backbone's convolutions in INT8."""
    convolutions = [
        node.name
        for node in onnx.load(source).graph.node
        if node.op_type == "Conv" and node.input[1].startswith("model.feature_extractor")
    ]
    quantize_static(
        source,
        target,
        Images(images),
        op_types_to_quantize=["Conv"],
        nodes_to_quantize=convolutions,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True},  # or OpenVINO has no kernels for it
    )


def open_file(path: Path, engine: str, *without: str) -> Callable[[np.ndarray], Any]:
    """A function that runs a file, and gives its outputs by name, but for some that ONNX Runtime need not compute."""
    if engine == "openvino":
        # INT8 where the file says so, and float32 elsewhere.
        return openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs() if output.name not in without]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


def scores_and_labels(run: Callable[[np.ndarray], Any], images: np.ndarray) -> np.ndarray:
    """One row of both for each image."""
    found = (run(image[None]) for image in images)
    return np.array([(float(f["score"][0]), float(f["label"][0])) for f in found])


def parity(detector: CSFlowDetector, files: dict[str, Path], cells: np.ndarray) -> dict[str, dict[str, Any]]:
    """Differences on every kind of images, by both engines."""
    few = cells[: len(cells) // 5]
    kinds = {
        "grey, 8 bits": ("uint8", cells),
        "colour, 8 bits": ("uint8", np.repeat(few, 3, axis=-1)),
        "grey, 16 bits": ("uint16", few.astype(np.uint16) * 257),
        "odd sizes": ("uint8", list(few[:, 31:242, 2:299])),
    }
    results = {}
    for kind, (dtype, images) in kinds.items():
        for engine in ("onnxruntime", "openvino"):
            found = verify_onnx(files[dtype], detector, images, engine=engine)
            del found["rows"]
            results[f"{kind}: {engine}"] = dict(found)
            print(kind, engine, dict(found), flush=True)
    return results


def by_cpp(detector: CSFlowDetector, path: Path, cells: np.ndarray, folder: Path) -> dict[str, Any] | None:
    """Differences of what the C++ example prints; None without a compiler."""
    root = Path(openvino.__file__).parent
    libraries = sorted((root / "libs").glob("libopenvino.so*"))
    compiler = shutil.which("g++")
    if compiler is None or not libraries:
        return None
    program, source = folder / "inspect", EXAMPLES / "inspect_openvino.cpp"
    flags = [f"-I{root / 'include'}", str(libraries[0]), f"-Wl,-rpath,{root / 'libs'}"]
    subprocess.run([compiler, "-std=c++17", "-O2", source, "-o", program, *flags], check=True)
    images = [folder / f"{i}.pgm" for i in range(len(cells))]
    for image, cell in zip(images, cells, strict=True):
        Image.fromarray(cell[..., 0]).save(image)
    done = subprocess.run([program, path, *images], check=True, capture_output=True, text=True)
    _, scores, labels, _ = zip(*(line.split("\t") for line in done.stdout.splitlines()), strict=True)
    expected = detector.score_samples(cells)
    size = np.maximum(np.abs(expected), abs(detector.offset_))
    return {
        "n_images": len(cells),
        "score_difference": float((np.abs(np.array(scores, dtype=float) - expected) / size).max()),
        "n_labels_differ": int(np.sum(np.array(labels, dtype=int) != detector.predict(cells))),
    }


def speed(detector: CSFlowDetector, files: dict[str, Path], cells: np.ndarray) -> dict[str, float]:
    """Milliseconds per image."""

    def one_by_one(run: Callable[[np.ndarray], Any]) -> None:
        for image in cells:
            run(image[None])

    sides: dict[str, Callable[[], Any]] = {"detector": lambda: list(detector.inspect(cells))}
    for name, path in files.items():
        sides[f"{name}: onnxruntime"] = partial(one_by_one, open_file(path, "onnxruntime"))
        sides[f"{name}: onnxruntime, no mask"] = partial(one_by_one, open_file(path, "onnxruntime", "mask"))
        sides[f"{name}: openvino"] = partial(one_by_one, open_file(path, "openvino"))
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for k in range(ROUNDS + 1):
        for name, side in sides.items():
            start = perf_counter()
            side()
            if k:  # the first round warms up
                seconds[name].append(perf_counter() - start)
    return {name: 1e3 * median(times) / len(cells) for name, times in seconds.items()}


def quality(files: dict[str, Path], split: Split) -> dict[str, dict[str, float]]:
    """What INT8 changes."""
    test = split.test[..., None]
    results: dict[str, dict[str, float]] = {}
    first: np.ndarray | None = None
    for name, path in files.items():
        for engine in ("onnxruntime", "openvino"):
            if (name, engine) == ("float32", "openvino"):
                continue  # which `parity` has compared
            found = scores_and_labels(open_file(path, engine, "mask", "anomaly_map", "p_value"), test)
            first = found if first is None else first
            results[f"{name}: {engine}"] = {
                "auroc": float(roc_auc_score(split.is_defective, -found[:, 0])),
                "good_flagged": float(np.mean(found[~split.is_defective, 1] < 0)),
                "labels_that_differ": int(np.sum(found[:, 1] != first[:, 1])),
                "n_images": len(test),
            }
            print(name, engine, results[f"{name}: {engine}"], flush=True)
    return results


def main() -> None:
    """Run, print the tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--detector", help="a detector fitted so, saved by joblib, for a second run")
    parser.add_argument("--n-images", type=int, default=200)
    args = parser.parse_args()
    split = elpv_split(0)
    if args.detector:
        detector = joblib.load(args.detector)
    else:
        detector = CSFlowDetector(random_state=0).fit(split.train[:-100])
        detector.calibrate(split.train[-100:], fpr=0.05)
    order = np.random.RandomState(0).permutation(len(split.test))
    cells = split.test[order[: args.n_images], ..., None]
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.onnx" for name in ("uint8", "uint16", "fixed", "int8")}
        start = perf_counter()
        to_onnx(detector, files["uint8"], X=cells[:10])
        export_seconds = perf_counter() - start
        to_onnx(detector, files["uint16"], dtype="uint16")
        to_onnx(detector, files["fixed"], image_size=(300, 300), X=cells[:10])
        start = perf_counter()
        quantize(files["fixed"], files["int8"], split.train[:64, ..., None])
        quantize_seconds = perf_counter() - start
        saved = Path(folder) / "detector.joblib"
        joblib.dump(detector, saved)
        results = {
            "parity": parity(detector, files, cells),
            "cpp": by_cpp(detector, files["uint8"], cells, Path(folder)),
            "milliseconds": speed(
                detector,
                {"any size": files["uint8"], "300 x 300": files["fixed"], "INT8": files["int8"]},
                cells[:N_TIMED],
            ),
            "quality": quality({"float32": files["fixed"], "INT8": files["int8"]}, split),
            "megabytes": {
                "detector.joblib": saved.stat().st_size / 1e6,
                **{name: path.stat().st_size / 1e6 for name, path in files.items()},
            },
            "seconds": {"export": export_seconds, "quantize": quantize_seconds},
        }
    for table in ("parity", "quality"):
        rows = [[name, *of_row.values()] for name, of_row in results[table].items()]
        print_table([table, *next(iter(results[table].values()))], [[*map(str, row)] for row in rows])
    for table in ("milliseconds", "megabytes", "seconds"):
        print_table([table, ""], list(results[table].items()))
    print(results["cpp"])
    if not args.detector or "tiny" not in args.detector:
        write("export", {"results": results})


if __name__ == "__main__":
    main()
