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
import safetensors.torch
import skops.io
import timm
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skcsflow import CSFlowDetector
from skcsflow._persistence import pack_model, unpack_model
from skcsflow.nn._weights import local_weights


def by_joblib(detector):
    buffer = io.BytesIO()
    joblib.dump(detector, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


def by_pickle(detector):
    return pickle.loads(pickle.dumps(detector))


def by_skops(detector):
    """With no type trusted but our own."""
    data = skops.io.dumps(detector)
    assert skops.io.get_untrusted_types(data=data) == ["skcsflow._detector.CSFlowDetector"]
    return skops.io.loads(data, trusted=["skcsflow._detector.CSFlowDetector"])


WAYS = [by_joblib, by_pickle, copy.deepcopy, by_skops]


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
        {"whiten": False, "map_mode": "max", "score_mode": "top"},
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


def test_file_from_a_simulated_gpu_holds_no_trace_of_it_and_loads(fitted, grey_images, monkeypatch):
    detector = copy.copy(fitted)
    detector.__dict__ = {**vars(fitted), "device_": torch.device("cuda:3")}
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
    assert b"ctorch" not in data
    loaded = pickle.loads(data)
    assert loaded.device_ == torch.device("cpu")
    np.testing.assert_array_equal(loaded.score_samples(grey_images), fitted.score_samples(grey_images))


def test_random_backbone_is_stored_whatever_became_of_the_parameter(tiny_params, grey_images):
    detector = CSFlowDetector(**tiny_params).fit(grey_images[:4]).set_params(store_backbone=False)
    for way in WAYS:
        np.testing.assert_array_equal(
            way(detector).score_samples(grey_images), detector.score_samples(grey_images)
        )


def test_weights_in_torch_hubs_cache_are_found_again(grey_images, tmp_path, monkeypatch):
    config = timm.models.get_pretrained_cfg("legacy_seresnet18")
    assert not config.hf_hub_id
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = config.url.rsplit("/", 1)[1]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(timm.create_model("legacy_seresnet18").state_dict(), tmp_path / "hub" / "checkpoints" / name)
    found = local_weights("legacy_seresnet18", "auto")
    assert found == tmp_path / "hub" / "checkpoints" / name


def test_partial_fit_goes_on_training_a_loaded_detector(tiny_params, grey_images):
    detector = CSFlowDetector(**tiny_params, feature_noise=0).fit(grey_images)
    loaded = by_joblib(detector)
    for d in (detector, loaded):
        d.partial_fit(grey_images).partial_fit(grey_images)
        assert len(d.history_["loss"]) == tiny_params["n_epochs"] + 2
    np.testing.assert_array_equal(loaded.score_samples(grey_images), detector.score_samples(grey_images))
    assert detector.history_["loss"][-1] < detector.history_["loss"][0]


# What a file holds


def size_of(detector):
    return len(pickle.dumps(detector))


def test_file_holds_no_optimizer_no_training_data_and_no_cache(tiny_params, grey_images, tmp_path):
    few = CSFlowDetector(**{**tiny_params, "memory": str(tmp_path)}).fit(grey_images[:4])
    many = CSFlowDetector(**{**tiny_params, "memory": str(tmp_path)}).fit(np.tile(grey_images, (20, 1, 1)))
    assert abs(size_of(few) - size_of(many)) < 100
    n_bytes = sum(t.numel() * t.element_size() for t in many.model_.state_dict().values())
    assert n_bytes < size_of(many) < n_bytes + 30_000  # an optimizer would add twice the flow's parameters
    assert n_bytes + 30_000 < n_bytes + sum(2 * 4 * p.numel() for p in many.model_.flow.parameters())


@pytest.fixture(scope="module")
def without_backbone(grey_images):
    params = {"input_size": 64, "cross_conv_hidden_channels": 8, "n_coupling_blocks": 1, "n_epochs": 1}
    return CSFlowDetector(**params, store_backbone=False, random_state=0).fit(grey_images[:6])


@pytest.mark.parametrize("way", WAYS)
def test_file_without_backbone_is_smaller_and_gives_the_same_bits(without_backbone, grey_images, way):
    scores = without_backbone.score_samples(grey_images)
    np.testing.assert_array_equal(way(way(without_backbone)).score_samples(grey_images), scores)
    n_backbone = sum(t.nbytes for t in without_backbone.model_.feature_extractor.state_dict().values())
    whole = copy.deepcopy(without_backbone).set_params(store_backbone=True)
    assert size_of(whole) - size_of(without_backbone) > 0.99 * n_backbone


@pytest.mark.slow
def test_file_without_backbone_touches_no_network(tiny_params, grey_images, tmp_path):
    # timm's own cache, as its hub leaves it behind, with weights that timm would otherwise download.
    model = timm.create_model("test_efficientnet")
    hub_id = timm.models.get_pretrained_cfg("test_efficientnet").hf_hub_id
    cached = tmp_path / "home" / "hub" / f"models--{hub_id.replace('/', '--')}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    (cached / "snapshots" / ("0" * 40)).mkdir(parents=True)
    weights = cached / "snapshots" / ("0" * 40) / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), weights)
    params = {**tiny_params, "weights": "auto", "store_backbone": False}
    np.save(tmp_path / "X.npy", grey_images[:5])
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    paths = [str(tmp_path / name) for name in ("detector.joblib", "X.npy", "scores.npy")]

    def run(script):
        return subprocess.run(
            [sys.executable, "-c", script, *paths],
            env=environment, cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip

    fit = (
        "import sys, joblib, numpy as np\nfrom skcsflow import CSFlowDetector\nX = np.load(sys.argv[2])\n"
        f"detector = CSFlowDetector(**{params!r}).fit(X)\njoblib.dump(detector, sys.argv[1])\n"
        "np.save(sys.argv[3], detector.score_samples(X))"
    )
    environment["HF_HUB_OFFLINE"] = "1"
    assert run(fit).returncode == 0
    expected = np.load(paths[2])
    del environment["HF_HUB_OFFLINE"]
    assert run(FRESH).returncode == 0
    np.testing.assert_array_equal(np.load(paths[2]), expected)
    safetensors.torch.save_file(
        {name: t * 1.01 for name, t in model.state_dict().items() if t.is_floating_point()}
        | {name: t for name, t in model.state_dict().items() if not t.is_floating_point()},
        weights,
    )
    assert (
        "ValueError: The backbone='test_efficientnet' with weights='auto' that was found here is not"
        in run(FRESH).stderr
    )
    weights.unlink()
    error = run(FRESH).stderr
    assert "OSError: This CSFlowDetector was saved with store_backbone=False" in error
    assert "local cache" in error


def test_file_without_backbone_whose_weights_are_gone_raises_with_their_path(
    tiny_params, grey_images, tmp_path
):
    weights = tmp_path / "weights.pt"
    torch.save(timm.create_model("test_efficientnet").state_dict(), weights)
    detector = CSFlowDetector(**{**tiny_params, "weights": weights}, store_backbone=False).fit(
        grey_images[:4]
    )
    data = pickle.dumps(detector)
    np.testing.assert_array_equal(
        pickle.loads(data).score_samples(grey_images), detector.score_samples(grey_images)
    )
    weights.unlink()
    with pytest.raises(OSError, match=r"store_backbone=False, and the weights=.*weights\.pt"):
        pickle.loads(data)


def test_fit_random_backbone_that_is_not_stored_raises(tiny_params, grey_images):
    with pytest.raises(ValueError, match="store_backbone=False needs weights that can be found again"):
        CSFlowDetector(**tiny_params, store_backbone=False).fit(grey_images[:4])


# On a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("way", WAYS)
def test_gpu_detector_stays_there_and_loads_there(tiny_params, grey_images, way):
    detector = CSFlowDetector(**{**tiny_params, "device": "cuda"}).fit(grey_images)
    loaded = way(detector)
    for d in (detector, loaded):
        assert d.device_.type == "cuda"
        assert {p.device.type for p in d.model_.parameters()} == {"cuda"}
    np.testing.assert_array_equal(loaded.score_samples(grey_images), detector.score_samples(grey_images))


@pytest.mark.gpu
def test_gpu_detector_loads_and_scores_where_there_is_no_gpu(tiny_params, grey_images, tmp_path):
    detector = CSFlowDetector(**{**tiny_params, "device": "cuda"}).fit(grey_images)
    joblib.dump(detector, tmp_path / "detector.joblib")
    np.save(tmp_path / "X.npy", grey_images)
    paths = [str(tmp_path / name) for name in ("detector.joblib", "X.npy", "scores.npy")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", FRESH, *paths], check=True, env=environment)
    np.testing.assert_allclose(np.load(paths[2]), detector.score_samples(grey_images), rtol=1e-4)


def test_file_from_before_a_parameter_loads_with_what_was_done_then(tiny_params, grey_images):
    fitted = CSFlowDetector(**tiny_params).fit(grey_images)
    state = fitted.__getstate__()
    for name in (
        "engine",
        "feature_noise",
        "feature_smoothing",
        "map_smoothing",
        "map_size",
        "map_threshold_",
        "score_mode",
    ):
        del state[name]
    for name in ("feature_smoothing", "map_smoothing", "score_mode"):
        del state["model_"]["config"][name]
    loaded = CSFlowDetector.__new__(CSFlowDetector)
    loaded.__setstate__(state)
    np.testing.assert_array_equal(loaded.score_samples(grey_images), fitted.score_samples(grey_images))
    np.testing.assert_array_equal(loaded.transform(grey_images), fitted.transform(grey_images))
    assert loaded.get_params()["engine"] == "torch"
    assert loaded.get_params()["feature_noise"] == 0
    assert loaded.get_params()["feature_smoothing"] == 1
    assert loaded.get_params()["score_mode"] == "mean"
    with pytest.raises(NotFittedError, match="before there was a map_threshold_"):
        loaded.predict_masks(grey_images)
