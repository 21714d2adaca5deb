"""Saving and loading fitted detectors."""

import copy
import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch

from skcsflow import CSFlowDetector


def through_joblib(detector, tmp_path):
    joblib.dump(detector, tmp_path / "detector.joblib")
    return joblib.load(tmp_path / "detector.joblib")


def through_pickle(detector, tmp_path):
    return pickle.loads(pickle.dumps(detector))


def through_deepcopy(detector, tmp_path):
    return copy.deepcopy(detector)


@pytest.mark.parametrize("trip", [through_joblib, through_pickle, through_deepcopy])
def test_two_round_trips_give_the_same_bits_and_leave_the_live_one_alone(trip, fitted, grey_images, tmp_path):
    before = fitted.score_samples(grey_images[:5])
    attributes = set(vars(fitted))
    model = fitted.model_
    loaded = trip(trip(fitted, tmp_path), tmp_path)
    np.testing.assert_array_equal(loaded.score_samples(grey_images[:5]), before)
    np.testing.assert_array_equal(loaded.transform(grey_images[:2]), fitted.transform(grey_images[:2]))
    assert loaded.offset_ == fitted.offset_
    assert fitted.model_ is model
    assert set(vars(fitted)) == attributes
    np.testing.assert_array_equal(fitted.score_samples(grey_images[:5]), before)


def test_unfitted_stays_unfitted(tiny_params, tmp_path):
    loaded = through_joblib(CSFlowDetector(**tiny_params), tmp_path)
    assert not hasattr(loaded, "model_")
    assert loaded.get_params() == CSFlowDetector(**tiny_params).get_params()


def walk(value):
    yield value
    if isinstance(value, dict):
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from walk(item)


def test_state_holds_no_torch_object(fitted):
    state = fitted.__getstate__()
    assert not any(isinstance(v, (torch.Tensor, torch.nn.Module, torch.device)) for v in walk(state))


def test_file_loads_in_another_process_offline(fitted, grey_images, tmp_path):
    joblib.dump(fitted, tmp_path / "detector.joblib")
    np.save(tmp_path / "images.npy", grey_images[:3])
    code = (
        "import joblib, numpy; d = joblib.load('detector.joblib'); "
        "numpy.save('scores.npy', d.score_samples(numpy.load('images.npy')))"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), fitted.score_samples(grey_images[:3]))


def test_other_version_warns(fitted):
    state = fitted.__getstate__()
    state["model_"] = {**state["model_"], "versions": {"torch": "1.0"}}
    with pytest.warns(UserWarning, match=r"saved with torch 1\.0 and is loaded with torch"):
        CSFlowDetector().__setstate__(state)
