"""Writing a detector to an ONNX file."""

import json
import os
import warnings
from datetime import UTC, datetime
from importlib.metadata import version
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch

from skcsflow._checks import as_path
from skcsflow._compute import on_new_thread
from skcsflow._whole_files import writing_whole
from skcsflow.export._graph import OUTPUTS, InspectionGraph
from skcsflow.export._options import (
    DTYPES,
    check_choice,
    check_exportable,
    check_image_size,
    preprocessing_of,
)
from skcsflow.export._verify import arrays_of, check_verification, example_images, verify_onnx

__all__ = ["to_onnx"]

LEAST_OPSET = 18
"""Of the operators that torch writes."""

PACKAGES = ("skcsflow", "torch", "timm", "onnx", "scikit-learn", "numpy")
"""Whose versions a file names."""


def to_onnx(
    detector: Any,
    path: str | os.PathLike[str],
    *,
    X: Any = None,
    dtype: str = "uint8",
    image_size: tuple[int, int] | None = None,
    channel_order: str = "rgb",
    opset: int = LEAST_OPSET,
) -> Bunch:
    """Write a fitted detector to one ONNX file, and prove that it says the same.

    The file takes images as cameras, OpenCV and Pillow give them, and resizes and scales them itself. It has an
    input ``images`` of shape (n, H, W, C), for any n, and these outputs:

    - ``score``, float64 of shape (n,): what `score_samples` gives,
    - ``label``, int64 of shape (n,): what `predict` gives, +1 or -1,
    - ``anomaly_map``, float32 of shape (n, H, W): what `transform` gives,
    - ``mask``, bool of shape (n, H, W): what `predict_masks` gives,
    - ``p_value``, float64 of shape (n,): what `p_values` gives; only where `calibrate` was called.

    C is `num_channels`; where that is 3, also 1 for grey images, and 4, of which the last is dropped. Thresholds,
    sizes, the range of values and versions of packages are in the file's metadata, as JSON under ``skcsflow``.

    The graph runs in float32, scores in float64. Read more in :doc:`/export`.

    Parameters
    ----------
    detector : CSFlowDetector
        A fitted detector.
    path : path
        The file to write. It is replaced once the new one is verified.
    X : array-like of images, default=None
        Images to verify the file with, see :func:`verify_onnx`; best a few good ones and a few defects.
        None: noise and patterns of several sizes.
    dtype : {"uint8", "uint16", "float32"}, default="uint8"
        Type of the images that the file takes. Their values mean what they mean to the detector: `value_range`, or
        else the range of the type, or 0 to 1 for float32.
    image_size : tuple of int (H, W) or None, default=None
        Size of the images that the file takes. None: any. With a fixed size the file runs a little faster, and suits
        engines and devices that know no sizes which change.
    channel_order : {"rgb", "bgr"}, default="rgb"
        Order of the channels of the images that the file takes; OpenCV's is "bgr". The detector's own is "rgb".
    opset : int, default=18
        Version of ONNX's operators, 18 or more.

    Returns
    -------
    Bunch
        What :func:`verify_onnx` found.

    Raises
    ------
    NotFittedError
        Where the detector is not fitted.
    ImportError
        Where a package is missing: ``pip install "skcsflow[onnx]"``.
    ValueError, TypeError
        Where an argument is out of range, or the detector has what can't be exported: `tile_size`, and
        ``precision="bfloat16"``.
    FileNotFoundError
        Where the folder of `path` doesn't exist.
    RuntimeError
        Where the file doesn't say what the detector says. Then nothing is written.

    Examples
    --------
    >>> import os, tempfile
    >>> import onnxruntime
    >>> from skcsflow import CSFlowDetector
    >>> from skcsflow.datasets import make_defects
    >>> from skcsflow.export import to_onnx
    >>> images = make_defects(n_normal=12, n_defective=0, random_state=0).images
    >>> detector = CSFlowDetector(input_size=64, strides=(16, 32), n_epochs=1, random_state=0).fit(images)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "detector.onnx")
    ...     found = to_onnx(detector, path, X=images[:3])
    ...     session = onnxruntime.InferenceSession(path)
    ...     score, label = session.run(["score", "label"], {"images": images[:3]})
    >>> found.passed, bool(abs(score - detector.score_samples(images[:3])).max() < 1e-4)
    (True, True)
    """
    check_exportable(detector)
    check_choice("dtype", dtype, DTYPES)
    check_choice("channel_order", channel_order, ("rgb", "bgr"))
    if not isinstance(opset, Integral) or isinstance(opset, bool) or opset < LEAST_OPSET:
        raise ValueError(f"opset must be an int of at least {LEAST_OPSET}, got {opset!r}.")
    size = check_image_size(image_size, detector)
    path = as_path(path, "path")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"No such folder, for path: {str(path.parent)!r}.")
    import_packages()
    if X is None:
        images = example_images(detector, dtype, size)
    else:  # read now: what is wrong with them should show before the work
        images = arrays_of(X, detector, dtype, size)

    with writing_whole(path) as unfinished:
        # In a thread of its own, as modes of torch that the caller is in would be exported too.
        model = on_new_thread(lambda: _convert(detector, dtype, size, channel_order, int(opset)))
        _write(model, unfinished)
        with warnings.catch_warnings():
            if X is None:  # its values aren't meant to be those of the training images
                warnings.filterwarnings("ignore", message="X holds", category=UserWarning)
            found = verify_onnx(unfinished, detector, images)
        check_verification(found)
    return found


def import_packages() -> None:
    """Check that the packages of the extra are there."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'ONNX files need the package {error.name}: pip install "skcsflow[onnx]".'
        ) from error


def _convert(detector: Any, dtype: str, size: tuple[int, int] | None, channel_order: str, opset: int) -> Any:
    """The detector as a model of ONNX."""
    scores = getattr(detector, "calibration_scores_", None)
    graph = InspectionGraph(
        detector.model_,
        preprocessing_of(detector, dtype, channel_order),
        detector.offset_,
        detector.map_threshold_,
        None if scores is None else torch.from_numpy(np.array(scores, dtype=np.float64)),
    ).eval()
    n_channels = detector.model_.config["num_channels"]
    height, width = size or (72, 88)  # two sizes that nothing else has
    region = detector._framing.region
    if size is None and region is not None:
        height, width = region[2] + 9, region[3] + 11
    example = torch.zeros((2, height, width, n_channels), dtype=getattr(torch, dtype))
    dynamic: dict[int, Any] = {0: torch.export.Dim.DYNAMIC}
    if size is None:
        dynamic |= {1: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    if n_channels == 3:
        dynamic[3] = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        program = torch.export.export(graph, (example,), dynamic_shapes={"images": dynamic}, strict=False)
        onnx_program = torch.onnx.export(
            program,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=list(OUTPUTS[: 4 if scores is None else 5]),
            opset_version=opset,
        )
    assert onnx_program is not None
    model = onnx_program.model_proto
    _name_sizes(model)
    _drop_unused(model.graph)
    model.producer_name, model.producer_version = "skcsflow", version("skcsflow")
    model.doc_string = "Image anomaly detection: images in; score, label, anomaly map and mask out."
    entry = model.metadata_props.add()
    entry.key, entry.value = "skcsflow", json.dumps(_metadata(detector, dtype, size, channel_order))
    return model


def _metadata(detector: Any, dtype: str, size: tuple[int, int] | None, channel_order: str) -> dict[str, Any]:
    """What a file says of itself."""
    config = detector.model_.config
    preprocessing = preprocessing_of(detector, dtype, channel_order)
    framing = detector._framing
    scores = getattr(detector, "calibration_scores_", None)
    return {
        "offset": float(detector.offset_),
        "map_threshold": float(detector.map_threshold_),
        "n_calibration_scores": None if scores is None else len(scores),
        "dtype": dtype,
        "image_size": size,
        "channel_order": channel_order,
        "num_channels": config["num_channels"],
        "value_range": [preprocessing.black, preprocessing.white],
        "input_size": config["input_size"],
        "roi": "mask" if framing.mask is not None else framing.region,
        "keep_aspect": framing.aspect is not None,
        "backbone": config["backbone"],
        "strides": config["strides"],
        "score_mode": config["score_mode"],
        "map_mode": config["map_mode"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _name_sizes(model: Any) -> None:
    """Names in place of torch's for the sizes that may change."""
    names = ("n_images", "height", "width", "channels")
    own = {
        dim.dim_param: name
        for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim, names, strict=True)
        if dim.dim_param
    }
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in own:
                dim.dim_param = own[dim.dim_param]


def _drop_unused(graph: Any) -> None:
    """Drop the constants that nothing reads, which torch leaves in loops, and ONNX Runtime warns of."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _drop_unused(attribute.g)
    used = _names_read(graph)
    kept = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _names_read(graph: Any) -> set[str]:
    """Names that a graph's nodes, and those of the graphs inside of them, read."""
    names = {output.name for output in graph.output}
    for node in graph.node:
        names.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                names |= _names_read(attribute.g)
    return names


def _write(model: Any, path: Path) -> None:
    """Check a model, and write it."""
    import onnx

    if model.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF:
        raise ValueError(
            f"The network has {model.ByteSize() / 1e9:.1f} GB, and an ONNX file holds 2 GB. Fit with fewer "
            "cross_conv_hidden_channels or n_coupling_blocks."
        )
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
