"""Images that URLs name."""

import functools
import http.server
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from unittest import mock

import numpy as np
import pytest
from conftest import FAST
from PIL import Image

from skcsflow import CSFlowDetector
from skcsflow.datasets import list_images

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    (folder / "good").mkdir()
    for i in range(6):
        Image.fromarray(np.random.RandomState(i).randint(0, 256, (40, 48), dtype=np.uint8)).save(
            folder / f"good/{i}.png"
        )
    np.save(folder / "good" / "6.npy", np.arange(40 * 48, dtype=np.uint8).reshape(40, 48))
    (folder / "good" / ".hidden.png").write_bytes(b"")
    (folder / "good" / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def detector(folder):
    return CSFlowDetector(**FAST).fit(list_images(folder / "good"))


def archive(folder, tmp_path, kind):
    path = tmp_path / f"parts.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            for image in sorted((folder / "good").iterdir()):
                file.write(image, f"good/{image.name}")
    else:
        with tarfile.open(path, "w") as file:
            file.add(folder / "good", "good")
    return path


@pytest.mark.parametrize("kind", ["memory", "zip", "tar", "file"])
def test_the_bits_of_local_files(folder, tmp_path, detector, kind):
    if kind == "memory":
        system = fsspec.filesystem("memory")
        for image in (folder / "good").iterdir():
            system.pipe_file(f"/bucket/good/{image.name}", image.read_bytes())
        url = "memory://bucket/good"
    elif kind == "file":
        url = f"file://{folder}/good"
    else:
        url = f"{kind}://good::{archive(folder, tmp_path, kind)}"
    urls = list_images(url)
    assert [os.path.basename(u.partition("::")[0]) for u in urls] == [
        *(f"{i}.png" for i in range(6)),
        "6.npy",
    ]
    expected = detector.score_samples(list_images(folder / "good"))
    np.testing.assert_array_equal(detector.score_samples(urls), expected)
    np.testing.assert_array_equal(detector.score_samples(url), expected)
    above = url.replace("good", "", 1) if "::" in url else url.removesuffix("/good")
    assert list_images(above, recursive=True) == urls
    with pytest.raises(ValueError, match=r"There are no images in X=.* recursive=True"):
        detector.score_samples(above)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_opened_once_until_it_changes(folder, tmp_path, detector, kind):
    path = archive(folder, tmp_path, kind)
    urls = list_images(f"{kind}://good::{path}")
    opened = "zipfile.ZipFile" if kind == "zip" else "tarfile.open"
    with mock.patch(opened, side_effect=AssertionError("opened again")):
        detector.score_samples(urls)
    (folder / "good" / "1.png").write_bytes((folder / "good" / "0.png").read_bytes())
    archive(folder, tmp_path, kind)
    scores = detector.score_samples(urls)
    assert scores[0] == scores[1]


def test_folders_in_archives_and_caches_have_urls_that_can_be_read(folder, tmp_path, detector):
    path = tmp_path / "dot.tar"
    with tarfile.open(path, "w") as file:
        file.add(folder / "good", ".")  # members are named ./0.png, as if in a folder
    for url in (f"tar://::{path}", f"simplecache::file://{folder}/good", f"FILE://{folder}/good"):
        urls = list_images(url, recursive=True)
        assert len(urls) == 7
        assert np.isfinite(detector.score_samples(urls)).all()


def test_folders_and_archives_that_are_none_are_named(folder, tmp_path):
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"no archive")
    with pytest.raises(OSError, match=r"broken\.zip' can't be opened: File is not a zip file"):
        list_images(f"zip://::{broken}")
    path = archive(folder, tmp_path, "zip")
    for url in (f"file://{folder}/none", f"zip://none::{path}"):
        with pytest.raises(FileNotFoundError, match=f"There is no folder folder='{url}'"):
            list_images(url)
    url = f"file://{folder}/good/0.png"
    with pytest.raises(ValueError, match=f"folder='{url}' is a file. Pass a folder, or a list of files"):
        list_images(url)


def test_images_of_a_web_server(folder, detector):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *args: None
    pytest.importorskip("aiohttp")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}/good"
        urls = [f"{base}/{i}.png" for i in range(6)]
        expected = detector.score_samples(list_images(folder / "good")[:6])
        np.testing.assert_array_equal(detector.score_samples(urls), expected)
        with pytest.raises(ValueError, match=r"X\[1\] \('http://.*/none\.png'\): there is no such file"):
            detector.score_samples([urls[0], f"{base}/none.png"])
        scores = detector.set_params(on_error="nan").score_samples
        with pytest.warns(UserWarning, match=r"^X\[1\] .*there is no such file"):
            assert np.isnan(scores([urls[0], f"{base}/none.png"])).tolist() == [False, True]
        detector.set_params(on_error="raise")
        server.shutdown()


@pytest.mark.slow
def test_images_of_an_object_store(folder, detector, monkeypatch):
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for name, value in (("KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b")):
            monkeypatch.setenv(f"AWS_ACCESS_{name}" if name == "KEY_ID" else f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        for _ in range(100):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        system = fsspec.filesystem("s3")
        system.mkdir("bucket")
        for image in (folder / "good").iterdir():
            system.pipe_file(f"bucket/good/{image.name}", image.read_bytes())
        urls = list_images("s3://bucket/good")
        assert urls[0] == "s3://bucket/good/0.png"
        np.testing.assert_array_equal(
            detector.score_samples(urls), detector.score_samples(list_images(folder / "good"))
        )
        with pytest.raises(
            ValueError, match=r"X\[0\] \('s3://bucket/good/none.png'\): there is no such file"
        ):
            detector.score_samples(["s3://bucket/good/none.png"])
    finally:
        server.kill()
        server.wait()


def test_what_is_missing_is_named(detector):
    for modules, url, message in (
        ({"gcsfs": None}, "gs://a/b.png", r"'gs://a/b\.png' can't be opened: .*gcsfs"),
        (
            {"fsspec": None, "fsspec.core": None},
            "s3://a/b",
            r'takes fsspec: pip install "skcsflow\[remote\]"',
        ),
    ):
        with mock.patch.dict(sys.modules, modules), pytest.raises(ImportError, match=message):
            detector.score_samples([url])
    with pytest.raises(ImportError, match=r"'nothing://a/b\.png' can't be opened: Protocol not known"):
        detector.score_samples(["nothing://a/b.png"])


def test_names_with_colons_are_files(detector, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("12::34.png", "part:1.png"):
        (tmp_path / name).write_bytes((folder / "good/0.png").read_bytes())
        assert np.isfinite(detector.score_samples([name])).all()
