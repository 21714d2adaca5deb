"""A detector in other threads, forked processes, torch's modes, and applications without metadata."""

import faulthandler
import gc
import importlib.metadata
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import torch
from conftest import TINY
from sklearn.model_selection import GridSearchCV

from skcsflow import CSFlowDetector


def in_new_process(script, **environment):
    """Run a script that exits with 0 where all went well."""
    code = textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        cwd=os.path.dirname(__file__) + "/..",
    )
    assert done.returncode == 0, done.stderr


# Threads


@pytest.mark.slow
def test_threads_that_score_leave_torchs_thread_count_to_all_others():
    # In a process of its own: the fault would last until the end of this one.
    in_new_process(
        """
        import threading, torch, numpy as np
        from conftest import TINY
        from skcsflow import CSFlowDetector
        torch.set_num_threads(2)
        X = np.random.RandomState(0).randint(256, size=(24, 48, 40)).astype("uint8")
        detector = CSFlowDetector(**TINY).fit(X)

        def count():
            found = []
            thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
            thread.start(); thread.join()
            return found[0]

        assert count() == 2
        for n_jobs, together in ((None, True), (None, False), (1, True), (1, False)):
            detector.set_params(n_jobs=n_jobs)
            threads = [threading.Thread(target=lambda: detector.predict(X[:1])) for _ in range(16)]
            threads += [threading.Thread(target=lambda: detector.score_samples(X)) for _ in range(4)]
            for thread in threads:
                thread.start()
                if not together:
                    thread.join()
            for thread in threads:
                thread.join()
            assert count() == torch.get_num_threads() == 2, (n_jobs, together)
        """
    )


def test_threads_that_score_at_once_get_the_same_bits(fitted, grey_images):
    expected = fitted.score_samples(grey_images)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(fitted.score_samples(grey_images))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    for scores in found:
        np.testing.assert_array_equal(scores, expected)


def test_threads_end_where_the_error_of_a_call_is_kept(fitted, grey_images, tmp_path):
    images = [*grey_images[:20], np.full((48, 40), 1e38)]  # too large, which shows when it is scored
    before = threading.active_count()
    for call in (fitted.score_samples, lambda X: fitted.save_maps(X, tmp_path / "maps.npy")):
        with pytest.raises(ValueError, match=r"X\[20\]") as kept:
            call(images)
        assert threading.active_count() == before, kept
    with pytest.raises(ValueError, match="min_area") as kept:
        fitted.predict_regions(grey_images, min_area=0)
    assert threading.active_count() == before, kept
    assert not list(tmp_path.iterdir())


def test_fit_starts_no_thread_that_stays(grey_images):
    before = threading.active_count()
    CSFlowDetector(**TINY).fit(grey_images[:4])
    assert threading.active_count() == before


@pytest.mark.parametrize("method", ["score_samples", "transform", "predict_masks"])
def test_images_whose_map_would_not_be_finite_raise_with_the_row(fitted, grey_images, method):
    images = [grey_images[0] / 255, np.full((48, 40), 1e18, dtype=np.float32)]
    with pytest.raises(ValueError, match=r"X\[1\] would not be finite"):
        getattr(fitted, method)(images)


# Forked processes


def run_in_fork(function, crash, seconds=180):
    """Exit status of a function in a forked child; None where it hangs. A crash's trace goes to a file."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with crash.open("w") as file:
                faulthandler.enable(file)
                function()
            status = 0
        finally:
            os._exit(status)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (done := os.waitpid(child, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(done[1])
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_forked_process_loads_fits_and_scores_with_the_same_bits(grey_images, tmp_path, engine):
    if engine == "openvino":
        pytest.importorskip("openvino")
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # threads that the child will lack, also of MKL
    try:
        params = {**TINY, "strides": (32,), "n_coupling_blocks": 1, "n_epochs": 1, "engine": engine}
        if engine == "torch":
            params |= {"backbone": "tf_efficientnet_lite0", "weights": "auto"}
        detectors = [CSFlowDetector(**params).fit(grey_images[:20])]
        scores = detectors[0].score_samples(grey_images)
        saved = pickle.dumps(detectors[0])
        torch.rand(300, 300) @ torch.rand(300, 300)

        def load_and_fit():
            loaded = pickle.loads(saved)
            np.testing.assert_array_equal(loaded.score_samples(grey_images), scores)
            np.testing.assert_array_equal(detectors[0].score_samples(grey_images), scores)
            refitted = CSFlowDetector(**params).fit(grey_images[:20])
            np.testing.assert_array_equal(refitted.score_samples(grey_images), scores)
            detectors.clear()
            gc.collect()

        crash = tmp_path / "crash.txt"
        assert run_in_fork(load_and_fit, crash) == 0, crash.read_text()
    finally:
        torch.set_num_threads(before)


# The process around it


@pytest.mark.slow
def test_import_draws_no_random_number_of_pythons():
    in_new_process(
        """
        import random
        random.seed(0)
        before = random.getstate()
        import skcsflow
        assert random.getstate() == before
        """
    )


@pytest.mark.slow
def test_cores_that_the_process_may_not_use_are_not_counted():
    # The variable is one of several limits that count, as a container's quota does.
    in_new_process(
        """
        import torch
        from skcsflow._compute import resolve_n_threads
        torch.set_num_threads(2)
        assert resolve_n_threads(None) == 1
        assert resolve_n_threads(-1) == 1
        assert resolve_n_threads(2) == 2
        """,
        LOKY_MAX_CPU_COUNT="1",
    )


# Parameters that are set after fit


@pytest.mark.parametrize(
    ("name", "value"),
    [("engine", "Torch"), ("n_jobs", 0), ("n_jobs", 1.5), ("memory", 3), ("image_shape", (0, 5))],
)
def test_parameter_that_acts_after_fit_is_checked_when_it_acts(grey_images, fitted, name, value):
    detector = pickle.loads(pickle.dumps(fitted)).set_params(**{name: value})
    for method in ("score_samples", "predict", "transform", "score", "p_values"):
        detector.calibration_scores_ = np.zeros(9)
        with pytest.raises((ValueError, TypeError), match=name):
            getattr(detector, method)(grey_images)
    with pytest.raises((ValueError, TypeError), match=name):
        detector.calibrate(grey_images, fpr=0.1)


def test_contamination_set_after_fit_is_checked_by_calibrate(grey_images, fitted):
    detector = pickle.loads(pickle.dumps(fitted)).set_params(contamination=0.9)
    with pytest.raises(ValueError, match="'contamination' parameter"):
        detector.calibrate(grey_images)


# torch's modes


@pytest.mark.slow
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.set_grad_enabled(False)])
def test_fit_works_in_modes_without_gradients(fitted, grey_images, mode):
    with mode():
        detector = CSFlowDetector(**TINY).fit(grey_images)
        loaded = pickle.loads(pickle.dumps(detector))
    scores = fitted.score_samples(grey_images)
    np.testing.assert_array_equal(detector.score_samples(grey_images), scores)
    loaded.partial_fit(grey_images)  # its weights can be trained
    assert not np.array_equal(loaded.score_samples(grey_images), scores)


@pytest.mark.slow
def test_autocast_of_the_caller_changes_no_result(fitted, grey_images):
    scores, maps = fitted.score_samples(grey_images), fitted.transform(grey_images[:1])
    with torch.autocast("cpu", torch.bfloat16):
        detector = CSFlowDetector(**TINY).fit(grey_images)
        for found in (detector, fitted):
            np.testing.assert_array_equal(found.score_samples(grey_images), scores)
            np.testing.assert_array_equal(found.score_samples(grey_images[:1]), scores[:1])
            np.testing.assert_array_equal(found.transform(grey_images[:1]), maps)


@pytest.mark.slow
def test_default_dtype_changes_no_result(fitted, grey_images):
    scores = fitted.score_samples(grey_images)
    torch.set_default_dtype(torch.float64)
    try:
        detector = CSFlowDetector(**TINY).fit(grey_images)
        loaded = pickle.loads(pickle.dumps(fitted))
        for found in (detector, loaded, fitted):
            np.testing.assert_array_equal(found.score_samples(grey_images), scores)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.slow
def test_model_wrapped_by_torch_compile_is_saved_unwrapped(fitted, grey_images):
    detector = pickle.loads(pickle.dumps(fitted))
    detector.model_ = torch.compile(detector.model_)  # wraps; would compile at the first call
    loaded = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(loaded.score_samples(grey_images), fitted.score_samples(grey_images))


# Numbers of NumPy


@pytest.mark.slow
def test_numpy_integers_are_taken_for_every_count(grey_images):
    counts = {"n_epochs": 2, "batch_size": 16, "n_coupling_blocks": 2, "input_size": 64, "num_channels": 3}
    params = {**TINY, **counts}
    expected = CSFlowDetector(**params).fit(grey_images).score_samples(grey_images)
    params |= {name: np.int64(value) for name, value in counts.items()}
    params |= {
        "cross_conv_hidden_channels": np.int32(8),
        "clamp": np.float32(3),
        "learning_rate": np.float64(4e-3),
    }
    found = CSFlowDetector(**params, n_jobs=np.int64(2)).fit(grey_images)
    np.testing.assert_array_equal(found.score_samples(grey_images), expected)


@pytest.mark.slow
def test_grid_search_over_arange_of_epochs_fits_all_candidates(grey_images):
    search = GridSearchCV(CSFlowDetector(**TINY), {"n_epochs": np.arange(1, 4)}, cv=2, error_score="raise")
    assert np.isfinite(search.fit(grey_images[:12]).cv_results_["mean_test_score"]).all()


# Applications without metadata


def test_packages_metadata_is_never_asked_for(fitted, grey_images, monkeypatch, tmp_path):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    loaded = pickle.loads(pickle.dumps(fitted)).set_params(memory=tmp_path)
    np.testing.assert_array_equal(loaded.score_samples(grey_images), fitted.score_samples(grey_images))
