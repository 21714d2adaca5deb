"""Thresholds with a guaranteed false-positive rate, p-values, and thresholds by labels."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_curve

from skcsflow import calibration
from skcsflow.calibration import (
    conformal_p_values,
    conformal_threshold,
    optimal_threshold,
    prediction_limit,
)

RATES = (0.05, 0.1, 0.29, 0.5, 0.9)


@pytest.mark.parametrize("n", [1, 2, 9, 10, 19, 100])
def test_conformal_threshold_has_exactly_the_promised_rate(n):
    # Among n + 1 scores in random order, each rank is equally likely for the last one.
    ranks = np.arange(n + 1.0)
    for fpr in RATES:
        n_called = int(np.floor(np.round(fpr * (n + 1), 9)))
        if n_called == 0:
            with pytest.raises(ValueError, match=rf"fpr={fpr} needs at least \d+ normal images, got {n}"):
                conformal_threshold(ranks[:n], fpr)
            continue
        called = [new < conformal_threshold(np.delete(ranks, new), fpr) for new in range(n + 1)]
        assert sum(called) == n_called
        assert fpr - 1 / (n + 1) < np.mean(called) <= fpr + 1e-12


def test_conformal_threshold_works_from_the_number_of_images_in_its_error_message():
    for fpr in (0.01, 0.05, 0.07, 0.3):
        with pytest.raises(ValueError, match="needs at least") as error:
            conformal_threshold([0.0], fpr)
        n = int(str(error.value).split("at least ")[1].split(" ")[0])
        conformal_threshold(np.zeros(n), fpr)
        with pytest.raises(ValueError, match="needs at least"):
            conformal_threshold(np.zeros(n - 1), fpr)


@pytest.mark.parametrize("ties", [False, True])
def test_conformal_threshold_keeps_the_rate_in_simulation(ties):
    rng = np.random.RandomState(0)
    called = []
    for _ in range(2000):
        scores = rng.standard_t(2, size=31)
        scores = np.round(scores) if ties else scores
        called.append(scores[-1] < conformal_threshold(scores[:-1], 0.2))
    three_errors = 3 * np.sqrt(0.2 * 0.8 / len(called))
    assert np.mean(called) <= 0.2 + three_errors
    if not ties:
        assert np.mean(called) >= 0.2 - 1 / 31 - three_errors


@pytest.mark.parametrize("n", [2, 4, 19, 100])
@pytest.mark.parametrize("fpr", [0.05, 0.2])
def test_prediction_limit_has_the_wanted_rate_for_normal_scores_however_few(n, fpr):
    scores = 7 + 3 * np.random.RandomState(n).normal(size=(4000, n + 1))
    called = [row[-1] < prediction_limit(row[:-1], fpr) for row in scores]
    assert abs(np.mean(called) - fpr) < 4 * np.sqrt(fpr * (1 - fpr) / len(called))


def test_prediction_limit_of_one_score_is_that_score():
    assert prediction_limit([-2.5], 0.05) == -2.5


def test_prediction_limit_of_what_it_cannot_use_raises():
    with pytest.raises(ValueError, match="fpr must be"):
        prediction_limit([1.0, 2.0], 0.0)
    with pytest.raises(ValueError, match="scores"):
        prediction_limit([1.0, np.nan], 0.05)
    with pytest.raises(ValueError, match="scores"):
        prediction_limit([], 0.05)


def test_conformal_threshold_takes_rates_of_low_precision():
    for dtype in (np.float16, np.float32):
        rate = dtype(0.1)
        assert (
            conformal_threshold(np.arange(10.0), rate)
            == conformal_threshold(np.arange(10.0), float(rate))
            == 0
        )


def test_conformal_p_values_by_hand_and_in_simulation():
    np.testing.assert_allclose(conformal_p_values([-5, -2, 0], [-3, -2, -1]), [0.25, 0.75, 1.0])
    assert conformal_p_values([], [1.0]).shape == (0,)
    rng = np.random.RandomState(0)
    p = np.array([conformal_p_values(s[:1], s[1:])[0] for s in rng.normal(size=(2000, 20))])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p <= level) <= level + 3 * np.sqrt(level * (1 - level) / len(p))


def test_conformal_p_values_agree_with_the_threshold():
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
    """What each possible threshold calls anomalous."""
    for threshold in [*np.unique(scores), np.inf]:
        yield np.where(scores < threshold, -1, 1)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_optimal_threshold_maximises_the_criterion_with_the_fewest_alarms(seed, ties):
    y, scores = labelled(seed, ties)

    def f1(predicted):
        return f1_score(y, predicted, pos_label=-1)

    def youden(predicted):
        return np.mean(predicted[y == -1] == -1) - np.mean(predicted[y == 1] == -1)

    for name, criterion in (("f1", f1), ("youden", youden)):
        predicted = np.where(scores < optimal_threshold(y, scores, criterion=name), -1, 1)
        best = max(map(criterion, all_predictions(scores)))
        assert criterion(predicted) == pytest.approx(best)
        equally_good = [p for p in all_predictions(scores) if criterion(p) > best - 1e-12]
        assert np.sum(predicted == -1) == min(np.sum(p == -1) for p in equally_good)
    fpr, tpr, _ = roc_curve(y == -1, -scores)
    assert youden(predicted) == pytest.approx(np.max(tpr - fpr))


def test_optimal_threshold_reaches_the_recall_with_the_fewest_alarms():
    for seed in range(3):
        y, scores = labelled(seed)
        for recall in (0.01, 0.5, 0.9, 1.0):
            predicted = np.where(scores < optimal_threshold(y, scores, recall=recall), -1, 1)
            assert np.mean(predicted[y == -1] == -1) >= recall
            enough = [p for p in all_predictions(scores) if np.mean(p[y == -1] == -1) >= recall]
            assert np.sum(predicted == -1) == min(np.sum(p == -1) for p in enough)


def test_optimal_threshold_youden_calls_none_if_no_threshold_is_better():
    assert optimal_threshold([-1, 1], [2.0, 1.0], criterion="youden") == 1.0
    assert optimal_threshold([-1, 1], [1.0, 1.0], criterion="youden") == 1.0


def test_optimal_threshold_reads_all_labels():
    y, scores = labelled(0)
    expected = optimal_threshold(y, scores, criterion="f1")
    for same in ((y == -1).astype(int), y == -1, y[:, None], np.where(y == 1, "good", "crack")):
        assert optimal_threshold(same, scores, criterion="f1") == expected


@pytest.mark.parametrize("options", [{"criterion": "f1"}, {"criterion": "youden"}, {"recall": 1.0}], ids=str)
def test_optimal_threshold_separates_any_two_scores(options):
    for low, high in [(1.0, np.nextafter(1.0, 2)), (-1e308, 1e308), (5, 6)]:
        assert low < optimal_threshold([-1, 1], [low, high], **options) <= high
    scores = np.float32([1.0, np.nextafter(np.float32(1), np.float32(2))])
    assert (scores < optimal_threshold([-1, 1], scores, **options)).tolist() == [True, False]


def test_optimal_threshold_may_call_all_anomalous():
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
        (lambda: conformal_p_values([1.0], []), "^calibration_scores is empty"),
        (lambda: conformal_p_values([np.nan], [1.0]), "^scores must be finite"),
        (lambda: optimal_threshold([1, -1], [1, 2]), "either criterion or recall, got None and None"),
        (lambda: optimal_threshold([1, -1], [1, 2], criterion="f1", recall=1), "got 'f1' and 1"),
        (lambda: optimal_threshold([1, -1], [1, 2], criterion="f2"), "'f1' or 'youden', got 'f2'"),
        (
            lambda: optimal_threshold([1, -1], [1, 2], recall=True),
            "recall must be above 0 and at most 1, got True",
        ),
        (lambda: optimal_threshold([1, -1], [1, 2], recall=1.5), "recall must be above 0 and at most 1"),
        (lambda: optimal_threshold([1, -1], [1, np.nan], recall=1), "^scores must be finite"),
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
    assert calibration.__all__ == [
        "conformal_p_values",
        "conformal_threshold",
        "optimal_threshold",
        "prediction_limit",
    ]
