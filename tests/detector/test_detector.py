"""The estimator's contract: parameters, fit, scores, and what goes wrong."""

import copy
import inspect
import os
import re
import threading
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import BY_DEFAULT, FAST
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils._param_validation import InvalidParameterError

from skcsflow import PAPER_PARAMS, CSFlowDetector
from skcsflow._compute import training_precision
from skcsflow._images import ImageCollection, check_images, standardize
from skcsflow._scoring import ImageScores
from skcsflow._training import FlowTrainer, resolve_n_epochs
from skcsflow.calibration import prediction_limit

CPU = torch.device("cpu")


@pytest.fixture
def images(grey_images):
    return grey_images[:12]


@pytest.fixture
def make(tiny_params):
    """Makes a tiny detector with some parameters changed."""
    return lambda **changes: CSFlowDetector(**{**tiny_params, **changes})


@pytest.fixture
def make_fast():
    """Makes a detector for what is not about its flow."""
    return lambda **changes: CSFlowDetector(**{**FAST, **changes})


def latent(detector, X):
    """z and log_det by hand, all images in one batch."""
    model = detector.model_
    images = check_images(X, model.config["num_channels"])
    batch = standardize(list(images), model.input_size, model.dtype, CPU)
    with torch.no_grad():
        z, log_det = model.flow(model.feature_extractor(batch))
    return torch.cat([m.flatten(1) for m in z], dim=1).double(), log_det.double()


# Parameters

DEFAULTS = {
    "input_size": 256, "roi": None, "tile_size": None, "tile_overlap": 0.25, "keep_aspect": False,
    "num_channels": 3, "image_shape": None, "value_range": None, "on_error": "raise",
    "max_pixels": 160_000_000, "backbone": "tf_efficientnet_lite0", "weights": "auto",
    "strides": (8, 16, 32, 64), "n_coupling_blocks": 2, "cross_conv_hidden_channels": 32,
    "kernel_size": 3, "clamp": 3.0, "whiten": True, "n_epochs": "auto", "batch_size": 8, "learning_rate": 4e-3,
    "lr_schedule": "one_cycle", "weight_decay": 1e-5, "max_grad_norm": 1.0, "feature_noise": 0.25,
    "warm_start": False, "random_state": None,
    "contamination": "auto", "score_mode": "fused", "map_mode": "fused", "memory": None, "checkpoint": None,
    "distributed": False, "device": "auto",
    "precision": "auto", "engine": "torch", "n_jobs": None, "verbose": 0,
}  # fmt: skip


def test_parameters_have_the_contracts_names_and_defaults():
    parameters = inspect.signature(CSFlowDetector).parameters
    assert {p.kind for p in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert {name: p.default for name, p in parameters.items()} == DEFAULTS
    assert CSFlowDetector().get_params() == DEFAULTS
    assert set(CSFlowDetector._parameter_constraints) == set(DEFAULTS)


def test_constructor_stores_parameters_and_checks_nothing():
    given = {name: object() for name in DEFAULTS}
    detector = CSFlowDetector(**given)
    assert vars(detector) == given
    assert all(getattr(detector, name) is value for name, value in given.items())


def test_clone_of_a_detector_has_its_parameters_alone(make_fast, images):
    detector = make_fast(clamp=2.0, input_size=(64, 32)).set_params(n_epochs=1)
    twin = clone(detector)
    assert twin.get_params() == detector.get_params()
    assert twin.get_params()["n_epochs"] == 1
    detector.fit(images[:4])
    assert not hasattr(clone(detector), "model_")
    assert detector.get_params() == twin.get_params()


def test_paper_params_are_the_papers():
    assert isinstance(PAPER_PARAMS, dict)
    detector = CSFlowDetector(**PAPER_PARAMS)
    expected = {
        "backbone": "tf_efficientnet_b5.aa_in1k", "input_size": 768, "n_coupling_blocks": 4,
        "cross_conv_hidden_channels": 1024, "strides": (32, 64, 128), "kernel_size": (3, 3, 3, 5),
        "clamp": 3.0, "n_epochs": 240, "learning_rate": 2e-4,
        "batch_size": 16, "whiten": False, "lr_schedule": "constant", "feature_noise": 0.0,
        "score_mode": "mean", "map_mode": "max", "precision": "float32",
    }  # fmt: skip
    assert {name: getattr(detector, name) for name in expected} == expected


@pytest.mark.slow
def test_paper_params_build_275_million_parameters_and_take_a_step():
    images = np.random.RandomState(0).randint(0, 256, (2, 768, 768, 3)).astype(np.uint8)
    params = {**PAPER_PARAMS, "weights": None, "n_epochs": 1, "batch_size": 2, "random_state": 0}
    detector = CSFlowDetector(**params).fit(images)
    flow = detector.model_.flow
    assert round(sum(p.numel() for p in flow.parameters()) / 1e6) == 275
    assert np.isfinite(detector.history_["loss"]).all()
    assert all((p != 0).all() for name, p in flow.named_parameters() if name.endswith("gamma"))
    assert detector.transform(images[:1]).shape == (1, 768, 768)


COUNTS = (0, -1, 1.5, "3", None)
BAD_VALUES = {
    "n_coupling_blocks": COUNTS,
    "cross_conv_hidden_channels": (*COUNTS, (), (8, 8, 8), (8, 0)),
    "num_channels": COUNTS,
    "n_epochs": (*COUNTS[:3], "all", None),
    "batch_size": COUNTS,
    "clamp": (0, -1.0, np.nan, np.inf, "1", None),
    "learning_rate": (0, -1.0, np.nan, np.inf, "1", None),
    "max_grad_norm": (0, -1.0, np.nan, np.inf, "1"),
    "weight_decay": (-1e-9, np.nan, np.inf, "1", None),
    "feature_noise": (-1e-9, np.nan, np.inf, "1", None),
    "contamination": (0, -0.1, 0.51, np.nan, "all", None),
    "kernel_size": (0, 2, "3", None, (3, 2), (3, 3, 3), (), (3, 0)),
    "whiten": (2, "yes", None),
    "warm_start": (2, "yes", None),
    "map_mode": ("mean", 1, None),
    "lr_schedule": ("mean", 1, None),
    "precision": ("mean", 1, None),
    "engine": ("onnx", 1, None),
    "score_mode": ("max", 1, None),
    "backbone": (3, None, "no_such_network"),
    "strides": ((), (8, 32), (32, 16), "8", 8, (8.5, 17), (1, 2), None),
    "weights": (3, True),
    "input_size": (31, 0, 64.0, "64", None, (64,), (64, 64, 3), (64, 31), (64.0, 64), [], (0, 64)),
    "image_shape": (7, "7", (7,), (7, 7, 3, 1), (0, 7), (-1, 7), (7.0, 7), ()),
    "memory": (1, 2.5),
    "device": (0, None, "gpu", "cuda:99", "meta", ""),
    "n_jobs": (0, 1.5, "2"),
    "random_state": (-1, "0", 1.5),
    "verbose": (-1, "yes", None),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_fit_with_a_bad_parameter_raises_with_its_name_and_value(make, images, name):
    for value in BAD_VALUES[name]:
        detector = make(**{name: value})
        with pytest.raises((ValueError, TypeError)) as caught:
            detector.fit(images[:4])
        assert name in str(caught.value)
        assert str(value) in str(caught.value)
        with pytest.raises(NotFittedError):
            detector.predict(images)


def test_fit_with_a_parameter_out_of_range_raises_in_scikit_learns_words(make, images):
    with pytest.raises(
        InvalidParameterError, match="The 'n_epochs' parameter of CSFlowDetector must be a str among"
    ):
        make(n_epochs=0).fit(images)


def test_fit_with_unreadable_weights_raises_with_their_path(make, images, tmp_path):
    for weights in ("nowhere.pt", Path("nowhere.pt")):
        with pytest.raises(FileNotFoundError, match=r"weights must be .* none at 'nowhere.pt'"):
            make(weights=weights).fit(images)
    path = tmp_path / "weights.pt"
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"weights='.*weights\.pt' of backbone=.* could not be read"):
        make(weights=path).fit(images)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_fit_on_a_gpu_where_there_is_none_raises(make, images):
    for device in ("cuda", "cuda:0", torch.device("cuda")):
        with pytest.raises(ValueError, match=r"device='cuda.*' is not available"):
            make(device=device).fit(images)


def test_fit_in_tf32_on_the_cpu_raises(make, images):
    with pytest.raises(ValueError, match=r"precision='tf32' needs a CUDA device .* device is 'cpu'"):
        make(precision="tf32", device="cpu").fit(images)


@pytest.mark.parametrize("image_shape", [(5, 5), (48, 40, 3)])
def test_fit_with_an_image_shape_that_does_not_fit_rows_raises(make, images, image_shape):
    with pytest.raises(ValueError, match=r"image_shape=.* elements, but the rows of X have 1920"):
        make(image_shape=image_shape).fit(images.reshape(12, -1))


# Fitting


def test_fit_returns_self_with_fitted_attributes(make_fast, images):
    detector = make_fast(device="cpu")
    assert detector.fit(images[:4]) is detector
    assert isinstance(detector.offset_, float)
    assert isinstance(detector.map_threshold_, float)
    assert detector.device_ == CPU
    assert detector.precision_ == "float32"
    assert detector.image_shape_ is None
    assert not hasattr(detector, "n_features_in_")
    assert not hasattr(detector, "calibration_scores_")
    assert not detector.model_.training


@pytest.mark.parametrize("method", ["score_samples", "predict", "decision_function", "score", "transform"])
def test_methods_of_an_unfitted_detector_raise(make, images, method):
    with pytest.raises(NotFittedError):
        getattr(make(), method)(images)


# Labels


def test_fit_leaves_out_the_defects_that_labels_of_any_kind_name(make_fast, images):
    X = images[:6].copy()
    y = np.tile([1, -1, 1], 2)
    X[y == -1] = 255 - X[y == -1]
    expected = make_fast().fit(X[y == 1])
    scores = expected.score_samples(X)
    for kind, labels in {
        "+1/-1": y,
        "list": y.tolist(),
        "floats": y.astype(float),
        "objects": y.astype(object),
        "column": y[:, None],
        "0/1": (y == -1).astype(int),
        "booleans": y == -1,
        "strings": np.where(y == 1, "good", "crack"),
        "list of strings": ["normal" if label == 1 else "crack" for label in y],
    }.items():
        detector = make_fast().fit(X, labels)
        np.testing.assert_array_equal(detector.score_samples(X), scores, err_msg=kind)
        assert (detector.offset_, detector.map_threshold_) == (expected.offset_, expected.map_threshold_)
    assert expected.offset_ != make_fast().fit(X).offset_


def test_fit_leaves_out_the_defects_that_a_series_names(make_fast, images):
    pd = pytest.importorskip("pandas")
    y = np.tile([1, -1, 1], 4)
    detector = make_fast().fit(images[:12], pd.Series(y, index=range(20, 8, -1)))
    assert detector.offset_ == make_fast().fit(images[:12][y == 1]).offset_


@pytest.mark.parametrize("y", [[1, 1, 1, 1], [0, 0, 0, 0], ["good"] * 4, [False] * 4])
def test_fit_with_labels_of_normal_images_alone_takes_all(make_fast, images, y):
    assert make_fast().fit(images[:4], y).offset_ == make_fast().fit(images[:4]).offset_


@pytest.mark.parametrize(
    "y",
    [[1, -1, 0, 1], [1, -1, np.nan, 1], list("abab"), ["1", "-1", "1", "1"], [2.5] * 4, [1, None, -1, 1]],
)
def test_fit_and_score_with_labels_that_cannot_be_read_raise_unless_X_is_a_table(
    fitted, make_fast, images, y
):
    X = images[:4]
    for method in (make_fast().fit, make_fast().partial_fit, make_fast().fit_predict, fitted.score):
        with pytest.raises(ValueError, match=r"labels in y must be|y lacks a label"):
            method(X, y)
    rows = X.reshape(4, -1)
    detector = make_fast().fit(rows, y)
    assert detector.offset_ == make_fast().fit(rows).offset_
    assert detector.score(rows, y) == detector.score(rows)


def test_fit_with_one_label_too_few_or_masks_raises(make_fast, images):
    with pytest.raises(ValueError, match=r"X has 4 images, but y has shape \(3,\)"):
        make_fast().fit(images[:4], [1, 1, -1])
    with pytest.raises(ValueError, match=r"X has 4 images, but y has shape \(4, 48, 40\)"):
        make_fast().fit(images[:4], images[:4] > 128)


@pytest.mark.parametrize("y", [[-1] * 4, [True] * 4])
def test_fit_with_labels_of_defects_alone_raises(make_fast, images, y):
    with pytest.raises(ValueError, match="y labels every row a defect"):
        make_fast().fit(images[:4], y)


def test_fit_predict_trains_without_labelled_defects(make_fast, images):
    y = np.repeat([1, -1], [9, 3])
    expected = make_fast(contamination=0.2).fit(images, y).predict(images)
    np.testing.assert_array_equal(make_fast(contamination=0.2).fit_predict(images, y), expected)


# Fits that fail


class Interrupting(os.PathLike):
    def __fspath__(self):
        raise KeyboardInterrupt


DIVERGING = {"learning_rate": 1e30, "max_grad_norm": None, "lr_schedule": "constant"}


@pytest.mark.slow
@pytest.mark.parametrize("warm_start", [False, True])
def test_fit_that_fails_leaves_the_fit_before(make, images, warm_start):
    X = images[:6]
    detector = make(warm_start=warm_start).fit(X)
    before, scores = dict(vars(detector)), detector.score_samples(X)
    for cause, (params, bad, y) in {
        "rows": ({}, np.full((4, 9), 1e300), None),
        "parameter": ({"n_epochs": 0}, X, None),
        "image": ({}, [X[0], np.full((3, 3), np.nan)], None),
        "interrupt": ({}, [Interrupting()], None),
        "divergence": (DIVERGING, X.reshape(6, -1), None),
        "y": ({}, X, [1, -1]),
    }.items():
        with pytest.raises((ValueError, KeyboardInterrupt)):
            detector.set_params(**params).fit(bad, y)
        detector.set_params(**{name: before[name] for name in params})
        assert vars(detector) == before, cause
        np.testing.assert_array_equal(detector.score_samples(X), scores, err_msg=cause)


@pytest.mark.parametrize("X", [np.full((4, 9), 1e300), [np.full((3, 3), np.nan)]], ids=["rows", "images"])
def test_first_fit_that_fails_leaves_an_unfitted_detector(make, images, X):
    detector = make()
    with pytest.raises(ValueError, match="Input X contains"):
        detector.fit(X)
    with pytest.raises(NotFittedError):
        detector.predict(images)
    assert vars(detector) == detector.get_params()


def test_fit_on_another_kind_of_X_forgets_the_first(make_fast, images):
    pd = pytest.importorskip("pandas")
    detector = make_fast().fit(pd.DataFrame(np.random.RandomState(0).rand(4, 9)).add_prefix("p"))
    assert detector.image_shape_ == (3, 3)
    detector.fit(images[:4])
    assert detector.image_shape_ is None
    assert not hasattr(detector, "n_features_in_")
    assert not hasattr(detector, "feature_names_in_")


@pytest.mark.parametrize(("learning_rate", "whiten"), [(1e20, True), (1e30, False)])
def test_fit_that_diverges_raises_with_learning_rate(make, images, learning_rate, whiten):
    params = {**DIVERGING, "learning_rate": learning_rate, "whiten": whiten, "n_epochs": 4}
    with pytest.raises(ValueError, match=r"Training diverged.*learning_rate=") as caught:
        make(**params).fit(images)
    assert repr(learning_rate) in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("learning_rate", [1.0, 1e3])
def test_fit_that_diverges_goes_back_and_on_with_a_lower_rate_and_says_so(make, images, learning_rate):
    params = {"learning_rate": learning_rate, "max_grad_norm": None, "n_epochs": 5}
    with pytest.warns(
        ConvergenceWarning, match=rf"diverged \d times\. .* Lower learning_rate={learning_rate}"
    ) as seen:
        detector = make(**params).fit(images)
    assert seen[0].filename == __file__
    assert detector.history_["learning_rate"].max() < learning_rate
    assert detector.score(images) > make(n_epochs=1, learning_rate=1e-9).fit(images).score(images) - 1


# Fits of any size


def test_fit_on_few_images_with_larger_batches_works(make_fast, images):
    detector = make_fast(batch_size=64).fit(images[:2])
    assert np.isfinite(detector.score_samples(images)).all()
    with pytest.warns(ConvergenceWarning, match="All images of good parts in X are one and the same"):
        detector = make_fast(batch_size=64).fit(images[:1])
    assert np.isfinite(detector.score_samples(images)).all()


@pytest.mark.parametrize("n_epochs", [1, 2])
def test_fit_with_one_step_per_epoch_trains(make, images, n_epochs):
    detector = make(n_epochs=n_epochs, batch_size=64).fit(images)
    parameters = detector.model_.flow.named_parameters()
    assert all((p != 0).all() for name, p in parameters if name.endswith("gamma"))
    assert detector.history_["learning_rate"][0] > 1e-5


@pytest.mark.parametrize("whiten", [True, False])
def test_fit_on_constant_images_warns_and_gives_finite_scores(make_fast, images, whiten):
    for values in ((0, 0, 0), (1, 77, 240)):
        plain = np.repeat(np.array(values, np.uint8), 400).reshape(3, 20, 20)
        with pytest.warns(UserWarning, match="one value all over|one and the same") as seen:
            detector = make_fast(whiten=whiten).fit(plain)
        found = [str(w.message)[:5] for w in seen if "hardly learnt" not in str(w.message)]
        assert found == (["All i", "Every"] if values[0] == 0 else ["Every"])
        assert np.isfinite(detector.score_samples(images)).all()


def test_fit_on_copies_warns_where_they_spoil_the_thresholds(make, images):
    detector = make(contamination="auto", n_epochs=1)
    few = [*images[:19], images[0]]  # a copy in 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="The flow has hardly learnt")
        detector.fit(few)
        make(n_epochs=1).fit([*images[:10], *images[:10]])  # holds none out
    with pytest.warns(
        ConvergenceWarning, match="10 of the 20 images of good parts in X are copies of others"
    ):
        detector.fit([*images[:10], *images[:10]])


@pytest.mark.parametrize("input_size", [32, 100, (64, 160), [96, 33], np.int64(64)])
def test_fit_at_any_input_size_gives_maps_of_it(make_fast, images, input_size):
    detector = make_fast(input_size=input_size).fit(images[:3])
    assert np.isfinite(detector.score_samples(images[:5])).all()
    assert detector.transform(images[:2]).shape == (2, 48, 40)
    size = (input_size, input_size) if np.ndim(input_size) == 0 else tuple(input_size)
    assert detector.transform([images[0], images[1][:9]]).shape == (2, *size)


@pytest.mark.parametrize("num_channels", [1, 2, 4, 12])
def test_fit_with_other_channel_counts_works(make_fast, num_channels):
    X = np.random.RandomState(0).rand(4, 20, 30, num_channels)
    detector = make_fast(num_channels=num_channels).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    assert detector.transform(X).shape == (4, 20, 30)
    with pytest.raises(ValueError, match=f"X has 3 channels, but num_channels={num_channels}"):
        detector.predict(X[..., [0, 0, 0]])


def test_fit_without_whitening_has_no_such_layer_and_other_scores(make_fast, images):
    plain, whitened = (make_fast(whiten=whiten).fit(images[:4]) for whiten in (False, True))
    assert plain.model_.flow.whitening is None
    assert whitened.model_.flow.whitening is not None
    assert (plain.score_samples(images) != whitened.score_samples(images)).all()


# Further training


@pytest.mark.slow
def test_warm_start_goes_on_with_the_same_weights(make, images):
    detector = make(warm_start=True, n_epochs=4, lr_schedule="constant", feature_noise=0).fit(images)
    first = detector.history_["loss"]
    scores = detector.score_samples(images)
    detector.fit(images)
    assert len(detector.history_["loss"]) == 8
    second = detector.history_["loss"][4:]
    assert second[0] < first[1] < first[0]
    assert second[-1] < first[-1]
    assert (detector.score_samples(images) != scores).any()
    fresh = detector.set_params(warm_start=False).fit(images)
    np.testing.assert_array_equal(fresh.history_["loss"], first)


@pytest.mark.slow
def test_training_that_goes_on_holds_out_the_same_images(make, images, monkeypatch):
    trained_on = []
    train = FlowTrainer.train
    monkeypatch.setattr(
        FlowTrainer, "train", lambda self, *args: trained_on.append(args[2].tolist()) or train(self, *args)
    )
    detector = make(warm_start=True, **BY_DEFAULT).fit(images)
    detector.fit(images).partial_fit(images)
    assert len(trained_on) == 3
    assert trained_on[0] == trained_on[1] == trained_on[2]
    assert len(trained_on[0]) == 10


def test_warm_start_with_another_model_raises(make_fast, images):
    detector = make_fast(warm_start=True).fit(images[:3])
    for name, value in {
        "n_coupling_blocks": 3,
        "input_size": 64,
        "whiten": False,
        "clamp": 1.0,
        "num_channels": 1,
        "score_mode": "fused",
        "map_mode": "all",
        "weights": "elsewhere.pt",
    }.items():
        before = getattr(detector, name)
        with pytest.raises(ValueError, match=f"can't change its {name}.* {value!r}"):
            detector.set_params(**{name: value}).fit(images[:3])
        detector.set_params(**{name: before})


def test_partial_fit_first_call_makes_a_detector_and_later_ones_train_it(make, images):
    detector = make(feature_noise=0)
    losses, offsets = [], []
    for _ in range(3):
        assert detector.partial_fit(images) is detector
        losses.append(detector.history_["loss"][-1])
        offsets.append(detector.offset_)
    assert losses == sorted(losses, reverse=True)
    assert len(set(offsets)) == 3
    assert detector.history_["loss"].tolist() == losses
    assert set(detector.history_["learning_rate"]) == {detector.learning_rate}


@pytest.mark.slow
@pytest.mark.parametrize("params", [{}, BY_DEFAULT], ids=["mean", "fused"])
def test_partial_fit_of_few_images_trains_and_leaves_thresholds(make_fast, images, params):
    detector = make_fast(**params).fit(images)
    before = detector.offset_, detector.map_threshold_
    statistics = copy.deepcopy(detector.model_.statistics.state_dict())
    scores = detector.score_samples(images)
    with pytest.warns(
        UserWarning, match="left offset_ and map_threshold_ as they were: 5 images are too few"
    ):
        detector.partial_fit(images[:5])
    assert (detector.offset_, detector.map_threshold_) == before
    assert all(
        torch.equal(t, statistics[name]) for name, t in detector.model_.statistics.state_dict().items()
    )
    assert (detector.score_samples(images) != scores).all()
    assert len(detector.history_["loss"]) == 2
    detector.partial_fit(images)
    assert detector.offset_ != before[0]
    assert detector.map_threshold_ != before[1]


@pytest.mark.parametrize("params", [{}, BY_DEFAULT], ids=["mean", "fused"])
def test_partial_fit_keeps_what_calibrate_has_set(make_fast, images, many_images, params):
    detector = make_fast(**params).fit(images).calibrate(many_images[12:], fpr=0.1)
    statistics = copy.deepcopy(detector.model_.statistics.state_dict())
    before = detector.offset_, detector.map_threshold_, detector.calibration_scores_
    with pytest.warns(UserWarning, match=r"those of calibrate are kept\. Call calibrate"):
        detector.partial_fit(images)
    assert (detector.offset_, detector.map_threshold_) == before[:2]
    # Scores that are compared with them must be the same measure.
    assert all(
        torch.equal(t, statistics[name]) for name, t in detector.model_.statistics.state_dict().items()
    )
    assert (detector.predict(many_images[12:]) < 0).mean() < 0.3
    assert detector.p_values(images).shape == (12,)
    assert detector.calibration_scores_ is before[2]
    detector.fit(images)
    assert not hasattr(detector, "calibration_scores_")


def test_partial_fit_repeats_bits(make_fast, images):
    one, other = (make_fast().partial_fit(images).partial_fit(images[::2]) for _ in range(2))
    np.testing.assert_array_equal(one.score_samples(images), other.score_samples(images))


@pytest.mark.slow
def test_warm_starts_and_partial_fits_never_repeat_an_order(make_fast, images, monkeypatch):
    seeds = []
    train = FlowTrainer.train
    monkeypatch.setattr(
        FlowTrainer, "train", lambda self, *args: seeds.append(self.seed) or train(self, *args)
    )
    detector = make_fast(warm_start=True)
    for _ in range(3):
        detector.fit(images[:4]).partial_fit(images[:4])
    assert len(set(seeds)) == 6
    assert len(detector.history_["loss"]) == 6


def test_partial_fit_with_a_bad_parameter_after_fit_raises(fitted_copy, images):
    with pytest.raises(ValueError, match="max_grad_norm"):
        fitted_copy.set_params(max_grad_norm=-1.0).partial_fit(images)


def test_partial_fit_that_fails_leaves_the_detector(fitted_copy, images):
    before = dict(vars(fitted_copy))
    with pytest.raises(ValueError, match="diverged"):
        fitted_copy.set_params(learning_rate=1e30).partial_fit(images)
    assert {**vars(fitted_copy), "learning_rate": before["learning_rate"]} == before


def test_fit_after_partial_fit_starts_anew(make_fast, images):
    detector = make_fast().partial_fit(images).fit(images)
    np.testing.assert_array_equal(
        detector.score_samples(images), make_fast().fit(images).score_samples(images)
    )
    assert len(detector.history_["loss"]) == 1


# Randomness


def test_random_state_of_the_same_int_repeats_bits_and_another_differs(make_fast, images):
    scores = [make_fast(random_state=s).fit(images[:9]).score_samples(images) for s in (0, 0, 1)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).all()


def test_random_state_instance_is_drawn_from(make_fast, images):
    def fit(random_state):
        return make_fast(random_state=random_state).fit(images[:4]).score_samples(images)

    shared = np.random.RandomState(3)
    first, second = fit(shared), fit(shared)
    np.testing.assert_array_equal(first, fit(np.random.RandomState(3)))
    assert (first != second).all()


@pytest.mark.parametrize("random_state", [0, None])
def test_random_state_of_numpy_and_torch_is_left_alone(make_fast, images, random_state):
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    numpy_before, torch_before = np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002
    detector = make_fast(random_state=random_state).fit(images[:4])
    detector.transform(images[:4])
    for before, after in zip(numpy_before, np.random.get_state(), strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(before, after)
    assert torch.equal(torch_before, torch.random.get_rng_state())


def test_random_state_none_differs_from_fit_to_fit(make_fast, images):
    offsets = {make_fast(random_state=None).fit(images[:4]).offset_ for _ in range(2)}
    assert len(offsets) == 2


# Scores


def test_score_samples_is_minus_the_mean_of_half_squares(fitted, images):
    z, _ = latent(fitted, images)
    scores = fitted.score_samples(images)
    assert scores.dtype == np.float64
    assert scores.shape == (12,)
    np.testing.assert_allclose(scores, -(z**2 / 2).mean(dim=1), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:10 of the 12 images of X were fitted on")
def test_score_mode_fused_compares_with_held_out_images(make, images):
    detector = make(input_size=(96, 160), score_mode="fused", n_epochs=1).fit(images[:10])
    scored = list(detector._score_images(images))
    statistics = detector.model_.statistics
    for s, found in zip(scored, detector.score_samples(images), strict=True):
        assert found == -statistics.score([m[None, None] for m in s.frames[0]]).item()
    # Two of ten are held out. Which these are shows in the statistics.
    tops = torch.stack([torch.stack([m.max() for m in s.frames[0]]).log() for s in scored[:10]])
    pairs = [(i, j) for i in range(10) for j in range(i)]
    errors = [
        (tops[[i, j]].mean(dim=0) - statistics.image_log_mean[:-1]).abs().max().item() for i, j in pairs
    ]
    assert np.sum(np.array(errors) < 1e-5) == 1
    np.testing.assert_array_equal(
        detector.calibrate(images, fpr=0.2).calibration_scores_, np.sort(detector.score_samples(images))
    )
    plain = make(input_size=(96, 160), n_epochs=1).fit(images[:10])
    assert plain.score(images) != detector.score(images)  # trained on all ten


def test_scores_by_comparison_are_the_same_bits_in_groups_and_alone(make, images):
    detector = make(input_size=(96, 160), score_mode="fused", n_epochs=1, n_jobs=1).fit(images)
    many = np.concatenate([images, images[::-1]])  # enough for groups
    alone = [detector.score_samples(image[None])[0] for image in many]
    np.testing.assert_array_equal(detector.score_samples(many), alone)


def test_contamination_auto_sets_thresholds_by_held_out_images(make, images):
    changes = {"score_mode": "fused", "map_mode": "fused", "n_epochs": 1}
    detector = make(contamination="auto", **changes).fit(images[:11])
    numeric = make(contamination=0.1, **changes).fit(images[:11])
    np.testing.assert_array_equal(detector.score_samples(images), numeric.score_samples(images))
    scores = detector.score_samples(images[:11])
    peaks = [m.max() for m in detector.iter_maps(images[:11])]
    pairs = [[i, j] for i in range(11) for j in range(i)]
    assert any(detector.offset_ == prediction_limit(scores[pair], 0.05) for pair in pairs)
    limits = [-prediction_limit(-np.array(peaks, dtype=float)[pair], 0.05) for pair in pairs]
    assert min(abs(detector.map_threshold_ - limit) for limit in limits) < 1e-6
    assert numeric.offset_ == np.percentile(scores, 10)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    "changes", [{"contamination": "auto"}, {"score_mode": "fused"}, {"map_mode": "fused"}]
)
def test_images_too_few_to_hold_any_out_warn_where_they_are_passed(make, images, method, changes):
    detector = make(n_epochs=1, **changes)
    with pytest.warns(
        ConvergenceWarning, match="X has 9 images .* at least 10 different images, .* or call calibrate"
    ) as seen:
        getattr(detector, method)(images[:9])
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="The flow has hardly learnt")
        getattr(detector, method)(images[:10])
        make(n_epochs=1).fit(images[:2])  # holds none out


def test_contamination_auto_of_few_images_is_by_those_trained_on(make, images):
    with pytest.warns(ConvergenceWarning, match="too few to hold any out"):
        detector = make(contamination="auto", n_epochs=1).fit(images[:9])
    assert detector.offset_ == prediction_limit(detector.score_samples(images[:9]), 0.05)


@pytest.mark.parametrize(
    ("n_images", "batch_size", "expected"), [(12, 16, 600), (12, 5, 200), (353, 8, 14), (16_000, 8, 1)]
)
def test_n_epochs_auto_makes_about_600_steps(n_images, batch_size, expected):
    assert resolve_n_epochs("auto", n_images, batch_size) == expected


@pytest.mark.slow
def test_n_epochs_auto_is_used(make, images):
    detector = make(n_epochs="auto", batch_size=1, contamination="auto").fit(images)
    assert len(detector.history_["loss"]) == 60  # steps of one image each, of ten: two are held out
    assert detector.get_params()["n_epochs"] == "auto"
    assert detector._trained_by["n_epochs"] == "auto"


def test_a_flow_that_has_hardly_learnt_warns(make, images):
    with pytest.warns(ConvergenceWarning, match=r"loss fell by .* in 1 epochs.*n_epochs='auto'") as seen:
        make(n_epochs=1, learning_rate=1e-9).fit(images)
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(n_epochs=1).partial_fit(images)


def test_score_is_the_mean_log_likelihood_per_dimension_without_the_defects(fitted, images):
    z, log_det = latent(fitted, images)
    log_likelihood = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(dim=1) + log_det
    expected = log_likelihood / z.shape[1]
    score = fitted.score(images)
    assert isinstance(score, float)
    assert score == pytest.approx(expected.mean().item(), rel=1e-5)
    y = np.where(np.arange(12) < 5, -1, 1)
    for labels in (y, (y == -1).astype(int), y == -1, np.where(y == 1, "good", "crack")):
        assert fitted.score(images, labels) == pytest.approx(expected[5:].mean().item(), rel=1e-5)
    with pytest.raises(ValueError, match="y labels every row a defect"):
        fitted.score(images, [-1] * 12)


def test_score_is_minus_the_loss_with_the_constants_that_it_leaves_out(images, make):
    # The last loss of a training without steps to speak of is the likelihood of what was trained on.
    detector = make(learning_rate=1e-12, n_epochs=1, feature_noise=0).fit(images)
    whitening = detector.model_.flow.whitening
    z, _ = latent(detector, images)
    positions = [4, 1]
    log_dets = [scale.log_abs_det for scale in whitening.scales]
    log_det = sum(n * d for n, d in zip(positions, log_dets, strict=True)).item() / z.shape[1]
    expected = -detector.history_["loss"][0] + log_det - np.log(2 * np.pi) / 2
    assert detector.score(images) == pytest.approx(expected, rel=1e-4)


def test_predict_and_decision_function_follow_from_scores(fitted_copy, images):
    scores = fitted_copy.score_samples(images)
    fitted_copy.offset_ = float(scores[7])
    decision = fitted_copy.decision_function(images)
    np.testing.assert_array_equal(decision, scores - fitted_copy.offset_)
    predicted = fitted_copy.predict(images)
    np.testing.assert_array_equal(predicted, np.where(decision >= 0, 1, -1))
    assert predicted[7] == 1
    assert predicted.dtype == np.int64


@pytest.mark.slow
def test_contamination_is_the_share_flagged_in_training(make_fast, images):
    for contamination in (0.25, 0.5):
        detector = make_fast(contamination=contamination).fit(images)
        scores = detector.score_samples(images)
        assert detector.offset_ == np.percentile(scores, 100 * contamination)
        predicted = detector.predict(images)
        assert (predicted == -1).sum() == np.ceil(11 * contamination)
    np.testing.assert_array_equal(clone(detector).fit_predict(images), predicted)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {**BY_DEFAULT, "contamination": 0.5},
        {"whiten": False},
        {"precision": "float64"},
        {"precision": "bfloat16"},
    ],
    ids=str,
)
def test_training_scores_are_the_same_bits_as_score_samples(make, images, changes):
    params = {"contamination": 0.5, "input_size": (96, 70), "n_epochs": 1, **changes}
    detector = make(**params).fit(images)
    assert detector.offset_ == np.median(detector.score_samples(images))


@pytest.mark.parametrize(
    "changes",
    [
        {**BY_DEFAULT, "input_size": (64, 48)},
        {"precision": "float64", "input_size": (96, 64)},
        pytest.param({"precision": "bfloat16", "input_size": (64, 48)}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_scores_and_maps_do_not_depend_on_other_rows_or_threads(make, grey_images, changes):
    detector = make(n_epochs=1, **changes).fit(grey_images[:4])
    X = grey_images[:17]  # so many that groups of them share a core on one thread
    expected, maps = detector.score_samples(X), detector.transform(X)
    order = np.random.RandomState(0).permutation(17)
    np.testing.assert_array_equal(detector.score_samples(X[order]), expected[order])
    np.testing.assert_array_equal([detector.score_samples(x[None])[0] for x in X], expected)
    threads = torch.get_num_threads()
    try:
        for n, n_jobs in [(1, 2), (2, 1), (3, None)]:
            torch.set_num_threads(n)
            detector.set_params(n_jobs=n_jobs)
            np.testing.assert_array_equal(detector.score_samples(X), expected)
            np.testing.assert_array_equal(detector.transform(X), maps)
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(threads)


def test_scores_with_the_default_backbone_do_not_depend_on_other_rows():
    X = np.random.RandomState(0).rand(17, 32, 32, 3).astype(np.float32)
    detector = CSFlowDetector(input_size=32, n_coupling_blocks=1, n_epochs=1, random_state=0).fit(X[:4])
    scores = detector.score_samples(X)
    np.testing.assert_array_equal([detector.score_samples(x[None])[0] for x in X], scores)
    order = np.random.RandomState(1).permutation(17)
    np.testing.assert_array_equal(detector.score_samples(X[order]), scores[order])


@pytest.mark.slow
def test_fit_does_not_depend_on_threads(make, grey_images):
    images = grey_images[:20]
    expected = make(batch_size=20, n_jobs=1).fit(images)
    threads = torch.get_num_threads()
    try:
        for n, n_jobs in [(1, 5), (2, None)]:
            torch.set_num_threads(n)
            detector = make(batch_size=20, n_jobs=n_jobs).fit(images)
            np.testing.assert_array_equal(detector.history_["loss"], expected.history_["loss"])
            np.testing.assert_array_equal(detector.score_samples(images), expected.score_samples(images))
            assert detector.map_threshold_ == expected.map_threshold_
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-4), ("bfloat16", 5e-2)])
def test_precision_of_another_kind_gives_close_scores(make, images, precision, tolerance):
    expected = make().fit(images).score_samples(images)
    detector = make(precision=precision).fit(images)
    assert detector.precision_ == precision
    scores = detector.score_samples(images)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, rtol=tolerance)
    assert (scores != expected).any()
    assert detector.transform(images[:2]).dtype == np.float32
    dtype = torch.float64 if precision == "float64" else torch.float32
    assert {p.dtype for p in detector.model_.parameters()} == {dtype}


def test_precision_auto_on_the_cpu_trains_in_the_faster_and_scores_in_float32(make_fast, images):
    auto, float32 = (make_fast(device="cpu", precision=p).fit(images[:4]) for p in ("auto", "float32"))
    assert auto.precision_ == float32.precision_ == "float32"
    is_alike = np.array_equal(auto.score_samples(images), float32.score_samples(images))
    assert is_alike == (training_precision("auto", torch.device("cpu")) == "float32")
    auto.model_.load_state_dict(float32.model_.state_dict())
    np.testing.assert_array_equal(auto.score_samples(images), float32.score_samples(images))


def test_score_samples_of_images_unlike_the_training_is_lower(make, images):
    detector = make(n_epochs=10).fit(images[:8])
    odd = 255 - np.sort(images[8:], axis=1)
    assert detector.score_samples(odd).max() < detector.score_samples(images[8:]).min()


# Memory and threads


@pytest.mark.parametrize("method", ["score_samples", "score"])
def test_scores_keep_no_maps_of_images_already_scored(fitted, images, monkeypatch, method):
    class Maps(list):
        pass

    alive = []

    def score_few(*args, **kwargs):
        for i in range(5):
            assert sum(m() is not None for m in alive) <= 1  # that of the image before
            maps = Maps()
            alive.append(weakref.ref(maps))
            yield ImageScores(float(i), -float(i), maps, (48, 40))
            del maps

    monkeypatch.setattr("skcsflow._detector._estimator.score_images", score_few)
    assert np.mean(getattr(fitted, method)(images)) == -2
    assert len(alive) == 5


@pytest.mark.parametrize("with_memory", [False, True])
def test_paths_are_read_as_they_are_needed(fitted_copy, images, tmp_path, monkeypatch, with_memory):
    paths = []
    for i, image in enumerate(images):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    detector = fitted_copy.set_params(n_jobs=2, memory=tmp_path / "cache" if with_memory else None)
    loaded = []
    load = ImageCollection.load
    monkeypatch.setattr(ImageCollection, "load", lambda self, i: loaded.append(i) or load(self, i))
    scores = detector._score_images(paths)
    for i in range(12):
        next(scores)
        assert len(loaded) <= i + 1 + 2 * 2  # two per thread
    assert sorted(loaded) == list(range(12))


def test_threads_end_where_an_error_is_kept(fitted):
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="too large") as kept:
        fitted.score_samples(np.full((20, 9, 9), 1e38))
    assert not [t for t in threading.enumerate() if "ThreadPool" in t.name and t not in before]
    assert kept.value is not None


# Maps


def test_transform_of_rows_gives_rows_with_names(make_fast, images):
    rows = images.reshape(12, -1)
    detector = make_fast(image_shape=(48, 40)).fit(rows)
    maps = detector.transform(rows)
    assert maps.shape == (12, 48 * 40)
    assert maps.dtype == np.float32
    np.testing.assert_array_equal(maps.reshape(-1, 48, 40), detector.transform(images))
    names = detector.get_feature_names_out()
    assert len(names) == 48 * 40
    assert list(names[[0, 39, 40]]) == ["anomaly_0_0", "anomaly_0_39", "anomaly_1_0"]


def test_get_feature_names_out_checks_names_as_scikit_learn_does(make_fast):
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(np.random.RandomState(0).rand(4, 4), columns=list("abcd"))
    detector = make_fast().fit(table)
    assert list(detector.get_feature_names_out(list("abcd"))) == list(detector.get_feature_names_out())
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        detector.get_feature_names_out(list("abce"))
    with pytest.raises(ValueError, match=r"number of features \(4\), got 2"):
        make_fast().fit(table.to_numpy()).get_feature_names_out(["a", "b"])


def test_transform_of_rows_of_colour_gives_one_value_per_position(make_fast):
    X = np.random.RandomState(0).rand(3, 5 * 6 * 3)
    detector = make_fast(image_shape=(5, 6, 3)).fit(X)
    assert detector.transform(X).shape == (3, 30)
    assert len(detector.get_feature_names_out()) == 30


def test_get_feature_names_out_unfitted_or_after_images_raises(make, fitted):
    with pytest.raises(NotFittedError):
        make().get_feature_names_out()
    with pytest.raises(ValueError, match="2-D X"):
        fitted.get_feature_names_out()


def test_transform_of_images_of_one_size_gives_maps_of_it(fitted, images):
    maps = fitted.transform(images)
    assert maps.shape == (12, 48, 40)
    assert maps.dtype == np.float32
    assert (maps >= 0).all()
    np.testing.assert_array_equal(fitted.transform(list(images[:2])), maps[:2])


def test_transform_of_mixed_sizes_gives_the_models_own_maps(fitted, images):
    mixed = fitted.transform([images[0], images[1][:10]])
    assert mixed.shape == (2, 64, 64)
    batch = standardize(list(check_images(images[:1], 3)), (64, 64), torch.float32, CPU)
    with torch.no_grad():
        expected = fitted.model_(batch).anomaly_map[0, 0]
    np.testing.assert_allclose(mixed[0], expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("map_mode", ["all", "max"])
def test_transform_of_a_defect_is_higher_there_than_elsewhere(make, map_mode):
    rng = np.random.RandomState(0)
    X = rng.normal(128, 10, size=(24, 256, 256)).clip(0, 255).astype(np.uint8)
    detector = make(input_size=256, n_epochs=6, map_mode=map_mode).fit(X[:20])
    bad = X[20:].copy()
    bad[:, 64:128, 160:224] = np.indices((64, 64)).sum(axis=0) // 8 % 2 * 255
    maps = detector.transform(bad)
    inside = maps[:, 64:128, 160:224].mean(axis=(1, 2))
    peaks = maps.reshape(4, -1).argmax(axis=1)
    maps[:, 64:128, 160:224] = np.nan
    assert (inside > 5 * np.nanmean(maps, axis=(1, 2))).all()
    rows, columns = np.divmod(peaks, 256)
    # The backbone sees further than a cell of its 32 px grid: the peak may lie a cell beside the defect.
    assert ((rows >= 32) & (rows < 160) & (columns >= 128)).all()


# Rows and images after fitting


def test_predict_of_one_grey_image_without_its_axis_raises(fitted, images):
    # 48 rows of 40 numbers are a valid 2-D X; to score them as 48 strips would be silently wrong.
    with pytest.raises(ValueError, match=r"X has shape \(48, 40\).*X\[None\]"):
        fitted.predict(images[0])


def test_score_samples_of_rows_after_images_takes_image_shape(fitted_copy, images):
    detector = fitted_copy.set_params(image_shape=(48, 40))
    rows = images.reshape(12, -1)
    np.testing.assert_array_equal(detector.score_samples(rows), detector.score_samples(images))
    assert detector.transform(rows).shape == (12, 1920)
    with pytest.raises(
        ValueError, match=r"image_shape=\(48, 40\) has 1920 elements, but the rows of X have 49"
    ):
        detector.predict(np.zeros((2, 49)))


def test_fit_on_rows_with_nan_raises_with_the_row(make, blobs):
    X = blobs.copy()
    X[7, 3] = np.nan
    with pytest.raises(ValueError, match=r"Input X contains NaN or infinity: X\[7\]"):
        make().fit(X)


@pytest.mark.parametrize("X", [[[1.0] * 4] * 3 + [[1.0] * 3], [np.zeros(4)] * 3 + [np.zeros(3)]])
def test_fit_on_ragged_rows_raises_with_the_row(make, X):
    with pytest.raises(ValueError, match=r"X is ragged: X\[0\] holds 4 values, X\[3\] holds 3"):
        make().fit(X)


def test_predict_of_rows_of_another_length_raises_in_scikit_learns_words(make_fast, blobs):
    detector = make_fast().fit(blobs[:4])
    with pytest.raises(ValueError, match="X has 9 features, but CSFlowDetector is expecting 16 features"):
        detector.predict(np.zeros((2, 9)))


def test_set_params_after_fit_does_not_change_how_images_are_read(fitted_copy, images):
    expected = fitted_copy.score_samples(images)
    fitted_copy.set_params(num_channels=1, input_size=32, image_shape=(3, 3), n_epochs=9)
    np.testing.assert_array_equal(fitted_copy.score_samples(images), expected)


# History and progress


@pytest.mark.parametrize("lr_schedule", ["one_cycle", "constant"])
def test_history_has_one_number_per_epoch(make, images, lr_schedule):
    detector = make(n_epochs=5, lr_schedule=lr_schedule, learning_rate=3e-3, feature_noise=0.0).fit(images)
    history = detector.history_
    assert set(history) == {"loss", "grad_norm", "learning_rate", "seconds"}
    for name, values in history.items():
        assert isinstance(values, np.ndarray), name
        assert values.shape == (5,), name
        assert np.isfinite(values).all(), name
    assert history["loss"][-1] < history["loss"][0]
    assert (history["seconds"] > 0).all()
    if lr_schedule == "constant":
        assert (history["learning_rate"] == 3e-3).all()
    else:
        assert history["learning_rate"].max() <= 3e-3
        assert history["learning_rate"][1] > 2e-3
        assert history["learning_rate"][-1] < 1e-5


def test_verbose_shows_progress_on_stderr_and_nothing_else_prints(make_fast, images, capfd, tmp_path):
    make_fast(verbose=0).fit(images[:3]).predict(images[:3])
    assert capfd.readouterr() == ("", "")
    detector = make_fast(verbose=1).fit(images[:3])
    shown, errors = capfd.readouterr()
    assert shown == ""
    assert re.search(r"features: 100%.* 3/3 .*image/s", errors)
    assert re.search(r"training: 100%.* 1/1 .*epoch/s", errors)
    for run in (
        detector.predict,
        detector.transform,
        lambda X: list(detector.inspect(X)),
        lambda X: detector.save_maps(X, tmp_path / "maps.npy"),
        lambda X: detector.calibrate(255 - X, fpr=0.3),
    ):
        run(images[:4])
        shown, errors = capfd.readouterr()
        assert shown == ""
        assert re.search(r"scores and maps: 100%.* 4/4 \[.*<00:00.*image/s", errors)
    detector.predict(images[:1])
    list(detector.inspect(iter(images[:2])))
    detector.set_params(verbose=0).predict(images)
    assert capfd.readouterr() == ("", "")


# In scikit-learn's company


@pytest.mark.slow
def test_grid_search_on_paths_with_labels_trains_without_defects(make_fast, images, tmp_path):
    paths = np.array([tmp_path / f"{i}.png" for i in range(12)])
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image).save(path)
    y = np.tile([1, 1, -1], 4)
    search = GridSearchCV(make_fast(), {"clamp": [1.0, 3.0]}, cv=2, error_score="raise").fit(paths, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    expected = make_fast(**search.best_params_).fit(images[:12][y == 1])
    np.testing.assert_array_equal(search.best_estimator_.score_samples(paths), expected.score_samples(paths))


def test_pipeline_passes_images_through(make_fast, images):
    pipeline = make_pipeline(FunctionTransformer(lambda X: 255 - X), make_fast()).fit(images[:5])
    expected = make_fast().fit(255 - images[:5]).score_samples(255 - images)
    np.testing.assert_array_equal(pipeline.score_samples(images), expected)
