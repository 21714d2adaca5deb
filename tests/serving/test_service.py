"""A service in a process of its own, and a client: the detector's bits, and one sentence for what is refused."""

import base64
import http.client
import io
import json
import socket
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image
from serving_tools import KEY, client, noise, png, post, running_service, wait_until

pytestmark = pytest.mark.slow  # the service is a process of its own, and takes seconds to start
MAX_BYTES = 300_000
MAX_PIXELS = 1_000_000


@pytest.fixture(scope="module")
def address(detector_files):
    with running_service(
        detector_files, api_key=KEY, max_bytes=MAX_BYTES, max_pixels=MAX_PIXELS, upload_seconds=2
    ) as (_, address):
        yield address


@pytest.fixture(scope="module")
def service(address):
    with client(address) as service:
        yield service


def expected(name, detector, content):
    (found,) = detector.inspect([content])
    (score,), (label,) = detector.score_samples([content]), detector.predict([content])
    assert found.score == score
    p_value = float(detector.p_values([content])[0]) if hasattr(detector, "calibration_scores_") else None
    height, width = found.anomaly_map.shape
    return {
        "detector": name,
        "score": score,
        "label": label,
        "threshold": detector.offset_,
        "p_value": p_value,
        "map_threshold": detector.map_threshold_,
        "height": height,
        "width": width,
        "regions": [
            {k: list(v) if isinstance(v, tuple) else v for k, v in r._asdict().items()}
            for r in detector.predict_regions([content])[0]
        ],
        "map": None,
        "mask": None,
    }


# What the detector says


def test_answers_have_the_bits_of_the_detector(service, calibrated, other, file_contents):
    n_regions = 0
    for content in file_contents.values():
        for name, detector in (("calibrated", calibrated), ("other", other)):
            answer = post(service, content, f"/inspect/{name}")
            assert answer.status_code == 200, answer.text
            assert answer.json() == expected(name, detector, content)
            n_regions += len(answer.json()["regions"])
    assert n_regions > 0


def test_forms_and_json_and_bytes_give_one_answer(service, calibrated, file_contents):
    content = file_contents["defect.png"]
    answers = [
        post(service, content, kind="image/png"),
        service.post("/inspect/calibrated", files={"image": ("part.png", content, "image/png")}),
        service.post("/inspect/calibrated", files={"whatever": content}, data={"line": "3"}),
        service.post("/inspect/calibrated", json={"image": base64.b64encode(content).decode()}),
    ]
    assert [a.json() for a in answers] == [expected("calibrated", calibrated, content)] * 4


def test_map_and_mask_come_as_pictures(service, calibrated, file_contents):
    content = file_contents["defect.png"]
    (found,) = calibrated.inspect([content])
    answer = post(service, content, params={"map": True, "mask": True}).json()
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask"]))))
    assert found.mask.any()
    np.testing.assert_array_equal(mask, found.mask * 255)
    low, high = answer["map"]["low"], answer["map"]["high"]
    assert (low, high) == (found.anomaly_map.min(), found.anomaly_map.max())
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["map"]["png"]))), np.float64)
    assert np.abs(low + (high - low) * pixels / 65535 - found.anomaly_map).max() < (high - low) / 65535


def test_small_regions_are_left_out(service, file_contents):
    content = file_contents["defect.png"]
    regions = post(service, content).json()["regions"]
    areas = sorted(r["area"] for r in regions)
    few = post(service, content, params={"min_area": areas[0] + 1}).json()["regions"]
    assert few == [r for r in regions if r["area"] > areas[0]]
    assert len(few) < len(regions)


def test_requests_at_a_time_form_batches_and_have_their_own_answers(
    service, address, calibrated, other, file_contents
):
    detectors = {"calibrated": calibrated, "other": other}
    work = [(name, content) for name in detectors for content in file_contents.values()]
    right = {pair: expected(pair[0], detectors[pair[0]], pair[1]) for pair in work}
    bad = GOOD[:-300]

    def run(k):
        if k % 10 == 7:  # one that can't be decoded in the middle of a batch
            assert post(service, bad).status_code == 400
            return 0
        name, content = work[k % len(work)]
        answer = post(service, content, f"/inspect/{name}")
        assert answer.status_code == 200, answer.text
        assert answer.json() == right[name, content]
        return 1

    with ThreadPoolExecutor(24) as threads:
        assert sum(threads.map(run, range(120))) == 108
    figures = service.get("/metrics").text
    assert value(figures, "skcsflow_batch_size_count") < value(figures, "skcsflow_batch_size_sum")


# What is refused


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb():
    """A PNG of 30,000 x 30,000 pixels in less than a megabyte."""
    rows = zlib.compress(bytes(30_001) * 3000, 9)
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def pages(kind, n=3):
    buffer = io.BytesIO()
    frames = [Image.fromarray(np.full((20, 20), k * 5, np.uint8)) for k in range(n)]
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def npy(dtype, shape, content=b""):
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


GOOD = noise(48, 40)
BAD = {
    "empty": (b"", "image/png", 400, "0 bytes"),
    "text": (b"no image at all", "image/png", 400, "no format"),
    "truncated": (GOOD[:-300], "image/png", 400, "could not be read"),
    "only a signature": (GOOD[:8], "image/png", 400, "could not be read"),
    "many pages of TIFF": (pages("TIFF", 40), "image/tiff", 400, "more than 16 pages"),
    "damaged": (GOOD[:60] + bytes(10) + GOOD[70:], "image/png", 400, "could not be read"),
    "bomb": (bomb(), "image/png", 413, "pixels"),
    "too many pixels": (png(np.zeros((1001, 1000), np.uint8)), "image/png", 413, "1001 x 1000 pixels"),
    "too many bytes": (bytes(MAX_BYTES + 1), "image/png", 413, f"{MAX_BYTES} bytes"),
    "pages of TIFF": (pages("TIFF"), "image/tiff", 400, "3 pages"),
    "animated PNG": (pages("PNG"), "image/png", 400, "3 pages"),
    "animated WebP": (pages("WEBP"), "image/webp", 400, "3 pages"),
    "GIF": (pages("GIF"), "image/gif", 400, "no format"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image/eps", 400, "no format"),
    "two channels": (npy("|u1", (4, 4, 2), bytes(32)), "image/x", 400, "2 channels"),
    "NumPy's bomb": (npy("|u1", (99_999_999, 99_999_999)), "image/x", 400, "header"),
    "pickle in NumPy's format": (npy("|O", (2, 2)), "image/x", 400, "type object"),
    "NaN": (npy("<f4", (2, 2), b"\xff" * 16), "image/x", 400, "NaN"),
    "text/plain": (GOOD, "text/plain", 415, "text/plain isn't taken. Send"),
    "no type": (GOOD, "", 415, "no Content-Type"),
    "curl's default": (GOOD, "application/x-www-form-urlencoded", 415, "isn't taken"),
    "no JSON": (b"{", "application/json", 400, "JSON can't be read"),
    "JSON of brackets": (b"[" * 100_000, "application/json", 400, "JSON"),
    "JSON without an image": (b'{"picture": ""}', "application/json", 400, '"image"'),
    "JSON of a number": (b'{"image": 3}', "application/json", 400, '"image"'),
    "no base64": (b'{"image": "%%%"}', "application/json", 400, "base64"),
    "empty base64": (b'{"image": ""}', "application/json", 400, "0 bytes"),
    "base64 of too much": (
        json.dumps({"image": base64.b64encode(bytes(MAX_BYTES + 1)).decode()}).encode(),
        "application/json", 413, "bytes",
    ),
    "form without a boundary": (GOOD, "multipart/form-data", 400, "form"),
    "form of something else": (GOOD, "multipart/form-data; boundary=x", 400, "form"),
    "form without a file": (
        b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\ntext\r\n--x--\r\n',
        "multipart/form-data; boundary=x", 400, "no files",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_upload_is_refused_in_one_sentence(service, case):
    content, kind, status, words = BAD[case]
    headers = {"Content-Type": kind} if kind else {}
    answer = service.post("/inspect/calibrated", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert words in detail
    assert detail.endswith((".", "}.", '"}.'))
    assert "\n" not in detail
    assert "X[0]" not in detail
    assert post(service, GOOD).status_code == 200


def test_two_files_in_a_form_are_refused(service):
    answer = service.post("/inspect/calibrated", files=[("a", GOOD), ("b", GOOD)])
    assert answer.status_code == 400
    assert "2 files" in answer.json()["detail"]


@pytest.mark.parametrize("announced", [True, False])
def test_100_megabytes_are_refused_by_an_answer(service, announced):
    def parts():
        yield from [bytes(2**20)] * 100

    content = bytes(100 * 2**20) if announced else parts()
    before = memory(service)
    answer = post(service, content)
    assert answer.status_code == 413, answer.text
    assert memory(service) < before + 30e6


@pytest.mark.parametrize("key", [KEY, "wrong"])
def test_client_that_sends_all_before_it_listens_has_its_answer(address, key):
    """As Python's own does, and requests by it: a connection that is closed meanwhile is all that it would see."""
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)) as connection:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "image/png"}
        connection.request("POST", "/inspect/calibrated", body=bytes(20 * 2**20), headers=headers)
        assert connection.getresponse().status == (413 if key == KEY else 401)


def test_announced_size_that_is_too_small_ends_the_request(address):
    """Content-Length is less than what comes: the rest is no part of the request."""
    head = (
        f"POST /inspect/calibrated HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
        f"Content-Type: image/png\r\nContent-Length: 60\r\n\r\n"
    )
    with connection(address) as sock:
        sock.sendall(head.encode() + GOOD[:60])
        assert answer_of(sock).startswith(b"HTTP/1.1 400")


def test_slow_upload_is_ended(address):
    head = (
        f"POST /inspect/calibrated HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: image/png\r\nContent-Length: {len(GOOD)}\r\n\r\n"
    )
    with connection(address) as sock:
        sock.sendall(head.encode() + GOOD[:20])
        assert answer_of(sock).startswith(b"HTTP/1.1 408")


def test_upload_that_breaks_off_harms_nobody(address, service):
    head = (
        f"POST /inspect/calibrated HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: image/png\r\nContent-Length: {len(GOOD)}\r\n\r\n"
    )
    for n in (0, 20, len(GOOD)):
        with connection(address) as sock:
            sock.sendall(head.encode() + GOOD[:n])
    assert post(service, GOOD).status_code == 200


def test_who_asks_before_sending_has_the_answer_at_once(address):
    head = (
        f"POST /inspect/calibrated HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        "Content-Type: image/png\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n\r\n"
    )
    with connection(address) as sock:
        sock.sendall(head.encode())
        assert answer_of(sock).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/inspect", 404, "/inspect/calibrated, /inspect/other"),
        ("/inspect/nobody", 404, "no detector 'nobody'"),
        ("/inspect/other?min_area=0", 422, "min_area='0'"),
        ("/inspect/other?map=perhaps", 422, "map='perhaps'"),
    ],
)
def test_wrong_addresses_are_refused_in_one_sentence(service, path, status, words):
    answer = post(service, GOOD, path)
    assert answer.status_code == status
    assert words in answer.json()["detail"]


# The rest of it


def test_without_the_key_only_health_answers(address, service):
    wrong = [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": "Bearer \xe4"},
    ]
    with httpx.Client(base_url=address, trust_env=False) as stranger:
        for headers in wrong:
            headers = {k: v.encode("latin-1") for k, v in headers.items()}
            for method, path in (
                ("POST", "/inspect/calibrated"), ("POST", "/reload"), ("GET", "/metrics"), ("GET", "/detectors"),
            ):  # fmt: skip
                answer = stranger.request(method, path, headers=headers)
                assert answer.status_code == 401, (method, path, headers)
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert "API key" in answer.json()["detail"]
            assert stranger.post("/inspect/calibrated", headers=headers, content=GOOD).status_code == 401
        health = {"status": "ok", "detectors": ["calibrated", "other"], "under_way": 0}
        wait_until(
            lambda: stranger.get("/health").json() == health
        )  # uploads of other tests that broke off end
    assert service.get("/detectors").status_code == 200


def test_detectors_are_listed(service, calibrated, detector_files):
    listed = service.get("/detectors").json()
    assert listed.keys() == detector_files.keys()
    assert listed["calibrated"].pop("loaded").endswith("+00:00")
    assert listed["calibrated"] == {
        "file": str(detector_files["calibrated"]),
        "threshold": calibrated.offset_,
        "map_threshold": calibrated.map_threshold_,
        "is_calibrated": True,
        "input_size": [64, 64],
    }
    assert not listed["other"]["is_calibrated"]


def test_metrics_count_requests_labels_and_time(service, file_contents):
    names = {
        "good": 'skcsflow_requests_total{detector="other",status="200"}',
        "bad": 'skcsflow_requests_total{detector="other",status="400"}',
        "nobody": 'skcsflow_requests_total{detector="",status="404"}',
        "seconds": 'skcsflow_request_seconds_count{detector="other"}',
        "normal": 'skcsflow_labels_total{detector="other",label="1"}',
        "anomalous": 'skcsflow_labels_total{detector="other",label="-1"}',
    }

    def figures():
        text = service.get("/metrics").text
        assert value(text, "skcsflow_requests_under_way") == 0
        assert value(text, "process_resident_memory_bytes") > 1e8
        return np.array([value(text, name) for name in names.values()])

    before = figures()
    labels = [post(service, content, "/inspect/other").json()["label"] for content in file_contents.values()]
    post(service, b"x", "/inspect/other")
    post(service, b"x", "/inspect/nobody")
    n_normal = labels.count(1)
    added = [len(labels), 1, 1, len(labels) + 1, n_normal, len(labels) - n_normal]
    np.testing.assert_array_equal(figures() - before, added)


def test_description_of_the_service_names_what_may_be_posted(service):
    described = service.get("/openapi.json").json()["paths"]["/inspect/{name}"]["post"]
    assert "multipart/form-data" in described["requestBody"]["content"]
    assert {"200", "400", "401", "413", "415", "503"} <= described["responses"].keys()


def value(figures, name):
    """A figure of Prometheus' text; 0 before anything was counted."""
    lines = (line.rpartition(" ") for line in figures.splitlines())
    return next((float(number) for key, _, number in lines if key == name), 0.0)


def memory(service):
    return value(service.get("/metrics").text, "process_resident_memory_bytes")


def connection(address):
    parts = urlsplit(address)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def answer_of(sock):
    return sock.recv(65536)
