"""Any order of calls: what a detector is after each, against a model of what it should be."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pytest
from conftest import FAST
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from inputs import scratch
from properties import PIXELS, detector
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skcsflow import CSFlowDetector, load, save

FRESH = np.random.RandomState(1).randint(90, 160, (12, 24, 20)).astype(np.uint8)
BAD_IMAGES = st.sampled_from(
    [None, 3, [], PIXELS[0], PIXELS + 0j, [PIXELS[0], None], ["no.png"], PIXELS * np.nan]
)
BAD_LABELS = st.sampled_from([[1], [-1] * 12, [2] * 12, [None] * 12, "good"])
BAD_PARAMS = st.sampled_from(
    [("n_epochs", 0), ("on_error", "no"), ("n_jobs", 0), ("value_range", (1, 0)), ("clamp", -1)]
)
CHANGES = st.sampled_from(
    [("n_jobs", 1), ("n_jobs", 2), ("contamination", 0.2), ("contamination", "auto"), ("value_range", (0, 255)),
     ("value_range", None), ("on_error", "nan"), ("on_error", "raise"), ("clamp", 2.0), ("clamp", 3.0),
     ("warm_start", True), ("warm_start", False), ("n_epochs", 2), ("random_state", 1)]
)  # fmt: skip


def state_of(detector):
    """A digest of all that a detector is."""
    state = detector.__getstate__() if hasattr(detector, "model_") else vars(detector)
    return joblib.hash({name: repr(v) if name == "random_state" else v for name, v in state.items()})


class Detectors(RuleBasedStateMachine):
    """A detector, and what is expected of it."""

    n_calls = 0

    @initialize(is_fitted=st.sampled_from([True, False]))  # the simpler case is the one with more to lose
    def begin(self, is_fitted):
        self.filters = warnings.catch_warnings()
        self.filters.__enter__()
        warnings.simplefilter("ignore")
        self.detector = CSFlowDetector(**FAST)
        self.params = {**CSFlowDetector().get_params(), **FAST}
        self.is_fitted = self.is_calibrated = False
        self.thresholds = None
        self.shaped_by = None  # clamp, when the model was made
        if is_fitted:
            self.detector = copy.deepcopy(detector())
            self.is_calibrated = True
            self.expect_fitted(is_new=True)

    def teardown(self):
        if hasattr(self, "filters"):
            self.filters.__exit__(None, None, None)

    def expect_fitted(self, *, is_new):
        self.thresholds = self.detector.offset_, self.detector.map_threshold_
        self.is_fitted = True
        if is_new:
            self.shaped_by = self.params["clamp"]

    def leaves_all(self, call, *errors):
        """A call that fails, and changes nothing."""
        before, model = state_of(self.detector), getattr(self.detector, "model_", None)
        with pytest.raises(errors or (ValueError, TypeError)):
            call()
        assert state_of(self.detector) == before
        assert getattr(self.detector, "model_", None) is model

    # Calls that succeed

    @rule(n=st.sampled_from([3, 10, 12]), seed=st.integers(0, 2))
    def fit(self, n, seed):
        if self.params["warm_start"] and self.is_fitted and self.params["clamp"] != self.shaped_by:
            self.leaves_all(lambda: self.detector.fit(PIXELS[:n]), ValueError)
            return
        is_new = not (self.params["warm_start"] and self.is_fitted)
        epochs = 0 if is_new else len(self.detector.history_["loss"])
        images = PIXELS[np.random.RandomState(seed).permutation(12)[:n]]
        assert self.detector.fit(images) is self.detector
        self.is_calibrated = False
        assert len(self.detector.history_["loss"]) == epochs + self.params["n_epochs"]
        self.expect_fitted(is_new=is_new)

    @rule(n=st.sampled_from([3, 12]))
    def partial_fit(self, n):
        if self.is_fitted and self.params["clamp"] != self.shaped_by:
            self.leaves_all(lambda: self.detector.partial_fit(PIXELS[:n]), ValueError)
            return
        before, was_fitted = self.thresholds, self.is_fitted
        assert self.detector.partial_fit(PIXELS[:n]) is self.detector
        self.expect_fitted(is_new=not was_fitted)
        if was_fitted and (n < 10 or self.is_calibrated):
            assert self.thresholds == before

    @precondition(lambda self: self.is_fitted)
    @rule(fpr=st.sampled_from([0.1, 0.3]))
    def calibrate(self, fpr):
        assert self.detector.calibrate(FRESH, fpr=fpr) is self.detector
        self.is_calibrated = True
        self.thresholds = self.detector.offset_, self.detector.map_threshold_
        assert np.mean(self.detector.predict(FRESH) == -1) <= fpr

    @precondition(lambda self: self.is_fitted)
    @rule()
    def calibrate_and_fit(self):  # one after the other, which seldom happens by chance
        self.calibrate(0.3)
        self.fit(10, 0)

    @rule(change=CHANGES)
    def set_params(self, change):
        name, value = change
        assert self.detector.set_params(**{name: value}) is self.detector
        self.params[name] = value

    # Copies, which go on in its place

    @rule(protocol=st.sampled_from([2, 5]))
    def pickle(self, protocol):
        before = state_of(self.detector)
        self.detector = pickle.loads(pickle.dumps(self.detector, protocol))
        assert state_of(self.detector) == before

    @rule()
    def deepcopy(self):
        before = state_of(self.detector)
        self.detector = copy.deepcopy(self.detector)
        assert state_of(self.detector) == before

    @rule(ending=st.sampled_from(["skops", "joblib"]))
    def save_and_load(self, ending):
        path = scratch() / f"state.{ending}"
        scores = self.detector.score_samples(FRESH[:1]) if self.is_fitted else None
        save(self.detector, path)
        self.detector = load(path)
        if self.is_fitted:
            np.testing.assert_array_equal(self.detector.score_samples(FRESH[:1]), scores)

    @rule()
    def clone(self):
        copied = clone(self.detector)
        assert copied.get_params() == self.params
        assert not hasattr(copied, "model_")
        assert set(vars(copied)) == set(self.params)

    # Results

    @rule(k=st.integers(0, 11))
    def results(self, k):
        if not self.is_fitted:
            self.leaves_all(lambda: self.detector.score_samples(FRESH), NotFittedError)
            return
        before = state_of(self.detector)
        scores = self.detector.score_samples(FRESH)
        fresh = pickle.loads(pickle.dumps(self.detector))
        np.testing.assert_array_equal(fresh.score_samples(FRESH[k : k + 1]), scores[k : k + 1])
        np.testing.assert_array_equal(fresh.transform(FRESH[k : k + 1])[0], self.detector.transform(FRESH)[k])
        np.testing.assert_array_equal(self.detector.decision_function(FRESH), scores - self.thresholds[0])
        np.testing.assert_array_equal(
            self.detector.predict(FRESH), np.where(scores >= self.thresholds[0], 1, -1)
        )
        assert np.isfinite(scores).all()
        assert np.isfinite(self.detector.score(FRESH))
        if self.is_calibrated:
            p_values = self.detector.p_values(FRESH)
            assert ((p_values > 0) & (p_values <= 1)).all()
        assert state_of(self.detector) == before

    # Calls that fail

    @rule(X=BAD_IMAGES)
    def fit_of_bad_images(self, X):
        if isinstance(X, np.ndarray) and X.ndim == 2:
            return  # a table, which may be fitted on
        self.leaves_all(lambda: self.detector.fit(X))

    @rule(y=BAD_LABELS)
    def fit_of_bad_labels(self, y):
        self.leaves_all(lambda: self.detector.fit(PIXELS, y))
        self.leaves_all(lambda: self.detector.partial_fit(PIXELS, y))

    @rule(
        X=BAD_IMAGES,
        method=st.sampled_from(["score_samples", "predict", "transform", "partial_fit", "calibrate"]),
    )
    def bad_images(self, X, method):
        if self.params["on_error"] == "raise" and self.is_fitted:
            self.leaves_all(lambda: getattr(self.detector, method)(X))

    @rule(param=BAD_PARAMS)
    def bad_parameter(self, param):
        name, value = param
        self.detector.set_params(**{name: value})
        self.leaves_all(lambda: self.detector.fit(PIXELS))
        self.leaves_all(lambda: self.detector.partial_fit(PIXELS))
        self.detector.set_params(**{name: self.params[name]})

    @precondition(lambda self: self.is_fitted)
    @rule()
    def bad_calibration(self):
        self.leaves_all(lambda: self.detector.calibrate(FRESH, fpr=0.01))
        self.leaves_all(lambda: self.detector.calibrate(FRESH, fpr=2))
        self.leaves_all(lambda: self.detector.calibrate(FRESH, criterion="f1"))

    # What always holds

    @invariant()
    def is_as_expected(self):
        if not hasattr(self, "detector"):
            return
        Detectors.n_calls += 1
        assert self.detector.get_params() == self.params
        assert hasattr(self.detector, "model_") == self.is_fitted
        assert hasattr(self.detector, "calibration_scores_") == self.is_calibrated
        if self.is_fitted:
            assert (self.detector.offset_, self.detector.map_threshold_) == self.thresholds
