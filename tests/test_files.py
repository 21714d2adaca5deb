"""Fitted detectors and files."""

import os
import pickle
import subprocess
import sys
import time
import zipfile

import joblib
import numpy as np
import pytest
import skops.io
from conftest import FAST
from sklearn.linear_model import LinearRegression

from skcsflow import CSFlowDetector, _whole_files, load, save


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(0).randint(0, 256, size=(12, 32, 32), dtype=np.uint8)


@pytest.fixture(scope="module")
def detector(images):
    return CSFlowDetector(**FAST).fit(images[:10]).calibrate(255 - images, fpr=0.2)


@pytest.mark.parametrize("name", ["a.skops", "a.joblib", "a.pkl", "a.pickle", "A.SKOPS"])
def test_a_loaded_detector_is_the_same(detector, images, tmp_path, name):
    save(detector, tmp_path / name)
    assert os.listdir(tmp_path) == [name]
    loaded = load(str(tmp_path / name))
    assert loaded.get_params() == detector.get_params()
    np.testing.assert_array_equal(loaded.score_samples(images), detector.score_samples(images))
    np.testing.assert_array_equal(loaded.p_values(images), detector.p_values(images))


def test_files_of_the_libraries_are_loaded(detector, images, tmp_path):
    skops.io.dump(detector, tmp_path / "a.skops")
    joblib.dump(detector, tmp_path / "a.joblib")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(detector))
    expected = detector.score_samples(images)
    for name in ("a.skops", "a.joblib", "a.pkl"):
        np.testing.assert_array_equal(load(tmp_path / name).score_samples(images), expected)


def test_regions_of_interest_and_generators_are_kept(images, tmp_path):
    roi = np.zeros((32, 32), bool)
    roi[4:20] = True
    detector = CSFlowDetector(**{**FAST, "random_state": np.random.RandomState(3), "roi": roi}).fit(
        images[:10]
    )
    save(detector, tmp_path / "a.skops")
    np.testing.assert_array_equal(load(tmp_path / "a.skops").transform(images), detector.transform(images))


def test_a_file_is_replaced_only_by_a_whole_one(detector, tmp_path, monkeypatch):
    path = tmp_path / "a.joblib"
    path.write_text("before")
    monkeypatch.setattr(CSFlowDetector, "__getstate__", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(detector, path)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.joblib"]


@pytest.mark.parametrize("name", ["detector", "a.onnx", "a.zip"])
def test_other_endings_are_refused(detector, tmp_path, name):
    for call in (lambda: save(detector, tmp_path / name), lambda: load(tmp_path / name)):
        with pytest.raises(ValueError, match=rf"{name}' of a detector must end in \.skops"):
            call()


def test_others_than_detectors_are_refused(tmp_path):
    with pytest.raises(
        TypeError, match="must be a CSFlowDetector or a GroupedDetector, got LinearRegression"
    ):
        save(LinearRegression(), tmp_path / "a.skops")
    joblib.dump({"a": 1}, tmp_path / "a.joblib")
    skops.io.dump([1, 2], tmp_path / "b.skops")
    for name, kind in (("a.joblib", "dict"), ("b.skops", "list")):
        with pytest.raises(ValueError, match=f"{name}' holds a {kind}, not a CSFlowDetector"):
            load(tmp_path / name)


def test_what_a_skops_file_brings_along_is_not_run(detector, tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    changed = pickle.loads(pickle.dumps(detector))
    changed.extra = Harm
    skops.io.dump(changed, tmp_path / "a.skops")
    with pytest.raises(ValueError, match=r"isn't trusted: .*Harm"):
        load(tmp_path / "a.skops")
    assert not (tmp_path / "harm").exists()


def test_damaged_and_missing_files_are_named(detector, tmp_path):
    for name in ("a.skops", "a.joblib", "a.pkl"):
        with pytest.raises(FileNotFoundError, match=name):
            load(tmp_path / name)
        save(detector, tmp_path / name)
        content = (tmp_path / name).read_bytes()
        for damaged in (b"", b"no detector", content[: len(content) // 2]):
            (tmp_path / name).write_bytes(damaged)
            with pytest.raises(ValueError, match=rf"{name}' can't be loaded: ."):
                load(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "a.skops", "w") as file:
        file.writestr("other", "x")
    with pytest.raises(ValueError, match="can't be loaded"):
        load(tmp_path / "a.skops")


def test_folders_that_are_missing_are_named(detector, tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        save(detector, tmp_path / "missing" / "a.skops")


@pytest.mark.parametrize("name", ["a.joblib", "a.pkl", "a.skops"])
def test_a_flipped_bit_never_changes_a_score(detector, images, tmp_path, name):
    expected = detector.score_samples(images[:2])
    save(detector, tmp_path / name)
    content = bytearray((tmp_path / name).read_bytes())
    rng = np.random.RandomState(0)
    n_told = 0
    for place in rng.randint(len(content), size=40):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.randint(8)
        (tmp_path / name).write_bytes(damaged)
        try:
            loaded = load(tmp_path / name)
        except (ValueError, MemoryError):
            n_told += 1
            continue
        np.testing.assert_array_equal(loaded.score_samples(images[:2]), expected)
        assert (loaded.offset_, loaded.map_threshold_) == (detector.offset_, detector.map_threshold_)
    assert n_told > 30


@pytest.mark.parametrize("name", ["offset_", "map_threshold_", "calibration_scores_", "clamp", "score_mode"])
def test_another_value_in_a_file_is_told(detector, name):
    state = detector.__getstate__()
    value = state[name]
    state[name] = "top" if isinstance(value, str) else value + np.spacing(value)
    with pytest.raises(ValueError, match="was damaged after it was saved"):
        CSFlowDetector().__setstate__(state)


@pytest.mark.parametrize("ending", [".skops", ".joblib"])
def test_paths_among_the_parameters_are_saved_as_text(fitted, tmp_path, ending):
    fitted = pickle.loads(pickle.dumps(fitted)).set_params(memory=tmp_path / "cache", checkpoint=tmp_path)
    save(fitted, tmp_path / f"detector{ending}")
    loaded = load(tmp_path / f"detector{ending}")
    assert loaded.memory == str(tmp_path / "cache")
    assert loaded.checkpoint == str(tmp_path)
    assert fitted.memory == tmp_path / "cache"


def test_what_a_killed_process_left_is_removed_an_hour_later(tmp_path):
    def left(name, hours):
        path = tmp_path / name
        path.write_bytes(b"half of it")
        then = time.time() - 3600 * hours
        os.utime(path, (then, then))
        return path

    old, young = left(f".a.npy.{'0' * 32}.part", 1.1), left(f".a.npy.{'1' * 32}.part", 0.9)
    others = [left(".notes.part", 5), left(f"a.{'0' * 32}.part", 5)]
    _whole_files._remove_abandoned.cache_clear()
    with _whole_files.writing_whole(tmp_path / "b.npy") as unfinished:
        unfinished.write_bytes(b"all of it")
    assert not old.exists()
    assert all(path.exists() for path in (young, *others))
    assert (tmp_path / "b.npy").read_bytes() == b"all of it"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for files")
def test_a_disk_that_is_full_is_told_with_the_file(fitted, grey_images, tmp_path):
    # The limit of a file's size stands in for the disk's: writing fails in the same way.
    joblib.dump((fitted, grey_images), tmp_path / "given")
    code = """
import os, resource, joblib, skcsflow
detector, X = joblib.load("given")
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for path, write in {
    "detector.joblib": lambda path: skcsflow.save(detector, path),
    "detector.skops": lambda path: skcsflow.save(detector, path),
    "maps.npy": lambda path: detector.save_maps(X, path),
    "memory": lambda path: detector.set_params(memory=path).fit(X),
}.items():
    try:
        write(os.path.abspath(path))
    except OSError as error:
        print(error)
    else:
        print("nothing was told")
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert len(told) == 4
    for line, path in zip(told, ("detector.joblib", "detector.skops", "maps.npy", "memory"), strict=True):
        assert "File too large" in line
        assert repr(str(tmp_path / path)) in line
    assert {path.name for path in tmp_path.iterdir()} == {"given", "memory"}
