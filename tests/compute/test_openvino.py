"""OpenVINO as the engine."""

import copy
import pickle
import resource
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import TINY
from sklearn.base import clone

from skcsflow import CSFlowDetector, feature_cache_info
from skcsflow._compute import Runner, _openvino, _runner, resolve_device
from skcsflow.nn import CSFlowModel

openvino = pytest.importorskip("openvino")

OPENVINO = {**TINY, "engine": "openvino"}


@pytest.fixture(scope="module")
def few_images(grey_images):
    return grey_images[:9]


@pytest.fixture(scope="module")
def detector(few_images):
    return CSFlowDetector(**OPENVINO).fit(few_images)


def relative_difference(actual, expected):
    return np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, {"input_size": (64, 96)}, {"whiten": False, "num_channels": 1}], ids=str
)
def test_scores_and_maps_are_those_of_torch_to_float32s_precision(few_images, changes):
    by_torch = CSFlowDetector(**{**TINY, **changes}).fit(few_images)
    expected = by_torch.score_samples(few_images), by_torch.transform(few_images)
    by_openvino = by_torch.set_params(engine="openvino")
    assert 0 < relative_difference(by_openvino.score_samples(few_images), expected[0]) < 1e-5
    assert relative_difference(by_openvino.transform(few_images), expected[1]) < 5e-5  # a product of three


@pytest.mark.slow
def test_errors_against_float64_are_no_larger_than_torchs():
    model = CSFlowModel((64, 64), 64, backbone="tf_efficientnet_lite0").eval()
    for block in model.flow.blocks:
        torch.nn.init.constant_(block.subnet1.gamma, 0.3)
        torch.nn.init.constant_(block.subnet2.gamma, 0.3)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    runner = Runner(model, torch.device("cpu"), "float32", "openvino")
    with torch.inference_mode():
        found = runner._extract([image])[:-1]
        by_torch = model.feature_extractor(image)
        exact = model.double().feature_extractor(image.double())
    for actual, plain, expected in zip(found, by_torch, exact, strict=True):
        bound = max(4 * (plain - expected).abs().max(), 1e-6 * expected.abs().max())
        assert (actual - expected).abs().max() < bound


@pytest.mark.slow
def test_biases_activations_and_arc_tangents_are_fused():
    model = CSFlowModel((64, 64), 8, backbone="tf_efficientnet_lite0", weights=None).eval()
    extractor = model.feature_extractor
    with torch.inference_mode():
        pyramid = extractor.pyramid(torch.rand(1, 3, 64, 64))
        kinds = kinds_of_layers(extractor, pyramid)
        assert kinds.count("Convolution") > 100
        assert kinds.count("Subgraph") == 0  # what OpenVINO computes in a pass of its own
        kinds = kinds_of_layers(model.flow, extractor.extract(pyramid))
    assert kinds.count("Subgraph") > 0
    assert kinds.count("Math") == 0  # arc tangents, among others, are that


def kinds_of_layers(network, inputs):
    """What OpenVINO has made of a network."""
    compiled = _openvino.CompiledNetwork(_runner._Flat(network).eval(), inputs, "float32")._compiled
    return [op.get_rt_info()["layerType"].astype(str) for op in compiled.get_runtime_model().get_ops()]


def test_arc_tangent_is_numpys():
    x = np.concatenate([np.linspace(-20, 20, 100_001), [1e-30, -1e-30, 1e30, np.inf, -np.inf]]).astype(
        np.float32
    )
    parameter = openvino.opset8.parameter([len(x)], np.float32)
    model = openvino.Model([_openvino._arc_tangent(parameter.output(0))], [parameter])
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled([x])[0], np.arctan(x.astype(np.float64)), rtol=3e-7)


@pytest.mark.slow
def test_fit_by_openvino_learns_what_fit_by_torch_learns(detector, few_images):
    fitted = CSFlowDetector(**TINY).fit(few_images)
    assert relative_difference(detector.score_samples(few_images), fitted.score_samples(few_images)) < 1e-3
    assert detector.offset_ == pytest.approx(fitted.offset_, rel=1e-3)
    np.testing.assert_array_equal(detector.predict(few_images), fitted.predict(few_images))


@pytest.mark.slow
def test_fit_twice_gives_the_same_bits(detector, few_images):
    twin = clone(detector).fit(few_images)
    np.testing.assert_array_equal(twin.score_samples(few_images), detector.score_samples(few_images))
    assert twin.offset_ == detector.offset_


@pytest.mark.slow
def test_scores_of_a_call_of_single_calls_and_of_a_shuffled_call_are_the_same_bits(detector, grey_images):
    scores = detector.score_samples(grey_images)
    order = np.random.RandomState(0).permutation(len(grey_images))
    for n_jobs in (1, 2):
        detector = copy.copy(detector).set_params(n_jobs=n_jobs)
        np.testing.assert_array_equal(detector.score_samples(grey_images[order]), scores[order])
    singly = [detector.set_params(n_jobs=1).score_samples(x[None])[0] for x in grey_images[:9]]
    np.testing.assert_array_equal(singly, scores[:9])


@pytest.mark.slow
def test_memory_gives_the_same_bits_and_tells_engines_apart(detector, few_images, tmp_path):
    cached = CSFlowDetector(**OPENVINO, memory=tmp_path)
    for _ in range(2):
        cached.fit(few_images)
        np.testing.assert_array_equal(cached.score_samples(few_images), detector.score_samples(few_images))
    assert feature_cache_info(tmp_path).n_images == len(few_images)
    CSFlowDetector(**TINY, memory=tmp_path).fit(few_images)
    assert feature_cache_info(tmp_path).n_images == 2 * len(few_images)


@pytest.mark.slow
def test_training_on_after_scoring_is_not_answered_by_the_network_as_it_was(detector, few_images):
    detector = pickle.loads(pickle.dumps(detector))
    before = detector.score_samples(few_images)
    detector.partial_fit(few_images)
    after = detector.score_samples(few_images)
    assert not np.array_equal(after, before)
    assert relative_difference(after, detector.set_params(engine="torch").score_samples(few_images)) < 1e-5
    detector.set_params(engine="openvino")
    with torch.no_grad():
        detector.model_.flow.blocks[0].subnet1.gamma.add_(0.2)
    assert not np.array_equal(detector.score_samples(few_images), after)


@pytest.mark.slow
def test_auto_is_the_cpu_also_where_there_is_a_gpu(detector, few_images, monkeypatch):
    saved = pickle.dumps(detector)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    loaded = pickle.loads(saved)
    assert loaded.device_.type == "cpu"
    assert resolve_device("auto", "openvino").type == "cpu"  # what a fit asks
    assert resolve_device("auto", "torch").type == "cuda"
    np.testing.assert_array_equal(loaded.score_samples(few_images), detector.score_samples(few_images))
    with pytest.raises(ValueError, match=r"engine='openvino' computes on the CPU"):
        CSFlowDetector(**{**OPENVINO, "device": "cuda"}).fit(few_images)


def test_double_precision_is_refused_with_its_name(few_images):
    with pytest.raises(ValueError, match=r"engine='openvino' has no precision='float64'"):
        CSFlowDetector(**{**OPENVINO, "precision": "float64"}).fit(few_images)


@pytest.mark.slow
def test_a_size_that_the_backbone_cannot_take_is_refused_as_by_torch(few_images):
    changes = {"backbone": "inception_v3", "input_size": (224, 200), "strides": (32, 64, 128)}
    detector = CSFlowDetector(**{**OPENVINO, **changes})
    with pytest.raises(ValueError, match=r"backbone='inception_v3' can't take images of 224 x 200 pixels"):
        detector.fit(few_images[:2])


def test_an_unknown_engine_is_refused(few_images):
    with pytest.raises(ValueError, match="'engine' parameter"):
        CSFlowDetector(**{**TINY, "engine": "onnx"}).fit(few_images)


def test_without_the_package_it_says_what_to_install(detector, few_images):
    loaded = pickle.loads(pickle.dumps(detector))
    with mock.patch.dict(sys.modules, {"openvino": None}):
        with pytest.raises(ImportError, match=r"skcsflow\[openvino\].*engine='torch'"):
            loaded.score_samples(few_images)
        assert np.isfinite(loaded.set_params(engine="torch").score_samples(few_images)).all()


@pytest.mark.slow
def test_what_takes_long_to_import_is_imported_by_nobody_who_does_not_ask_for_it():
    script = "import sys, skcsflow; print({'openvino', 'skops', 'fastapi', 'onnx', 'jinja2.ext'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert found.stdout == "set()\n"


@pytest.mark.slow
def test_models_that_are_loaded_used_and_dropped_leave_no_memory_behind(few_images):
    params = {**OPENVINO, "backbone": "tf_efficientnet_lite0", "weights": "auto", "n_epochs": 1}
    saved = pickle.dumps(CSFlowDetector(**{**params, "cross_conv_hidden_channels": 64}).fit(few_images[:2]))
    used = []
    for _ in range(20):
        pickle.loads(saved).score_samples(few_images[:1])
        used.append(resident_bytes())
    assert used[-1] - used[4] < 60e6  # one model takes about 190 MB


def resident_bytes():
    """Bytes that this process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
