"""The parts of a service: detectors by name, batches, and what is refused before it starts."""

import importlib
import socket
import sys
import threading

import joblib
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression

from skcsflow import CSFlowDetector, GroupedDetector, load, save
from skcsflow.serving import create_app, serve, watch
from skcsflow.serving._batches import Batches
from skcsflow.serving._detectors import Detectors
from skcsflow.serving._inspecting import Unreadable, inspect_each


def backbone(served):
    return served.detector.model_.feature_extractor


@pytest.mark.slow
def test_detectors_with_the_same_backbone_share_it(
    calibrated, other, detector_files, tiny_params, grey_images
):
    different = CSFlowDetector(**{**tiny_params, "random_state": 1, "n_epochs": 1}).fit(grey_images[:8])
    detectors = Detectors({**detector_files, "given": calibrated, "different": different})
    assert backbone(detectors["calibrated"]) is backbone(detectors["other"])
    assert backbone(detectors["given"]) is backbone(detectors["other"])
    assert backbone(detectors["different"]) is not backbone(detectors["other"])
    given = calibrated, other, calibrated, different
    for detector, (_, served) in zip(given, detectors.items(), strict=True):
        np.testing.assert_array_equal(
            served.detector.score_samples(grey_images[:4]), detector.score_samples(grey_images[:4])
        )
    # What is loaded later shares it too.
    before = backbone(detectors["different"]), backbone(detectors["given"])
    assert detectors.reload() == ["calibrated", "other"]
    assert (backbone(detectors["different"]), backbone(detectors["given"])) == before
    assert backbone(detectors["calibrated"]) is before[1]


def test_detectors_of_groups_are_taken_by_their_names(tiny_params, grey_images, tmp_path):
    table = {"group": ["nut", "bolt"] * 8, "image": list(grey_images[:16])}
    grouped = GroupedDetector(CSFlowDetector(**tiny_params)).fit(table)
    save(grouped, tmp_path / "plant.joblib")
    detectors = Detectors(load(tmp_path / "plant.joblib").detectors_)
    assert detectors.names() == ["bolt", "nut"]
    np.testing.assert_array_equal(
        detectors["nut"].detector.score_samples(grey_images[:4]),
        grouped.detectors_["nut"].score_samples(grey_images[:4]),
    )


def test_given_detector_is_copied_and_stays_as_it_is(fitted_copy, tmp_path):
    fitted_copy.set_params(on_error="nan", memory=str(tmp_path / "features"), verbose=1)
    served = Detectors({"a": fitted_copy})["a"].detector
    assert served is not fitted_copy
    assert served.model_ is not fitted_copy.model_
    assert (served.on_error, served.memory, served.verbose) == ("raise", None, 0)
    assert (fitted_copy.on_error, fitted_copy.verbose) == ("nan", 1)


@pytest.mark.parametrize(
    ("detectors", "error", "words"),
    [
        ({}, ValueError, "mapping of names"),
        ("a.skops", ValueError, "mapping of names"),
        ({"a/b": "a.skops"}, ValueError, "'a/b'"),
        ({"": "a.skops"}, ValueError, "name ''"),
        ({"a": 3}, TypeError, r"detectors\['a'\] must be .* got a int"),
        ({"a": "nowhere.skops"}, FileNotFoundError, "nowhere.skops"),
        ({"a": CSFlowDetector()}, NotFittedError, r"detectors\['a'\]"),
    ],
)
def test_detectors_that_cannot_be_served_are_refused(detectors, error, words):
    with pytest.raises(error, match=words):
        create_app(detectors)


def test_files_that_hold_no_detector_are_refused(tmp_path):
    path = tmp_path / "a.joblib"
    joblib.dump(LinearRegression(), path)
    with pytest.raises(ValueError, match=r"a\.joblib' holds a LinearRegression"):
        create_app({"a": path})
    for name in ("a.skops", "a.joblib"):
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(ValueError, match="can't be loaded"):
            create_app({"a": tmp_path / name})
    import skops.io

    detector = CSFlowDetector(device=LinearRegression())
    skops.io.dump(detector.set_params(memory=threading.Event), tmp_path / "a.skops")
    with pytest.raises(ValueError, match=r"threading\.Event"):  # a type that this package doesn't need
        create_app({"a": tmp_path / "a.skops"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_bytes": 0}, "max_bytes"),
        ({"max_pixels": -1}, "max_pixels"),
        ({"max_batch": True}, "max_batch"),
        ({"max_batch": 0.5}, "max_batch"),
        ({"max_waiting": "8"}, "max_waiting"),
        ({"upload_seconds": float("nan")}, "upload_seconds"),
        ({"api_key": ""}, "api_key"),
        ({"api_key": "schlüssel"}, "api_key"),
    ],
)
def test_wrong_options_are_refused(calibrated, options, words):
    with pytest.raises(ValueError, match=words):
        create_app({"a": calibrated}, **options)


def test_open_door_without_a_key_gives_a_warning():
    with pytest.warns(UserWarning, match="api_key is None"), pytest.raises(FileNotFoundError):
        serve({"a": "nowhere.skops"}, host="0.0.0.0")


def test_port_that_is_taken_ends_it(calibrated):
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(SystemExit):
        serve({"a": calibrated}, port=other.getsockname()[1])


def test_missing_package_is_named_with_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("skcsflow.serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"needs the package 'fastapi': pip install \"skcsflow\[serve\]"
    ):
        importlib.import_module("skcsflow.serving")


# Batches


def test_unreadable_images_do_not_spoil_the_others(calibrated, file_contents):
    good = list(file_contents.values())
    cut = good[0][:-100]
    mixed = [*good[:2], cut, *good[2:5], b"", b"text", *good[5:]]
    found = list(inspect_each(calibrated, mixed))
    assert [isinstance(f, Unreadable) for f in found] == [c in (cut, b"", b"text") for c in mixed]
    scores = [f.score for f in found if not isinstance(f, Unreadable)]
    np.testing.assert_array_equal(scores, calibrated.score_samples(good))
    assert str(found[2]).startswith("The image could not be read as an image: ")


def test_what_waits_is_one_batch_and_close_answers_all(calibrated, other, file_contents):
    sizes = []
    batches = Batches(4, sizes.append)
    contents = list(file_contents.values())[:6]
    with batches._changed:  # the thread waits
        futures = [batches.submit(d, c) for c in contents for d in (calibrated, other)]
    batches.close()
    found = [future.result(timeout=0).score for future in futures]
    np.testing.assert_array_equal(found[::2], calibrated.score_samples(contents))
    np.testing.assert_array_equal(found[1::2], other.score_samples(contents))
    assert sizes == [4, 4, 2, 2]
    with pytest.raises(RuntimeError, match="closed"):
        batches.submit(calibrated, contents[0])


def test_failure_of_a_detector_reaches_who_waits_and_the_next_are_served(calibrated, other, file_contents):
    broken = Detectors({"a": other})["a"].detector
    del broken.offset_
    batches = Batches(4, lambda size: None)
    content = file_contents["grey.png"]
    futures = [batches.submit(d, content) for d in (broken, broken, calibrated)]
    for future in futures[:2]:
        with pytest.raises(AttributeError):
            future.result(timeout=30)
    assert futures[2].result(timeout=30).score == calibrated.score_samples([content])[0]
    batches.close()


def test_who_has_gone_away_is_not_served(calibrated, file_contents):
    batches = Batches(4, lambda size: None)
    with batches._changed:
        gone, here = (batches.submit(calibrated, file_contents["grey.png"]) for _ in range(2))
        assert gone.cancel()
    assert here.result(timeout=30).verdict in (1, -1)
    batches.close()


# The watch


@pytest.mark.parametrize(
    ("options", "words"),
    [({"settle": -1}, "settle"), ({"settle": True}, "settle"), ({"min_area": 0}, "min_area")],
)
def test_watch_refuses_wrong_options(calibrated, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        watch(calibrated, tmp_path, tmp_path / "out", **options)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        watch(calibrated, tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ValueError, match="lies in the folder"):
        watch(calibrated, tmp_path, tmp_path / "out", recursive=True)
    assert not (tmp_path / "out").exists()
