"""What a report says of images, and how it is written."""

import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from page_reader import Page
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

import skcsflow
from skcsflow import CSFlowDetector
from skcsflow.report import write_report

EVIL = [
    "<script>alert(1)</script>.png",
    "\"onerror='alert(2)'.png",
    "</script><img src=x onerror=alert(3)>",
    "&lt;b&gt;",
    "${alert(4)}`",
    "{{ 7 * 7 }}",
    "]]>--><!--",
    "\u202egnp.exe",
    "line\nbreak",
]


@pytest.fixture
def report(tmp_path):
    """Writes a report and takes it apart."""

    def write(detector, X, **options):
        path = write_report(detector, X, tmp_path / "report.html", **options)
        return Page(path.read_text(encoding="utf-8"))

    return write


def visible(element):
    return re.sub(r"\s+", " ", element["text"]).strip()


def save(folder, images, names):
    paths = [folder / name for name in names]
    for path, image in zip(paths, images, strict=True):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path, "PNG")
    return paths


def test_numbers_are_those_of_the_detector(fitted_copy, inspected, report):
    X, _ = inspected
    detector = fitted_copy.calibrate(X[20:], fpr=0.2)
    page = report(detector, X)
    found = list(detector.inspect(X))
    rows = page.rows
    assert [int(row["data-index"]) for row in rows] == list(range(len(X)))
    assert [float(row["data-score"]) for row in rows] == [f.score for f in found]
    assert [float(row["data-p_value"]) for row in rows] == [f.p_value for f in found]
    assert [float(row["data-peak"]) for row in rows] == [f.anomaly_map.max() for f in found]
    assert [float(row["data-area"]) for row in rows] == [f.mask.mean() for f in found]
    assert [int(row["data-regions"]) for row in rows] == [len(f.regions) for f in found]
    verdicts = [visible(page.within(row, "span")[-1]) for row in rows]
    assert verdicts == [{1: "passed", -1: "flagged"}[f.verdict] for f in found]
    assert {f.verdict for f in found} == {1, -1}


def test_boxes_are_those_of_the_regions(fitted, inspected, report):
    X, _ = inspected
    page = report(fitted, X)
    drawn = []
    for row in page.rows:
        numbers = [
            [int(box[name]) for name in ("y", "x", "height", "width", "data-area")]
            for box in page.within(row, "rect")
        ]
        drawn.append([((y, x, y + h, x + w), area) for y, x, h, w, area in numbers])
    assert drawn == [[(r.bbox, r.area) for r in regions] for regions in fitted.predict_regions(X)]
    assert any(drawn)
    assert not any(
        "data-area" in e and e["tag"] == "rect" for e in report(fitted, X, min_area=10**6).elements
    )


def test_the_most_anomalous_images_come_first(fitted, inspected, report):
    X, y = inspected
    listed = [int(e["data-index"]) for e in report(fitted, X, y=y).find("tr") if "data-index" in e]
    assert listed == np.argsort(fitted.score_samples(X), kind="stable").tolist()


@pytest.mark.parametrize(
    "labels",
    [
        lambda y: y,
        lambda y: (y < 0).astype(int),
        lambda y: pd.Series(y < 0),
        lambda y: np.where(y < 0, "a & b", "good"),
    ],
)
def test_labels_of_each_form_say_what_was_found(fitted, inspected, report, labels):
    X, y = inspected
    page = report(fitted, X, y=labels(y))
    flagged, defect = fitted.predict(X) < 0, y < 0
    facts = page.facts
    assert facts["Images"] == "30"
    assert facts["Flagged"].startswith(f"{flagged.sum()} ")
    assert facts["Defects found"].startswith(f"{(flagged & defect).sum()} of 10 ")
    assert facts["False alarms"].startswith(f"{(flagged & ~defect).sum()} of 20 good")
    auroc = roc_auc_score(defect, -fitted.score_samples(X))
    assert facts["Area under the ROC curve"] == f"{auroc:.3f}"
    words = {(1, 1): "found", (1, 0): "missed", (0, 1): "false alarm", (0, 0): "passed"}
    verdicts = [visible(page.within(row, "span")[-1]) for row in page.rows]
    assert verdicts == [words[pair] for pair in zip(defect, flagged, strict=True)]
    kinds = {visible(page.within(row, "td", class_="kind")[0]) for row in page.rows}
    assert kinds == {"good", "a & b" if np.asarray(labels(y)).dtype.kind == "U" else "defect"}


@pytest.mark.slow
def test_the_summary_says_what_rate_the_threshold_was_set_for(fitted_copy, inspected, report):
    X, _ = inspected
    aimed = "Rate of false alarms"
    assert (
        report(fitted_copy, X).facts[aimed]
        == "1 % of the training images are aimed at; of fresh good ones it is more"
    )
    fitted_copy.set_params(contamination="auto")
    assert report(fitted_copy, X).facts[aimed] == "about 5 % of fresh good images are aimed at"
    fitted_copy.calibrate(255 - X, fpr=0.2)
    share = (fitted_copy.calibration_scores_ < fitted_copy.offset_).mean()
    said = f"{100 * share:.1f} % of the 30 good images of the calibration lie below the threshold"
    assert report(fitted_copy, X).facts[aimed] == said


def test_every_string_is_escaped(fitted, inspected, report):
    X, y = inspected
    kinds = np.where(y[: len(EVIL)] < 0, "x", "good").astype(object)
    kinds[:2] = EVIL[0], EVIL[1]
    page = report(fitted, X[: len(EVIL)], y=kinds.tolist(), names=EVIL, title=EVIL[2])
    assert len(page.find("script")) == 2
    assert [e["class"] for e in page.find("img") if "class" in e] == ["map"] * len(EVIL)
    assert not [e for e in page.elements if any(name.startswith("on") for name in e)]
    assert [e["text"] for e in page.find("title") if len(e["inside"]) == 2] == [
        "</script><img src=x onerror=alert(3)>"
    ]
    shown = [page.within(row, "bdi")[0]["text"] for row in page.rows]
    assert shown == EVIL
    assert [page.within(row, "img")[0]["alt"] for row in page.rows] == [f"Enlarge {name}" for name in EVIL]
    assert [page.within(row, "td", class_="kind")[0]["text"] for row in page.rows[:2]] == EVIL[:2]
    assert {e["value"] for e in page.find("option") if e.get("value")} == {
        f"={k}" for k in {*EVIL[:2], "good"}
    }


def test_names_that_are_no_text_are_written(fitted, inspected, report):
    X, _ = inspected
    page = report(fitted, X[:2], names=["a\udcff.png", "Prüfung_日本.png"], title="b\udcff")
    assert [page.within(row, "bdi")[0]["text"] for row in page.rows] == ["a?.png", "Prüfung_日本.png"]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/good/0.png", "a/crack/0.png"], ["good/0.png", "crack/0.png"]),
        (["b/0.png", "b/<1>.png"], ["0.png", "<1>.png"]),
        (["c/ä 日本.png"], ["ä 日本.png"]),
    ],
)
def test_images_are_named_by_their_files(fitted, inspected, report, tmp_path, files, names):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    paths = save(tmp_path, inspected[0][: len(files)], files)
    page = report(fitted, paths)
    assert [page.within(row, "bdi")[0]["text"] for row in page.rows] == names
    assert str(tmp_path) not in page.html


def test_images_without_files_are_named_by_their_rows(fitted, inspected, report):
    page = report(fitted, inspected[0][:3])
    assert [page.within(row, "bdi")[0]["text"] for row in page.rows] == ["X[0]", "X[1]", "X[2]"]


def test_a_folder_is_read_once_for_names_and_scores(fitted, inspected, report, tmp_path):
    save(tmp_path, inspected[0][:3], ["in/c.png", "in/a.png", "in/b.png"])
    page = report(fitted, tmp_path / "in")
    assert [page.within(row, "bdi")[0]["text"] for row in page.rows] == ["a.png", "b.png", "c.png"]
    scores = fitted.score_samples(inspected[0][[1, 2, 0]])
    assert [float(row["data-score"]) for row in page.rows] == scores.tolist()


def test_images_that_cannot_be_read_are_shown_with_the_reason(fitted_copy, inspected, report, tmp_path):
    paths = save(tmp_path, inspected[0][:2], ["0.png", "1.png"])
    (tmp_path / "<b>.png").write_bytes(paths[0].read_bytes()[:60])
    fitted_copy.set_params(on_error="nan")
    with pytest.warns(UserWarning, match=r"X\[1\].*NaN"):
        page = report(fitted_copy, [paths[0], tmp_path / "<b>.png", paths[1]], y=[1, -1, 1])
    bad = page.rows[1]
    assert "data-score" not in bad
    assert [e["class"] for e in page.within(bad, "span")] == ["nothing", "badge found"]
    error = page.within(bad, "small", class_="error")[0]["text"]
    assert error.startswith(f"Unreadable: X[1] ({str(tmp_path / '<b>.png')!r})")
    assert page.pictures[1] is None
    assert page.facts["Unreadable"] == "1"
    assert int(page.find("tr")[1]["data-index"]) == 1, "it comes first"


def test_a_report_on_nothing_but_unreadable_images_is_written(fitted_copy, report):
    fitted_copy.set_params(on_error="nan")
    with pytest.warns(UserWarning, match="can't be read"):
        page = report(fitted_copy, [np.full((9, 9), np.nan)] * 2)
    assert page.facts["Unreadable"] == "2"
    assert page.pictures == [None, None]
    assert not page.find("input", id="slider")


def test_an_unreadable_image_is_an_error_where_the_detector_says_so(fitted, inspected, tmp_path):
    X = [inspected[0][0], np.full((9, 9), np.nan)]
    with pytest.raises(ValueError, match=r"X\[1\]"):
        write_report(fitted, X, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "image",
    [
        np.full((20, 50), 200, np.uint8),
        np.full((50, 20, 3), 200, np.uint8),
        np.full((30, 30), 60_000, np.uint16),
        np.ones((30, 40, 4), np.float64),
        np.ones((1, 300), bool),
        torch.ones(3, 30, 20),
    ],
    ids=["grey", "colour", "16-bit", "alpha", "thin", "tensor"],
)
def test_images_of_each_kind_are_shown(fitted, report, image):
    page = report(fitted, [image])
    picture, _ = page.pictures[0]
    height, width = (image.shape[1:] if isinstance(image, torch.Tensor) else image.shape)[:2]
    assert picture.shape[:2] == (height, width)
    box = page.within(page.rows[0], "svg")[0]["viewbox"]
    assert box == f"0 0 {width} {height}"


def test_images_of_mixed_sizes_are_shown_in_one_report(fitted, inspected, report):
    sizes = [(20, 50), (300, 40), (64, 64)]
    page = report(fitted, [np.resize(inspected[0][0], size) for size in sizes], thumbnail_size=40)
    assert [picture.shape[:2] for picture, _ in page.pictures] == [(16, 40), (40, 5), (40, 40)]


def test_rows_of_a_table_are_shown_as_images(blobs, tiny_params, report):
    detector = CSFlowDetector(**tiny_params).fit(blobs)
    page = report(detector, pd.DataFrame(blobs[:3]))
    assert [picture.shape[:2] for picture, _ in page.pictures] == [(4, 4)] * 3
    assert [float(r["data-score"]) for r in page.rows] == detector.score_samples(
        pd.DataFrame(blobs[:3])
    ).tolist()


def test_each_image_goes_through_the_network_once(fitted_copy, inspected, report, monkeypatch):
    images = []
    runner = type(fitted_copy._current_runner())
    extract = runner.features
    monkeypatch.setattr(
        runner, "features", lambda self, batch, *args: images.extend(batch) or extract(self, batch, *args)
    )
    report(fitted_copy, inspected[0])
    assert len(images) == len(inspected[0])


def test_the_page_asks_for_nothing_from_outside(fitted, inspected, report):
    X, y = inspected
    page = report(fitted, X, y=y)
    assert not re.findall(r"https?:|url\((?!#)|@import|//[a-z]+\.", page.html)
    policy = page.find("meta", http_equiv="Content-Security-Policy")[0]["content"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not [e for e in page.elements if "style" in e]


def test_headers_are_buttons_in_column_headers(fitted, inspected, report):
    page = report(fitted, inspected[0])
    headers = [e for e in page.find("th", scope="col") if "data-key" in e]
    assert [visible(h) for h in headers] == ["Name", "Verdict", "Score", "Peak", "Area", "Regions"]
    assert [len(page.within(h, "button")) for h in headers] == [1] * len(headers)
    assert [h["data-key"] for h in headers if "aria-sort" in h] == ["score"]
    assert all(e.get("alt") is not None for e in page.find("img"))


def test_a_file_that_is_there_is_replaced_only_by_a_whole_one(fitted_copy, inspected, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("the old one")
    with monkeypatch.context() as patch:
        patch.setattr(skcsflow.report._report, "render", _half_a_page)
        with pytest.raises(OSError, match="No space left"):
            write_report(fitted_copy, inspected[0][:2], path)
    assert path.read_text() == "the old one"
    assert write_report(fitted_copy, inspected[0][:2], path) == path
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert list(tmp_path.iterdir()) == [path]


def _half_a_page(facts):
    yield "<!doctype html>"
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"path": "nowhere/report.html"}, FileNotFoundError, r"no folder '.*nowhere' to write path="),
        ({"path": "."}, IsADirectoryError, "path is a folder"),
        ({"y": [1, -1]}, ValueError, "X has 30 images, but y has 2 labels"),
        ({"y": [3] * 30}, ValueError, "labels in y must be"),
        ({"names": ["a"]}, ValueError, "X has 30 images, but names has 1"),
        ({"names": "report"}, TypeError, "names must be a sequence of 30 names"),
        ({"thumbnail_size": 8}, ValueError, "thumbnail_size must be None or an int of at least 16, got 8"),
        ({"thumbnail_size": True}, ValueError, "thumbnail_size .* got True"),
        ({"min_area": 0}, ValueError, "min_area"),
        ({"title": 3}, TypeError, "title must be a str or None, got 3"),
        ({"detector": CSFlowDetector()}, NotFittedError, "not fitted"),
        ({"detector": make_pipeline(CSFlowDetector())}, TypeError, "must be a CSFlowDetector, got Pipeline"),
        ({"X": Image.new("L", (9, 9))}, TypeError, "one PIL image"),
        ({"X": iter([])}, TypeError, r"Pass list\(X\)"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(
    fitted_copy, inspected, tmp_path, monkeypatch, change, error, message
):
    def score(*args, **kwargs):
        raise AssertionError("the images were scored")

    monkeypatch.setattr(skcsflow._detector._estimator, "score_images", score)
    given = {"detector": fitted_copy, "X": inspected[0], "path": "report.html", **change}
    given["path"] = tmp_path / given["path"]
    with pytest.raises(error, match=message):
        write_report(**given)
    assert list(tmp_path.iterdir()) == []


def test_a_threshold_that_is_not_finite_is_refused(fitted_copy, inspected, tmp_path):
    fitted_copy.offset_ = -np.inf
    with pytest.raises(ValueError, match="offset_ is -inf"):
        write_report(fitted_copy, inspected[0], tmp_path / "report.html")


def test_pictures_of_many_images_are_smaller(fitted, report, monkeypatch):
    image = np.full((400, 400, 3), 200, np.uint8)
    monkeypatch.setattr(skcsflow.report._report, "_MANY_IMAGES", 1)
    assert report(fitted, [image]).pictures[0][0].shape == (320, 320, 3)
    assert {picture.shape for picture, _ in report(fitted, [image] * 2).pictures} == {(160, 160, 3)}


def test_the_histogram_counts_every_readable_image(fitted, inspected, report):
    X, y = inspected
    page = report(fitted, X, y=y)
    bars = [e for e in page.find("title") if any(o["tag"] == "rect" for o in e["inside"])]
    counted = {"good": 0, "defect": 0}
    for bar in bars:
        n, kind = re.match(r"(\d+) (good|defect)", bar["text"]).groups()
        counted[kind] += int(n)
    assert counted == {"good": 20, "defect": 10}


def test_regions_beyond_the_twentieth_are_counted_alone(fitted_copy, report):
    fitted_copy.map_threshold_ = float(np.median(next(fitted_copy.iter_maps([_specks()]))))
    n = len(fitted_copy.predict_regions([_specks()])[0])
    page = report(fitted_copy, [_specks()])
    assert len(page.within(page.rows[0], "rect")) == min(n, 20)
    assert page.rows[0]["data-regions"] == str(n)


def _specks():
    return np.random.RandomState(0).randint(0, 256, (400, 400), np.uint8)


def test_reports_of_more_images_take_bytes_in_proportion(fitted, inspected, tmp_path):
    sizes = [
        write_report(fitted, inspected[0][:n], tmp_path / f"{n}.html").stat().st_size for n in (10, 20, 30)
    ]
    steps = [b - a for a, b in pairwise(sizes)]
    assert max(steps) < 1.5 * min(steps)
