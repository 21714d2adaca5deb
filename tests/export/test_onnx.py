"""ONNX files say what the detector says."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import BY_DEFAULT, FAST
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skcsflow import CSFlowDetector
from skcsflow._regions import mark_pixels
from skcsflow.export import to_onnx, verify_onnx

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = pytest.mark.slow  # an export takes ten seconds

PAPER_LIKE = {"whiten": False, "score_mode": "mean", "map_mode": "max", "strides": (32, 64, 128)}


def textures(n, height=48, width=40, channels=3, seed=0):
    """Waves with a little noise; the last third with a bright spot each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phase = rng.uniform(0, 6, size=(n, 1, 1, 1))
    waves = np.sin(y / 3 + phase[..., 0]) * np.cos(x / 4 + phase[..., 0])
    values = 128 + 60 * waves[..., None] + rng.normal(0, 8, size=(n, height, width, channels))
    for i in range(2 * n // 3, n):
        top, left = rng.integers(0, height - 9), rng.integers(0, width - 9)
        values[i, top : top + 9, left : left + 9] = 255
    return np.clip(values, 0, 255).astype(np.uint8)


def fit(images, **params):
    return CSFlowDetector(**{**FAST, **BY_DEFAULT, "strides": (16, 32), **params}).fit(images)


def run(path, images):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


@pytest.fixture(scope="module")
def images():
    return textures(30)


@pytest.fixture(scope="module")
def detector(images):
    return fit(images[:20], random_state=0).calibrate(textures(19, seed=1), fpr=0.1)


@pytest.fixture(scope="module")
def path(detector, images, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "detector.onnx"
    found = to_onnx(detector, path, X=images[15:25])
    assert found.passed
    assert found.n_images == 10
    return path


def assert_says_the_same(outputs, detector, images):
    """Exactly as :func:`verify_onnx` promises, by plain NumPy."""
    scores, maps = detector.score_samples(images), detector.transform(images)
    size = np.maximum(np.abs(scores), abs(detector.offset_))
    assert (np.abs(outputs["score"] - scores) <= 3e-5 * size).all()
    assert outputs["score"].dtype == np.float64
    np.testing.assert_array_equal(outputs["label"], detector.predict(images))
    assert outputs["label"].dtype == np.int64
    assert outputs["anomaly_map"].dtype == np.float32
    np.testing.assert_allclose(outputs["anomaly_map"], maps, rtol=0, atol=1e-4 * np.abs(maps).max())
    assert outputs["mask"].dtype == bool
    level = detector.model_.anomaly_map_generator.half_level
    for mask, anomaly_map in zip(outputs["mask"], outputs["anomaly_map"], strict=True):
        np.testing.assert_array_equal(mask, mark_pixels(anomaly_map, detector.map_threshold_, level))
    assert np.mean(outputs["mask"] != detector.predict_masks(images)) < 1e-3


def test_a_batch_gives_scores_labels_maps_masks_and_p_values_of_the_detector(path, detector, images):
    outputs = run(path, images)
    assert list(outputs) == ["score", "label", "anomaly_map", "mask", "p_value"]
    assert_says_the_same(outputs, detector, images)
    np.testing.assert_array_equal(outputs["p_value"], detector.p_values(images))
    assert set(outputs["label"]) == {-1, 1}
    assert 0 < outputs["mask"].mean() < 0.5


@pytest.mark.parametrize(
    "shape", [(48, 40, 1), (33, 71, 3), (200, 130, 4), (12, 10, 3), (64, 64, 1)], ids=str
)
def test_images_of_any_size_grey_and_with_alpha(path, detector, shape):
    images = textures(2, *shape, seed=3)
    outputs = run(path, images)
    assert outputs["anomaly_map"].shape == (2, *shape[:2])
    assert_says_the_same(outputs, detector, images)


def test_openvino_reads_the_same_file(path, detector, images):
    pytest.importorskip("openvino")
    for some in (images[12:24], textures(2, 75, 131, 1), textures(2, 20, 301, 4)):
        found = verify_onnx(path, detector, some, engine="openvino")
        assert found.passed, found


def test_verification_tells_another_detector_apart(path, detector, images):
    other = fit(images[:20], random_state=1).calibrate(textures(19, seed=1), fpr=0.1)
    found = verify_onnx(path, other, images[:3])
    assert not found.passed
    assert found.score_difference > 1e-3
    found = verify_onnx(path, detector, images[:3])
    assert found.passed
    assert found.rows["score"].shape == (3,)
    assert found.rows["score"].max() == found.score_difference < 1e-5


def test_verification_sees_another_threshold(path, images, detector):
    other = CSFlowDetector()
    vars(other).update(vars(detector))
    scores = detector.score_samples(images[:4])
    other.offset_ = float(np.sort(scores)[1:3].mean())
    found = verify_onnx(path, other, images[:4])
    assert found.n_labels_differ == np.sum(detector.predict(images[:4]) != other.predict(images[:4])) > 0
    assert not found.passed
    other.offset_, other.map_threshold_ = detector.offset_, float(detector.transform(images[-4:]).min())
    found = verify_onnx(path, other, images[-4:])
    assert found.mask_difference > 1e-3
    assert not found.passed


def test_a_detector_of_a_gpu_is_compared_as_it_is_on_the_cpu(path, detector, images):
    other = CSFlowDetector(device="cuda")
    vars(other).update(
        {**vars(detector), "device_": torch.device("cuda"), "precision_": "tf32", "device": "cuda"}
    )
    found = verify_onnx(path, other, images[:3])
    assert found.passed
    assert other.device_.type == "cuda"


def test_a_file_that_fails_is_not_written_and_the_old_one_stays(path, images, tmp_path):
    target = tmp_path / "detector.onnx"
    target.write_bytes(b"old")
    other = fit(images[:20], random_state=1).calibrate(textures(19, seed=1), fpr=0.1)
    of_another = mock.patch("skcsflow.export._onnx._convert", return_value=onnx.load(path))
    with (
        of_another,
        pytest.raises(RuntimeError, match=r"doesn't say what the detector says of 3 images: scor"),
    ):
        to_onnx(other, target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_file_is_whole_and_names_what_it_holds(path, detector):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import if not o.domain] == [("", 18)]
    sizes = [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["n_images", "height", "width", "channels"]
    # OpenVINO reads these wrongly.
    resizes = [node for node in model.graph.node if node.op_type == "Resize"]
    assert not [a for node in resizes for a in node.attribute if a.name == "antialias" and a.i]
    (entry,) = [p for p in model.metadata_props if p.key == "skcsflow"]
    about = json.loads(entry.value)
    assert about["offset"] == detector.offset_
    assert about["map_threshold"] == detector.map_threshold_
    assert about["n_calibration_scores"] == 19
    assert about["value_range"] == [0, 255]
    assert about["dtype"] == "uint8"
    assert about["input_size"] == [32, 32]
    assert about["versions"]["torch"] == version("torch")


def test_loading_the_file_prints_no_warning(path):
    script = f"import onnxruntime; onnxruntime.InferenceSession({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_nothing_but_uint8_is_taken(path, detector, images):
    with pytest.raises(ValueError, match=r"X\[0\] holds uint16, but the file takes uint8 .*dtype='uint16'"):
        verify_onnx(path, detector, images[:2].astype(np.uint16))


def test_a_file_of_others_is_refused(detector, images, tmp_path):
    path = tmp_path / "x.onnx"
    with pytest.raises(FileNotFoundError, match=r"x\.onnx"):
        verify_onnx(path, detector, images[:1])
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "g", [x], [y])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), path
    )
    with pytest.raises(ValueError, match="no file of skcsflow"):
        verify_onnx(path, detector, images[:1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "int8"}, "dtype must be 'uint8' or 'uint16' or 'float32', got 'int8'"),
        ({"image_size": (0, 5)}, "image_size"),
        ({"channel_order": "gbr"}, "channel_order must be 'rgb' or 'bgr', got 'gbr'"),
        ({"opset": 17}, "opset must be an int of at least 18, got 17"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused_at_once(detector, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        to_onnx(detector, tmp_path / "x.onnx", **arguments)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused_at_once(detector, images, tmp_path):
    path = tmp_path / "x.onnx"
    with pytest.raises(NotFittedError):
        to_onnx(CSFlowDetector(), path)
    with pytest.raises(TypeError, match=r"got Pipeline\. Of a Pipeline, pass the detector"):
        to_onnx(make_pipeline(detector), path)
    with pytest.raises(ValueError, match=r"tile_size=\(24, 24\) can't be exported.*tile_size=None"):
        to_onnx(fit(images[:12], tile_size=24), path)
    other = CSFlowDetector()
    vars(other).update({**vars(detector), "precision_": "bfloat16"})
    with pytest.raises(ValueError, match=r"precision='bfloat16' can't be exported.*precision='float32'"):
        to_onnx(other, path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        to_onnx(detector, tmp_path / "nowhere" / "x.onnx")


def test_without_the_package_it_says_what_to_install(detector, tmp_path):
    with (
        mock.patch.dict(sys.modules, {"onnxscript": None}),
        pytest.raises(ImportError, match=r"onnxscript: pip install \"skcsflow\[onnx\]\""),
    ):
        to_onnx(detector, tmp_path / "x.onnx")


VARIANTS = {
    "paper": (PAPER_LIKE, {}),
    "all": ({"map_mode": "all", "strides": (16, 32, 64)}, {}),
    "16 bit": ({"value_range": (0, 4095)}, {"dtype": "uint16"}),
    "float": ({}, {"dtype": "float32"}),
    "float, range": ({"value_range": (-3.0, 260.0)}, {"dtype": "float32"}),
    "fixed, bgr": ({}, {"image_size": (48, 40), "channel_order": "bgr"}),
    "aspect, channels": ({"keep_aspect": True, "input_size": (64, 40), "num_channels": 5}, {}),
    "box": ({"roi": (5, 3, 37, 40), "keep_aspect": True}, {}),
    "mask": ({"roi": "disc"}, {}),
    "float64, opset": ({"precision": "float64"}, {"opset": 21}),
    "transformer": ({"backbone": "test_vit", "strides": (16, 32)}, {}),
    "convnext": ({"backbone": "test_convnext", "strides": (16, 32, 64)}, {}),
}


def in_type(images, dtype):
    """The same images for a detector of that kind of file."""
    return {"uint8": images, "uint16": images.astype(np.uint16) * 16, "float32": np.float32(images) / 255}[
        dtype
    ]


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_detector_and_of_file(variant, tmp_path):
    params, options = VARIANTS[variant]
    path = tmp_path / "detector.onnx"
    images = in_type(textures(24, channels=params.get("num_channels", 3)), options.get("dtype", "uint8"))
    if variant == "float, range":
        images = images * 255
    if params.get("roi") == "disc":
        y, x = np.mgrid[:48, :40]
        params = {**params, "roi": (y - 20) ** 2 + (x - 22) ** 2 < 200}
    detector = fit(images[:16], **params)
    assert to_onnx(detector, path, **options).passed
    given = images[..., ::-1].copy() if options.get("channel_order") == "bgr" else images
    assert_says_the_same(run(path, given), detector, images)
    sizes = [(48, 40)] if "image_size" in options or variant == "mask" else [(48, 40), (61, 47), (130, 57)]
    for engine in ("onnxruntime", "openvino"):
        for size in sizes:
            some = in_type(
                textures(3, *size, params.get("num_channels", 3), seed=5), options.get("dtype", "uint8")
            )
            some = some * 255 if variant == "float, range" else some
            found = verify_onnx(path, detector, list(some), engine=engine)
            assert found.passed, (engine, size, found)
