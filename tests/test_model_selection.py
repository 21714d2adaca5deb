"""Folds for one-class learning, and scorers that know which label is the defect."""

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score

from skcsflow.model_selection import OneClassKFold, anomaly_roc_auc


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shuffle", [False, True])
def test_folds_train_on_normal_rows_and_test_every_row_once(seed, shuffle):
    rng = np.random.RandomState(seed)
    y = np.where(rng.rand(57) < 0.7, 1, -1)
    cv = OneClassKFold(n_splits=4, shuffle=shuffle, random_state=seed if shuffle else None)
    tested = []
    for train, test in cv.split(np.zeros((57, 1)), y):
        assert (y[train] == 1).all()
        assert not set(train) & set(test)
        assert set(train) | set(test) >= set(np.flatnonzero(y == 1))
        tested.extend(test)
    assert sorted(tested) == list(range(57))


def test_folds_same_seed_same_rows():
    y = np.repeat([1, -1], [20, 8])
    cv = OneClassKFold(n_splits=3, shuffle=True, random_state=0)
    first, second = (list(cv.split(np.zeros((28, 1)), y)) for _ in range(2))
    for (train, test), (train_again, test_again) in zip(first, second, strict=True):
        np.testing.assert_array_equal(train, train_again)
        np.testing.assert_array_equal(test, test_again)


@pytest.fixture
def labelled():
    rng = np.random.RandomState(0)
    X = np.r_[rng.normal(size=(80, 2)), rng.normal(2, 2, size=(30, 2))]
    return X, np.repeat([1, -1], [80, 30])


def test_scorer_gets_both_conventions_right(labelled):
    X, y = labelled
    forest = IsolationForest(random_state=0).fit(X[:80])
    expected = roc_auc_score(y == -1, -forest.score_samples(X))
    assert anomaly_roc_auc(forest, X, y) == pytest.approx(expected)
    assert anomaly_roc_auc(forest, X, (y == -1).astype(int)) == pytest.approx(expected)
    assert expected > 0.8


def test_scorer_and_folds_in_cross_validation(labelled):
    X, y = labelled
    scores = cross_val_score(
        IsolationForest(random_state=0), X, y, cv=OneClassKFold(n_splits=3), scoring=anomaly_roc_auc
    )
    assert scores.shape == (3,)
    assert (scores > 0.7).all()
