"""The command line, called in this process; tests/cli/test_processes.py starts real ones."""

import csv
import json
import math
import os
import re
import shutil
import signal
import threading
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skcsflow import CSFlowDetector, load, save
from skcsflow.cli import main
from skcsflow.datasets import list_images

SETTINGS = [
    f"--set={name}={value}"
    for name, value in {
        "backbone": "test_efficientnet",
        "weights": None,
        "input_size": 32,
        "cross_conv_hidden_channels": 8,
        "strides": (32, 64, 128),
        "n_coupling_blocks": 1,
        "n_epochs": 1,
    }.items()
]


def write_images(folder, n, seed=0, size=(40, 48)):
    folder.mkdir(parents=True)
    rng = np.random.RandomState(seed)
    for k in range(n):
        noise = rng.randint(100, 140, size=size, dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{k:02}.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli")
    write_images(root / "good", 12)
    write_images(root / "fresh", 21, seed=1)
    write_images(root / "new", 3, seed=2)
    image = np.random.RandomState(3).randint(100, 140, size=(40, 48), dtype=np.uint8)
    image[10:30, 10:30] = 255
    Image.fromarray(image).save(root / "new" / "03.png")
    assert main(["fit", str(root / "good"), "-o", str(root / "detector.skops"), "-q", *SETTINGS]) == 0
    save(CSFlowDetector(), root / "unfitted.skops")
    for name in ("folder.onnx", "folder.skops"):
        (root / name).mkdir()
    return root


@pytest.fixture
def run(root, capsys, monkeypatch):
    """Run a command in the folder of the detector: exit code, output, errors."""
    monkeypatch.chdir(root)

    def run(*args):
        code = main([str(arg) for arg in args])
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


def run_json(run, *args):
    code, out, err = run(*args, "--json")
    assert code in (0, 3), err
    assert out.count("\n") == 1
    return json.loads(out)


# fit, calibrate, info


def test_fit_saves_the_detector_of_these_images_and_settings(root, run, tmp_path):
    found = run_json(run, "fit", "good", "-o", tmp_path / "a.joblib", *SETTINGS)
    detector, saved = load(tmp_path / "a.joblib"), load(root / "detector.skops")
    files = list_images(root / "good")
    expected = CSFlowDetector(
        backbone="test_efficientnet",
        weights=None,
        input_size=32,
        cross_conv_hidden_channels=8,
        strides=(32, 64, 128),
        n_coupling_blocks=1,
        n_epochs=1,
        random_state=0,
    ).fit(files)
    assert found["n_images"] == 12
    assert found["threshold"] == detector.offset_ == saved.offset_ == expected.offset_
    assert found["map_threshold"] == expected.map_threshold_
    np.testing.assert_array_equal(detector.score_samples(files), expected.score_samples(files))
    assert detector.verbose == 0


def test_fit_takes_train_good_of_mvtec(run, tmp_path):
    write_images(tmp_path / "bottle" / "train" / "good", 10)
    write_images(tmp_path / "bottle" / "test" / "good", 2)
    found = run_json(run, "fit", tmp_path / "bottle", "-o", tmp_path / "a.skops", *SETTINGS)
    assert found["n_images"] == 10


def test_calibrate_sets_the_thresholds(root, run, tmp_path):
    found = run_json(run, "calibrate", "fresh", "--fpr", "0.1", "-o", tmp_path / "b.skops")
    expected = load(root / "detector.skops").calibrate(list_images(root / "fresh"), fpr=0.1)
    assert load(tmp_path / "b.skops").offset_ == found["threshold"] == expected.offset_
    assert run_json(run, "info", tmp_path / "b.skops")["n_calibration_images"] == 21


def test_calibrate_replaces_its_detector_unless_told_otherwise(root, run, tmp_path):
    file = tmp_path / "a.skops"
    file.write_bytes((root / "detector.skops").read_bytes())
    code, out, _ = run("calibrate", "fresh", "-d", file)
    assert code == 0
    assert "Calibrated by 21 images: at most 5.00% of good parts are called defective." in out
    assert len(load(file).calibration_scores_) == 21


def test_info_names_what_differs_from_the_defaults(run):
    found = run_json(run, "info", "detector.skops")
    assert found["parameters"]["n_epochs"] == 1
    assert "learning_rate" not in found["parameters"]
    code, out, _ = run("info")
    assert code == 0
    assert "torch" in out


# score


def test_scores_are_those_of_the_detector(root, run, tmp_path):
    files = list_images(root / "new")
    detector = load(root / "detector.skops")
    expected = detector.score_samples(files)
    code, out, err = run("score", "new", "-q")
    assert code == 0
    assert "images are anomalous" in err
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["file"] for row in rows] == ["00.png", "01.png", "02.png", "03.png"]
    np.testing.assert_array_equal([float(row["score"]) for row in rows], expected)
    np.testing.assert_array_equal([int(row["label"]) for row in rows], detector.predict(files))
    assert run("score", "new", "-o", tmp_path / "a.csv", "-q")[0] == 0
    assert (tmp_path / "a.csv").read_text() == out
    run("score", "new", "-o", tmp_path / "a.jsonl", "-q")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["score"] for line in lines] == expected.tolist()
    run("score", "new", "-o", tmp_path / "a.parquet", "-q")
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert frame["score"].tolist() == expected.tolist()
    assert frame["p_value"].dtype == np.float64
    assert run_json(run, "score", "new")["images"] == lines
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "a.jsonl", "a.parquet"]


def test_p_values_are_there_once_calibrated(root, run, tmp_path):
    run("calibrate", "fresh", "-o", tmp_path / "b.skops")
    found = run_json(run, "score", "new", "-d", tmp_path / "b.skops")
    expected = load(tmp_path / "b.skops").p_values(list_images(root / "new"))
    assert [row["p_value"] for row in found["images"]] == expected.tolist()


def test_images_that_cannot_be_read_have_a_row_that_says_why(root, run, tmp_path):
    write_images(tmp_path / "x", 2)
    (tmp_path / "x" / 'broken, "é".png').write_text("no image")
    code, out, _ = run("score", tmp_path / "x", "--json")
    found = json.loads(out)
    assert code == 3
    assert (found["n_images"], found["n_unreadable"]) == (3, 1)
    (row,) = [row for row in found["images"] if row["error"]]
    assert row["file"] == 'broken, "é".png'
    assert row["score"] is None
    assert row["label"] == -1
    assert all(row["score"] is not None for row in found["images"] if not row["error"])
    code, out, _ = run("score", tmp_path / "x", "-q")
    assert code == 3
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["score"] == "" for row in rows].count(True) == 1


def test_names_that_are_no_unicode_are_spelt_out(run, tmp_path):
    write_images(tmp_path / "x", 1)
    name = os.fsdecode(b"bad\xff.png")
    try:
        (tmp_path / "x" / "00.png").rename(tmp_path / "x" / name)
    except OSError:
        pytest.skip("this file system takes Unicode alone")
    assert run("score", tmp_path / "x", "-q", "-o", tmp_path / "a.CSV")[0] == 0
    assert "bad\\xff.png" in (tmp_path / "a.CSV").read_text(encoding="utf-8")


def test_calibrate_goes_on_without_what_cannot_be_read_where_told_so(root, run, tmp_path):
    shutil.copytree(root / "fresh", tmp_path / "x")
    (tmp_path / "x" / "broken.png").write_text("no image")
    assert run("calibrate", tmp_path / "x", "-o", tmp_path / "b.skops")[0] == 1
    code, out, _ = run(
        "calibrate", tmp_path / "x", "-o", tmp_path / "b.skops", "--set", "on_error=nan", "--json"
    )
    found = json.loads(out)
    assert code == 3
    assert (found["n_images"], found["n_unreadable"]) == (21, 1)


def test_thresholds_that_are_no_numbers_are_null_in_json(root, run, tmp_path):
    detector = load(root / "detector.skops")
    detector.offset_ = -math.inf
    save(detector, tmp_path / "a.skops")
    assert run_json(run, "info", tmp_path / "a.skops")["threshold"] is None
    assert run_json(run, "score", "new", "-d", tmp_path / "a.skops")["n_anomalous"] == 0


def test_links_to_detectors_stay_links(root, run, tmp_path):
    shutil.copy(root / "detector.skops", tmp_path / "a.skops")
    (tmp_path / "link.skops").symlink_to(tmp_path / "a.skops")
    assert run("calibrate", "fresh", "-d", tmp_path / "link.skops")[0] == 0
    assert (tmp_path / "link.skops").is_symlink()
    assert len(load(tmp_path / "a.skops").calibration_scores_) == 21


def test_a_line_can_be_stopped_by_the_exit_code(root, run):
    scores = load(root / "detector.skops").score_samples(list_images(root / "new"))
    found = run_json(run, "score", "new")
    assert found["n_anomalous"] == (scores < found["threshold"]).sum() > 0
    assert run("score", "new", "--json")[0] == 0
    assert run("score", "new", "--json", "--fail-on-anomaly")[0] == 3


def test_settings_hold_for_the_call(run):
    assert run("score", "new", "--set", "n_jobs=1", "-q")[0] == 0
    code, _, err = run("score", "new", "--set", "map_mode=all", "-q")
    assert code == 1
    assert "--set map_mode: it acts in fit alone. Here these may be set: " in err


# maps, evaluate


def test_maps_and_masks_are_those_of_the_detector(root, run, tmp_path):
    write_images(tmp_path / "x" / "a", 1)
    write_images(tmp_path / "x" / "b", 1, size=(50, 30))
    code, _, _ = run("maps", tmp_path / "x", "-r", "-o", tmp_path / "out", "-q")
    assert code == 0
    files = list_images(tmp_path / "x", recursive=True)
    detector = load(root / "detector.skops")
    maps, masks = list(detector.iter_maps(files)), detector.predict_masks(files)
    for file, expected, found in zip(("a/00.png", "b/00.png"), maps, detector.inspect(files), strict=True):
        saved = Image.open(tmp_path / "out" / f"{file}.map.tiff")
        np.testing.assert_array_equal(np.asarray(saved), expected)
        np.testing.assert_array_equal(
            np.asarray(Image.open(tmp_path / "out" / f"{file}.mask.png")), found.mask
        )
    assert len(masks) == 2


def mvtec_like(folder):
    write_images(folder / "train" / "good", 12)
    write_images(folder / "test" / "good", 6, seed=1)
    for kind, value in (("bright", 255), ("dark", 0)):
        (folder / "test" / kind).mkdir()
        (folder / "ground_truth" / kind).mkdir(parents=True)
        for k in range(3):
            image = np.random.RandomState(k).randint(100, 140, size=(40, 48), dtype=np.uint8)
            image[10:30, 10:30] = value
            Image.fromarray(image).save(folder / "test" / kind / f"{k}.png")
            mask = np.zeros((40, 48), np.uint8)
            mask[10:30, 10:30] = 255
            Image.fromarray(mask).save(folder / "ground_truth" / kind / f"{k}_mask.png")


def test_evaluate_measures_what_is_known(root, run, tmp_path):
    mvtec_like(tmp_path / "x")
    found = run_json(run, "evaluate", tmp_path / "x", *SETTINGS)
    assert (found["n_train"], found["n_test"]) == (12, 12)
    assert {
        "image_auroc",
        "image_f1_max",
        "pixel_auroc",
        "au_pro",
        "false_positive_rate",
        "found",
    } < found.keys()
    assert found["defects"].keys() == {"bright", "dark"}
    both = [found["defects"][kind]["image_auroc"] for kind in ("bright", "dark")]
    assert found["image_auroc"] == pytest.approx(np.mean(both))
    code, out, _ = run("evaluate", tmp_path / "x", "-d", "detector.skops", "-q")
    assert code == 0
    assert "image auroc" in out
    assert "bright" in out


def test_evaluate_leaves_out_what_cannot_be_read(run, tmp_path):
    mvtec_like(tmp_path / "x")
    whole = run_json(run, "evaluate", tmp_path / "x", "-d", "detector.skops")
    content = (tmp_path / "x" / "test" / "dark" / "0.png").read_bytes()
    (tmp_path / "x" / "test" / "dark" / "0.png").write_bytes(content[: len(content) // 2])
    code, out, _ = run("evaluate", tmp_path / "x", "-d", "detector.skops", "--json")
    found = json.loads(out)
    assert code == 3
    assert (found["n_unreadable"], found["defects"]["dark"]["n"], found["n_train"]) == (1, 2, None)
    assert found["defects"]["bright"] == whole["defects"]["bright"]


def test_labels_are_the_folders_above_images(root, run, tmp_path):
    mvtec_like(tmp_path / "x")
    (tmp_path / "x" / "test" / "good" / "monday").mkdir()
    shutil.copy(tmp_path / "x" / "test" / "good" / "00.png", tmp_path / "x" / "test" / "good" / "monday")
    code, _, _ = run("report", tmp_path / "x" / "test", "-r", "--labels", "-o", tmp_path / "a.html", "-q")
    assert code == 0
    assert re.search(r"of 7 good", (tmp_path / "a.html").read_text(encoding="utf-8"))


def test_evaluate_needs_both_kinds(run, tmp_path):
    write_images(tmp_path / "x" / "train" / "good", 10)
    write_images(tmp_path / "x" / "test" / "good", 2)
    code, _, err = run("evaluate", tmp_path / "x", "-d", "detector.skops")
    assert code == 1
    assert "needs good and defective images in its folder test" in err


# Errors


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["score", "missing"], "missing"),
        (["score", "new", "-d", "missing.skops"], "missing.skops"),
        (["score", "new", "-o", "a.xlsx"], "--output must end in .csv or .jsonl or .parquet, got 'a.xlsx'"),
        (["score", "new", "-o", "nowhere/a.csv"], "No such folder, for --output: 'nowhere'"),
        (["score", "new", "-d", "new/00.png"], "must end in .skops"),
        (["fit", "good", "-o", "a.onnx"], "--output must end in .skops"),
        (["fit", "good", "-o", "nowhere/a.skops"], "No such folder"),
        (["fit", "good", "--set", "input_size=3", "-o", "x.skops"], "input_size"),
        (["fit", "."], "--recursive"),
        (["score", "new/00.png"], "'new/00.png' is a file. Name the folder that it is in."),
        (["score", "new", "-o", "good"], "--output must end in"),
        (["export", "-o", "folder.onnx"], "--output is a folder: 'folder.onnx'"),
        (["fit", "good", "-o", "folder.skops"], "--output is a folder"),
        (["maps", "new", "-o", "new"], "lies in the folder of the images"),
        (["maps", "new", "-o", "detector.skops"], "is a file. Name a folder."),
        (["report", "new", "--labels"], "--labels needs images in a folder called good, and others"),
        (["info", "unfitted.skops"], "not fitted"),
        (["calibrate", "new", "--fpr", "0.01"], "needs at least 99 normal images, got 4"),
        (["info", "new/00.png"], "must end in"),
    ],
)
def test_errors_are_one_line(run, args, message):
    code, out, err = run(*args, "-q")
    assert code == 1
    assert out == ""
    (line,) = [line for line in err.splitlines() if not line.startswith("skcsflow: warning: ")]
    assert line.startswith("skcsflow: error: ")
    assert message in line


@pytest.mark.parametrize(
    "args", [[], ["scores"], ["fit"], ["fit", "good", "--set", "colour=1"], ["fit", "a", "--set", "n_jobs"]]
)
def test_wrong_arguments_end_with_2(run, args):
    with pytest.raises(SystemExit) as error:
        run(*args)
    assert error.value.code == 2


def test_the_detector_is_asked_for_where_there_is_none(run, tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    code = main(["score", str(root / "new")])
    assert code == 1


def test_debug_shows_where_an_error_was_raised(run):
    _, _, err = run("score", "missing", "--debug")
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("skcsflow: error: ")


def test_warnings_are_one_line(run, tmp_path):
    write_images(tmp_path / "few", 3)
    code, _, err = run("fit", tmp_path / "few", "-o", tmp_path / "a.skops", "-q", *SETTINGS)
    assert code == 0
    assert any(
        line.startswith("skcsflow: warning: X has 3 images of good parts") for line in err.splitlines()
    )
    assert "ConvergenceWarning" not in err


def test_interrupted_commands_say_so_and_leave_nothing(run, tmp_path, monkeypatch, request):
    def interrupt(self, X, **params):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    monkeypatch.setattr(CSFlowDetector, "inspect", interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have background jobs ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    code, _, err = run("score", "new", "-o", tmp_path / "a.csv")
    assert code == 130
    assert err.splitlines()[-1] == "skcsflow: interrupted"
    assert not list(tmp_path.iterdir())


def test_ended_commands_leave_nothing(run, tmp_path, monkeypatch):
    def end(self, X, y=None):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr(CSFlowDetector, "fit", end)
    with pytest.raises(SystemExit) as error:
        run("fit", "good", "-o", tmp_path / "a.skops")
    assert error.value.code == 143
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_commands_run_in_other_threads_too(run):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["info", "detector.skops", "--json"])))
    thread.start()
    thread.join()
    assert codes == [0]
    assert not math.isnan(codes[0])
