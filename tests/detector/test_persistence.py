"""Saving and loading, by every way that scikit-learn's users know."""

import copy
import io
import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
import timm
import torch
from conftest import BY_DEFAULT
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skcsflow import CSFlowDetector
from skcsflow._detector._persistence import digest_of_state, pack_model, unpack_model

CPU = torch.device("cpu")


def by_joblib(detector):
    buffer = io.BytesIO()
    joblib.dump(detector, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


def by_pickle(detector):
    return pickle.loads(pickle.dumps(detector))


def by_skops(detector):
    """With no type trusted but our own."""
    skops_io = pytest.importorskip("skops.io")
    data = skops_io.dumps(detector)
    assert skops_io.get_untrusted_types(data=data) == ["skcsflow.CSFlowDetector"]
    return skops_io.loads(data, trusted=["skcsflow.CSFlowDetector"])


WAYS = [by_joblib, by_pickle, copy.deepcopy, by_skops]


def with_state(state):
    """A detector that was saved in this state."""
    saved = {name: value for name, value in state.items() if name != "_digest"}
    detector = CSFlowDetector.__new__(CSFlowDetector)
    detector.__setstate__({**saved, "_digest": digest_of_state(saved)})
    return detector


@pytest.mark.parametrize("way", WAYS)
def test_round_trips_give_the_same_bits_and_leave_the_live_detector_alone(fitted, grey_images, way):
    X = grey_images[:6]
    scores, maps, score = fitted.score_samples(X), fitted.transform(X), fitted.score(X)
    before = dict(vars(fitted))
    tensors = {name: (t, t.clone()) for name, t in fitted.model_.state_dict(keep_vars=True).items()}
    loaded = fitted
    for _ in range(2):
        loaded = way(loaded)
        np.testing.assert_array_equal(loaded.score_samples(X), scores)
        np.testing.assert_array_equal(loaded.transform(X), maps)
        assert loaded.score(X) == score
        assert loaded.get_params() == fitted.get_params()
        assert set(vars(loaded)) == set(vars(fitted))
        assert loaded.offset_ == fitted.offset_
        assert loaded.device_ == fitted.device_
        for name, values in fitted.history_.items():
            np.testing.assert_array_equal(loaded.history_[name], values)
    with torch.no_grad():  # the two share no memory
        for p in loaded.model_.parameters():
            p.zero_()
    assert vars(fitted) == before
    for name, t in fitted.model_.state_dict(keep_vars=True).items():
        assert t is tensors[name][0]
        assert torch.equal(t, tensors[name][1])
    np.testing.assert_array_equal(fitted.score_samples(X), scores)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"whiten": False, "map_mode": "all", "score_mode": "fused"},
        BY_DEFAULT,
        {"precision": "float64"},
        {"precision": "bfloat16"},
        {"num_channels": 1, "input_size": (96, 64), "clamp": 1.5, "n_coupling_blocks": 1},
        {"n_epochs": np.int64(1), "input_size": np.int64(64), "cross_conv_hidden_channels": np.int32(4)},
        {"backbone": "resnet10t", "input_size": 32, "n_epochs": 1},
    ],
    ids=str,
)
def test_round_trip_of_other_configurations_gives_the_same_bits(tiny_params, grey_images, changes):
    X = grey_images[:4]
    detector = CSFlowDetector(**{**tiny_params, **changes}).fit(X)
    loaded = by_pickle(detector)
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    np.testing.assert_array_equal(loaded.transform(X), detector.transform(X))


def test_round_trip_of_a_detector_of_rows_keeps_their_shape(tiny_params, blobs):
    detector = CSFlowDetector(**tiny_params, image_shape=(2, 8)).fit(blobs[:9])
    loaded = by_joblib(detector)
    assert loaded.image_shape_ == (2, 8)
    assert loaded.n_features_in_ == 16
    np.testing.assert_array_equal(loaded.score_samples(blobs[:9]), detector.score_samples(blobs[:9]))
    with pytest.raises(ValueError, match="expecting 16 features"):
        loaded.predict(blobs[:, :9])


@pytest.mark.parametrize("way", WAYS)
def test_round_trip_of_an_unfitted_detector_stays_unfitted(tiny_params, grey_images, way):
    loaded = way(CSFlowDetector(**tiny_params))
    assert loaded.get_params() == CSFlowDetector(**tiny_params).get_params()
    with pytest.raises(NotFittedError):
        loaded.predict(grey_images)


@pytest.mark.slow
def test_loaded_detector_can_be_fitted_again_and_trained_further(tiny_params, grey_images):
    X = grey_images[:6]
    detector = CSFlowDetector(**{**tiny_params, "warm_start": True}).fit(X)
    loaded = by_pickle(detector)
    np.testing.assert_array_equal(loaded.fit(X).score_samples(X), detector.fit(X).score_samples(X))
    loaded = by_joblib(detector)
    for d in (detector, loaded):
        d.partial_fit(X)
        assert len(d.history_["loss"]) == 2 * tiny_params["n_epochs"] + 1
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    np.testing.assert_array_equal(
        clone(loaded).fit(X).score_samples(X), clone(detector).fit(X).score_samples(X)
    )


# What a file holds


def test_saved_state_holds_numpy_and_plain_values_alone(fitted):
    def walk(value, path):
        if isinstance(value, dict):
            assert type(value) is dict, path
            for key, item in value.items():
                assert type(key) is str, path
                walk(item, f"{path}.{key}")
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                walk(item, f"{path}[{i}]")
        elif isinstance(value, np.ndarray):
            assert value.dtype.kind in "fiu", path
        else:
            assert value is None or type(value) in (bool, int, float, str), (path, type(value))

    walk(fitted.__getstate__(), "state")


def test_saved_file_names_nothing_of_torch(fitted):
    modules = pickle.dumps(fitted, protocol=2)  # which spells out every module's name
    assert b"ctorch" not in modules
    assert b"ctimm" not in modules


@pytest.mark.slow
def test_saved_file_holds_no_optimizer_no_training_data_and_no_cache(tiny_params, grey_images, tmp_path):
    few, many = (CSFlowDetector(**tiny_params, memory=str(tmp_path)).fit(grey_images[:n]) for n in (4, 24))
    many.score_samples(grey_images)
    sizes = [len(pickle.dumps(detector)) for detector in (few, many)]
    assert abs(sizes[0] - sizes[1]) < 100 + 8 * 20  # 8 bytes to recognise each training image by
    n_bytes = sum(t.numel() * t.element_size() for t in many.model_.state_dict().values())
    n_flow = sum(p.numel() * p.element_size() for p in many.model_.flow.parameters())
    assert (
        n_bytes < sizes[1] < n_bytes + 30_000 < n_bytes + 2 * n_flow
    )  # an optimizer has two numbers for each


# Where a file is loaded

FRESH = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the network was touched")
socket.socket.connect = socket.getaddrinfo = refuse
import joblib, numpy as np
X = np.load(sys.argv[2])
np.save(sys.argv[3], joblib.load(sys.argv[1]).score_samples(X))
"""


@pytest.mark.slow
def test_saved_file_loads_in_a_fresh_process_without_network_or_weights(tiny_params, grey_images, tmp_path):
    weights = tmp_path / "weights.pt"
    torch.save(timm.create_model("test_efficientnet").state_dict(), weights)
    detector = CSFlowDetector(**{**tiny_params, "weights": weights}).fit(grey_images[:4])
    joblib.dump(detector, tmp_path / "detector.joblib")
    np.save(tmp_path / "X.npy", grey_images[:5])
    weights.unlink()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")}
    paths = [str(tmp_path / name) for name in ("detector.joblib", "X.npy", "scores.npy")]
    subprocess.run([sys.executable, "-c", FRESH, *paths], check=True, env=environment, cwd=tmp_path)
    np.testing.assert_array_equal(np.load(paths[2]), detector.score_samples(grey_images[:5]))


@pytest.mark.parametrize("package", ["skcsflow", "timm", "torch"])
def test_saved_file_of_another_version_warns_and_works(fitted, grey_images, package):
    state = fitted.__getstate__()
    assert set(state["model_"]["versions"]) == {"skcsflow", "timm", "torch"}
    state["model_"]["versions"][package] = "0.0.1"
    with pytest.warns(UserWarning, match=rf"saved with {package} 0\.0\.1 and is loaded with {package} \d"):
        loaded = with_state(state)
    X = grey_images[:2]
    np.testing.assert_array_equal(loaded.score_samples(X), fitted.score_samples(X))


def test_saved_file_of_another_backbone_of_that_name_raises(fitted):
    state = fitted.__getstate__()
    state["model_"]["fingerprint"] = "0" * 40
    with pytest.raises(ValueError, match=r"backbone='test_efficientnet'.*not the one.*fingerprint"):
        with_state(state)


def test_unpacked_model_is_frozen_where_it_was_and_in_evaluation_mode(fitted):
    model = unpack_model(pack_model(fitted.model_), CPU)
    assert not any(m.training for m in model.modules())
    assert not any(p.requires_grad for p in model.feature_extractor.parameters())
    assert all(p.requires_grad for p in model.flow.parameters())


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_saved_file_of_a_gpu_that_is_not_there_loads_on_the_cpu(fitted, grey_images, precision):
    # As fitted on a machine with many.
    loaded = with_state({**fitted.__getstate__(), "device": "cuda:99", "precision_": precision})
    assert loaded.device_ == CPU
    assert loaded.device == "cuda:99"
    assert loaded.precision_ == "float32"
    X = grey_images[:4]
    np.testing.assert_allclose(loaded.score_samples(X), fitted.score_samples(X), rtol=1e-4)


def test_saved_file_of_a_simulated_gpu_holds_no_trace_of_it(fitted_copy, grey_images, monkeypatch):
    detector = fitted_copy
    expected = detector.score_samples(grey_images[:4])
    detector.device_ = torch.device("cuda:3")
    on_cpu = []  # all that came from the GPU by now; like a real one, ours gives no arrays otherwise
    cpu, numpy = torch.Tensor.cpu, torch.Tensor.numpy

    def copy_to_cpu(tensor):
        on_cpu.append(cpu(tensor).clone())
        return on_cpu[-1]

    def to_numpy(tensor):
        if not any(tensor is t for t in on_cpu):
            raise TypeError("can't convert cuda:3 device type tensor to numpy")
        return numpy(tensor)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "cpu", copy_to_cpu)
        patch.setattr(torch.Tensor, "numpy", to_numpy)
        data = pickle.dumps(detector, protocol=2)
    assert len(on_cpu) > 20
    assert b"cuda" not in data
    loaded = pickle.loads(data)
    np.testing.assert_allclose(loaded.score_samples(grey_images[:4]), expected, rtol=1e-4)
