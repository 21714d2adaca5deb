"""The detector's thresholds: calibration with held-out images, and with clones that were fitted on others."""

import copy
import pickle
import re
import sys

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from conftest import TINY
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold

from skcsflow import CSFlowDetector
from skcsflow._detector._thresholds import _take
from skcsflow.calibration import conformal_p_values, conformal_threshold, optimal_threshold
from skcsflow.datasets import make_defects

N_TRAIN, N_HELD_OUT, N_FRESH, N_DEFECTIVE = 12, 30, 30, 10


@pytest.fixture(scope="module")
def data():
    """Images of fabric, first those to train on, then two held-out sets, then defective ones."""
    return make_defects(N_TRAIN + N_HELD_OUT + N_FRESH, N_DEFECTIVE, size=64, random_state=0)


@pytest.fixture(scope="module")
def train(data):
    return data.images[:N_TRAIN]


@pytest.fixture(scope="module")
def held_out(data):
    return data.images[N_TRAIN : N_TRAIN + N_HELD_OUT]


@pytest.fixture(scope="module")
def fitted_once(train):
    return CSFlowDetector(**TINY).fit(train)


@pytest.fixture
def fitted(fitted_once):
    """A detector fitted on `train`, which a test may change."""
    return copy.deepcopy(fitted_once)


# Held-out images


@pytest.mark.slow
@pytest.mark.parametrize("as_files", [False, True])
def test_calibrate_by_images_that_were_fitted_on_warns(fitted, train, held_out, tmp_path, as_files):
    X = np.concatenate([train[:3], held_out])
    if as_files:
        X = [tmp_path / f"{i}.png" for i in range(len(X))]
        for path, image in zip(X, np.concatenate([train[:3], held_out]), strict=True):
            Image.fromarray(image).save(path)
        fitted.fit([*X[:3], *X[-3:]])
        X = X[:-3]
    with pytest.warns(UserWarning, match=f"3 of the {len(X)} images of X were fitted on") as caught:
        fitted.calibrate(X, fpr=0.2)
    assert caught[0].filename == __file__
    fitted.calibrate(held_out[:20], fpr=0.2)  # no warning


@pytest.mark.slow
def test_calibrate_recognises_images_of_all_trainings_and_after_loading(fitted, train, held_out, tmp_path):
    fitted.partial_fit(held_out[:10])
    joblib.dump(fitted, tmp_path / "d.joblib")
    detector = joblib.load(tmp_path / "d.joblib")
    for X in (train, held_out[:10]):
        with pytest.warns(UserWarning, match=f"{len(X)} of the {len(X)} images of X were fitted on"):
            detector.calibrate(X, fpr=0.2)


def test_calibrate_by_cv_of_other_images_than_those_of_the_fit_raises(fitted, train, held_out):
    message = "With cv, X must be what .*: 20 normal images of X were not fitted on, and 0 images that were are missing"
    with pytest.raises(ValueError, match=message):
        fitted.calibrate(np.concatenate([train, held_out[:20]]), fpr=0.2, cv=2)
    with pytest.raises(ValueError, match="0 normal images of X were not fitted on, and 2 images"):
        fitted.calibrate(train[2:], fpr=0.2, cv=2)


@pytest.mark.slow
def test_calibrate_by_cv_reads_labels_as_fit_does(train, data):
    X = np.concatenate([train, data.images[-4:]])
    y01 = np.repeat([0, 1], [len(train), 4])
    found = CSFlowDetector(**TINY).fit(X, y01).calibrate(X, y01, fpr=0.2, cv=2)
    expected = CSFlowDetector(**TINY).fit(X, 1 - 2 * y01).calibrate(X, 1 - 2 * y01, fpr=0.2, cv=2)
    np.testing.assert_array_equal(found.calibration_scores_, expected.calibration_scores_)
    assert len(found.calibration_scores_) == len(train)


def test_calibrate_sets_thresholds_and_scores(fitted, held_out):
    model, before = fitted.model_, fitted.offset_
    assert fitted.calibrate(held_out, fpr=0.1) is fitted
    scores = fitted.score_samples(held_out)
    assert fitted.offset_ == conformal_threshold(scores, 0.1) != before
    peaks = fitted.transform(held_out).max(axis=(1, 2))
    assert fitted.map_threshold_ == -conformal_threshold(-peaks, 0.1)
    np.testing.assert_array_equal(fitted.calibration_scores_, np.sort(scores))
    assert fitted.model_ is model
    # floor(0.1 * 31) = 3, and two scores are below the third-lowest.
    assert np.sum(fitted.predict(held_out) == -1) == 2
    assert np.sum(fitted.predict_masks(held_out).any(axis=(1, 2))) == 2


def test_calibrate_default_rate_is_contamination(fitted, held_out):
    fitted.set_params(contamination=0.2).calibrate(held_out)
    assert fitted.offset_ == conformal_threshold(fitted.score_samples(held_out), 0.2)


def test_calibrate_keeps_the_rate_for_fresh_images(fitted, held_out, data):
    fresh = data.images[N_TRAIN + N_HELD_OUT :][:N_FRESH]
    fitted.calibrate(held_out, fpr=0.2)
    called = fitted.predict(fresh) == -1
    marked = fitted.predict_masks(fresh).any(axis=(1, 2))
    # Three standard errors, of the fresh images and of the calibration.
    tolerance = 3 * np.sqrt(0.2 * 0.8 * (1 / N_FRESH + 1 / N_HELD_OUT))
    for rate in (called.mean(), marked.mean()):
        assert 0 < rate <= 0.2 + tolerance


@pytest.mark.slow
def test_calibrate_by_rate_leaves_defects_out(fitted, held_out, data):
    X = np.concatenate([held_out, data.images[-N_DEFECTIVE:]])
    y = np.repeat([1, -1], [N_HELD_OUT, N_DEFECTIVE])
    expected = copy.deepcopy(fitted).calibrate(held_out, fpr=0.1)
    for labels in (y, (y == -1).astype(int), np.where(y == 1, "good", "crack")):
        fitted.calibrate(X, labels, fpr=0.1)
        assert fitted.offset_ == expected.offset_
        assert fitted.map_threshold_ == expected.map_threshold_
        np.testing.assert_array_equal(fitted.calibration_scores_, expected.calibration_scores_)


@pytest.mark.slow
def test_calibrate_by_labels(fitted, data):
    X, y = data.images[-2 * N_DEFECTIVE :], data.y[-2 * N_DEFECTIVE :]
    scores = fitted.score_samples(X)
    peaks = fitted.transform(X).max(axis=(1, 2)).astype(np.float64)
    for options in ({"criterion": "f1"}, {"criterion": "youden"}, {"recall": 0.8}):
        fitted.calibrate(X, y, **options)
        assert fitted.offset_ == optimal_threshold(y, scores, **options)
        assert fitted.map_threshold_ == -optimal_threshold(y, -peaks, **options)
    defective = X[y == -1]
    assert np.mean(fitted.predict(defective) == -1) >= 0.8
    assert np.mean(fitted.predict_masks(defective).any(axis=(1, 2))) >= 0.8


@pytest.mark.slow
def test_p_values_are_those_of_the_calibration(fitted, held_out, train):
    with pytest.raises(NotFittedError, match="Call calibrate first"):
        fitted.p_values(train)
    fitted.calibrate(held_out, fpr=0.1)
    expected = conformal_p_values(fitted.score_samples(train), fitted.calibration_scores_)
    np.testing.assert_array_equal(fitted.p_values(train), expected)


@pytest.mark.slow
def test_calibration_is_kept_in_a_file_dropped_by_a_new_fit_and_kept_by_partial_fit(
    fitted, train, held_out, tmp_path
):
    fitted.calibrate(held_out, fpr=0.1)
    joblib.dump(fitted, tmp_path / "detector.joblib")
    loaded = joblib.load(tmp_path / "detector.joblib")
    assert (loaded.offset_, loaded.map_threshold_) == (fitted.offset_, fitted.map_threshold_)
    np.testing.assert_array_equal(loaded.p_values(train), fitted.p_values(train))
    fitted.fit(train)
    assert not hasattr(fitted, "calibration_scores_")
    loaded.partial_fit(train)
    np.testing.assert_array_equal(loaded.calibration_scores_, np.sort(loaded.calibration_scores_))
    assert len(loaded.calibration_scores_) == N_HELD_OUT


def test_calibrate_unfitted_raises(held_out):
    with pytest.raises(NotFittedError):
        CSFlowDetector(**TINY).calibrate(held_out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fpr": 0.001}, "fpr=0.001 needs at least 999 normal images, got 30"),
        ({"fpr": 0.1, "criterion": "f1"}, "Give one of fpr, criterion and recall"),
        ({"criterion": "f1"}, "criterion needs labels, but y is None"),
        ({"recall": 0.5}, "recall needs labels, but y is None"),
        ({"y": np.ones(30), "recall": 0.5}, "y labels no defect"),
        ({"y": np.r_[-1, np.ones(29)], "criterion": "f2"}, "got 'f2'"),
        ({"y": -np.ones(30), "fpr": 0.1}, "y labels every row a defect"),
        ({"y": np.ones(29), "fpr": 0.1}, "X has 30 images, but y has 29 labels"),
        ({"y": np.arange(30), "fpr": 0.1}, r"\+1/-1"),
        ({"fpr": 0.1, "cv": ShuffleSplit(1, random_state=0)}, "holds out row .* 0 times"),
        ({"fpr": 0.1, "cv": [(np.arange(30), np.arange(30))]}, "learns from row 0 and holds it out"),
        (
            {"fpr": 0.1, "cv": [(np.r_[:15], np.r_[15:30, 15]), (np.r_[15:30], np.r_[:15])]},
            "row 15 2 times",
        ),
        ({"fpr": 0.1, "cv": [([], np.arange(30))]}, "learns from no image or holds out none in its split 0"),
        ({"fpr": 0.1, "cv": [(np.arange(30), [])]}, "learns from no image or holds out none in its split 0"),
        (
            {"y": np.repeat([1, -1], 15), "fpr": 0.1, "cv": KFold(2)},
            "learns from no normal image in its split 0",
        ),
    ],
)
def test_calibrate_faulty_arguments_raise_before_any_work_and_change_nothing(fitted, options, message):
    before = (fitted.offset_, fitted.map_threshold_)
    missing_files = np.array(["nowhere.png"] * N_HELD_OUT, dtype=object)
    with pytest.raises(ValueError, match=message):
        fitted.calibrate(missing_files, **options)
    assert (fitted.offset_, fitted.map_threshold_) == before
    assert not hasattr(fitted, "calibration_scores_")


# Clones that were fitted on other images


@pytest.mark.slow
def test_calibrate_cv_scores_are_those_of_clones_fitted_on_the_other_images(train):
    X = train[..., 0]
    expected = np.empty(len(X))
    for learnt, held_out in KFold(2, shuffle=True, random_state=0).split(X):
        expected[held_out] = CSFlowDetector(**TINY).fit(X[learnt]).score_samples(X[held_out])
    for same in (X, list(X), torch.from_numpy(X)[:, None], X.reshape(len(X), -1)):
        detector = CSFlowDetector(**TINY).fit(same).calibrate(same, fpr=0.2, cv=2)
        np.testing.assert_array_equal(detector.calibration_scores_, np.sort(expected))
        assert detector.offset_ == conformal_threshold(expected, 0.2)


def test_calibrate_cv_learns_from_normal_rows_only(data):
    rows = np.r_[:10, -6:0]
    X, y = data.images[rows], data.y[rows]
    detector = CSFlowDetector(**TINY).fit(X, y).calibrate(X, y, criterion="f1", cv=StratifiedKFold(2))
    assert len(detector.calibration_scores_) == 10
    scores = np.empty(len(X))
    for learnt, held_out in StratifiedKFold(2).split(X, y):
        fold = CSFlowDetector(**TINY).fit(X[learnt][y[learnt] == 1])
        scores[held_out] = fold.score_samples(X[held_out])
    assert detector.offset_ == optimal_threshold(y, scores, criterion="f1")


@pytest.mark.slow
def test_calibrate_cv_takes_splits_in_every_form(fitted, train):
    first = np.arange(N_TRAIN) < N_TRAIN // 2
    expected = fitted.calibrate(train, fpr=0.2, cv=KFold(2)).calibration_scores_
    for cv in (list(KFold(2).split(train)), [(~first, first), (first, ~first)]):
        np.testing.assert_array_equal(fitted.calibrate(train, fpr=0.2, cv=cv).calibration_scores_, expected)


class ReadsOneByOne:
    """A data set of torch's kind: it can be asked for an item, and for nothing else."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        assert type(i) is int
        return self.images[i]


@pytest.mark.parametrize(
    "kind", [list, tuple, np.asarray, torch.as_tensor, pd.Series, pa.array, ReadsOneByOne]
)
def test_rows_of_any_kind_of_images_are_taken(kind):
    rows = np.array([2, 0])
    taken = _take(kind([10, 11, 12]), rows)
    assert len(taken) == 2
    if isinstance(taken, pa.Array):
        taken = taken.to_pylist()
    assert [int(taken.iloc[k] if isinstance(taken, pd.Series) else taken[k]) for k in (0, 1)] == [12, 10]


@pytest.mark.slow
def test_calibrate_cv_needs_a_detector_from_a_single_fit(fitted, train):
    fitted.partial_fit(train)
    with pytest.raises(ValueError, match=r"n_epochs=1.* trained further since, by warm_start or partial_fit"):
        fitted.calibrate(train, fpr=0.2, cv=2)
    twice = clone(fitted).set_params(warm_start=True).fit(train).fit(train).set_params(n_epochs=2)
    with pytest.raises(ValueError, match="trained further since"):
        twice.calibrate(train, fpr=0.2, cv=2)
    by_part = clone(fitted).partial_fit(train)
    with pytest.raises(ValueError, match="this detector was trained with lr_schedule='constant'"):
        by_part.calibrate(train, fpr=0.2, cv=2)


@pytest.mark.slow
def test_calibrate_cv_needs_the_parameters_of_the_fit(fitted, train, tmp_path):
    joblib.dump(fitted, tmp_path / "detector.joblib")
    fitted = joblib.load(tmp_path / "detector.joblib")
    for name, value in {
        "learning_rate": 1e-7,
        "feature_noise": 50.0,
        "batch_size": 1,
        "weight_decay": 100.0,
        "max_grad_norm": None,
        "lr_schedule": "constant",
        "n_epochs": 3,
        "precision": "bfloat16",
        "image_shape": (4, 4),
        "random_state": 1,  # the weights of the backbone are random
    }.items():
        before = fitted.get_params()[name]
        message = f"fitted with {name}={value!r}, but this detector was trained with {name}={before!r}."
        with pytest.raises(ValueError, match=re.escape(message)):
            copy.copy(fitted).set_params(**{name: value}).calibrate(train, fpr=0.2, cv=2)
    with pytest.raises(ValueError, match="can't change its clamp"):
        copy.copy(fitted).set_params(clamp=1.0).calibrate(train, fpr=0.2, cv=2)
    fitted.calibrate(train, fpr=0.2, cv=2)


@pytest.mark.parametrize("seed", [None, np.random.RandomState(0)], ids=["none", "instance"])
def test_calibrate_cv_with_other_random_backbones_in_the_clones_raises(train, seed):
    detector = CSFlowDetector(**{**TINY, "random_state": seed}).fit(train)
    with pytest.raises(ValueError, match=r"weights=None .* Set random_state to an int, and fit anew"):
        detector.calibrate(train, fpr=0.2, cv=2)
    with pytest.raises(ValueError, match="was trained with random_state=None"):
        detector.set_params(random_state=0).calibrate(train, fpr=0.2, cv=2)


@pytest.mark.slow
def test_an_interrupt_at_any_line_of_calibrate_leaves_one_calibration_whole(fitted_copy, grey_images):
    detector = fitted_copy.calibrate(grey_images[:20], fpr=0.1)
    names = ("offset_", "map_threshold_", "calibration_scores_")

    def state():
        return pickle.dumps([getattr(detector, name) for name in names])

    before, found = state(), set()
    code, lines = CSFlowDetector.calibrate.__code__, []

    def calibrate(stop):
        lines.clear()

        def trace(frame, event, arg):
            if frame.f_code is not code:
                return None
            if event == "line":
                lines.append(frame.f_lineno)
                if len(lines) == stop:
                    raise KeyboardInterrupt
            return trace

        tracer = sys.gettrace()
        sys.settrace(trace)
        try:
            detector.calibrate(grey_images[20:], fpr=0.2)
        finally:
            sys.settrace(tracer)  # such as one that measures coverage

    calibrate(stop=None)
    after, n_lines = state(), len(lines)
    assert after != before
    for stop in range(n_lines - 7, n_lines + 1):
        detector.calibrate(grey_images[:20], fpr=0.1)
        with pytest.raises(KeyboardInterrupt):
            calibrate(stop)
        found.add(state())
    assert found <= {before, after}
    assert before in found
