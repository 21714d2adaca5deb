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
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skcsflow import CSFlowDetector
from skcsflow._persistence import pack_model, unpack_model


def by_joblib(detector):
    buffer = io.BytesIO()
    joblib.dump(detector, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


def by_pickle(detector):
    return pickle.loads(pickle.dumps(detector))


WAYS = [by_joblib, by_pickle, copy.deepcopy]


@pytest.mark.parametrize("way", WAYS)
def test_round_trips_give_the_same_bits(fitted, grey_images, way):
    X = grey_images[:6]
    scores, maps, score = fitted.score_samples(X), fitted.transform(X), fitted.score(X)
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


@pytest.mark.parametrize(
    "changes",
    [
        {"whiten": False, "map_mode": "max"},
        {"precision": "float64"},
        {"precision": "bfloat16"},
        {"num_channels": 1, "input_size": (96, 64), "clamp": 1.5, "n_coupling_blocks": 1},
        {"n_epochs": np.int64(1), "input_size": np.int64(64), "cross_conv_hidden_channels": np.int32(4)},
        {"backbone": "resnet18", "input_size": 32},
    ],
    ids=str,
)
def test_round_trip_of_other_configurations_gives_the_same_bits(tiny_params, grey_images, changes):
    detector = CSFlowDetector(**{**tiny_params, **changes}).fit(grey_images[:4])
    loaded = by_pickle(detector)
    np.testing.assert_array_equal(
        loaded.score_samples(grey_images[:6]), detector.score_samples(grey_images[:6])
    )
    np.testing.assert_array_equal(loaded.transform(grey_images[:6]), detector.transform(grey_images[:6]))


def test_round_trip_of_a_detector_of_rows_keeps_their_shape(tiny_params, blobs):
    detector = CSFlowDetector(**tiny_params, image_shape=(2, 8)).fit(blobs[:9])
    loaded = by_joblib(detector)
    assert loaded.image_shape_ == (2, 8)
    assert loaded.n_features_in_ == 16
    np.testing.assert_array_equal(loaded.score_samples(blobs), detector.score_samples(blobs))
    with pytest.raises(ValueError, match="expecting 16 features"):
        loaded.predict(blobs[:, :9])


def test_loaded_detector_can_be_fitted_again_and_warm_started(tiny_params, grey_images):
    X = grey_images[:6]
    detector = CSFlowDetector(**{**tiny_params, "warm_start": True}).fit(X)
    loaded = by_pickle(detector)
    np.testing.assert_array_equal(loaded.fit(X).score_samples(X), detector.fit(X).score_samples(X))
    np.testing.assert_array_equal(
        clone(loaded).fit(X).score_samples(X), clone(detector).fit(X).score_samples(X)
    )


@pytest.mark.parametrize("way", WAYS)
def test_saving_leaves_the_live_detector_as_it_is(tiny_params, grey_images, way):
    detector = CSFlowDetector(**tiny_params).fit(grey_images[:4])
    before = dict(vars(detector))
    tensors = {name: (t, t.clone()) for name, t in detector.model_.state_dict(keep_vars=True).items()}
    scores = detector.score_samples(grey_images)
    copied = way(detector)
    assert vars(detector) == before
    for name, t in detector.model_.state_dict(keep_vars=True).items():
        assert t is tensors[name][0]
        assert torch.equal(t, tensors[name][1])
    with torch.no_grad():  # and the two share no memory
        for p in copied.model_.parameters():
            p.zero_()
    np.testing.assert_array_equal(detector.score_samples(grey_images), scores)


@pytest.mark.parametrize("way", WAYS)
def test_unfitted_detector_stays_unfitted(tiny_params, grey_images, way):
    loaded = way(CSFlowDetector(**tiny_params))
    assert loaded.get_params() == CSFlowDetector(**tiny_params).get_params()
    with pytest.raises(NotFittedError):
        loaded.predict(grey_images)


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


FRESH = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the network was touched")
socket.socket.connect = socket.getaddrinfo = refuse
import joblib, numpy as np
X = np.load(sys.argv[2])
np.save(sys.argv[3], joblib.load(sys.argv[1]).score_samples(X))
"""


def test_file_loads_in_a_fresh_process_without_network_or_weights(tiny_params, grey_images, tmp_path):
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
def test_file_of_another_version_warns_and_works(fitted, package):
    packed = pack_model(fitted.model_)
    assert set(packed["versions"]) == {"skcsflow", "timm", "torch"}
    packed["versions"][package] = "0.0.1"
    with pytest.warns(UserWarning, match=rf"saved with {package} 0\.0\.1 and is loaded with {package} \d"):
        model = unpack_model(packed, torch.device("cpu"))
    expected = fitted.model_.state_dict()
    assert all(torch.equal(t, expected[name].cpu()) for name, t in model.state_dict().items())


def test_unpacked_model_is_frozen_where_it_was_and_in_eval_mode(fitted):
    model = unpack_model(pack_model(fitted.model_), torch.device("cpu"))
    assert not any(m.training for m in model.modules())
    assert not any(p.requires_grad for p in model.feature_extractor.parameters())
    assert all(p.requires_grad for p in model.flow.parameters())


def test_file_from_a_gpu_loads_where_there_is_none(fitted, grey_images):
    state = {**fitted.__getstate__(), "device": "cuda:99"}  # as fitted on a machine with many
    loaded = CSFlowDetector.__new__(CSFlowDetector)
    loaded.__setstate__(state)
    assert loaded.device_ == torch.device("cpu")
    assert loaded.device == "cuda:99"
    np.testing.assert_allclose(
        loaded.score_samples(grey_images), fitted.score_samples(grey_images), rtol=1e-4
    )


@pytest.mark.gpu
@pytest.mark.parametrize("way", WAYS)
def test_gpu_detector_stays_there_and_loads_there(tiny_params, grey_images, way):
    detector = CSFlowDetector(**{**tiny_params, "device": "cuda"}).fit(grey_images)
    loaded = way(detector)
    for d in (detector, loaded):
        assert d.device_.type == "cuda"
        assert {p.device.type for p in d.model_.parameters()} == {"cuda"}
    np.testing.assert_array_equal(loaded.score_samples(grey_images), detector.score_samples(grey_images))
