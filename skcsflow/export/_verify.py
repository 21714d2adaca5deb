"""Proof that an ONNX file says what the detector says."""

import copy
import json
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skcsflow._checks import as_path
from skcsflow._compute import check_engine
from skcsflow._images import ImageCollection, check_images
from skcsflow.export._options import check_choice, check_exportable

__all__ = ["arrays_of", "check_verification", "example_images", "verify_onnx"]

# In float32, detector and file are each up to 6e-6 off the scores in float64, more or less by processor and weights.
SCORE_TOLERANCE = 3e-5
MAP_TOLERANCE = 1e-4
MASK_TOLERANCE = 1e-3

Run = Callable[[NDArray[Any]], dict[str, NDArray[Any]]]


def verify_onnx(path: str | os.PathLike[str], detector: Any, X: Any, *, engine: str = "onnxruntime") -> Bunch:
    """Compare what an ONNX file says of images with what the detector says of them.

    A detector on a GPU, or in TF32, is compared as it is on the CPU in float32.

    Parameters
    ----------
    path : path
        A file that :func:`to_onnx` wrote.
    detector : CSFlowDetector
        The detector that it was made of.
    X : array-like of images
        Images as :meth:`CSFlowDetector.fit` takes them, in the type that the file takes; those of float32 take
        every type. Colours are in the order red, green, blue, whatever the file's.
    engine : {"onnxruntime", "openvino"}, default="onnxruntime"
        What runs the file.

    Returns
    -------
    Bunch
        - ``n_images`` : int
        - ``score_difference`` : float, the largest, relative to the score or to `offset_`, whichever is larger
        - ``n_labels_differ`` : int, how many labels differ, but for scores so near to `offset_`
        - ``map_difference`` : float, the largest, relative to the largest size of the map's values, or to
          `map_threshold_` if that is larger
        - ``mask_difference`` : float, the largest share of an image's pixels whose mask differs
        - ``p_value_difference`` : float, the largest, but for scores so near to one of the calibration; 1 where only
          one of the two is calibrated, and NaN where neither is
        - ``passed`` : bool, whether scores differ by at most 3e-5, maps by at most 1e-4 and masks by at most 1e-3, and
          labels and p-values not at all
        - ``rows`` : dict of str to ndarray of shape (n_images,), these differences of each image

    Raises
    ------
    ValueError
        Where the file is none that :func:`to_onnx` wrote, or an image has another type or size than it takes.
    FileNotFoundError
        Where there is no such file.
    ImportError
        Where a package is missing: ``pip install "skcsflow[onnx]"``, or ``"skcsflow[openvino]"`` for that engine.

    Examples
    --------
    >>> import os, tempfile
    >>> from skcsflow import CSFlowDetector
    >>> from skcsflow.datasets import make_defects
    >>> from skcsflow.export import to_onnx, verify_onnx
    >>> images = make_defects(n_normal=14, n_defective=0, random_state=0).images
    >>> detector = CSFlowDetector(input_size=64, strides=(16, 32), n_epochs=1, random_state=0).fit(images[:12])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "detector.onnx")
    ...     _ = to_onnx(detector, path, X=images[:1])
    ...     found = verify_onnx(path, detector, images[12:])
    >>> found.n_images, found.n_labels_differ, found.score_difference < 3e-5
    (2, 0, True)
    """
    check_exportable(detector)
    check_choice("engine", engine, ("onnxruntime", "openvino"))
    path = as_path(path, "path")
    if not path.is_file():
        raise FileNotFoundError(f"No such file: {str(path)!r}.")
    metadata, run = _open(path, engine)
    images = arrays_of(X, detector, metadata["dtype"], metadata["image_size"])
    reference = _on_cpu(detector)
    rows: dict[str, list[float]] = {name: [] for name in ("score", "label", "map", "mask", "p_value")}
    for image, expected in zip(images, reference.inspect(images), strict=True):
        given = image[..., ::-1] if metadata["channel_order"] == "bgr" else image
        found = {name: value[0] for name, value in run(np.ascontiguousarray(given[None])).items()}
        for name, difference in _differences(found, expected, reference).items():
            rows[name].append(difference)
    columns = {name: np.array(values) for name, values in rows.items()}
    largest = {name: float(values.max()) for name, values in columns.items()}
    passed = (
        largest["score"] <= SCORE_TOLERANCE
        and largest["map"] <= MAP_TOLERANCE
        and largest["mask"] <= MASK_TOLERANCE
        and not largest["label"]
        and not largest["p_value"] > 0  # NaN without calibration
    )
    return Bunch(
        n_images=len(images),
        score_difference=largest["score"],
        n_labels_differ=int(columns["label"].sum()),
        map_difference=largest["map"],
        mask_difference=largest["mask"],
        p_value_difference=largest["p_value"],
        passed=bool(passed),
        rows=columns,
    )


def check_verification(found: Bunch) -> None:
    """Raise where a verification has failed."""
    if not found.passed:
        raise RuntimeError(
            f"The file doesn't say what the detector says of {found.n_images} images: scores differ by up to "
            f"{found.score_difference:.1e} (at most {SCORE_TOLERANCE:g}), maps by {found.map_difference:.1e} (at most "
            f"{MAP_TOLERANCE:g}), masks in {found.mask_difference:.2%} of an image (at most {MASK_TOLERANCE:.1%}), "
            f"p-values by {found.p_value_difference:.1e}, and {found.n_labels_differ} labels. It was not written."
        )


def _differences(found: dict[str, NDArray[Any]], expected: Any, detector: Any) -> dict[str, float]:
    """How what a file says of an image differs from its inspection by the detector."""
    score, offset = float(found["score"]), detector.offset_
    size = max(abs(expected.score), abs(offset))
    is_near = abs(expected.score - offset) <= SCORE_TOLERANCE * size
    height = max(float(np.abs(expected.anomaly_map).max()), abs(detector.map_threshold_))
    p_value = np.nan
    if hasattr(detector, "calibration_scores_") != (
        "p_value" in found
    ):  # calibrated since, or the other way round
        p_value = 1.0
    elif "p_value" in found:
        known, margin = detector.calibration_scores_, SCORE_TOLERANCE * size
        # P-values of a little lower and a little higher scores: any in between is right.
        least, most = (
            (1 + np.searchsorted(known, expected.score + sign * margin, side="right")) / (len(known) + 1)
            for sign in (-1, 1)
        )
        p_value = max(least - float(found["p_value"]), float(found["p_value"]) - most, 0.0)
        p_value = p_value if p_value > 1e-6 else 0.0  # engines may round to float32
    return {
        "score": abs(score - expected.score) / size,
        "label": float(int(found["label"]) != expected.verdict and not is_near),
        "map": float(np.abs(found["anomaly_map"] - expected.anomaly_map).max()) / height,
        "mask": float(np.mean(found["mask"] != expected.mask)),
        "p_value": p_value,
    }


def _on_cpu(detector: Any) -> Any:
    """The detector itself, or one like it on the CPU."""
    if detector.device_.type == "cpu":
        return detector
    return copy.deepcopy(copy.copy(detector).set_params(device="cpu", memory=None))


def _open(path: Path, engine: str) -> tuple[dict[str, Any], Run]:
    """What a file says of itself, and a function that runs it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError('verify_onnx needs onnxruntime: pip install "skcsflow[onnx]".') from error

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no warnings on standard error
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class of its own for each trouble
        raise ValueError(
            f"{str(path)!r} is no ONNX file that can be run: {str(error).rstrip('.')}. It may be damaged."
        ) from error
    properties = session.get_modelmeta().custom_metadata_map
    if "skcsflow" not in properties:
        raise ValueError(f"{str(path)!r} is no file of skcsflow: it lacks its metadata.")
    names = [output.name for output in session.get_outputs()]
    if engine == "onnxruntime":

        def run(images: NDArray[Any]) -> dict[str, NDArray[Any]]:
            return dict(zip(names, session.run(names, {"images": images}), strict=True))
    else:
        check_engine("openvino", "float32", torch.device("cpu"))
        import openvino

        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

        def run(images: NDArray[Any]) -> dict[str, NDArray[Any]]:
            outputs = compiled(images)
            return {name: outputs[name] for name in names}

    return json.loads(properties["skcsflow"]), run


def arrays_of(X: Any, detector: Any, dtype: str, size: tuple[int, int] | None) -> list[NDArray[Any]]:
    """Images of shape (H, W, C), in the type and size that a file takes, which mean to the detector what X means."""
    return list(_arrays(X, detector, np.dtype(dtype), size))


def _arrays(
    X: Any, detector: Any, dtype: np.dtype[Any], size: tuple[int, int] | None
) -> Generator[NDArray[Any], None, None]:
    images: ImageCollection = check_images(
        X, detector.model_.config["num_channels"], detector.value_range, max_pixels=detector.max_pixels
    )
    for row in range(len(images)):
        pixels = images[row]
        if pixels.shape[0] > 1 and pixels.stride(0) == 0:  # grey, shown several times
            pixels = pixels[:1]
        array = pixels.movedim(0, -1).numpy()
        if dtype == np.float32:
            is_scaled = detector.value_range is None and array.dtype.kind in "ui"
            array = array / np.iinfo(array.dtype).max if is_scaled else array
            array = array.astype(np.float32)
        elif array.dtype != dtype:
            raise ValueError(
                f"X[{row}] holds {array.dtype}, but the file takes {dtype} images. Export with "
                f"dtype={str(array.dtype)!r}, or convert the images."
            )
        if size is not None and array.shape[:2] != tuple(size):
            raise ValueError(
                f"X[{row}] has {array.shape[0]} x {array.shape[1]} pixels, but the file takes images of {size[0]} x "
                f"{size[1]}. Export with image_size=None for any size."
            )
        yield array


def example_images(detector: Any, dtype: str, size: tuple[int, int] | None) -> list[NDArray[Any]]:
    """Images to verify a file with where there are no others: noise and patterns, of several sizes or of one."""
    generator = np.random.default_rng(0)
    height, width = detector.model_.input_size
    sizes = [(height, width), (height + 37, 2 * width - 11), (height // 2 + 3, width // 3 + 5)]
    region = detector._framing.region or (0, 0, 0, 0)
    sizes = [size or (max(h, region[2]), max(w, region[3])) for h, w in sizes]
    n_channels = detector.model_.config["num_channels"]
    value_range = detector.value_range or (0, 1 if dtype == "float32" else np.iinfo(dtype).max)
    images = []
    for k, (rows, columns) in enumerate(sizes):
        y, x = np.mgrid[:rows, :columns]
        waves = 0.5 + 0.3 * np.sin(y / (5 + 7 * k)) * np.cos(x / (11 - 3 * k))
        of_image = 1 if n_channels == 3 and k == 1 else n_channels  # grey, once
        values = waves[..., None] + generator.normal(0, 0.02 + 0.1 * k, size=(rows, columns, of_image))
        scaled = value_range[0] + np.clip(values, 0, 1) * (value_range[1] - value_range[0])
        images.append(scaled.astype(dtype))
    return images
