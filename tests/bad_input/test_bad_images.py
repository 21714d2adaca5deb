"""Bad images, labels and options of the detector's methods. A refusal leaves the detector as it was."""

import io
import os

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import FAST
from outcomes import cases, gives, png, refused, run, warns
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

from skcsflow import CSFlowDetector, InspectionTable

NAN, INF = float("nan"), float("inf")
PIXELS = np.random.RandomState(0).randint(100, 140, (4, 24, 20)).astype(np.uint8)
IN_THE_WAY = "Mend or leave out such images, or set on_error="


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """The working folder: image files of all kinds of damage."""
    folder = tmp_path_factory.mktemp("images")
    contents = {
        "good.png": png(PIXELS[0]),
        "junk.png": b"junk",
        "empty.png": b"",
        "cut.png": png(PIXELS[0])[:100],
        "text.npy": b"hello",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder.png").mkdir()
    (folder / "no_images").mkdir()
    np.save(folder / "objects.npy", np.array([None, 1], object), allow_pickle=True)
    np.save(folder / "complex.npy", PIXELS[0] + 0j)
    np.save(folder / "nan.npy", np.full((8, 8), NAN))
    before = os.getcwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


NOT_IMAGES = "X must be an array, a tensor, the path of a folder, or a sequence of .*; got "
BAD_X = {
    "None": (lambda: None, TypeError, f"^{NOT_IMAGES}NoneType"),
    "number": (lambda: 3, TypeError, f"^{NOT_IMAGES}int"),
    "NaN": (lambda: NAN, TypeError, f"^{NOT_IMAGES}float"),
    "function": (lambda: print, TypeError, f"^{NOT_IMAGES}builtin_function"),
    "class": (lambda: int, TypeError, f"^{NOT_IMAGES}type"),
    "bytes": (lambda: b"abc", TypeError, r"^X is the content of one file, .* Pass \[X\]"),
    "BytesIO": (lambda: io.BytesIO(b"abc"), TypeError, r"^X is the content of one file, .* Pass \[X\]"),
    "PIL": (lambda: Image.new("L", (8, 8)), TypeError, r"^X is one PIL image, .* Pass \[X\]"),
    "dict": (lambda: {"a": PIXELS}, TypeError, "^X is a dict with the keys 'a'; pass the images in it"),
    "set": (lambda: {1}, TypeError, "^X is a set; pass the images in it"),
    "empty-text": (lambda: "", ValueError, "^X is an empty string. Pass the path of a folder"),
    "no-folder": (lambda: "nowhere", FileNotFoundError, "^There is no folder X='nowhere'"),
    "file": (lambda: "good.png", ValueError, r"^X='good.png' is a file. .*\[X\]"),
    "pattern": (lambda: "images/*.png", FileNotFoundError, "X='images/.*glob"),
    "no-images": (lambda: "no_images", ValueError, "^There are no images .*'no_images'"),
    "letters": (lambda: list("abc"), ValueError, r"^X is the letters of 'abc'.*list_images\(folder\)"),
    "empty-list": (lambda: [], ValueError, r"0 sample\(s\) in X"),
    "empty-array": (lambda: PIXELS[:0], ValueError, r"0 sample\(s\) in X"),
    "array-NaN": (
        lambda: np.full((2, 8, 8), NAN),
        ValueError,
        r"^Input X contains NaN or infinity: X\[0\] does",
    ),
    "array-infinite": (lambda: np.full((2, 8, 8), INF), ValueError, r"NaN or infinity: X\[0\] does"),
    "array-complex": (lambda: PIXELS + 0j, TypeError, "^X has dtype complex128; images must be integers"),
    "array-dates": (
        lambda: np.zeros((2, 8, 8), "M8[s]"),
        TypeError,
        r"^X has dtype datetime64\[s\]; images must",
    ),
    "array-records": (lambda: np.zeros((2, 8, 8), "u1,u1"), TypeError, "^X has dtype .*; images must"),
    "array-objects": (
        lambda: PIXELS.astype(object),
        ValueError,
        "^An array X of objects must have shape .n,., got",
    ),
    "array-texts": (
        lambda: PIXELS.astype(str),
        ValueError,
        "^An array X of objects must have shape .n,., got",
    ),
    "array-masked": (
        lambda: np.ma.array(PIXELS, mask=PIXELS > 120),
        ValueError,
        "^X is a masked array.* Fill them",
    ),
    "array-5-D": (
        lambda: PIXELS[None, None],
        ValueError,
        "^An array X must have shape .n, H, W. or .*; got .1, 1, 4",
    ),
    "array-2-D": (
        lambda: PIXELS[0],
        ValueError,
        r"^X has shape \(24, 20\), .*Pass a single image as X\[None\]",
    ),
    "array-one-colour-image": (
        lambda: np.zeros((24, 20, 3), np.uint8),
        ValueError,
        r"^X has shape \(24, 20, 3\), which is one image .* Pass a single image as X\[None\]",
    ),
    "array-channels-first": (
        lambda: np.zeros((2, 3, 24, 20), np.uint8),
        ValueError,
        r"X looks like \(n, C, H, W\).*np.moveaxis\(X, -3, -1\)",
    ),
    "array-two-channels": (
        lambda: np.zeros((2, 8, 8, 2), np.uint8),
        ValueError,
        "^X has 2 channels, but num_channels=3. Set num_channels",
    ),
    "array-no-pixels": (
        lambda: np.zeros((2, 0, 8)),
        ValueError,
        r"^X\[0\] has shape \(0, 8\); an image must",
    ),
    "array-too-large": (
        lambda: np.full((2, 8, 8), 1e300),
        ValueError,
        r"values too large: .* X\[0\] .* 0 and 1",
    ),
    "rows-ragged": (
        lambda: [[1, 2], [3]],
        ValueError,
        r"^X is ragged: X\[0\] holds 2 values, X\[1\] holds 1",
    ),
    "rows": (
        lambda: [[1, 2], [3, 4]],
        ValueError,
        r"^X has shape \(2, 2\), which is read as flattened images",
    ),
    "list-with-None": (lambda: [PIXELS[0], None], ValueError, rf"^X\[1\] is None, .*{IN_THE_WAY}"),
    "list-mixed": (lambda: [PIXELS[0], "good.png"], TypeError, r"X\[0\] is an array, X\[1\] is a path"),
    "list-with-number": (
        lambda: ["good.png", 3],
        TypeError,
        r"^X\[1\] is of type int; an image must be a path",
    ),
    "list-of-pairs": (
        lambda: [(PIXELS[0], 1)],
        TypeError,
        r"^X\[0\] is a tuple of 2 items. Pass the image alone",
    ),
    "list-of-dicts": (
        lambda: [{"image": PIXELS[0]}],
        TypeError,
        r"^X\[0\] is of type dict; an image must be",
    ),
    "list-of-NaN-images": (lambda: [PIXELS[0], np.full((8, 8), NAN)], ValueError, r"infinity: X\[1\] does"),
    "list-of-one-row": (
        lambda: [PIXELS[0], np.zeros((20, 3), np.uint8)],
        ValueError,
        r"^X\[1\] has shape \(20, 3\), which is a row of a colour image",
    ),
    "table-of-two-columns": (
        lambda: pd.DataFrame({"a": ["good.png"], "b": ["good.png"]}),
        ValueError,
        r"^An array X of objects must have shape \(n,\), got \(1, 2\). Choose the column",
    ),
    "series-with-None": (
        lambda: pd.Series(["good.png", None]),
        ValueError,
        rf"^X\[1\] is (nan|None), .*{IN_THE_WAY}",
    ),
    "tensor-3-D": (
        lambda: torch.tensor(PIXELS),
        ValueError,
        r"^A tensor X must have shape \(n, C, H, W\), got",
    ),
    "tensor-complex": (
        lambda: torch.zeros(2, 3, 8, 8, dtype=torch.complex64),
        TypeError,
        r"X\[0\] has dtype torch",
    ),
    "tensor-channels-last": (
        lambda: torch.zeros(2, 8, 9, 3),
        ValueError,
        r"X looks like \(n, H, W, C\).*movedim",
    ),
    "tensors-1-D": (lambda: [torch.zeros(3)], ValueError, r"^X\[0\] has shape \(3,\); an image must have"),
    "file-missing": (
        lambda: ["no.png"],
        ValueError,
        rf"^X\[0\] .'no.png'.: there is no such file. {IN_THE_WAY}",
    ),
    "file-junk": (lambda: ["junk.png"], ValueError, r"^X\[0\] .'junk.png'. could not be read .*no format"),
    "file-empty": (
        lambda: ["empty.png"],
        ValueError,
        r"^X\[0\] .'empty.png'. could not .*the file has 0 bytes",
    ),
    "file-cut": (lambda: ["cut.png"], ValueError, r"^X\[0\] .'cut.png'. could not be read as an image"),
    "file-is-folder": (lambda: ["folder.png"], ValueError, r"^X\[0\] .'folder.png'. is a folder, not a file"),
    "file-npy-of-text": (
        lambda: ["text.npy"],
        ValueError,
        r"^X\[0\] .'text.npy'. could not .*NumPy's format",
    ),
    "file-npy-of-objects": (
        lambda: ["objects.npy"],
        ValueError,
        r"^X\[0\] .'objects.npy'. could not be read",
    ),
    "file-npy-complex": (lambda: ["complex.npy"], TypeError, r"^X\[0\] .'complex.npy'. has dtype complex128"),
    "file-npy-NaN": (lambda: ["nan.npy"], ValueError, r"NaN or infinity: X\[0\] .'nan.npy'. does"),
    "file-name-no-text": (lambda: ["\udcff.png"], ValueError, r"^X\[0\] .*there is no such file"),
    "second-file": (lambda: ["good.png", "junk.png"], ValueError, r"^X\[1\] .'junk.png'. could not be read"),
    "two-files": (
        lambda: ["no.png", "good.png", "junk.png"],
        ValueError,
        r"^2 of the 3 images of X can't be read: X\[0\] .'no.png'.*; X\[2\] .'junk.png'",
    ),
    "content-junk": (lambda: [b"junk"], ValueError, r"^X\[0\] could not be read as an image: no format"),
    "content-empty": (
        lambda: [b""],
        ValueError,
        r"^X\[0\] could not be read as an image: the file has 0 bytes",
    ),
    "PIL-no-pixels": (
        lambda: [Image.new("L", (0, 8))],
        ValueError,
        r"^X\[0\] has shape \(8, 0\); an image must",
    ),
    "PIL-NaN": (
        lambda: [Image.fromarray(np.full((8, 8), NAN, np.float32))],
        ValueError,
        r"NaN or infinity: X\[0\] does",
    ),
    "PIL-32-bits": (
        lambda: [Image.new("I", (8, 8), 10**6)],
        ValueError,
        r"^X\[0\] could .* more than 16 bits",
    ),
}
METHODS = {
    "score_samples": lambda detector, X: detector.score_samples(X),
    "decision_function": lambda detector, X: detector.decision_function(X),
    "predict": lambda detector, X: detector.predict(X),
    "transform": lambda detector, X: detector.transform(X),
    "iter_maps": lambda detector, X: list(detector.iter_maps(X)),
    "predict_masks": lambda detector, X: detector.predict_masks(X),
    "predict_regions": lambda detector, X: detector.predict_regions(X),
    "p_values": lambda detector, X: detector.p_values(X),
    "score": lambda detector, X: detector.score(X),
    "inspect": lambda detector, X: list(detector.inspect(X)),
    "save_maps": lambda detector, X: detector.save_maps(X, "maps.npy"),
    "partial_fit": lambda detector, X: detector.partial_fit(X),
    "InspectionTable": lambda detector, X: table_of(detector).transform(X),
}


def table_of(detector):
    table = InspectionTable(FrozenEstimator(detector))
    table.detector_ = table.detector
    return table


@pytest.fixture
def detector(calibrated):
    """The session's detector, which must be the same afterwards."""
    before = dict(vars(calibrated))
    weights = [tensor.clone() for tensor in calibrated.model_.state_dict().values()]
    yield calibrated
    after = vars(calibrated)
    assert {k: id(v) for k, v in before.items()} == {k: id(v) for k, v in after.items() if k in before}
    assert after.keys() - before.keys() <= {"_runner"}
    assert all(map(torch.equal, weights, calibrated.model_.state_dict().values()))


@pytest.mark.parametrize("bad", BAD_X)
def test_bad_images_are_refused_by_score_samples(detector, bad):
    make, kind, words = BAD_X[bad]
    run(METHODS["score_samples"], refused(kind, words), detector, make())


@pytest.mark.parametrize("bad", BAD_X)
def test_bad_images_are_refused_by_fit(bad):
    make, kind, words = BAD_X[bad]
    if bad in ("array-2-D", "rows"):
        pytest.skip("A table of flattened images may be fitted on.")
    detector = CSFlowDetector(**FAST)
    run(detector.fit, refused(kind, words), make())
    assert vars(detector) == vars(CSFlowDetector(**FAST))


@pytest.mark.parametrize(
    "bad", ["None", "empty-list", "array-2-D", "array-NaN", "file-missing", "file-junk", "list-mixed"]
)
@pytest.mark.parametrize("method", METHODS)
def test_bad_images_are_refused_by_every_method(detector, method, bad):
    make, kind, words = BAD_X[bad]
    run(METHODS[method], refused(kind, words), detector, make())
    assert not os.path.exists("maps.npy")


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"partial_fit", "InspectionTable"}))
def test_unfitted_detector_says_so(method):
    words = "This CSFlowDetector instance is not fitted yet. Call 'fit'"
    run(METHODS[method], refused(NotFittedError, words), CSFlowDetector(**FAST), PIXELS)


@pytest.mark.parametrize("bad", ["None", "array-2-D", "file-missing", "list-mixed", "array-NaN"])
def test_unfitted_detector_comes_before_bad_images(bad):
    words = "This CSFlowDetector instance is not fitted yet"
    run(METHODS["score_samples"], refused(NotFittedError, words), CSFlowDetector(**FAST), BAD_X[bad][0]())


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"inspect", "InspectionTable"}))
def test_generator_is_refused_where_it_would_be_used_up(detector, method):
    words = r"^X is a generator, which can be read only once. Pass list\(X\)"
    run(METHODS[method], refused(TypeError, words), detector, (image for image in PIXELS))


FORMS = {
    "array": lambda: PIXELS,
    "with-channel": lambda: PIXELS[..., None],
    "three-channels": lambda: np.repeat(PIXELS[..., None], 3, axis=-1),
    "alpha": lambda: np.stack([PIXELS, PIXELS, PIXELS, np.full_like(PIXELS, 7)], axis=-1),
    "columns-first": lambda: np.asfortranarray(PIXELS),
    "backwards": lambda: PIXELS[::-1].copy()[::-1],
    "upside-down": lambda: PIXELS[:, ::-1].copy()[:, ::-1],
    "with-gaps": lambda: np.repeat(PIXELS, 2, axis=2)[:, :, ::2],
    "read-only": lambda: np.frombuffer(PIXELS.tobytes(), np.uint8).reshape(PIXELS.shape),
    "masked-nowhere": lambda: np.ma.array(PIXELS, mask=False),
    "list": lambda: list(PIXELS),
    "tuple": lambda: tuple(PIXELS),
    "objects": lambda: pd.Series(list(PIXELS)).to_numpy(),
    "series": lambda: pd.Series(list(PIXELS)),
    "tensor": lambda: torch.tensor(PIXELS)[:, None],
    "tensors": lambda: [torch.tensor(image) for image in PIXELS],
    "tensor-channels-last": lambda: torch.tensor(PIXELS)[:, None].to(memory_format=torch.channels_last),
    "PIL": lambda: [Image.fromarray(image) for image in PIXELS],
    "contents": lambda: [png(image) for image in PIXELS],
    "BytesIO": lambda: [io.BytesIO(png(image)) for image in PIXELS],
    "memoryview": lambda: [memoryview(png(image)) for image in PIXELS],
}


@pytest.fixture(scope="module")
def known_scores(calibrated):
    return calibrated.score_samples(PIXELS.copy())


@pytest.mark.parametrize("form", FORMS)
def test_images_of_every_form_give_the_same_bits(detector, known_scores, form):
    run(detector.score_samples, gives(known_scores), FORMS[form]())


@pytest.mark.parametrize(
    ("dtype", "same"), [(">f4", "f4"), (">f8", "f8"), (np.longdouble, "f8"), (">u2", "u2")]
)
def test_numbers_of_every_form_give_the_same_bits(detector, dtype, same):
    images = PIXELS.astype(same) * (1 / 255 if same != "u2" else 257)
    images = images.astype(same)
    run(detector.score_samples, gives(detector.score_samples(images)), images.astype(dtype))


# Labels and options

LABELS = {
    "text": ("good", r"X has 4 images, but y has shape \(\)|y must have shape \(n,\), got shape \(\)"),
    "too-few": ([1], r"^X has 4 images, but y has (shape \(1,\)|1 labels)"),
    "table": (np.ones((4, 2)), r"y (has|must have) shape .*\(4, 2\)"),
    "ragged": ([[1], [1, 2], [1], [1]], "^y can't be read as an array"),
    "masked": (np.ma.array([1, 1, 1, 1], mask=[1, 0, 0, 0]), "^y is a masked array with masked values"),
    "NaN": ([1, NAN, 1, 1], "^y lacks a label: it is nan at row 1"),
    "None-among": (["good", None, "good", "good"], "^y lacks a label: it is None at row 1"),
    "twos": ([1, 2, 1, 2], r"^The labels in y must be \+1/-1.*got 1, 2\. Convert"),
    "all-defects": ([-1] * 4, "^y labels every row a defect, so there is no normal image to"),
    "all-True": ([True] * 4, "^y labels every row a defect, so there is no normal image to"),
}
OF_LABELS = {
    "fit": lambda detector, y: CSFlowDetector(**FAST).fit(PIXELS, y),
    "partial_fit": lambda detector, y: detector.partial_fit(PIXELS, y),
    "score": lambda detector, y: detector.score(PIXELS, y),
    "calibrate": lambda detector, y: detector.calibrate(PIXELS, y, fpr=0.3),
}


@pytest.mark.parametrize("bad", LABELS)
@pytest.mark.parametrize("method", OF_LABELS)
def test_bad_labels_are_refused_by_every_method(detector, method, bad):
    y, words = LABELS[bad]
    run(OF_LABELS[method], refused(ValueError, words), detector, y)


Y = [1, 1, -1, -1]


@cases(
    ("fpr-0", lambda d: d.calibrate(PIXELS, fpr=0), refused(ValueError, "^fpr must be above 0 and below 1, got 0")),
    ("fpr-2", lambda d: d.calibrate(PIXELS, fpr=2), refused(ValueError, "^fpr must be .* got 2")),
    ("fpr-NaN", lambda d: d.calibrate(PIXELS, fpr=NAN), refused(ValueError, "^fpr must be .* got nan")),
    ("fpr-text", lambda d: d.calibrate(PIXELS, fpr="0.1"), refused(ValueError, "^fpr must be .* got '0.1'")),
    ("fpr-True", lambda d: d.calibrate(PIXELS, fpr=True), refused(ValueError, "^fpr must be .* got True")),
    ("fpr-too-low", lambda d: d.calibrate(PIXELS, fpr=0.1),
     refused(ValueError, "^fpr=0.1 needs at least 9 normal images, got 4. Pass more images, or a higher fpr")),
    ("recall-2", lambda d: d.calibrate(PIXELS, Y, recall=2), refused(ValueError, "^recall must be .* got 2")),
    ("recall-NaN", lambda d: d.calibrate(PIXELS, Y, recall=NAN), refused(ValueError, "^recall must be .* got nan")),
    ("criterion-unknown", lambda d: d.calibrate(PIXELS, Y, criterion="best"),
     refused(ValueError, "^criterion must be 'f1' or 'youden', got 'best'")),
    ("criterion-array", lambda d: d.calibrate(PIXELS, Y, criterion=np.array(["f1", "f1"])),
     refused(ValueError, "^criterion must be 'f1' or 'youden', got array")),
    ("criterion-without-labels", lambda d: d.calibrate(PIXELS, criterion="f1"),
     refused(ValueError, "^criterion needs labels, but y is None")),
    ("criterion-of-one-kind", lambda d: d.calibrate(PIXELS, [1] * 4, criterion="f1"),
     refused(ValueError, "^y labels no defect, but criterion and recall need both")),
    ("fpr-and-recall", lambda d: d.calibrate(PIXELS, Y, fpr=0.1, recall=1),
     refused(ValueError, "^Give one of fpr, criterion and recall, got ")),
    ("bad-images", lambda d: d.calibrate([PIXELS[0], "good.png", PIXELS[1]], fpr=0.4),
     refused(TypeError, r"X\[0\] is an array, X\[1\] is a path")),
    ("missing-files", lambda d: d.calibrate(["no.png"] * 3, fpr=0.4), refused(ValueError, "^3 of the 3 images of X")),
    ("min_area-0", lambda d: d.predict_regions(PIXELS, min_area=0),
     refused(ValueError, "^min_area must be an int of at least 1, got 0")),
    ("min_area-NaN", lambda d: d.inspect(PIXELS, min_area=NAN), refused(ValueError, "^min_area .* got nan")),
    ("min_area-text", lambda d: d.inspect(PIXELS, min_area="1"), refused(ValueError, "^min_area .* got '1'")),
    ("min_area-numpy", lambda d: len(d.predict_regions(PIXELS, min_area=np.int8(1))), gives(4)),
    ("iterator-goes-bad", lambda d: list(d.inspect(iter([PIXELS[0], None]))), refused(ValueError, r"^X\[1\] is None")),
    ("iterator-of-nothing", lambda d: list(d.inspect(iter([]))), gives([])),
    ("save_maps-ending", lambda d: d.save_maps(PIXELS, "maps.png"),
     refused(ValueError, "^path must end in .npy, got 'maps.png'")),
    ("save_maps-no-folder", lambda d: d.save_maps(PIXELS, "no/maps.npy"),
     refused(FileNotFoundError, "^No such folder, for path: 'no'")),
    ("save_maps-size-0", lambda d: d.save_maps(PIXELS, "maps.npy", size=0),
     refused(ValueError, "^size must be an int or a pair of ints .* got 0")),
    ("save_maps-size-NaN", lambda d: d.save_maps(PIXELS, "maps.npy", size=(NAN, 1)), refused(ValueError, "^size must")),
    ("save_maps-sizes-differ", lambda d: d.save_maps([PIXELS[0], PIXELS[1, :9]], "maps.npy"),
     refused(ValueError, r"^X\[1\] has 9 x 20 pixels, but X\[0\] 24 x 20. .*give one")),
    ("names-of-images", lambda d: d.get_feature_names_out(),
     refused(ValueError, "^Maps of images have no feature names", "Pass images as the rows of a 2-D X")),
    ("nearly-black", lambda d: d.score_samples(PIXELS.astype(np.int64)).shape,
     warns(UserWarning, "^X holds int64 values up to 100. .*nearly black. Set value_range", (4,))),
    ("not-scaled", lambda d: d.score_samples(PIXELS.astype(np.float32)).shape,
     warns(UserWarning, "^X holds float32 values up to 100. .*not from 0 to 1. Set value_range", (4,))),
    ("fitted-on", lambda d: d.calibrate(KNOWN, fpr=0.3) is not None,
     warns(UserWarning, "^20 of the 20 images of X were fitted on", True)),
)  # fmt: skip
def test_options_of_methods(fitted_on, call, outcome):
    run(call, outcome, fitted_on)


KNOWN = []


@pytest.fixture
def fitted_on(calibrated, grey_images):
    """A copy of the session's detector that a call may change, and in KNOWN the images that it was fitted on."""
    KNOWN[:] = grey_images[:20]
    detector = CSFlowDetector()
    vars(detector).update(vars(calibrated))
    return detector


@pytest.mark.filterwarnings("ignore:.*Their scores and maps are NaN:UserWarning")
@pytest.mark.parametrize(
    "bad",
    [k for k in BAD_X if k.startswith(("file-", "content-", "PIL-no", "PIL-N")) and k != "file-npy-complex"],
)
def test_image_that_cannot_be_read_is_told_by_nan_where_that_is_asked_for(fitted_on, bad):
    (X,) = BAD_X[bad][0]()
    detector = fitted_on.set_params(on_error="nan")
    good = (
        png(PIXELS[0]) if isinstance(X, bytes) else Image.fromarray(PIXELS[0]) if "PIL" in bad else "good.png"
    )
    scores = detector.score_samples([good, X])
    assert scores[0] == detector.score_samples([good])[0]
    assert np.isnan(scores[1])
    assert detector.predict([good, X])[1] == -1
    found = list(detector.inspect([good, X]))
    assert found[0].error is None
    assert "X[1]" in found[1].error
