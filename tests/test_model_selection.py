"""Folds and scorers for detectors that learn from normal rows only."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn import config_context
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, get_scorer, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    StratifiedGroupKFold,
    check_cv,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcsflow import CSFlowDetector, model_selection
from skcsflow.model_selection import (
    OneClassKFold,
    anomaly_average_precision,
    anomaly_f1,
    anomaly_roc_auc,
)

SCORERS = [anomaly_roc_auc, anomaly_average_precision, anomaly_f1]
SEEDS = range(40)


class Distance(OutlierMixin, BaseEstimator):
    """A fast detector: the score is minus the distance from the mean.

    It counts the calls of `score_samples`, and keeps the labels that `fit` got.
    """

    calls = 0

    def __init__(self, threshold=3.0):
        self.threshold = threshold

    def fit(self, X, y=None):
        self.mean_ = np.mean(X, axis=0)
        self.y_ = y
        return self

    def score_samples(self, X):
        type(self).calls += 1
        return -np.linalg.norm(np.asarray(X) - self.mean_, axis=1)

    def decision_function(self, X):
        return self.score_samples(X) + self.threshold

    def predict(self, X):
        return np.where(self.decision_function(X) < 0, -1, 1)


class DecisionOnly(OutlierMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def decision_function(self, X):
        return -np.asarray(X)[:, 0]


class KMeansLike(DecisionOnly):
    def predict(self, X):
        return np.arange(len(X)) % 2


def as_labels(defect, kind):
    return {
        "pm1": np.where(defect, -1, 1),
        "01": defect.astype(int),
        "bool": defect,
        "names": np.where(defect, np.where(np.arange(len(defect)) % 2, "crack", "dent"), "good"),
    }[kind]


@pytest.fixture(scope="module")
def table():
    """60 rows, 15 of them defects that overlap with the normal rows."""
    rng = np.random.RandomState(0)
    X = np.concatenate([rng.normal(size=(45, 3)), rng.normal(1.5, size=(15, 3))])
    order = rng.permutation(60)
    return X[order], np.repeat([False, True], [45, 15])[order]


def random_labels(seed):
    rng = np.random.RandomState(seed)
    n_splits = rng.randint(2, 8)
    n_normal, n_defects = rng.randint(n_splits, 60), rng.randint(n_splits, 30)
    defect = rng.permutation(np.repeat([False, True], [n_normal, n_defects]))
    return n_splits, defect, rng


def folds_of(cv, y, groups=None):
    """The folds' (train, test), and the fold that each row is tested in, for one repeat."""
    splits = list(cv.split(np.zeros(len(y)), y, groups))
    fold = np.full(len(y), -1)
    for i, (_, test) in enumerate(splits):
        fold[test] = i
    return splits, fold


def spread(numbers):
    return max(numbers) - min(numbers)


# Folds


@pytest.mark.parametrize("shuffle", [False, True])
def test_split_random_labels_tests_every_row_once_and_spreads_both_kinds_evenly(shuffle):
    for seed in SEEDS:
        n_splits, defect, _ = random_labels(seed)
        cv = OneClassKFold(n_splits, shuffle=shuffle, random_state=seed if shuffle else None)
        splits, fold = folds_of(cv, as_labels(defect, ["pm1", "01", "bool", "names"][seed % 4]))
        assert len(splits) == cv.get_n_splits() == n_splits
        np.testing.assert_array_equal(
            np.sort(np.concatenate([test for _, test in splits])), np.arange(len(defect))
        )
        for train, test in splits:
            np.testing.assert_array_equal(train, np.setdiff1d(np.flatnonzero(~defect), test))
            np.testing.assert_array_equal(test, np.unique(test))
        for rows in (~defect, defect, np.ones_like(defect)):
            assert spread(np.bincount(fold[rows], minlength=n_splits)) <= 1


@pytest.mark.parametrize("normal_label", [None, "good"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_split_spreads_each_kind_of_defect_evenly(shuffle, normal_label):
    names = np.array(["good", "crack", "hole", "stain"])
    for seed in range(10):
        rng = np.random.RandomState(seed)
        y = names[rng.choice(4, size=80, p=[0.5, 0.3, 0.15, 0.05])]
        y[:20] = names[np.arange(20) % 4]
        cv = OneClassKFold(
            4, shuffle=shuffle, normal_label=normal_label, random_state=seed if shuffle else None
        )
        _, fold = folds_of(cv, y)
        for rows in [y == name for name in names] + [y != "good"]:
            assert spread(np.bincount(fold[rows], minlength=4)) <= 1


def test_split_equal_labels_of_every_kind_give_equal_folds():
    defect = np.random.RandomState(0).rand(40) < 0.3
    expected = folds_of(OneClassKFold(), defect)[1]
    for kind in ("pm1", "01"):
        np.testing.assert_array_equal(folds_of(OneClassKFold(), as_labels(defect, kind))[1], expected)
    for normal, normal_label in (("good", None), ("good", "good"), ("normal", None), ("ok", "ok")):
        y = np.where(defect, "bad", normal)
        np.testing.assert_array_equal(folds_of(OneClassKFold(normal_label=normal_label), y)[1], expected)


def test_split_unshuffled_keeps_neighbouring_normal_rows_together():
    _, fold = folds_of(OneClassKFold(4), np.ones(10, dtype=int))
    np.testing.assert_array_equal(fold, [0, 0, 0, 1, 1, 1, 2, 2, 3, 3])


def test_split_unshuffled_first_training_fold_is_the_smallest():  # learning_curve takes its length for all
    splits, _ = folds_of(OneClassKFold(4), np.ones(10, dtype=int))
    assert len(splits[0][0]) == min(len(train) for train, _ in splits)


def test_split_no_defects_is_silent():
    for y in (np.zeros(10), np.ones(10), np.zeros(10, dtype=bool), ["good"] * 10):
        splits, _ = folds_of(OneClassKFold(5), y)
        assert [len(test) for _, test in splits] == [2] * 5


def test_split_fewer_defects_than_folds_warns_with_numbers():
    y = np.repeat([1, -1], [10, 3])
    with pytest.warns(
        UserWarning, match="2 of the n_splits=5 test folds hold no defect, because y has 3"
    ) as caught:
        splits, _ = folds_of(OneClassKFold(5), y)
    assert caught[0].filename == __file__
    assert sorted(np.sum(y[test] == -1) for _, test in splits) == [0, 0, 1, 1, 1]


def test_split_uses_only_the_length_of_x():
    y = np.repeat([1, -1], [15, 5])
    expected = [test.tolist() for _, test in OneClassKFold().split(np.zeros(20), y)]
    for X in (range(20), list("abcdefghijklmnopqrst"), torch.zeros(20, 1), pd.Series(range(20))):
        assert [test.tolist() for _, test in OneClassKFold().split(X, y)] == expected


# Folds of groups


def random_groups(seed):
    rng = np.random.RandomState(1000 + seed)
    n_splits, n_groups = rng.randint(2, 6), rng.randint(12, 40)
    groups = np.concatenate([np.repeat(np.arange(n_groups), 2), rng.randint(n_groups, size=rng.randint(200))])
    chance = rng.choice([0.0, 0.1, 0.5, 1.0], size=n_groups)
    defect = rng.rand(len(groups)) < chance[groups]
    enough = all(len(np.unique(groups[rows])) >= n_splits for rows in (defect, ~defect))
    return (n_splits, defect, groups) if enough else random_groups(seed + 1000)


@pytest.mark.parametrize("shuffle", [False, True])
def test_split_random_groups_are_never_in_train_and_test(shuffle):
    for seed in SEEDS:
        n_splits, defect, groups = random_groups(seed)
        cv = OneClassKFold(n_splits, shuffle=shuffle, random_state=seed if shuffle else None)
        splits, _ = folds_of(cv, defect, groups)
        np.testing.assert_array_equal(
            np.sort(np.concatenate([test for _, test in splits])), np.arange(len(defect))
        )
        for train, test in splits:
            assert set(groups[test]).isdisjoint(groups[train])
            assert set(defect[test]) == {False, True}
            normal = np.flatnonzero(~defect & ~np.isin(groups, groups[test]))
            np.testing.assert_array_equal(train, normal)
            assert len(train) > 0


@pytest.mark.parametrize("shuffle", [False, True])
def test_split_random_groups_are_balanced_better_than_stratified_group_k_fold(shuffle):
    def imbalance(fold, defect, n_splits):
        counts = [np.bincount(fold[rows], minlength=n_splits) for rows in (defect, ~defect)]
        return sum(np.std(c) / np.mean(c) for c in counts)

    ours, theirs = [], []
    for seed in SEEDS:
        n_splits, defect, groups = random_groups(seed)
        seed_of = seed if shuffle else None
        fold = folds_of(OneClassKFold(n_splits, shuffle=shuffle, random_state=seed_of), defect, groups)[1]
        ours.append(imbalance(fold, defect, n_splits))
        theirs_cv = StratifiedGroupKFold(n_splits, shuffle=shuffle, random_state=seed_of)
        theirs.append(imbalance(folds_of(theirs_cv, defect, groups)[1], defect, n_splits))
    assert np.mean(ours) < np.mean(theirs)


def test_split_groups_of_one_row_spread_evenly():
    defect = np.repeat([False, True], [23, 9])
    _, fold = folds_of(OneClassKFold(4), defect, np.arange(32))
    for rows in (~defect, defect):
        assert spread(np.bincount(fold[rows], minlength=4)) <= 1


def test_split_one_giant_group_leaves_normal_rows_to_every_fold():
    y = np.ones(100, dtype=int)
    groups = np.r_[np.zeros(96, dtype=int), 1, 2, 3, 4]
    splits, _ = folds_of(OneClassKFold(5), y, groups)
    assert sorted(len(test) for _, test in splits) == [1, 1, 1, 1, 96]


def test_split_mixed_groups_leave_normal_rows_to_every_fold_before_balance():
    y, groups = [1, 1, -1, -1, 1, -1], [0, 0, 1, 1, 2, 2]
    with pytest.warns(UserWarning, match="1 of the n_splits=2 test folds hold no defect"):
        splits, _ = folds_of(OneClassKFold(2), y, groups)
    assert [train.tolist() for train, _ in splits] == [[4], [0, 1]]


def test_split_group_names_do_not_matter():
    n_splits, defect, groups = random_groups(0)
    expected = folds_of(OneClassKFold(n_splits), defect, groups)[1]
    for named in ([f"part {g}" for g in groups], pd.Series(groups).astype("category"), groups * 0.5):
        np.testing.assert_array_equal(folds_of(OneClassKFold(n_splits), defect, named)[1], expected)


def test_split_shuffled_groups_of_different_sizes_differ_between_repeats():
    groups = np.repeat(np.arange(20), np.arange(1, 21))
    cv = OneClassKFold(4, n_repeats=5, shuffle=True, random_state=0)
    tests = [frozenset(test) for _, test in cv.split(groups, np.ones(len(groups)), groups)]
    assert len(set(tests)) > 12


def test_split_defects_in_too_few_groups_warns():
    y, groups = np.repeat([1, -1], [10, 6]), np.r_[np.arange(10), [20] * 3, [21] * 3]
    with pytest.warns(
        UserWarning,
        match="3 of the n_splits=5 test folds hold no defect, because y has 6 in too few groups",
    ):
        folds_of(OneClassKFold(5), y, groups)


# Repeats and seeds


def test_split_repeats_are_partitions_that_differ():
    defect = np.random.RandomState(0).rand(50) < 0.3
    cv = OneClassKFold(5, n_repeats=3, shuffle=True, random_state=0)
    tests = [test for _, test in cv.split(defect, defect)]
    assert len(tests) == cv.get_n_splits() == 15
    for repeat in range(3):
        rows = np.sort(np.concatenate(tests[5 * repeat : 5 * repeat + 5]))
        np.testing.assert_array_equal(rows, np.arange(50))
    assert len({tuple(test) for test in tests}) == 15


@pytest.mark.parametrize("grouped", [False, True])
def test_split_same_seed_same_folds_at_each_call(grouped):
    n_splits, defect, groups = random_groups(1)
    cv = OneClassKFold(n_splits, n_repeats=2, shuffle=True, random_state=7)
    groups = groups if grouped else None

    def tests(splitter):
        return [test.tolist() for _, test in splitter.split(defect, defect, groups)]

    assert tests(cv) == tests(cv) == tests(clone(cv, safe=False)) == tests(pickle.loads(pickle.dumps(cv)))
    assert tests(cv) != tests(OneClassKFold(n_splits, n_repeats=2, shuffle=True, random_state=8))


def test_split_random_state_instance_advances():
    y = np.ones(30)
    cv = OneClassKFold(shuffle=True, random_state=np.random.RandomState(0))
    first, second = (folds_of(cv, y)[1].tolist() for _ in range(2))
    assert first != second
    assert first == folds_of(OneClassKFold(shuffle=True, random_state=0), y)[1].tolist()


def test_split_without_seed_draws_anew_and_leaves_the_global_state():
    before = np.random.get_state()  # noqa: NPY002
    cv, y = OneClassKFold(shuffle=True), np.ones(30)
    np.random.seed(0)  # noqa: NPY002
    first = folds_of(cv, y)[1].tolist()
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.get_state()  # noqa: NPY002
    np.random.set_state(before)  # noqa: NPY002
    np.testing.assert_array_equal(state[1], expected[1])
    assert state[2:] == expected[2:]
    assert first != folds_of(cv, y)[1].tolist()


# Errors of the splitter


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_splits": 1}, "n_splits must be an int, 2 or more, got 1"),
        ({"n_splits": 2.5}, r"n_splits must be an int, 2 or more, got 2\.5"),
        ({"n_splits": None}, "n_splits .* got None"),
        ({"n_repeats": 0, "shuffle": True}, "n_repeats must be an int, 1 or more, got 0"),
        ({"n_repeats": 2}, "n_repeats=2 .* shuffle=True"),
        ({"random_state": 0}, "random_state=0 has no effect with shuffle=False"),
        ({"shuffle": "yes"}, "shuffle must be True or False, got 'yes'"),
        ({"shuffle": True, "random_state": "seed"}, "random_state must be None, an int .* got 'seed'"),
    ],
)
def test_constructor_bad_parameter_raises_with_it(params, message):
    with pytest.raises(ValueError, match=message):
        OneClassKFold(**params)


@pytest.mark.parametrize(
    ("y", "groups", "message"),
    [
        (None, None, "y is None"),
        ([1] * 9, None, "X has 10 rows, but y has 9 labels"),
        ([1] * 4 + [-1] * 6, None, "n_splits=5 is more than the number of normal rows in y, 4"),
        ([-1] * 10, None, "y labels all of its 10 rows defects"),
        ([True] * 10, None, "y labels all of its 10 rows defects"),
        (["ok"] * 10, None, "got 'ok'"),
        ([1] * 10, [0] * 9, "X has 10 rows, but groups has 9 labels"),
        ([1] * 10, [0] * 9 + [None], "groups lacks a label: it is None at row 9"),
        ([1] * 10, np.zeros((10, 2)), r"groups must have shape \(n,\), got shape \(10, 2\)"),
        ([1] * 10, [0, 1] * 5, "n_splits=5 is more than the number of groups with normal rows, 2"),
    ],
)
def test_split_bad_rows_raises_at_the_call(y, groups, message):
    with pytest.raises(ValueError, match=message):
        OneClassKFold(5).split(np.zeros(10), y, groups)


def test_public_class_says_where_it_is_imported_from():
    assert OneClassKFold.__module__ == "skcsflow.model_selection"
    assert pickle.loads(pickle.dumps(OneClassKFold)) is OneClassKFold is model_selection.OneClassKFold


def test_repr_shows_parameters():
    assert repr(OneClassKFold(3, normal_label="good")) == (
        "OneClassKFold(n_repeats=1, n_splits=3, normal_label='good', random_state=None,\n       shuffle=False)"
    )


# The splitter in scikit-learn


def test_check_cv_takes_it_as_it_is(table):
    cv = OneClassKFold()
    assert check_cv(cv, table[1], classifier=False) is cv


@pytest.mark.parametrize("kind", ["pm1", "01", "bool", "names"])
def test_cross_validate_trains_on_normal_rows_and_scores_all(table, kind):
    X, defect = table
    y = as_labels(defect, kind)
    cv = OneClassKFold(4, shuffle=True, random_state=0)
    result = cross_validate(Distance(), X, y, cv=cv, scoring=anomaly_roc_auc, return_estimator=True)
    for estimator, score, (train, test) in zip(
        result["estimator"], result["test_score"], cv.split(X, y), strict=True
    ):
        assert len(set(estimator.y_.tolist())) == 1
        assert not defect[train].any()
        np.testing.assert_array_equal(estimator.mean_, X[train].mean(axis=0))
        assert score == roc_auc_score(defect[test], -estimator.score_samples(X[test]))


@pytest.mark.parametrize("normal_label", [None, "good"])
def test_cross_validate_of_strings_gives_the_scores_of_numbers(table, normal_label):
    X, defect = table
    scoring = {scorer.__name__: scorer for scorer in SCORERS}
    forest = IsolationForest(n_estimators=10, random_state=0)
    of_names, of_numbers = (
        cross_validate(forest, X, y, cv=cv, scoring=scoring, error_score="raise")
        for y, cv in [
            (np.where(defect, "crack", "good"), OneClassKFold(3, normal_label=normal_label)),
            (np.where(defect, -1, 1), OneClassKFold(3)),
        ]
    )
    for name in scoring:
        assert np.isfinite(of_names[f"test_{name}"]).all()
        np.testing.assert_array_equal(of_names[f"test_{name}"], of_numbers[f"test_{name}"])


def test_cross_val_predict_predicts_every_row_by_its_fold(table):
    X, defect = table
    cv = OneClassKFold(4, shuffle=True, random_state=0)
    predicted = cross_val_predict(Distance(), X, as_labels(defect, "01"), cv=cv)
    decided = cross_val_predict(Distance(), X, cv=cv.split(X, defect), method="decision_function")
    for train, test in cv.split(X, defect):
        detector = Distance().fit(X[train])
        np.testing.assert_array_equal(predicted[test], detector.predict(X[test]))
        np.testing.assert_array_equal(decided[test], detector.decision_function(X[test]))


def test_cross_val_predict_with_repeats_is_refused(table):
    X, defect = table
    with pytest.raises(ValueError, match="only works for partitions"):
        cross_val_predict(Distance(), X, defect, cv=OneClassKFold(n_repeats=2, shuffle=True))


@pytest.mark.parametrize("Search", [GridSearchCV, RandomizedSearchCV, HalvingGridSearchCV])
@pytest.mark.parametrize("kind", ["pm1", "01"])
def test_search_finds_the_better_candidate(table, Search, kind):
    X, defect = table
    X = np.repeat(X, 4, axis=0) + np.random.RandomState(1).normal(0, 0.01, size=(240, 3))
    y = as_labels(np.repeat(defect, 4), kind)
    grid = {"distance__threshold": [0.01, 2.3, 50.0]}
    params = {"cv": OneClassKFold(3), "scoring": anomaly_f1}
    if Search is HalvingGridSearchCV:
        params |= {"min_resources": 80, "random_state": 0, "return_train_score": False}
    if Search is RandomizedSearchCV:
        params |= {"n_iter": 3, "random_state": 0}
    search = Search(make_pipeline(StandardScaler(), Distance()), grid, **params).fit(X, y)
    assert search.best_params_ == {"distance__threshold": 2.3}
    assert search.n_splits_ == 3
    assert 0.5 < search.best_score_ < 1


def test_halving_search_without_seed_is_refused(table):
    X, defect = table
    search = HalvingGridSearchCV(
        Distance(), {"threshold": [1, 2]}, cv=OneClassKFold(shuffle=True), scoring=anomaly_roc_auc
    )
    with pytest.raises(ValueError, match="consistent folds"):
        search.fit(X, defect)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("01", "Only one class"), ("names", "Only one class"), ("pm1", "y is ambiguous")],
)
def test_learning_curve_grows_on_normal_rows_and_has_no_training_scores(table, kind, message):
    X, defect = table
    with pytest.warns(UserWarning, match=message):
        sizes, of_training, of_test = learning_curve(
            Distance(),
            X,
            as_labels(defect, kind),
            cv=OneClassKFold(3),
            train_sizes=[0.2, 1.0],
            scoring=anomaly_roc_auc,
        )
    np.testing.assert_array_equal(sizes, [6, 30])
    assert np.isnan(of_training).all()
    assert of_test.shape == (2, 3)
    assert np.isfinite(of_test).all()


def test_permutation_test_score_tells_signal_from_noise(table):
    X, defect = table
    score, permuted, p_value = permutation_test_score(
        Distance(), X, defect, cv=OneClassKFold(3), scoring=anomaly_roc_auc, n_permutations=19, random_state=0
    )
    assert score > permuted.max()
    assert p_value == pytest.approx(1 / 20)
    assert abs(permuted.mean() - 0.5) < 0.1


def test_cross_val_score_passes_groups(table):
    X, defect = table
    groups = np.arange(60) // 3
    cv = OneClassKFold(3)
    expected = [
        anomaly_roc_auc(Distance().fit(X[train]), X[test], defect[test])
        for train, test in cv.split(X, defect, groups)
    ]
    scores = cross_val_score(Distance(), X, defect, groups=groups, cv=cv, scoring=anomaly_roc_auc)
    np.testing.assert_array_equal(scores, expected)
    assert not np.array_equal(scores, cross_val_score(Distance(), X, defect, cv=cv, scoring=anomaly_roc_auc))
    with config_context(enable_metadata_routing=True):
        routed = cross_val_score(
            Distance(), X, defect, params={"groups": groups}, cv=cv, scoring=anomaly_roc_auc
        )
        search = GridSearchCV(Distance(), {"threshold": [1.0]}, cv=cv, scoring=anomaly_roc_auc)
        best = search.fit(X, defect, groups=groups).best_score_
    np.testing.assert_array_equal(routed, expected)
    assert best == pytest.approx(np.mean(expected))


def test_set_split_request_renames_groups(table):
    X, defect = table
    groups = np.arange(60) // 3
    expected = cross_val_score(
        Distance(), X, defect, groups=groups, cv=OneClassKFold(3), scoring=anomaly_roc_auc
    )
    with config_context(enable_metadata_routing=True):
        cv = OneClassKFold(3).set_split_request(groups="part")
        scores = cross_val_score(
            Distance(), X, defect, params={"part": groups}, cv=cv, scoring=anomaly_roc_auc
        )
    np.testing.assert_array_equal(scores, expected)


# Scorers


def test_scorers_labels_of_all_kinds_give_the_metric_of_the_defects(table):
    X, defect = table
    detector = Distance(threshold=2.0).fit(X[~defect])
    anomaly, found = -detector.score_samples(X), detector.predict(X) == -1
    expected = [
        roc_auc_score(defect, anomaly),
        average_precision_score(defect, anomaly),
        f1_score(defect, found),
    ]
    for kind in ("pm1", "01", "bool", "names"):
        assert [scorer(detector, X, as_labels(defect, kind)) for scorer in SCORERS] == expected
    assert all(0.3 < score < 1 for score in expected)


def test_scikit_learns_roc_auc_labels_01_is_inverted(table):
    X, defect = table
    forest = IsolationForest(n_estimators=20, random_state=0).fit(X[~defect])
    ours = anomaly_roc_auc(forest, X, as_labels(defect, "01"))
    assert ours > 0.7
    assert ours + get_scorer("roc_auc")(forest, X, as_labels(defect, "01")) == pytest.approx(1, abs=1e-12)
    assert ours == pytest.approx(get_scorer("roc_auc")(forest, X, as_labels(defect, "pm1")), abs=1e-12)


def test_scikit_learns_average_precision_and_f1_are_of_the_normal_rows(table):
    X, defect = table
    y = as_labels(defect, "pm1")
    forest = IsolationForest(n_estimators=20, random_state=0).fit(X[~defect])
    normality = forest.decision_function(X)
    assert get_scorer("average_precision")(forest, X, y) == average_precision_score(~defect, normality)
    assert get_scorer("f1")(forest, X, y) == f1_score(~defect, forest.predict(X) == 1)
    with pytest.raises(ValueError, match="multiclass"):
        get_scorer("f1")(forest, X, as_labels(defect, "01"))


def test_scorers_without_score_samples_take_decision_function():
    X, y = np.array([[0.0], [1.0], [2.0]]), [0, 0, 1]
    assert anomaly_roc_auc(DecisionOnly().fit(X), X, y) == 1
    with pytest.raises(AttributeError, match="predict"):
        anomaly_f1(DecisionOnly().fit(X), X, y)


@pytest.mark.parametrize("scorer", SCORERS)
def test_scorers_survive_pickle_copy_and_clone(table, scorer):
    X, defect = table
    detector = Distance().fit(X)
    expected = scorer(detector, X, defect)
    copies = [pickle.loads(pickle.dumps(scorer)), copy.deepcopy(scorer), clone(scorer, safe=False)]
    assert [twin(detector, X, defect) for twin in copies] == [expected] * 3
    assert {repr(twin) for twin in copies} == {repr(scorer)}
    search = clone(GridSearchCV(Distance(), {"threshold": [1.0]}, scoring=scorer))
    assert repr(search.scoring) == repr(scorer)


def test_scorers_have_names_and_docs():
    assert [repr(s) for s in SCORERS] == ["anomaly_roc_auc", "anomaly_average_precision", "anomaly_f1"]
    assert all("defects as the positive class" in scorer.__doc__ for scorer in SCORERS)


def test_scorers_multi_metric_search(table):
    X, defect = table
    scoring = {scorer.__name__: scorer for scorer in SCORERS}
    forest = IsolationForest(n_estimators=10, random_state=0)
    search = GridSearchCV(
        forest,
        {"max_samples": [8, 30]},
        scoring=scoring,
        refit="anomaly_roc_auc",
        cv=OneClassKFold(3),
    )
    search.fit(X, as_labels(defect, "pm1"))
    for name, scorer in scoring.items():
        single = cross_val_score(
            forest.set_params(max_samples=8), X, defect, cv=OneClassKFold(3), scoring=scorer
        )
        assert search.cv_results_[f"mean_test_{name}"][0] == pytest.approx(single.mean())


def test_scorers_multi_metric_share_one_call_of_score_samples(table, monkeypatch):
    X, defect = table
    monkeypatch.setattr(Distance, "calls", 0)
    scoring = {"auc": anomaly_roc_auc, "ap": anomaly_average_precision}
    cross_validate(Distance(), X, defect, cv=OneClassKFold(3), scoring=scoring)
    assert Distance.calls == 3


def test_scorers_take_search_and_pipeline_as_estimator(table):
    X, defect = table
    pipeline = make_pipeline(StandardScaler(), Distance())
    search = GridSearchCV(
        pipeline, {"distance__threshold": [1.0]}, cv=OneClassKFold(3), scoring=anomaly_roc_auc
    )
    search.fit(X, as_labels(defect, "pm1"))
    expected = roc_auc_score(defect, -search.score_samples(X))
    assert search.score(X, as_labels(defect, "01")) == expected
    assert anomaly_roc_auc(search.best_estimator_, X, defect) == expected


@pytest.mark.parametrize("scorer", SCORERS)
def test_scorers_weights_count_as_repeated_rows(table, scorer):
    X, defect = table
    detector = Distance(threshold=2.0).fit(X)
    weight = np.random.RandomState(0).randint(1, 4, size=60)
    repeated = scorer(detector, np.repeat(X, weight, axis=0), np.repeat(defect, weight))
    assert scorer(detector, X, defect, sample_weight=weight) == pytest.approx(repeated)
    assert scorer(detector, X, defect) != pytest.approx(repeated)


def test_scorers_route_weights_where_asked(table):
    X, defect = table
    weight = np.linspace(0.1, 3, 60)
    cv = OneClassKFold(3)
    expected = [
        anomaly_roc_auc(Distance().fit(X[train]), X[test], defect[test], sample_weight=weight[test])
        for train, test in cv.split(X, defect)
    ]
    with config_context(enable_metadata_routing=True):
        scorer = copy.deepcopy(anomaly_roc_auc).set_score_request(sample_weight=True)
        scores = cross_val_score(
            Distance(), X, defect, cv=cv, scoring=scorer, params={"sample_weight": weight}
        )
    np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["ok"] * 59 + ["bad"], r"must be \+1/-1.* got 'ok', 'bad'"),
        ([0, 1, 2] * 20, "got 0, 1, 2"),
        ([1] * 60, "y is ambiguous: all of its 60 labels are 1"),
        ([1.0] * 60, "ambiguous"),
        (None, "y is None"),
        ([0, 1] * 29, "y has 58 labels, but .* has shape"),
    ],
)
def test_scorers_bad_labels_raise(table, scorer, y, message):
    X, _ = table
    with pytest.raises(ValueError, match=message):
        scorer(Distance().fit(X), X, y)


@pytest.mark.parametrize("scorer", [anomaly_roc_auc, anomaly_average_precision])
@pytest.mark.parametrize(("value", "hint"), [(np.nan, ".* leave such images out"), (np.inf, "$")])
def test_scorers_score_not_finite_raises_with_its_row(table, scorer, value, hint):
    X, defect = table
    detector = Distance().fit(X)
    X = X.copy()
    X[7] = value
    message = rf"Distance\.score_samples\(X\) must be finite, but is (nan|-inf) at row 7\.{hint}"
    with pytest.raises(ValueError, match=message):
        scorer(detector, X, defect)


@pytest.mark.parametrize("label", [0, -1, True, False, "good"])
def test_roc_auc_one_kind_follows_scikit_learn(table, label):
    X, _ = table
    with pytest.warns(UndefinedMetricWarning, match="Only one class"):
        assert np.isnan(anomaly_roc_auc(Distance().fit(X), X, [label] * 60))


def test_average_precision_no_defect_follows_scikit_learn(table):
    X, _ = table
    with pytest.warns(UserWarning, match="No positive class"):
        assert anomaly_average_precision(Distance().fit(X), X, [0] * 60) == 0


@pytest.mark.parametrize("scorer", SCORERS)
def test_scorers_refuse_classifiers(table, scorer):
    X, defect = table
    for y in (as_labels(defect, "01"), as_labels(defect, "pm1")):
        with pytest.raises(
            ValueError, match=f"{scorer!r} is for outlier detectors.* LogisticRegression is a classifier"
        ):
            scorer(LogisticRegression().fit(X, y), X, y)


def test_f1_predictions_other_than_plus_minus_one_raise(table):
    X, defect = table
    with pytest.raises(ValueError, match=r"predict must give \+1 .* got 0, 1"):
        anomaly_f1(KMeansLike().fit(X), X, defect)


# CSFlowDetector


@pytest.mark.slow
def test_detector_list_of_paths_and_array_give_the_same_predictions(tiny_params, grey_images, tmp_path):
    images = grey_images[:10]
    paths = []
    for i, image in enumerate(images):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(image).save(paths[-1])
    y = np.repeat([1, -1], [8, 2])
    detector = CSFlowDetector(**tiny_params | {"n_epochs": 1, "contamination": 0.3})
    cv = OneClassKFold(2)
    expected = cross_val_predict(detector, images, y, cv=cv)
    assert set(expected) <= {1, -1}
    np.testing.assert_array_equal(cross_val_predict(detector, paths, y, cv=cv), expected)
    decided = cross_val_predict(detector, paths, cv=cv.split(paths, y), method="decision_function")
    np.testing.assert_array_equal(np.where(decided < 0, -1, 1), expected)


def test_detector_search_with_scorers(tiny_params, grey_images):
    X, y = grey_images[:12].copy(), np.repeat([0, 1], [8, 4])
    X[8:, 10:30, 10:30] = 255
    search = GridSearchCV(
        CSFlowDetector(**tiny_params | {"n_epochs": 1}),
        {"clamp": [1.0, 3.0]},
        cv=OneClassKFold(2),
        scoring={"auc": anomaly_roc_auc, "ap": anomaly_average_precision},
        refit=False,
        error_score="raise",
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(X, y)
    assert {warning.category for warning in caught} <= {ConvergenceWarning}  # of one epoch
    for name in ("auc", "ap"):
        scores = search.cv_results_[f"mean_test_{name}"]
        assert ((scores >= 0) & (scores <= 1)).all()
