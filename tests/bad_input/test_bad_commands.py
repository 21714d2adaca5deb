"""Bad arguments of the command line, and bad requests to the service: the exit code and one line, the status and one
sentence."""

import base64
import io
import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from outcomes import cases, no_hang, png, refused, run
from PIL import Image
from sklearn.exceptions import NotFittedError

from skcsflow import CSFlowDetector, save
from skcsflow.cli import main

pytestmark = pytest.mark.slow

PIXELS = np.random.RandomState(0).randint(100, 140, (4, 24, 20)).astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory, calibrated):
    """The working folder."""
    folder = tmp_path_factory.mktemp("commands")
    before = os.getcwd()
    os.chdir(folder)
    save(calibrated, "d.skops")
    save(CSFlowDetector(), "unfitted.skops")
    for name in ("junk.skops", "junk.onnx", "file.txt"):
        Path(name).write_bytes(b"junk")
    for name in ("good", "empty", "mixed", "broken"):
        Path(name).mkdir()
    for k, image in enumerate(PIXELS):
        Image.fromarray(image).save(f"good/{k}.png")
    Image.fromarray(PIXELS[0]).save("mixed/0.png")
    for name in ("mixed/1.png", "broken/0.png"):
        Path(name).write_bytes(b"junk")
    yield folder
    os.chdir(before)


NO_FOLDER = "There is no folder folder='nowhere'"
NO_IMAGES = r"There are no images \(.*\) in the folder folder='empty'"
NO_FILE = (
    "There is no file 'no.skops' in .* Name the detector's file by --detector, or make one by 'skcsflow fit'"
)
JUNK = "The file 'junk.skops' can't be loaded: .* It may be damaged, or another program's"
UNFITTED = "This CSFlowDetector instance is not fitted yet"
ERRORS = {
    "fit nowhere": NO_FOLDER,
    "fit empty": NO_IMAGES,
    "fit file.txt": "'file.txt' is a file. Name the folder that it is in",
    "fit broken": r"X\[0\] \('broken/0.png'\) could not be read as an image: no format",
    "fit good -o a.txt": "--output must end in .skops or .joblib or .pkl or .pickle, got 'a.txt'",
    "fit good -o no/a.skops": "No such folder, for --output: 'no'",
    "fit good --set n_epochs=0": "The 'n_epochs' parameter of CSFlowDetector must be .* Got 0 instead",
    "fit good --set input_size=nan": "The 'input_size' parameter of CSFlowDetector must be .* Got 'nan' instead",
    "fit good --set learning_rate=1e400": "The 'learning_rate' parameter of CSFlowDetector must be .* Got inf instead",
    "fit good --set clamp=-1": "The 'clamp' parameter of CSFlowDetector must be .* Got -1 instead",
    "calibrate good -d no.skops": NO_FILE,
    "calibrate good -d junk.skops": JUNK,
    "calibrate good -d unfitted.skops": UNFITTED,
    "calibrate good -d d.skops --fpr 2": "fpr must be above 0 and below 1, got 2.0",
    "calibrate good -d d.skops --fpr nan": "fpr must be above 0 and below 1, got nan",
    "calibrate good -d d.skops --fpr 0.01": "fpr=0.01 needs at least 99 normal images, got 4",
    "calibrate nowhere -d d.skops": NO_FOLDER,
    "score empty -d d.skops": NO_IMAGES,
    "score good -d no.skops": NO_FILE,
    "score good -d unfitted.skops": UNFITTED,
    "score good -d d.skops -o a.txt": "--output must end in .csv or .jsonl or .parquet, got 'a.txt'",
    "score good -d d.skops -o no/a.csv": "No such folder, for --output: 'no'",
    "score good -d d.skops --set n_epochs=3": "--set n_epochs: it acts in fit alone. Here these may be set: ",
    "score good -d d.skops --set n_jobs=0": "The 'n_jobs' parameter of CSFlowDetector must be .* Got 0 instead",
    "score good -d d.skops --set on_error=no": "The 'on_error' parameter of CSFlowDetector must be .* Got 'no' instead",
    "maps good -d d.skops -o good/maps": "--output 'good/maps' lies in the folder of the images. Name another one",
    "maps good -d d.skops -o file.txt": "--output 'file.txt' is a file. Name a folder",
    "maps good -d unfitted.skops -o maps": UNFITTED,
    "evaluate nowhere": "root must be a folder, but there is none at 'nowhere'",
    "evaluate good": "train/good must be a folder, but there is none at 'good/train/good'",
    "report good -d d.skops -o no/a.html": "There is no folder 'no' to write path='no/a.html' in",
    "report good -d unfitted.skops -o a.html": UNFITTED,
    "report empty -d d.skops -o a.html": NO_IMAGES,
    "info no.skops": "No such file or directory: 'no.skops'",
    "info junk.skops": JUNK,
    "export -d d.skops -o a.txt": "--output must end in .onnx, got 'a.txt'",
    "export -d unfitted.skops -o a.onnx": UNFITTED,
    "export -d d.skops -o a.onnx --size 0 0": r"image_size must be an int or a pair of ints .* got \(0, 0\)",
    "export -d d.skops -o a.onnx --size 9999999 9999999": r"image_size=\(9999999, 9999999\) has more than",
    "export -d d.skops -o a.onnx --check empty": NO_IMAGES,
    "verify no.onnx d.skops good": "No such file: 'no.onnx'",
    "verify junk.onnx d.skops good": "'junk.onnx' is no ONNX file that can be run",
    "verify junk.onnx no.skops good": "No such file or directory: 'no.skops'",
    "serve no.skops": "No such file or directory: 'no.skops'",
    "serve junk.skops": JUNK,
    "serve unfitted.skops": r"detectors\['unfitted'\] is a CSFlowDetector that isn't fitted",
    "serve a=d.skops a=d.skops": "Two detectors are called 'a'. Give them names: NAME=FILE",
    "serve /=d.skops": "detectors has the name '/'; a name is a part of an address",
    "serve d.skops --max-bytes 0": "max_bytes must be an int of at least 1, got 0",
    "watch nowhere out -d d.skops": "There is no folder folder='.*nowhere'",
    "watch good out -d d.skops --settle -1": "settle must be a number of seconds, 0 or more, got -1.0",
    "watch good out -d d.skops --settle nan": "settle must be a number of seconds, 0 or more, got nan",
    "watch good out -d unfitted.skops": "detector is a CSFlowDetector that isn't fitted",
    "watch good good/out -d d.skops -r": "output='.*good/out' lies in the folder that is watched",
    "watch good file.txt -d d.skops": "output='.*file.txt' is a file. Name a folder",
}
USAGE = {
    "": "the following arguments are required: COMMAND",
    "nonsense": "invalid choice: 'nonsense'",
    "fit": "the following arguments are required: FOLDER",
    "fit good --set epochs=1": "'epochs' is no parameter of CSFlowDetector",
    "fit good --set n_epochs": "n_epochs needs a value: n_epochs=VALUE",
    "fit good --set n_epochs=(1": r"the value of 'n_epochs=\(1' isn't complete",
    "fit good --nonsense": "unrecognized arguments: --nonsense",
    "calibrate good --fpr abc": "argument --fpr: invalid float value: 'abc'",
    "export --dtype int8": "argument --dtype: invalid choice: 'int8'",
    "export --size 9": "argument --size: expected 2 arguments",
    "serve d.skops --port 99999": "argument --port: '99999' is no number from 0 to 65535",
    "serve d.skops --port abc": "argument --port: 'abc' is no number from 0 to 65535",
    "watch good out --settle abc": "argument --settle: invalid float value: 'abc'",
}


def written():
    return {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("line", ERRORS, ids=lambda line: line.replace(" ", "_").replace("/", "|"))
def test_error_is_exit_code_1_one_line_and_no_file(line, capfd):
    before = written()
    with no_hang():
        assert main([*line.split(), "-q"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    *others, last = err.splitlines()
    assert re.search(rf"^skcsflow: error: .*{ERRORS[line]}", last), err
    assert all(other.startswith(("skcsflow: watching", "skcsflow: fitting")) for other in others), err
    assert written() == before


@pytest.mark.parametrize("line", USAGE, ids=lambda line: line.replace(" ", "_"))
def test_wrong_arguments_are_exit_code_2_and_the_usage(line, capfd):
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("usage: skcsflow")
    assert re.search(rf"error: .*{USAGE[line]}", err), err


@pytest.mark.parametrize(("name", "n_anomalous"), [("mixed", 1), ("broken", 0)])
def test_images_that_cannot_be_read_are_exit_code_3(name, n_anomalous, capfd):
    assert main(["score", name, "-d", "d.skops", "-q"]) == 3
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 1 + len(os.listdir(name))
    assert re.search(r",,-1,,,,,X\[\d\] \('.*'\) could not be read as an image", out.splitlines()[-1])
    assert "1 can't be read" in err


# The service

fastapi = pytest.importorskip("fastapi")
MAX_BYTES, MAX_PIXELS = 20_000, 100_000


@pytest.fixture(scope="module")
def client(calibrated):
    from fastapi.testclient import TestClient

    from skcsflow.serving import create_app

    app = create_app(
        {"a": calibrated, "b": calibrated}, api_key="key", max_bytes=MAX_BYTES, max_pixels=MAX_PIXELS
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of httpx and starlette, about each other
        with TestClient(app, headers={"Authorization": "Bearer key"}) as client:
            yield client


IMAGE = png(PIXELS[0])
B64 = base64.b64encode(IMAGE).decode()
OCTETS = {"Content-Type": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def numpy_file(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


REQUESTS = {
    "no-key": ("/inspect/a", IMAGE, OCTETS | {"Authorization": ""}, 401, "The API key is missing or wrong"),
    "wrong-key": (
        "/inspect/a",
        IMAGE,
        OCTETS | {"Authorization": "Bearer x"},
        401,
        "The API key is missing or wrong",
    ),
    "key-no-bearer": (
        "/inspect/a",
        IMAGE,
        OCTETS | {"Authorization": "key"},
        401,
        "The API key is missing or wrong",
    ),
    "no-name": (
        "/inspect",
        IMAGE,
        OCTETS,
        404,
        "Several detectors are served: post to one of /inspect/a, /inspect/b",
    ),
    "other-name": ("/inspect/c", IMAGE, OCTETS, 404, "There is no detector 'c': post to one of /inspect/a"),
    "no-type": ("/inspect/a", IMAGE, {}, 415, "The request has no Content-Type. Send the image's bytes"),
    "text": (
        "/inspect/a",
        IMAGE,
        {"Content-Type": "text/plain"},
        415,
        "The Content-Type text/plain isn't taken",
    ),
    "video": (
        "/inspect/a",
        IMAGE,
        {"Content-Type": "video/mp4"},
        415,
        "The Content-Type video/mp4 isn't taken",
    ),
    "empty": ("/inspect/a", b"", OCTETS, 400, "The image has 0 bytes"),
    "junk": ("/inspect/a", b"junk", OCTETS, 400, "The image could not be read as an image: no format"),
    "cut": ("/inspect/a", IMAGE[:100], OCTETS, 400, "could not be read as an image"),
    "too-many-bytes": (
        "/inspect/a",
        b"x" * (MAX_BYTES + 1),
        OCTETS,
        413,
        f"larger than the {MAX_BYTES} bytes",
    ),
    "too-many-pixels": (
        "/inspect/a",
        png(np.zeros((400, 300), np.uint8)),
        OCTETS,
        413,
        f"The image has 400 x 300 pixels, more than the {MAX_PIXELS} that are taken",
    ),
    "announced-too-many": ("/inspect/a", b"P5 99999999 99999999 255 ", OCTETS, 413, "pixels"),
    "npy-objects": ("/inspect/a", numpy_file(np.array([None], object)), OCTETS, 400, "pass numbers of shape"),
    "npy-5-D": ("/inspect/a", numpy_file(np.zeros((1, 1, 1, 1, 1))), OCTETS, 400, "pass numbers of shape"),
    "npy-cut": ("/inspect/a", numpy_file(np.zeros((8, 8)))[:-1], OCTETS, 400, "its header says shape .8, 8"),
    "npy-NaN": ("/inspect/a", numpy_file(np.full((8, 8), np.nan)), OCTETS, 400, "NaN or infinity"),
    "npy-two-channels": ("/inspect/a", numpy_file(np.zeros((8, 8, 2), np.uint8)), OCTETS, 400, "2 channels"),
    "json-broken": ("/inspect/a", b"{", JSON, 400, "The JSON can't be read: "),
    "json-list": (
        "/inspect/a",
        b"[1]",
        JSON,
        400,
        'The JSON must be an object whose "image" is the file in base64',
    ),
    "json-no-image": (
        "/inspect/a",
        b'{"picture": ""}',
        JSON,
        400,
        'The JSON must be an object whose "image"',
    ),
    "json-number": ("/inspect/a", b'{"image": 3}', JSON, 400, 'The JSON must be an object whose "image"'),
    "json-no-base64": ("/inspect/a", b'{"image": "?"}', JSON, 400, 'The "image" of the JSON is no base64'),
    "json-no-ascii": (
        "/inspect/a",
        '{"image": "é"}'.encode(),
        JSON,
        400,
        'The "image" of the JSON is no base64',
    ),
    "json-empty": ("/inspect/a", b'{"image": ""}', JSON, 400, "The image has 0 bytes"),
    "json-deep": ("/inspect/a", b"[" * 20_000, JSON, 400, "The JSON can't be read: "),
    "json-no-utf8": ("/inspect/a", b'{"image": "\xff"}', JSON, 400, "The JSON can't be read: "),
    "form-broken": ("/inspect/a", b"--y", FORM, 400, "The form (can't be read|has no files)"),
    "form-no-boundary": (
        "/inspect/a",
        b"x",
        {"Content-Type": "multipart/form-data"},
        400,
        "The form can't be read",
    ),
    "min_area-0": ("/inspect/a?min_area=0", IMAGE, OCTETS, 422, "The address can't be read: min_area='0': "),
    "min_area-text": (
        "/inspect/a?min_area=x",
        IMAGE,
        OCTETS,
        422,
        "The address can't be read: min_area='x': ",
    ),
    "map-text": ("/inspect/a?map=x", IMAGE, OCTETS, 422, "The address can't be read: map='x': "),
}


@pytest.mark.parametrize("request_name", REQUESTS)
def test_bad_request_is_refused_by_status_and_one_sentence(client, request_name):
    path, content, headers, status, words = REQUESTS[request_name]
    with no_hang():
        answer = client.post(path, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert re.search(words, answer.json()["detail"]), answer.text
    assert "\n" not in answer.json()["detail"]


def test_good_request_gives_the_detectors_bits(client, calibrated):
    score = calibrated.score_samples(PIXELS[:1])[0]
    for content, headers in ((IMAGE, OCTETS), (f'{{"image": "{B64}"}}'.encode(), JSON)):
        assert client.post("/inspect/b", content=content, headers=headers).json()["score"] == score


def app_of(**options):
    def make(detector):
        from skcsflow.serving import create_app

        return create_app(**{"detectors": {"a": detector}, **options})

    return make


@cases(
    ("None", app_of(detectors=None), refused(ValueError, "^detectors must be a mapping of names .* got None")),
    ("empty", app_of(detectors={}), refused(ValueError, "^detectors must be a mapping of names .* got {}")),
    ("list", app_of(detectors=["a.skops"]), refused(ValueError, "^detectors must be a mapping of names")),
    ("name-slash", app_of(detectors={"a/b": "d.skops"}), refused(ValueError, "^detectors has the name 'a/b'")),
    ("name-number", app_of(detectors={1: "d.skops"}), refused(ValueError, "^detectors has the name 1")),
    ("number", app_of(detectors={"a": 3}), refused(TypeError, r"^detectors\['a'\] must be the path .* got a int")),
    ("unfitted", app_of(detectors={"a": CSFlowDetector()}), refused(NotFittedError, r"^detectors\['a'\] is a CSFlow")),
    ("missing", app_of(detectors={"a": "no.skops"}), refused(FileNotFoundError, "'no.skops'")),
    ("junk", app_of(detectors={"a": "junk.skops"}), refused(ValueError, f"^{JUNK}")),
    ("max_bytes-0", app_of(max_bytes=0), refused(ValueError, "^max_bytes must be an int of at least 1, got 0")),
    ("max_bytes-NaN", app_of(max_bytes=float("nan")), refused(ValueError, "^max_bytes must .* got nan")),
    ("max_pixels-text", app_of(max_pixels="9"), refused(ValueError, "^max_pixels must .* got '9'")),
    ("max_batch-True", app_of(max_batch=True), refused(ValueError, "^max_batch must .* got True")),
    ("max_waiting-float", app_of(max_waiting=1.5), refused(ValueError, "^max_waiting must .* got 1.5")),
    ("upload_seconds-0", app_of(upload_seconds=0), refused(ValueError, "^upload_seconds must be a positive .* got 0")),
    ("upload_seconds-NaN", app_of(upload_seconds=float("nan")), refused(ValueError, "^upload_seconds must .* got nan")),
    ("api_key-empty", app_of(api_key=" "), refused(ValueError, "^api_key must be a string of ASCII")),
    ("api_key-number", app_of(api_key=3), refused(ValueError, "^api_key must be a string of ASCII")),
    ("api_key-no-ascii", app_of(api_key="é"), refused(ValueError, "^api_key must be a string of ASCII")),
)  # fmt: skip
def test_create_app(calibrated, call, outcome):
    run(call, outcome, calibrated)
