"""The benchmark on folders in the MVTec AD layout, small: its tree, its figures, going on after an interruption."""

# SPDX-License-Identifier: BSD-3-Clause

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

# The benchmarks are no part of the installed package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _report, mvtec
from benchmarks._resume import State, run_jobs
from benchmarks._tree import write_category, write_elpv, write_surface
from skcsflow import CSFlowDetector
from skcsflow.datasets import load_image_folder, make_defects, read_mask

PARAMS = {"tiny": {**TINY, "n_epochs": 1}}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A tree of solar cells, which have no masks, and of two surfaces of different sizes, one of which lacks a mask."""
    root = tmp_path_factory.mktemp("tree")
    write_elpv(root / "cells", every=90)
    write_surface(root / "fabric", "fabric", n_train=3, n_good=2, n_defective=3, size=(64, 80))
    write_surface(root / "tiles", "tiles", n_train=3, n_good=2, n_defective=7, size=70)
    (root / "tiles/ground_truth/spot/000_mask.png").unlink()
    return root


@pytest.fixture(scope="module")
def finished(written, tmp_path_factory):
    """Results of the whole tree, errors, and the content of the state file."""
    state = tmp_path_factory.mktemp("state") / "state.json"
    results, errors = mvtec.run(written, mvtec.find_categories(written), PARAMS, state)
    return results, errors, state.read_text()


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state.json"


@pytest.fixture
def tree(written, tmp_path):
    """A copy that a test may change."""
    root = tmp_path / "a copy"
    for path in written.rglob("*.png"):
        copy = root / path.relative_to(written)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return root


@pytest.mark.slow
def test_tree_surface_reads_back_as_drawn(written):
    drawn = make_defects(5, 7, surface="tiles", size=70, random_state=900)
    data = load_image_folder(written, category="tiles")
    assert (len(data.train), len(data.test)) == (3, 9)
    assert set(data.train_sizes.ravel()) == set(data.test_sizes.ravel()) == {70}
    for path, image in zip(data.train, drawn.images, strict=False):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
    drawn_masks = drawn.masks[-7:]
    for kind in np.unique(drawn.defect[-7:]):
        rows = data.defect == kind
        for path, mask in zip(data.masks[rows], drawn_masks[drawn.defect[-7:] == kind], strict=True):
            if kind != "spot":
                np.testing.assert_array_equal(read_mask(path), mask)
    lacking = (data.y_test == 1) | (data.defect == "spot")
    assert [mask is None for mask in data.masks] == lacking.tolist()


@pytest.mark.slow
def test_tree_elpv_has_a_kind_of_defect_without_masks(written):
    data = load_image_folder(written, category="cells")
    assert len(data.train) == 5  # of 441, one in 90
    assert set(data.defect) == {"good", "defective"}
    assert not any(data.masks)
    assert set(data.test_sizes.ravel()) == {300}


def test_find_categories_are_folders_that_hold_good_training_images(tree):
    (tree / "notes").mkdir()
    (tree / "license.txt").write_text("text")
    assert mvtec.find_categories(tree) == ["cells", "fabric", "tiles"]


@pytest.mark.slow
def test_run_whole_tree_gives_all_figures(finished, capsys):
    results, errors, _ = finished
    assert errors == {}
    assert list(results) == [("cells", "tiny"), ("fabric", "tiny"), ("tiles", "tiny")]
    for (category, _), result in results.items():
        for name in ("image AUROC", "image F1-max", "pixel AUROC", "pixel AP", "AU-PRO"):
            if category == "cells" and not name.startswith("image"):
                assert result[name] is None
            else:
                assert 0 <= result[name] <= 1
        assert result["fit seconds"] > 0
        assert result["ms per image"] > 0
    assert [result["no mask"] for result in results.values()] == [4, 0, 1]
    mvtec.print_results(results)
    assert re.search(r"\| tiles .*\n\| mean ", capsys.readouterr().out)


def test_run_figures_are_those_of_the_detector(finished, written):
    result = finished[0]["tiles", "tiny"]
    data = load_image_folder(written, category="tiles")
    detector = CSFlowDetector(**PARAMS["tiny"]).fit(data.train)
    scores = -detector.score_samples(data.test)
    assert result["image AUROC"] == pytest.approx(roc_auc_score(data.y_test == -1, scores))
    counted = data.defect != "spot"
    masks = np.array([read_mask(path, (70, 70)) for path in data.masks[counted]]).ravel()
    maps = detector.transform(data.test[counted]).ravel()
    assert result["pixel AUROC"] == pytest.approx(roc_auc_score(masks, maps), abs=1e-3)
    assert result["pixel AP"] == pytest.approx(average_precision_score(masks, maps), abs=1e-3)


def test_run_images_of_mixed_sizes_are_measured_at_their_own(tmp_path, state):
    images = make_defects(6, 2, size=80, random_state=900).images
    cut = [image[:, : 40 + 5 * i] for i, image in enumerate(images)]
    masks = [np.zeros(image.shape[:2], dtype=bool) for image in cut[6:]]
    for mask in masks:
        mask[:9, :9] = True
    write_category(tmp_path / "cut", cut[:3], {"good": cut[3:6], "dent": cut[6:]}, {"dent": masks})
    results, errors = mvtec.run(tmp_path, ["cut"], PARAMS, state)
    assert errors == {}
    assert results["cut", "tiny"]["pixel AUROC"] is not None


def test_on_disk_views_are_what_was_written(tmp_path):
    arrays = [np.arange(6.0, dtype=np.float32).reshape(2, 3), np.ones((4, 1), dtype=np.float32)]
    views = mvtec.on_disk(tmp_path / "maps", iter(arrays), [(2, 3), (4, 1)], np.float32)
    for view, array in zip(views, arrays, strict=True):
        np.testing.assert_array_equal(view, array)
        assert not view.flags.writeable
    with pytest.raises(ValueError, match=r"\(3, 2\) was to come, got \(2, 3\)"):
        mvtec.on_disk(tmp_path / "maps", iter(arrays), [(3, 2), (4, 1)], np.float32)


def test_run_broken_categories_do_not_stop_the_others(tree, state, capsys):
    (tree / "cells/train/good/000.png").write_bytes(b"no image")
    for path in (tree / "fabric/test/good").iterdir():
        path.unlink()
    (tree / "fabric/test/good").rmdir()
    results, errors = mvtec.run(tree, ["cells", "fabric", "nowhere", "tiles"], PARAMS, state)
    assert list(results) == [("tiles", "tiny")]
    assert list(errors) == [("cells", "tiny"), ("fabric", "tiny"), ("nowhere", "tiny")]
    output = capsys.readouterr().out
    assert re.search(r"failed: cells / tiny: ValueError: .*000\.png' could not be read", output)
    assert re.search(r"failed: fabric / tiny: ValueError: .*got 0 good and 3 defective", output)
    assert re.search(r"failed: nowhere / tiny: FileNotFoundError: .*nowhere", output)


def test_run_a_failed_category_is_tried_again(tree, state):
    path = tree / "fabric/test/good/001.png"
    content = path.read_bytes()
    path.write_bytes(content[:200])  # the header is whole: it fails only when it is scored
    results, errors = mvtec.run(tree, ["fabric"], PARAMS, state)
    assert results == {}
    assert "could not be read" in errors["fabric", "tiny"]
    path.write_bytes(content)
    results, errors = mvtec.run(tree, ["fabric"], PARAMS, state)
    assert list(results) == [("fabric", "tiny")]
    assert errors == {}


def test_run_again_keeps_what_is_there(finished, tree, state, capsys):
    state.write_text(finished[2])
    written_at = state.stat().st_mtime_ns
    results, _ = mvtec.run(tree, ["fabric", "tiles"], PARAMS, state)
    assert results == {key: finished[0][key] for key in [("fabric", "tiny"), ("tiles", "tiny")]}
    assert state.stat().st_mtime_ns == written_at
    output = capsys.readouterr().out
    assert "fabric / tiny: kept from before" in output
    assert re.search(r"\| tiles .*\n\| mean ", output)


def test_run_again_does_over_what_has_changed(finished, tree, state, capsys):
    state.write_text(finished[2])
    mask = tree / "fabric/ground_truth/scratch/000_mask.png"
    Image.fromarray(np.eye(64, 80) > 0).save(mask)
    results, _ = mvtec.run(tree, ["fabric"], PARAMS, state)
    assert "fabric / tiny: done again, since these changed: data\n" in capsys.readouterr().out
    assert results["fabric", "tiny"]["pixel AP"] != finished[0]["fabric", "tiny"]["pixel AP"]
    assert mvtec.run(tree, ["fabric"], PARAMS, state)[0] == results
    assert "fabric / tiny: kept from before" in capsys.readouterr().out


@pytest.mark.parametrize("changed", ["parameters", "data", "skcsflow"])
def test_state_result_made_with_something_else_is_not_found(
    finished, tree, state, capsys, monkeypatch, changed
):
    state.write_text(finished[2])
    key, params = ("fabric", "tiny"), dict(PARAMS["tiny"])
    assert State(state).find(key, mvtec.prepare(tree, "fabric", params)[0]) == finished[0][key]
    if changed == "parameters":
        params["clamp"] = 2.0
    elif changed == "data":
        path = tree / "fabric/train/good/000.png"
        path.rename(path.with_name("new.png"))
    else:
        monkeypatch.setattr(mvtec, "source_digest", lambda: "another")
    assert State(state).find(key, mvtec.prepare(tree, "fabric", params)[0]) is None
    assert f"done again, since these changed: {changed}\n" in capsys.readouterr().out


def test_run_jobs_interrupted_reports_and_goes_on(tmp_path, state, capsys):
    done, reports = [], []

    def job(name, *, interrupt=False):
        def measure():
            if interrupt:
                raise KeyboardInterrupt
            done.append(name)
            return {"value": name}

        return lambda: ({"made": 1}, measure)

    def report(results):
        reports.append({key: result["value"] for key, result in results.items()})

    run_jobs(state, {("c",): job("c")}, report)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(state, {("a",): job("a"), ("b",): job("b", interrupt=True), ("c",): job("c")}, report)
    # What is kept from before is in the report although its turn had not come.
    assert reports[-1] == {("a",): "a", ("c",): "c"}
    assert "failed" not in capsys.readouterr().out
    run_jobs(state, {(name,): job(name) for name in "abc"}, report)
    assert done == ["c", "a", "b"]
    assert list(reports[-1]) == [("a",), ("b",), ("c",)]
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


class Interrupting:
    """A path at which the user presses Ctrl-C."""

    def __fspath__(self):
        raise KeyboardInterrupt


def test_run_interrupted_in_a_fit_prints_and_goes_on(tree, state, capsys):
    data = load_image_folder(tree, category="tiles")
    data.train[1] = Interrupting()
    jobs = {
        ("fabric", "tiny"): lambda: mvtec.prepare(tree, "fabric", PARAMS["tiny"]),
        ("tiles", "tiny"): lambda: ({}, lambda: mvtec.measure(CSFlowDetector(**PARAMS["tiny"]), data)),
    }
    with pytest.raises(KeyboardInterrupt):
        run_jobs(state, jobs, mvtec.print_results)
    assert re.search(r"\| fabric .*\n\| mean ", capsys.readouterr().out)
    assert list(json.loads(state.read_text())) == ["fabric / tiny"]
    results, _ = mvtec.run(tree, ["fabric", "tiles"], PARAMS, state)
    assert "fabric / tiny: kept from before" in capsys.readouterr().out
    assert list(results) == [("fabric", "tiny"), ("tiles", "tiny")]


def test_state_that_is_no_json_raises_before_anything_runs(state):
    state.write_text('{"half": ')
    with pytest.raises(ValueError, match=r"state\.json' is no state file"):
        State(state)


def test_results_that_a_run_leaves_out_stay_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(_report, "RESULTS", tmp_path / "benchmarks" / "results")
    monkeypatch.setattr(_report, "__file__", str(tmp_path / "benchmarks" / "_report.py"))
    (tmp_path / "benchmarks").mkdir()
    before = {"environment": {"processor": "old"}, "arguments": {"seed": 0}}
    before["results"] = {"a": {"x": {"v": 1}, "y": {"v": 2}}, "b": {"x": {"v": 3}}}
    _report.write("some", before)
    now = {"a": {"y": {"v": 4}}, "c": {"x": {"v": 5}}}
    asked = [("a", "y"), ("c", "x")]
    old = before["environment"]
    expected = {
        "a": {"x": {"environment": old, "v": 1}, "y": {"v": 4}},
        "b": {"x": {"environment": old, "v": 3}},
        "c": {"x": {"v": 5}},
    }
    assert _report.with_earlier("some", {"seed": 0}, now, asked) == expected
    assert _report.with_earlier("some", {"seed": 1}, now, asked) == now
    assert _report.with_earlier("other", {"seed": 0}, now, asked) == now
    failed = _report.with_earlier("some", {"seed": 0}, now, [*asked, ("b", "x")])
    assert failed == {**expected, "b": {}}


def test_published_only_for_categories_that_have_been():
    assert mvtec.published("screw") == [0.896, 0.95, 0.779, 0.947, None]
    assert mvtec.published("Metal Nut") == [0.972, 1.0, 0.932, 0.953, None]
    assert mvtec.published("MTD") == [None, None, None, None, 0.993]
    assert mvtec.published("candle") == [None] * 5


def test_published_means_are_those_of_the_publications():
    ours = dict.fromkeys(mvtec.OURS, 0.5)
    mean = mvtec.mean_row(dict.fromkeys(mvtec.ANOMALIB, ours))
    assert round(mean["anomalib 256 px"], 3) == 0.972
    assert round(mean["anomalib 768 px"], 3) == 0.987
    assert round(mean["anomalib pixels 256 px"], 3) == 0.845
    assert round(mean["anomalib pixels 768 px"], 3) == 0.921
    assert mean["paper 768 px"] == 0.987
    assert mvtec.mean_row({name.replace("_", "-").title(): ours for name in mvtec.ANOMALIB}) == mean
    assert mvtec.mean_row({"screw": ours})["paper 768 px"] is None
    assert mvtec.mean_row({"screw": ours, "candle": ours})["anomalib 256 px"] is None


def test_main_exit_code_tells_of_failures(tree, state, capsys):
    (tree / "cells/train/good/000.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as ended:
        mvtec.main([str(tree), "--categories", "cells", "--state", str(state)])
    assert ended.value.code == "failed: 2"
    assert "failed: cells / paper: ValueError" in capsys.readouterr().out


def test_main_folder_without_categories_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        mvtec.main([str(tmp_path)])
    assert ended.value.code == 2
    assert "holds train/good" in capsys.readouterr().err
