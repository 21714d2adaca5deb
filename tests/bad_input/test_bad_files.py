"""Bad paths, files and arguments of all that reads or writes files or draws: models, reports, exports, plots, data."""

import os
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from conftest import open_files
from outcomes import cases, gives, refused, run
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

from skcsflow import CSFlowDetector, load, save
from skcsflow.datasets import list_images, load_elpv, load_image_folder, make_defects, read_mask
from skcsflow.export import to_onnx, verify_onnx
from skcsflow.plotting import AnomalyMapDisplay, HistoryDisplay, RocByKindDisplay, ScoreHistogramDisplay
from skcsflow.report import write_report

pytestmark = pytest.mark.slow

NAN, INF = float("nan"), float("inf")
PIXELS = np.random.RandomState(0).randint(100, 140, (3, 24, 20)).astype(np.uint8)
ENDINGS = r"must end in .skops, .joblib, .pkl or .pickle"
NOT_A_PATH = "^path must be a path, a str or path-like, got "
NULL = "^path='a.x00b.*' holds a null character"


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory, calibrated):
    """The working folder."""
    folder = tmp_path_factory.mktemp("files")
    before = os.getcwd()
    os.chdir(folder)
    Image.fromarray(PIXELS[0]).save("good.png")
    for name in ("junk.png", "junk.onnx", "junk.skops", "junk.joblib"):
        Path(name).write_bytes(b"junk")
    for name in ("empty.skops", "empty.joblib", "empty.onnx", "empty.png"):
        Path(name).write_bytes(b"")
    for name in ("folder.skops", "folder.html", "no_images"):
        Path(name).mkdir()
    for ending in ("skops", "joblib"):
        save(calibrated, f"whole.{ending}")
        content = Path(f"whole.{ending}").read_bytes()
        Path(f"shifted.{ending}").write_bytes(content[1:])
        Path(f"half.{ending}").write_bytes(content[: len(content) // 2])
        middle = len(content) // 2
        Path(f"changed.{ending}").write_bytes(content[:middle] + b"?" * 64 + content[middle + 64 :])
    joblib.dump({"a": 1}, "dict.joblib")
    joblib.dump(np.zeros(3), "array.pkl")
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe.joblib")
        os.mkfifo("pipe.skops")
    yield folder
    assert not list(folder.glob(".*.part"))  # what was begun and not ended
    assert not open_files(folder)
    os.chdir(before)


@cases(
    ("None", lambda: load(None), refused(TypeError, f"{NOT_A_PATH}None")),
    ("number", lambda: load(3), refused(TypeError, f"{NOT_A_PATH}3")),
    ("bytes", lambda: load(b"a.skops"), refused(TypeError, f"{NOT_A_PATH}b'a.skops'")),
    ("null", lambda: load("a\0b.skops"), refused(ValueError, NULL)),
    ("empty-text", lambda: load(""), refused(ValueError, ENDINGS)),
    ("ending", lambda: load("a.onnx"), refused(ValueError, f"^The file 'a.onnx' of a detector {ENDINGS}")),
    ("missing", lambda: load("no.skops"), refused(FileNotFoundError, "No such file or directory: 'no.skops'")),
    ("folder", lambda: load("folder.skops"), refused(ValueError, "^The file 'folder.skops' is a folder, not a file")),
    ("junk-skops", lambda: load("junk.skops"),
     refused(ValueError, "^The file 'junk.skops' can't be loaded: .*damaged")),
    ("junk-joblib", lambda: load("junk.joblib"),
     refused(ValueError, "^The file 'junk.joblib' can't be loaded: .*damag")),
    ("empty-skops", lambda: load("empty.skops"), refused(ValueError, "^The file 'empty.skops' can't be loaded: ")),
    ("empty-joblib", lambda: load("empty.joblib"), refused(ValueError, "^The file 'empty.joblib' can't be loaded: ")),
    ("half-skops", lambda: load("half.skops"), refused(ValueError, "^The file 'half.skops' can't be loaded: ")),
    ("half-joblib", lambda: load("half.joblib"), refused(ValueError, "^The file 'half.joblib' can't be loaded: ")),
    ("changed-skops", lambda: load("changed.skops"),
     refused(ValueError, "^The file 'changed.skops' can't be loaded: ")),
    ("changed-joblib", lambda: load("changed.joblib"), refused(ValueError, "^The file 'changed.joblib' can't be load")),
    ("shifted-skops", lambda: load("shifted.skops"), refused(ValueError, "^The file 'shifted.skops' can't be load")),
    ("shifted-joblib", lambda: load("shifted.joblib"), refused(ValueError, "^The file 'shifted.joblib' can't be load")),
    ("dict", lambda: load("dict.joblib"), refused(ValueError, "^The file 'dict.joblib' holds a dict, not a CSFlow")),
    ("array", lambda: load("array.pkl"), refused(ValueError, "^The file 'array.pkl' holds a ndarray, not a CSFlow")),
)  # fmt: skip
def test_load(call, outcome):
    run(call, outcome)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["pipe.skops", "pipe.joblib"])
def test_load_does_not_wait_for_a_pipe(name):
    run(load, refused(ValueError, f"^The file '{name}' is a .*pipe.*, not a file"), name)


@cases(
    ("None", lambda d: save(None, "a.skops"),
     refused(TypeError, "^detector must be a CSFlowDetector or a GroupedDetector, got N")),
    ("class", lambda d: save(CSFlowDetector, "a.skops"),
     refused(TypeError, "^detector must be a CSFlowDetector or a GroupedDetector, got t")),
    ("list", lambda d: save([d], "a.skops"),
     refused(TypeError, "^detector must be a CSFlowDetector or a GroupedDetector, got l")),
    ("path-None", lambda d: save(d, None), refused(TypeError, f"{NOT_A_PATH}None")),
    ("path-number", lambda d: save(d, 3), refused(TypeError, f"{NOT_A_PATH}3")),
    ("path-null", lambda d: save(d, "a\0b.joblib"), refused(ValueError, NULL)),
    ("ending", lambda d: save(d, "a.txt"), refused(ValueError, ENDINGS)),
    ("no-folder", lambda d: save(d, "no/a.skops"), refused(FileNotFoundError, "^There is no folder '.*no' to write")),
    ("below-a-file", lambda d: save(d, "good.png/a.skops"),
     refused(FileNotFoundError, "^There is no folder '.*good.png'")),
    ("folder", lambda d: save(d, "folder.skops"), refused(IsADirectoryError, "folder.skops' is a folder. Name a file")),
)  # fmt: skip
def test_save(calibrated, call, outcome):
    run(call, outcome, calibrated)


@cases(
    ("detector-None", lambda d: write_report(None, PIXELS, "a.html"),
     refused(TypeError, "^detector must be a CSFlowDetector, got NoneType. Of a pipeline")),
    ("unfitted", lambda d: write_report(CSFlowDetector(), PIXELS, "a.html"), refused(NotFittedError, "not fitted yet")),
    ("X-None", lambda d: write_report(d, None, "a.html"), refused(TypeError, "^X must be an array, .*got NoneType")),
    ("X-empty", lambda d: write_report(d, [], "a.html"), refused(ValueError, r"0 sample\(s\) in X")),
    ("X-numbers", lambda d: write_report(d, [1, 2, 3], "a.html"),
     refused(ValueError, r"^X must have shape \(n, n_features\) where it holds numbers, got shape \(3,\)")),
    ("X-ragged", lambda d: write_report(d, [[1, 2], [3]], "a.html"),
     refused(ValueError, "^X can't be read as an array")),
    ("X-missing", lambda d: write_report(d, ["no.png"], "a.html"),
     refused(ValueError, r"^X\[0\] .'no.png'.: there is")),
    ("y-too-short", lambda d: write_report(d, PIXELS, "a.html", y=[1]),
     refused(ValueError, "^X has 3 images, but y has 1 labels")),
    ("y-twos", lambda d: write_report(d, PIXELS, "a.html", y=[2, 2, 2]),
     refused(ValueError, "^The labels in y must be")),
    ("names-text", lambda d: write_report(d, PIXELS, "a.html", names="abc"),
     refused(TypeError, "^names must be a sequence of 3 names, one for each image, got 'abc'")),
    ("names-too-few", lambda d: write_report(d, PIXELS, "a.html", names=["a"]),
     refused(ValueError, "^X has 3 images, but names has 1")),
    ("title-number", lambda d: write_report(d, PIXELS, "a.html", title=3),
     refused(TypeError, "^title must be a str or None, got 3")),
    ("min_area-0", lambda d: write_report(d, PIXELS, "a.html", min_area=0), refused(ValueError, "^min_area .* got 0")),
    ("thumbnail_size-8", lambda d: write_report(d, PIXELS, "a.html", thumbnail_size=8),
     refused(ValueError, "^thumbnail_size must be None or an int of at least 16, got 8")),
    ("thumbnail_size-NaN", lambda d: write_report(d, PIXELS, "a.html", thumbnail_size=NAN),
     refused(ValueError, "^thumbnail_size .* got nan")),
    ("thumbnail_size-True", lambda d: write_report(d, PIXELS, "a.html", thumbnail_size=True),
     refused(ValueError, "^thumbnail_size .* got True")),
    ("path-None", lambda d: write_report(d, PIXELS, None), refused(TypeError, f"{NOT_A_PATH}None")),
    ("path-null", lambda d: write_report(d, PIXELS, "a\0b.html"), refused(ValueError, NULL)),
    ("path-folder", lambda d: write_report(d, PIXELS, "folder.html"),
     refused(IsADirectoryError, "^path is a folder: 'folder.html'. Name a file in it")),
    ("path-no-folder", lambda d: write_report(d, PIXELS, "no/a.html"),
     refused(FileNotFoundError, "^There is no folder 'no' to write path='no/a.html' in")),
)  # fmt: skip
def test_write_report(calibrated, call, outcome):
    run(call, outcome, calibrated)
    assert not Path("a.html").exists()


@cases(
    ("detector-None", lambda d: to_onnx(None, "a.onnx"),
     refused(TypeError, "^detector must be a CSFlowDetector, got NoneType. Of a Pipeline")),
    ("unfitted", lambda d: to_onnx(CSFlowDetector(), "a.onnx"), refused(NotFittedError, "not fitted yet")),
    ("dtype-int8", lambda d: to_onnx(d, "a.onnx", dtype="int8"),
     refused(ValueError, "^dtype must be 'uint8' or 'uint16' or 'float32', got 'int8'")),
    ("dtype-None", lambda d: to_onnx(d, "a.onnx", dtype=None), refused(ValueError, "^dtype must be .* got None")),
    ("dtype-array", lambda d: to_onnx(d, "a.onnx", dtype=np.array(["uint8", "a"])), refused(ValueError, "^dtype must")),
    ("image_size-0", lambda d: to_onnx(d, "a.onnx", image_size=0), refused(ValueError, "^image_size must be .* got 0")),
    ("image_size-NaN", lambda d: to_onnx(d, "a.onnx", image_size=(NAN, 9)), refused(ValueError, "^image_size must be")),
    ("image_size-huge", lambda d: to_onnx(d, "a.onnx", image_size=(10**6, 10**6)),
     refused(ValueError, r"^image_size=\(1000000, 1000000\) has more than 268,435,456 pixels. Choose a smaller")),
    ("channel_order", lambda d: to_onnx(d, "a.onnx", channel_order="gbr"),
     refused(ValueError, "^channel_order must be 'rgb' or 'bgr', got 'gbr'")),
    ("opset-17", lambda d: to_onnx(d, "a.onnx", opset=17),
     refused(ValueError, "^opset must be an int of at least 18, g")),
    ("opset-True", lambda d: to_onnx(d, "a.onnx", opset=True), refused(ValueError, "^opset must be .* got True")),
    ("opset-NaN", lambda d: to_onnx(d, "a.onnx", opset=NAN), refused(ValueError, "^opset must be .* got nan")),
    ("path-None", lambda d: to_onnx(d, None), refused(TypeError, f"{NOT_A_PATH}None")),
    ("path-null", lambda d: to_onnx(d, "a\0b.onnx"), refused(ValueError, NULL)),
    ("path-no-folder", lambda d: to_onnx(d, "no/a.onnx"),
     refused(FileNotFoundError, "^No such folder, for path: 'no'")),
    ("X-number", lambda d: to_onnx(d, "a.onnx", X=3), refused(TypeError, "^X must be an array, .*got int")),
    ("X-missing", lambda d: to_onnx(d, "a.onnx", X=["no.png"]),
     refused(ValueError, r"^X\[0\] .'no.png'.: there is no")),
    ("X-type", lambda d: to_onnx(d, "a.onnx", X=PIXELS / 255.0),
     refused(ValueError, r"^X\[0\] holds float64, but the file takes uint8 images")),
    ("X-size", lambda d: to_onnx(d, "a.onnx", X=PIXELS, image_size=9),
     refused(ValueError, r"^X\[0\] has 24 x 20 pixels, but the file takes images of 9 x 9")),
    ("verify-None", lambda d: verify_onnx(None, d, PIXELS), refused(TypeError, f"{NOT_A_PATH}None")),
    ("verify-missing", lambda d: verify_onnx("no.onnx", d, PIXELS),
     refused(FileNotFoundError, "^No such file: 'no.onnx'")),
    ("verify-junk", lambda d: verify_onnx("junk.onnx", d, PIXELS),
     refused(ValueError, "^'junk.onnx' is no ONNX file that can be run: ")),
    ("verify-empty", lambda d: verify_onnx("empty.onnx", d, PIXELS),
     refused(ValueError, "^'empty.onnx' is no ONNX file that can be run: ")),
    ("verify-engine", lambda d: verify_onnx("junk.onnx", d, PIXELS, engine="tensorrt"),
     refused(ValueError, "^engine must be 'onnxruntime' or 'openvino', got 'tensorrt'")),
)  # fmt: skip
def test_onnx(calibrated, call, outcome):
    pytest.importorskip("onnxscript")
    run(call, outcome, calibrated)
    assert not Path("a.onnx").exists()


MAPS = PIXELS.astype(np.float32)
SCORES = [-1.0, -2.0, -3.0]


def maps(**params):
    return lambda d: AnomalyMapDisplay.from_maps(**{"images": PIXELS, "maps": MAPS, **params})


def histogram(**params):
    return lambda d: ScoreHistogramDisplay.from_predictions(
        **{"y_true": [1, 1, -1], "scores": SCORES, **params}
    )


@cases(
    ("maps-None", maps(maps=None), refused(TypeError, "^maps must be an array or a sequence of length 3, got None")),
    ("maps-number", maps(maps=3), refused(TypeError, "^maps must be an array or a sequence of length 3, got 3")),
    ("maps-text", maps(maps="abc"), refused(TypeError, "^maps must be an array or a sequence of length 3, got 'abc'")),
    ("maps-generator", maps(maps=iter(MAPS)), refused(TypeError, "^maps must be an array or a sequence of length 3")),
    ("maps-too-few", maps(maps=MAPS[:2]), refused(ValueError, "^maps has length 2, but images has length 3")),
    ("maps-NaN", maps(maps=MAPS * NAN), refused(ValueError, r"^maps\[0\] contains NaN or infinity.*on_error")),
    ("maps-complex", maps(maps=MAPS + 0j),
     refused(TypeError, r"^maps\[0\] must hold real numbers, got dtype complex64")),
    ("maps-dates", maps(maps=np.zeros((3, 8, 8), "M8[s]")), refused(TypeError, r"^maps\[0\] must hold real numbers")),
    ("maps-masked", maps(maps=[np.ma.array(m, mask=m > 120) for m in MAPS]),
     refused(ValueError, r"^maps\[0\] is a masked array")),
    ("maps-meta", maps(maps=torch.empty(3, 8, 8, device="meta")), refused(ValueError, r"^maps\[0\] can't be read")),
    ("maps-numbers", maps(maps=[1, 2, 3]), refused(ValueError, r"^maps\[0\] has shape \(\); a map must have shape")),
    ("images-None", maps(images=None), refused(TypeError, "^images must be an array or a sequence, got NoneType")),
    ("images-empty", maps(images=[]), refused(ValueError, "^There are no images to show")),
    ("images-missing", maps(images=["no.png"] * 3), refused(ValueError, r"^X\[0\] .'no.png'.: there is no such file")),
    ("images-NaN", maps(images=MAPS * NAN), refused(ValueError, r"^X\[0\] contains NaN or infinity")),
    ("images-complex", maps(images=MAPS + 0j), refused(ValueError, r"^X\[0\] has shape .* and dtype complex64; an im")),
    ("masks-text", maps(masks="abc"),
     refused(TypeError, "^masks must be an array or a sequence of length 3, got 'abc'")),
    ("masks-missing", maps(masks=["no.png"] * 3), refused(ValueError, "'no.png'.*there is no such file")),
    ("masks-NaN", maps(masks=MAPS * NAN), refused(ValueError, r"^masks\[0\] contains NaN")),
    ("masks-complex", maps(masks=MAPS + 0j),
     refused(TypeError, r"^masks\[0\] must hold real numbers, got dtype compl")),
    ("predicted_masks-NaN", maps(predicted_masks=MAPS * NAN),
     refused(ValueError, r"^predicted_masks\[0\] contains NaN")),
    ("y-twos", maps(y=[2, 2, 2]), refused(ValueError, "^The labels in y must be")),
    ("kinds-text", maps(kinds="abc"), refused(ValueError, r"^kinds must have shape \(n,\), got shape \(\)")),
    ("kinds-ragged", maps(kinds=[[1], [1, 2], 3]), refused(ValueError, "^kinds can't be read as an array")),
    ("titles-too-few", maps(titles=["a"]), refused(ValueError, "^titles has length 1, but images has length 3")),
    ("scores-texts", maps(scores=["a", "b", "c"]), refused(TypeError, "^scores must hold real numbers, got dtype <U1")),
    ("y_pred-number", maps(y_pred=1), refused(ValueError, r"^y_pred must have shape \(n,\), got shape \(\)")),
    ("y_pred-twos", maps(y_pred=[1, 2, 1]), refused(ValueError, r"^y_pred must hold \+1 and -1, .* got 2 at row 1")),
    ("threshold-text", maps(threshold="0"), refused(ValueError, "^threshold must be None or a finite number, got '0'")),
    ("threshold-NaN", maps(threshold=NAN), refused(ValueError, "^threshold must be None or a finite number, got nan")),
    ("map_threshold-infinite", maps(map_threshold=INF), refused(ValueError, "^map_threshold must be .* got inf")),
    ("vmin-NaN", maps(vmin=NAN), refused(ValueError, "^vmin must be None or a finite number, got nan")),
    ("vmax-text", maps(vmax="1"), refused(ValueError, "^vmax must be None or a finite number, got '1'")),
    ("vmin-above-vmax", maps(vmin=2, vmax=1), refused(ValueError, "^vmin must be below vmax, got vmin=2 and vmax=1")),
    ("norm-number", maps(norm=3), refused(TypeError, "^norm must be None or a Normalize of matplotlib, got 3")),
    ("cmap-unknown", maps(cmap="nonsense"), refused(ValueError, "^cmap must be a colour map .* got 'nonsense'")),
    ("cmap-array", maps(cmap=np.array(["jet", "gray"])), refused(ValueError, "^cmap must be a colour map .* got arr")),
    ("alpha-2", maps(alpha=2), refused(ValueError, "^alpha must be a number from 0 to 1, got 2")),
    ("show_images-text", maps(show_images="no"),
     refused(ValueError, "^show_images must be True, False or None, got 'n")),
    ("n_columns-0", maps(n_columns=0), refused(ValueError, "^n_columns must be an int of 1 or more, got 0")),
    ("max_images-0", maps(max_images=0), refused(ValueError, "^max_images must be None or an int of 1 or more, got 0")),
    ("max_images-NaN", maps(max_images=NAN), refused(ValueError, "^max_images .* got nan")),
    ("ax-numbers", maps(ax=[1, 2, 3]), refused(TypeError, "^ax must be Axes of matplotlib, got 1")),
    ("ax-too-few", maps(ax=[1]), refused(ValueError, "^ax has length 1, but images has length 3")),
    ("unknown-keyword", maps(colour="red"), refused(TypeError, "'colour'. Its parameters are images, maps")),
    ("from_estimator-None", lambda d: AnomalyMapDisplay.from_estimator(None, PIXELS),
     refused(TypeError, "None is not an estimator instance")),
    ("from_estimator-unfitted", lambda d: AnomalyMapDisplay.from_estimator(CSFlowDetector(), PIXELS),
     refused(NotFittedError, "not fitted yet")),
    ("from_estimator-X-None", lambda d: AnomalyMapDisplay.from_estimator(d, None),
     refused(TypeError, "^X must be an array or a sequence, got NoneType")),
    ("histogram-scores-NaN", histogram(scores=[1, NAN, 2]),
     refused(ValueError, "^scores must be finite, but is nan at")),
    ("histogram-lengths", histogram(scores=[1.0]), refused(ValueError, "^scores has length 1, but y has length 3")),
    ("histogram-kinds-alone", histogram(y_true=None, kinds=["a"] * 3), refused(ValueError, "^kinds need y")),
    ("histogram-threshold", histogram(threshold="0"), refused(ValueError, "^threshold must be .* got '0'")),
    ("histogram-bins-0", histogram(bins=0), refused(ValueError, "^bins must be an int of 1 or more, got 0")),
    ("histogram-bins-NaN", histogram(bins=NAN), refused(ValueError, "^bins .* got nan")),
    ("histogram-ax", histogram(ax=3), refused(TypeError, "^ax must be Axes of matplotlib, got 3")),
    ("roc-one-kind", lambda d: RocByKindDisplay.from_predictions([1, 1], [1.0, 2.0]),
     refused(ValueError, "^A ROC curve needs both normal images and defects, but y holds only normal images")),
    ("roc-ax", lambda d: RocByKindDisplay.from_predictions([1, -1], [1.0, 2.0], ax="a"),
     refused(TypeError, "^ax must be Axes of matplotlib, got 'a'")),
    ("history-None", lambda d: HistoryDisplay(None).plot(),
     refused(TypeError, "^history must be a dict.*got NoneType")),
    ("history-empty", lambda d: HistoryDisplay({}).plot(), refused(ValueError, "^history is empty")),
    ("history-NaN", lambda d: HistoryDisplay({"loss": [1, NAN]}).plot(),
     refused(ValueError, r"^history\['loss'\] must be finite, but is nan at row 1")),
    ("history-of-None", lambda d: HistoryDisplay.from_estimator(None), refused(TypeError, "None is not an estimator")),
)  # fmt: skip
def test_plots(calibrated, call, outcome):
    plt = pytest.importorskip("matplotlib.pyplot")
    run(call, outcome, calibrated)
    plt.close("all")


SHAPE = r"^shape must be an int or a pair of ints \(H, W\), each 1 or more, got "
INVALID = "parameter of make_defects must be"


@cases(
    ("root-missing", lambda: load_image_folder("nowhere"),
     refused(FileNotFoundError, "^root must be a folder, but there is none at 'nowhere'")),
    ("root-file", lambda: load_image_folder("good.png"), refused(FileNotFoundError, "^root must be a folder")),
    ("root-without-train", lambda: load_image_folder("no_images"),
     refused(FileNotFoundError, "^train/good must be a folder, but there is none at 'no_images/train/good'")),
    ("category-missing", lambda: load_image_folder(".", category="bottle"),
     refused(FileNotFoundError, "^category 'bottle' must be a folder, but there is none at 'bottle'")),
    ("good-number", lambda: load_image_folder(".", good=3), refused(TypeError, "^good must be a string, got 3")),
    ("good-path", lambda: load_image_folder(".", good="a/b"),
     refused(ValueError, "^good must be the name of a folder")),
    ("good-empty", lambda: load_image_folder(".", good=""), refused(ValueError, "^good must be the name of a folder")),
    ("good-above", lambda: load_image_folder(".", good=".."),
     refused(ValueError, "^good must be the name of a folder")),
    ("mask_suffix-None", lambda: load_image_folder(".", mask_suffix=None),
     refused(TypeError, "^mask_suffix must be a string, got None")),
    ("list-missing", lambda: list_images("nowhere"),
     refused(FileNotFoundError, "^There is no folder folder='nowhere'")),
    ("list-file", lambda: list_images("good.png"), refused(ValueError, "^folder='good.png' is a file. Pass a folder")),
    ("list-empty", lambda: list_images("no_images"), refused(ValueError, "^There are no images .*folder='no_images'")),
    ("mask-None", lambda: read_mask(None), refused(ValueError, "^shape must be given if path is None")),
    ("mask-no-file", lambda: read_mask([]), refused(ValueError, r"^path must name at least one file, got \[\]")),
    ("mask-missing", lambda: read_mask("no.png"), refused(ValueError, "^The mask 'no.png': there is no such file")),
    ("mask-junk", lambda: read_mask("junk.png"),
     refused(ValueError, "^The mask 'junk.png' could not be read as an im")),
    ("mask-empty", lambda: read_mask("empty.png"), refused(ValueError, "^The mask 'empty.png' .* 0 bytes")),
    ("mask-shape-0", lambda: read_mask("good.png", 0), refused(ValueError, SHAPE, "0")),
    ("mask-shape-NaN", lambda: read_mask("good.png", (NAN, 2)), refused(ValueError, SHAPE)),
    ("mask-shape-three", lambda: read_mask("good.png", (1, 2, 3)), refused(ValueError, SHAPE)),
    ("mask-shape-text", lambda: read_mask(None, "8"), refused(ValueError, SHAPE, "'8'")),
    ("mask-shape-numpy", lambda: read_mask(None, np.int16(2)), gives(np.zeros((2, 2), bool))),
    ("elpv-subset", lambda: load_elpv(subset="both"),
     refused(ValueError, "^subset must be 'mono', 'poly' or None, got 'both'")),
    ("elpv-subset-list", lambda: load_elpv(subset=["mono"]), refused(ValueError, "^subset must be .* got .'mono'")),
    ("elpv-subset-NaN", lambda: load_elpv(subset=NAN), refused(ValueError, "^subset must be .* got nan")),
    ("n_normal-negative", lambda: make_defects(-1), refused(InvalidParameterError, f"'n_normal' {INVALID}", "Got -1")),
    ("n_normal-NaN", lambda: make_defects(NAN), refused(InvalidParameterError, f"'n_normal' {INVALID}", "Got nan")),
    ("n_defective-text", lambda: make_defects(1, "1"),
     refused(InvalidParameterError, f"'n_defective' {INVALID}", "'1'")),
    ("nothing", lambda: make_defects(0, 0), refused(ValueError, "^n_normal and n_defective must not both be 0")),
    ("surface-unknown", lambda: make_defects(1, 0, surface="glass"),
     refused(ValueError, "^surface must be .* got 'glass'")),
    ("surface-empty", lambda: make_defects(1, 0, surface=[]), refused(ValueError, r"^surface must be .* got \[\]")),
    ("surface-number", lambda: make_defects(1, 0, surface=3), refused(InvalidParameterError, f"'surface' {INVALID}")),
    ("defect-unknown", lambda: make_defects(1, 1, defect="hole"), refused(ValueError, "^defect must be .* got 'hole'")),
    ("size-small", lambda: make_defects(1, 0, size=63),
     refused(ValueError, "^size must be .* each 64 or more, got 63")),
    ("size-NaN", lambda: make_defects(1, 0, size=NAN), refused(ValueError, "^size must be .* got nan")),
    ("size-narrow", lambda: make_defects(1, 0, size=(64, 999)),
     refused(ValueError, "^One side of size must be at most 4")),
    ("seed-text", lambda: make_defects(1, 0, random_state="0"),
     refused(InvalidParameterError, f"'random_state' {INVALID}", "Got '0'")),
    ("seed-negative", lambda: make_defects(1, 0, random_state=-1),
     refused(InvalidParameterError, f"'random_state' {INVALID}", "Got -1")),
)  # fmt: skip
def test_data_sets(call, outcome):
    run(call, outcome)
