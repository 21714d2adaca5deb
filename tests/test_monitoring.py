"""Whether new images are still like those of the calibration."""

import numpy as np
import pytest
from scipy import stats

from skcsflow.calibration import conformal_p_values
from skcsflow.monitoring import DriftMonitor, discoveries


def monitor_of(rng, n_calibration=40, **params):
    return DriftMonitor(rng.normal(size=n_calibration), random_state=int(rng.integers(2**31)), **params)


# Drift


def test_p_values_of_exchangeable_scores_are_uniform_and_independent():
    rng = np.random.default_rng(0)
    p = np.array([monitor_of(rng, 7).update(rng.normal(size=30)).p_values_ for _ in range(300)])
    assert p.min() > 0
    assert p.max() <= 1
    for column in (0, 1, 29):  # from ranks among 8, 9 and 37
        assert stats.kstest(p[:, column], "uniform").pvalue > 0.01
    for other in (1, 5):
        assert abs(np.corrcoef(p[:, 0], p[:, other])[0, 1]) < 0.15


def test_ties_are_broken_at_random():
    p = DriftMonitor(np.zeros(9), random_state=0).update(np.zeros(2000)).p_values_
    assert stats.kstest(p, "uniform").pvalue > 0.01


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_promised_though_every_image_is_looked_at():
    rng = np.random.default_rng(1)
    alarms = [
        DriftMonitor(s[:20], false_alarm_rate=0.1, random_state=k).update(s[20:]).alarm_ is not None
        for k, s in enumerate(rng.standard_t(3, size=(300, 320)))
    ]
    assert 0 < np.mean(alarms) < 0.1 + 0.03


def test_capital_gains_nothing_on_average_whatever_was_before():
    rng = np.random.default_rng(2)
    monitor = monitor_of(rng).update(rng.normal(-1, size=30))
    shares = 0.99 * monitor._shares + 0.01 / 5
    assert shares @ (1 + np.array([-2, -1, 0, 1, 2]) * (np.linspace(0, 1, 100001)[:, None] - 0.5)).mean(
        axis=0
    ) == pytest.approx(1)


@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_a_change_gives_an_alarm_soon(shift):
    rng = np.random.default_rng(3)
    delays = []
    for _ in range(30):
        monitor = monitor_of(rng, 100).update(rng.normal(size=100)).update(rng.normal(shift, size=150))
        assert monitor.alarm_ is None or monitor.alarm_ >= 100
        delays.append(np.inf if monitor.alarm_ is None else monitor.alarm_ - 100)
    assert np.median(delays) < 40


def test_scores_one_by_one_are_scores_at_once():
    scores = np.random.default_rng(4).normal(-0.7, size=120)
    at_once = DriftMonitor(np.arange(20) / 10, random_state=0).update(scores)
    one_by_one = DriftMonitor(np.arange(20) / 10, random_state=0)
    for score in scores:
        one_by_one.update([score])
    np.testing.assert_array_equal(one_by_one.p_values_, at_once.p_values_)
    np.testing.assert_allclose(one_by_one.log_capital_, at_once.log_capital_, rtol=1e-12)
    assert one_by_one.alarm_ == at_once.alarm_ is not None
    assert at_once.log_capital_[at_once.alarm_] >= np.log(100) > at_once.log_capital_[: at_once.alarm_].max()


def test_capital_of_a_million_fold_change_stays_a_number():
    monitor = DriftMonitor(np.zeros(1000), random_state=0).update(-np.arange(1.0, 5001))
    assert np.isfinite(monitor.log_capital_).all()
    assert monitor.log_capital_[-1] > 700  # above what a float holds as it is


def test_wrong_scores_are_refused_and_nothing_is_taken_in():
    monitor = DriftMonitor([1.0, 2.0], random_state=0).update([])
    for scores, error in (([1.0, np.nan], "scores must be finite, but is nan at row 1"), ([[1.0]], "shape")):
        with pytest.raises(ValueError, match=error):
            monitor.update(scores)
    with pytest.raises(ValueError, match="calibration_scores is empty"):
        DriftMonitor([])
    for rate in (0, 1, -0.1, "a", None):
        with pytest.raises(ValueError, match="false_alarm_rate must be above 0 and below 1"):
            DriftMonitor([1.0], false_alarm_rate=rate)
    assert len(monitor.p_values_) == 0
    assert "0 images, no alarm" in repr(monitor)


# Discoveries


def test_discoveries_are_those_of_benjamini_and_hochberg():
    rng = np.random.default_rng(5)
    for _ in range(50):
        p = np.r_[rng.uniform(size=40), rng.uniform(0, 0.02, size=10)]
        order = np.sort(p)
        fits = np.flatnonzero(order <= 0.2 * np.arange(1, 51) / 50)
        expected = p <= order[fits[-1]] if len(fits) else np.zeros(50, bool)
        np.testing.assert_array_equal(discoveries(p, 0.2), expected)


def test_share_of_good_images_among_discoveries_is_bounded():
    rng = np.random.default_rng(6)
    false, found = [], []
    for _ in range(400):
        batch = np.r_[rng.normal(size=90), rng.normal(-4, size=10)]
        chosen = discoveries(conformal_p_values(batch, rng.normal(size=500)), 0.2)
        false.append(chosen[:90].sum() / max(1, chosen.sum()))
        found.append(chosen[90:].mean())
    assert np.mean(false) < 0.2
    assert np.mean(found) > 0.8


def test_bounds_that_are_just_met_count():
    assert discoveries([0.03, 0.5, 0.9], fdr=0.09).tolist() == [True, False, False]
    assert discoveries(np.arange(1, 11) / 100, fdr=0.1).all()
    assert discoveries([]).shape == (0,)


@pytest.mark.parametrize(
    ("p_values", "fdr", "message"),
    [
        ([0.1, 1.2], 0.1, r"p_values must lie between 0 and 1, but p_values\[1\] is 1.2"),
        ([-0.1], 0.1, "between 0 and 1"),
        ([0.1], 0, "fdr must be above 0"),
        ([0.1], "x", "fdr must be above 0"),
        ([np.nan], 0.1, "finite"),
    ],
)
def test_wrong_p_values_are_refused(p_values, fdr, message):
    with pytest.raises(ValueError, match=message):
        discoveries(p_values, fdr)
