"""Thresholds: promised false-positive rates, p-values, criteria by labels; as functions and as methods."""

import itertools
import re

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score, roc_curve
from sklearn.model_selection import KFold, ShuffleSplit

from skcsflow import CSFlowDetector, calibration
from skcsflow.calibration import conformal_p_values, conformal_threshold, optimal_threshold
from skcsflow.datasets import make_defects


@pytest.mark.parametrize("n", [1, 2, 9, 10, 19, 100])
@pytest.mark.parametrize("fpr", [0.05, 0.1, 0.29, 0.5, 0.9])
def test_the_threshold_promises_exactly_what_it_can(n, fpr):
    # Of n + 1 images that come in random order, each of the ranks is as likely to be the new one's.
    k = np.floor(np.round(fpr * (n + 1), 9))
    if k == 0:
        with pytest.raises(
            ValueError, match=rf"fpr={fpr} can be promised from \d+ normal images on, got {n}"
        ):
            conformal_threshold(np.arange(n), fpr)
        return
    called = 0
    for new in range(n + 1):
        others = np.delete(np.arange(n + 1.0), new)
        called += new < conformal_threshold(others, fpr)
    assert called == k
    assert fpr - 1 / (n + 1) < called / (n + 1) <= fpr + 1e-12


def test_the_least_number_of_images_is_the_one_that_the_message_names():
    for fpr in (0.01, 0.05, 0.07, 0.3):
        with pytest.raises(ValueError, match="can be promised") as error:
            conformal_threshold([0.0], fpr)
        n = int(str(error.value).split("from ")[1].split(" ")[0])
        conformal_threshold(np.zeros(n), fpr)
        with pytest.raises(ValueError, match="can be promised"):
            conformal_threshold(np.zeros(n - 1), fpr)


@pytest.mark.parametrize("ties", [False, True])
def test_the_promise_holds_in_simulation(ties):
    rng = np.random.RandomState(0)
    called = []
    for _ in range(3000):
        scores = rng.standard_t(2, size=31)
        scores = np.round(scores) if ties else scores
        called.append(scores[-1] < conformal_threshold(scores[:-1], 0.2))
    # Three standard errors.
    error = 3 * np.sqrt(0.2 * 0.8 / len(called))
    assert np.mean(called) <= 0.2 + error
    if not ties:
        assert np.mean(called) >= 0.2 - 1 / 31 - error


def test_p_values_by_hand_and_in_simulation():
    np.testing.assert_allclose(conformal_p_values([-5, -2, 0], [-3, -2, -1]), [0.25, 0.75, 1.0])
    assert conformal_p_values([], [1.0]).shape == (0,)
    rng = np.random.RandomState(0)
    p = np.array([conformal_p_values(s[:1], s[1:])[0] for s in rng.normal(size=(2000, 20))])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p <= level) <= level + 3 * np.sqrt(level * (1 - level) / len(p))


def test_p_values_and_threshold_agree():
    rng = np.random.RandomState(0)
    known, new = rng.normal(size=99), rng.normal(size=500)
    for fpr in (0.01, 0.05, 0.3):
        called = new < conformal_threshold(known, fpr)
        np.testing.assert_array_equal(called, conformal_p_values(new, known) <= fpr + 1e-12)


def labelled(seed, ties=False):
    rng = np.random.RandomState(seed)
    y = np.where(rng.rand(40) < 0.4, -1, 1)
    scores = rng.normal(size=40) + 0.8 * y
    return y, np.round(scores) if ties else scores


def all_predictions(scores):
    """What each threshold there is calls anomalous."""
    for threshold in [*np.unique(scores), np.inf]:
        yield np.where(scores < threshold, -1, 1)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_criteria_are_as_large_as_they_can_be(seed, ties):
    y, scores = labelled(seed, ties)

    def f1(predicted):
        return f1_score(y, predicted, pos_label=-1)

    def youden(predicted):
        return np.mean(predicted[y == -1] == -1) - np.mean(predicted[y == 1] == -1)

    for name, criterion in (("f1", f1), ("youden", youden)):
        predicted = np.where(scores < optimal_threshold(y, scores, criterion=name), -1, 1)
        assert criterion(predicted) == pytest.approx(max(map(criterion, all_predictions(scores))))
    tpr_less_fpr = np.subtract(*roc_curve(y == -1, -scores)[:2][::-1])
    assert youden(predicted) == pytest.approx(tpr_less_fpr.max())


@pytest.mark.parametrize("recall", [0.01, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_recall_is_reached_with_the_fewest_alarms(seed, recall):
    y, scores = labelled(seed)
    predicted = np.where(scores < optimal_threshold(y, scores, recall=recall), -1, 1)
    enough = [p for p in all_predictions(scores) if np.mean(p[y == -1] == -1) >= recall]
    assert np.mean(predicted[y == -1] == -1) >= recall
    assert np.sum(predicted == -1) == min(np.sum(p == -1) for p in enough)


def test_conformal_threshold_of_a_rate_of_few_bits():
    for kind in (np.float16, np.float32):
        rate = kind(0.1)
        assert (
            conformal_threshold(np.arange(10.0), rate)
            == conformal_threshold(np.arange(10.0), float(rate))
            == 0
        )


def test_labels_in_all_spellings():
    y, scores = labelled(0)
    expected = optimal_threshold(y, scores, criterion="f1")
    for same in ((y == -1).astype(int), y == -1, y[:, None]):
        assert optimal_threshold(same, scores, criterion="f1") == expected


def test_thresholds_lie_between_scores_also_where_floats_are_dense():
    low = 1.0
    high = np.nextafter(low, 2)
    threshold = optimal_threshold([-1, 1], [low, high], criterion="f1")
    assert low < threshold <= high
    assert optimal_threshold([1, -1], [1e308, -1e308], criterion="f1") == 0
    # All are called anomalous where that is best.
    assert optimal_threshold([-1, -1, 1], [2.0, 3.0, 1.0], recall=1.0) > 3.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conformal_threshold([1.0, np.nan], 0.5), "scores must be finite, but is nan at row 1"),
        (lambda: conformal_threshold([], 0.5), "scores is empty"),
        (lambda: conformal_threshold([[1.0]], 0.5), r"shape \(n,\), got shape \(1, 1\)"),
        (lambda: conformal_threshold([1.0], 0), "fpr must be above 0 and below 1, got 0"),
        (lambda: conformal_threshold([1.0], 1.0), "fpr must be above 0 and below 1, got 1.0"),
        (lambda: conformal_threshold([1.0], "a"), "fpr must be above 0 and below 1, got 'a'"),
        (lambda: conformal_p_values([1.0], []), "calibration_scores is empty"),
        (lambda: optimal_threshold([1, -1], [1, 2]), "either criterion or recall, got None and None"),
        (lambda: optimal_threshold([1, -1], [1, 2], criterion="f1", recall=1), "got 'f1' and 1"),
        (lambda: optimal_threshold([1, -1], [1, 2], criterion="f2"), "'f1' or 'youden', got 'f2'"),
        (
            lambda: optimal_threshold([1, -1], [1, 2], recall=True),
            "recall must be above 0 and at most 1, got True",
        ),
        (lambda: optimal_threshold([1, -1], [1, 2], recall=1.5), "recall must be above 0 and at most 1"),
        (lambda: optimal_threshold([1, 1], [1, 2], recall=1), "y labels no defect"),
        (lambda: optimal_threshold([-1, -1], [1, 2], criterion="f1"), "y labels no normal image"),
        (lambda: optimal_threshold([1, 2], [1, 2], recall=1), r"\+1/-1"),
        (lambda: optimal_threshold([1, -1, 1], [1, 2], recall=1), "2 scores, but y has 3 labels"),
    ],
)
def test_errors_name_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_public_names():
    assert calibration.__all__ == ["conformal_p_values", "conformal_threshold", "optimal_threshold"]


# The estimator's methods.


@pytest.fixture(scope="module")
def images():
    return make_defects(60, 20, surface="fabric", random_state=0, size=64)


@pytest.fixture
def fitted(images, tiny_params):
    return CSFlowDetector(**tiny_params).fit(images.images[:20])


def test_calibrate_sets_offset_map_threshold_and_scores(fitted, images):
    X = images.images[20:60]
    model, before = fitted.model_, fitted.offset_
    assert fitted.calibrate(X, fpr=0.1) is fitted
    scores = fitted.score_samples(X)
    assert fitted.offset_ == conformal_threshold(scores, 0.1) != before
    peaks = fitted.transform(X).max(axis=(1, 2))
    assert fitted.map_threshold_ == -conformal_threshold(-peaks, 0.1)
    np.testing.assert_array_equal(fitted.calibration_scores_, np.sort(scores))
    assert fitted.model_ is model
    # floor(.1 * 41) = 4, and what is below the fourth-lowest are three.
    assert np.sum(fitted.predict(X) == -1) == 3
    assert np.sum(fitted.predict_masks(X).any(axis=(1, 2))) == 3


def test_without_a_rate_calibrate_takes_contamination(fitted, images):
    X = images.images[20:60]
    fitted.set_params(contamination=0.2).calibrate(X)
    assert fitted.offset_ == conformal_threshold(fitted.score_samples(X), 0.2)


def test_defects_are_left_out_of_a_calibration_by_rate(fitted, images):
    X, y = images.images[20:], images.y[20:]
    by_labels = clone(fitted).fit(images.images[:20]).calibrate(X, y, fpr=0.1)
    fitted.calibrate(X[y == 1], fpr=0.1)
    assert by_labels.offset_ == fitted.offset_
    assert by_labels.map_threshold_ == fitted.map_threshold_
    zero_one = clone(fitted).fit(images.images[:20]).calibrate(X, (y == -1).astype(int), fpr=0.1)
    assert zero_one.offset_ == fitted.offset_


@pytest.mark.parametrize("how", [{"criterion": "f1"}, {"criterion": "youden"}, {"recall": 0.8}], ids=str)
def test_calibrate_by_labels(fitted, images, how):
    X, y = images.images[20:], images.y[20:]
    fitted.calibrate(X, y, **how)
    assert fitted.offset_ == optimal_threshold(y, fitted.score_samples(X), **how)
    peaks = fitted.transform(X).max(axis=(1, 2)).astype(np.float64)
    assert fitted.map_threshold_ == -optimal_threshold(y, -peaks, **how)
    if "recall" in how:
        assert np.mean(fitted.predict(X[y == -1]) == -1) >= 0.8
        assert np.mean(fitted.predict_masks(X[y == -1]).any(axis=(1, 2))) >= 0.8


def test_p_values_are_those_of_the_calibration(fitted, images):
    with pytest.raises(NotFittedError, match="Call calibrate first"):
        fitted.p_values(images.images[:2])
    fitted.calibrate(images.images[20:60], fpr=0.1)
    p = fitted.p_values(images.images[:3])
    expected = conformal_p_values(fitted.score_samples(images.images[:3]), fitted.calibration_scores_)
    np.testing.assert_array_equal(p, expected)


def test_a_new_fit_forgets_the_calibration_and_a_file_keeps_it(fitted, images, tmp_path):
    fitted.calibrate(images.images[20:60], fpr=0.1)
    joblib.dump(fitted, tmp_path / "detector.joblib")
    loaded = joblib.load(tmp_path / "detector.joblib")
    assert (loaded.offset_, loaded.map_threshold_) == (fitted.offset_, fitted.map_threshold_)
    np.testing.assert_array_equal(loaded.p_values(images.images[:3]), fitted.p_values(images.images[:3]))
    fitted.fit(images.images[:20])
    assert not hasattr(fitted, "calibration_scores_")
    fitted.calibrate(images.images[20:60], fpr=0.1).partial_fit(images.images[:20])
    assert not hasattr(fitted, "calibration_scores_")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"fpr": 0.001}, "fpr=0.001 can be promised from 999 normal images on, got 40"),
        ({"fpr": 0.1, "criterion": "f1"}, "Give one of fpr, criterion and recall"),
        ({"criterion": "f1"}, "criterion needs labels, but y is None"),
        ({"recall": 0.5}, "recall needs labels, but y is None"),
        ({"y": np.ones(40), "criterion": "f1"}, "y labels no defect"),
        ({"y": -np.ones(40), "fpr": 0.1}, "y labels every row a defect"),
        ({"y": np.ones(39), "fpr": 0.1}, "X has 40 images, but y has 39 labels"),
        ({"y": np.arange(40), "fpr": 0.1}, r"\+1/-1"),
        ({"fpr": 0.1, "cv": ShuffleSplit(1, random_state=0)}, "holds out row .* 0 times"),
        (
            {"fpr": 0.1, "cv": ShuffleSplit(30, random_state=0)},
            "holds out row .* times; each must be held out",
        ),
        ({"fpr": 0.1, "cv": [(np.arange(40), np.arange(40))]}, "learns from row 0 and holds it out"),
        (
            {"fpr": 0.1, "cv": [(np.arange(20), np.r_[20:40, 20]), (np.r_[20:40], np.arange(20))]},
            "row 20 2 times",
        ),
        ({"fpr": 0.1, "cv": [([], np.arange(40))]}, "learns from no image or holds out none in its split 0"),
        ({"fpr": 0.1, "cv": [(np.arange(40), [])]}, "learns from no image or holds out none in its split 0"),
        (
            {"y": np.repeat([1, -1], 20), "fpr": 0.1, "cv": KFold(2)},
            "learns from no normal image in its split 0",
        ),
    ],
)
def test_a_calibration_that_fails_leaves_the_thresholds(fitted, images, how, message):
    before = (fitted.offset_, fitted.map_threshold_)
    with pytest.raises(ValueError, match=message):
        fitted.calibrate(images.images[20:60], **how)
    assert (fitted.offset_, fitted.map_threshold_) == before
    assert not hasattr(fitted, "calibration_scores_")


@pytest.mark.parametrize(
    "how",
    [{"fpr": 0.001}, {"y": np.ones(40), "recall": 0.5}, {"y": np.r_[-1, np.ones(39)], "criterion": "f2"}],
)
def test_what_cannot_be_is_an_error_before_any_work(fitted, images, how):
    paths = np.array(["nowhere.png"] * 40, dtype=object)  # that can't be read
    with pytest.raises(ValueError, match=r"999 images|999 normal images|no defect|'f2'"):
        fitted.calibrate(paths, **how)


def test_cross_fitting_needs_a_detector_that_one_fit_made(fitted, images):
    X = images.images[:20]
    fitted.partial_fit(X)
    with pytest.raises(ValueError, match=r"n_epochs=2.* trained further since, by warm_start or partial_fit"):
        fitted.calibrate(X, fpr=0.2, cv=2)
    twice = clone(fitted).set_params(n_epochs=1, warm_start=True).fit(X).fit(X).set_params(n_epochs=2)
    with pytest.raises(ValueError, match="trained further since"):
        twice.calibrate(X, fpr=0.2, cv=2)
    by_part = clone(fitted).partial_fit(X).set_params(n_epochs=1)
    with pytest.raises(ValueError, match="this detector was trained with lr_schedule='constant'"):
        by_part.calibrate(X, fpr=0.2, cv=2)
    fitted.fit(X).set_params(clamp=1.0)
    with pytest.raises(ValueError, match="can't change its clamp"):
        fitted.calibrate(X, fpr=0.2, cv=2)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 1e-7},
        {"feature_noise": 50.0},
        {"batch_size": 1},
        {"weight_decay": 100.0},
        {"max_grad_norm": None},
        {"lr_schedule": "constant"},
        {"n_epochs": 3},
        {"precision": "bfloat16"},
        {"image_shape": (4, 4)},
        {"random_state": 1},  # of a backbone with random weights
    ],
)
def test_cross_fitting_needs_the_parameters_of_the_fit(fitted, images, change):
    [(name, value)] = change.items()
    before = fitted.get_params()[name]
    fitted.set_params(**change)
    with pytest.raises(
        ValueError,
        match=re.escape(
            f"fitted with {name}={value!r}, but this detector was trained with {name}={before!r}."
        ),
    ):
        fitted.calibrate(images.images[:20], fpr=0.2, cv=2)


def test_cross_fitting_after_loading_needs_the_parameters_of_the_fit(fitted, images, tmp_path):
    joblib.dump(fitted, tmp_path / "detector.joblib")
    loaded = joblib.load(tmp_path / "detector.joblib")
    loaded.calibrate(images.images[:20], fpr=0.2, cv=2)
    with pytest.raises(ValueError, match="was trained with batch_size"):
        loaded.set_params(batch_size=3).calibrate(images.images[:20], fpr=0.2, cv=2)


@pytest.mark.parametrize("seed", [None, np.random.RandomState(0)], ids=["none", "instance"])
def test_cross_fitting_with_other_backbones_in_the_clones_raises(images, tiny_params, seed):
    X = images.images[:20]
    detector = CSFlowDetector(**{**tiny_params, "weights": None, "random_state": seed}).fit(X)
    with pytest.raises(ValueError, match=r"weights=None .* Set random_state to an int"):
        detector.calibrate(X, fpr=0.2, cv=2)
    detector.set_params(random_state=0)
    with pytest.raises(ValueError, match="was trained with random_state=None"):
        detector.calibrate(X, fpr=0.2, cv=2)
    detector.fit(X).calibrate(X, fpr=0.2, cv=2)


def test_cross_fitting_of_a_file_from_before_says_so(fitted, images):
    del fitted._trained_by
    with pytest.raises(
        ValueError, match="this detector is of a version that did not keep what it was trained with"
    ):
        fitted.calibrate(images.images[:20], fpr=0.2, cv=2)


def test_cross_fitting_takes_splits_of_boolean_masks(fitted, images):
    X, first = images.images[:20], np.arange(20) < 10
    by_masks = clone(fitted).fit(X).calibrate(X, fpr=0.2, cv=[(first, ~first), (~first, first)])
    by_rows = fitted.calibrate(X, fpr=0.2, cv=[(np.r_[:10], np.r_[10:20]), (np.r_[10:20], np.r_[:10])])
    np.testing.assert_array_equal(by_masks.calibration_scores_, by_rows.calibration_scores_)


def test_cross_fitting_takes_splits_as_they_are(fitted, images):
    X = images.images[:20]
    by_list = clone(fitted).fit(X).calibrate(X, fpr=0.2, cv=list(KFold(2).split(X)))
    by_splitter = fitted.calibrate(X, fpr=0.2, cv=KFold(2))
    np.testing.assert_array_equal(by_list.calibration_scores_, by_splitter.calibration_scores_)


def test_an_unfitted_detector_cannot_be_calibrated(images, tiny_params):
    with pytest.raises(NotFittedError):
        CSFlowDetector(**tiny_params).calibrate(images.images)


@pytest.mark.parametrize("kind", ["array", "list", "tensor", "rows"])
def test_cross_fitted_scores_are_those_of_clones_that_did_not_see_the_images(images, tiny_params, kind):
    X = images.images[:24, ..., 0]
    as_kind = {
        "array": lambda x: x,
        "list": list,
        "tensor": lambda x: torch.from_numpy(x)[:, None],
        "rows": lambda x: x.reshape(len(x), -1),
    }[kind]
    detector = CSFlowDetector(**tiny_params).fit(as_kind(X)).calibrate(as_kind(X), fpr=0.2, cv=3)
    expected = np.empty(24)
    for learnt, held_out in KFold(3, shuffle=True, random_state=0).split(X):
        fold = CSFlowDetector(**tiny_params).fit(as_kind(X[learnt]))
        expected[held_out] = fold.score_samples(as_kind(X[held_out]))
    np.testing.assert_array_equal(detector.calibration_scores_, np.sort(expected))
    assert detector.offset_ == conformal_threshold(expected, 0.2)


def test_cross_fitting_learns_from_normal_rows_alone(images, tiny_params):
    rows = np.r_[:12, 60:66]
    X, y = images.images[rows], images.y[rows]
    detector = CSFlowDetector(**tiny_params).fit(X, y).calibrate(X, y, criterion="f1", cv=KFold(2))
    assert len(detector.calibration_scores_) == 12
    expected = []
    for learnt, held_out in KFold(2).split(X):
        fold = CSFlowDetector(**tiny_params).fit(X[learnt][y[learnt] == 1])
        expected.append(fold.score_samples(X[held_out]))
    assert detector.offset_ == optimal_threshold(y, np.concatenate(expected), criterion="f1")


def test_the_rate_is_promised_for_a_real_detector(fitted, images):
    # Over all ways to split off a new image from 39, exactly: 40 images in any order.
    scores = fitted.score_samples(images.images[20:60])
    called = [
        scores[i] < conformal_threshold(np.delete(scores, i), fpr)
        for i, fpr in itertools.product(range(40), [0.25])
    ]
    assert np.mean(called) <= 0.25
