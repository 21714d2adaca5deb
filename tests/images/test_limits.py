"""Files that are not read: too large by their headers, too short for them, and what is no file."""

import os
import socket
import struct
import sys
import zlib
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone

import skcsflow
from skcsflow import CSFlowDetector
from skcsflow._images import image_size
from skcsflow._images._reader import ImageFile, decode_file
from skcsflow.datasets import read_mask
from skcsflow.nn import MultiScaleFeatureExtractor

SMALL = np.random.RandomState(0).randint(0, 256, size=(48, 40, 3)).astype(np.uint8)
TOO_MANY = r"has 12345 x 23456 pixels \(H x W\), more than max_pixels=160000000\. .* set max_pixels"


def content(kind, array=SMALL, **options):
    file = BytesIO()
    np.save(file, array) if kind == "npy" else Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def claim(data, height, width):
    """A JPEG or PNG whose header says another size than it has."""
    if data.startswith(b"\x89PNG"):
        header = data[12:16] + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    start = next(i for i in (data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) if i >= 0)
    return data[: start + 5] + struct.pack(">HH", height, width) + data[start + 9 :]


@pytest.fixture
def large(tmp_path, monkeypatch):
    """Small files that claim to be large."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # else Pillow's own limit is the first
    paths = {}
    for kind in ("png", "jpeg"):
        paths[kind] = tmp_path / f"large.{kind}"
        paths[kind].write_bytes(claim(content(kind), 12345, 23456))
    paths["npy"] = tmp_path / "large.npy"
    np.lib.format.open_memmap(
        paths["npy"], "w+", np.uint8, (12345, 23456)
    )  # its bytes take no room on the disk
    return paths


@pytest.mark.parametrize("kind", ["png", "jpeg", "npy"])
def test_a_path_of_too_many_pixels_is_refused_by_its_header(fitted, large, kind):
    with pytest.raises(ValueError, match=rf"X\[0\] \('.*large\.{kind}'\) {TOO_MANY}"):
        fitted.score_samples([large[kind]])


def test_contents_and_unread_pil_images_of_too_many_pixels_are_refused(fitted, large):
    with pytest.raises(ValueError, match=rf"X\[1\] {TOO_MANY}"):
        fitted.score_samples([content("png"), large["png"].read_bytes()])
    with Image.open(large["png"]) as image, pytest.raises(ValueError, match=rf"X\[0\] {TOO_MANY}"):
        fitted.score_samples([image])


def test_on_error_nan_goes_on_past_images_of_too_many_pixels(fitted, large, tmp_path):
    (tmp_path / "good.png").write_bytes(content("png"))
    detector = clone(fitted).set_params(on_error="nan")
    detector.fit([np.roll(SMALL, k) for k in range(12)])
    with pytest.warns(UserWarning, match=TOO_MANY):
        scores = detector.score_samples([large["png"], tmp_path / "good.png"])
    assert np.isnan(scores).tolist() == [True, False]


def test_max_pixels_is_a_parameter_that_acts_in_every_call(fitted_copy, tmp_path):
    path = tmp_path / "good.png"
    path.write_bytes(content("png"))
    expected = fitted_copy.score_samples([path])
    for max_pixels in (48 * 40, None):
        assert fitted_copy.set_params(max_pixels=max_pixels).score_samples([path]) == expected
    fitted_copy.set_params(max_pixels=48 * 40 - 1)
    for X in ([path], [content("png")]):
        with pytest.raises(ValueError, match=r"48 x 40 pixels \(H x W\), more than max_pixels=1919"):
            fitted_copy.score_samples(X)
    with pytest.raises(ValueError, match="more than max_pixels=1919"):
        fitted_copy.fit([path])
    for X in (SMALL[None], [Image.open(path).convert("RGB")]):  # which are in memory as it is
        assert fitted_copy.score_samples(X) == expected
    with pytest.raises(ValueError, match="The 'max_pixels' parameter"):
        fitted_copy.set_params(max_pixels=0).score_samples([path])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["png", "jpeg", "npy"])
def test_masks_of_too_many_pixels_are_refused(fitted_copy, tiny_params, large, kind):
    with pytest.raises(ValueError, match=rf"The mask '.*' {TOO_MANY}"):
        read_mask(large[kind])
    with pytest.raises(ValueError, match=rf"roi \('.*'\) {TOO_MANY}"):
        CSFlowDetector(**tiny_params, roi=large[kind]).fit(SMALL[None])


def test_read_mask_max_pixels_is_the_limit(tmp_path):
    (tmp_path / "mask.png").write_bytes(content("png"))
    assert read_mask(tmp_path / "mask.png", max_pixels=1920).shape == (48, 40)
    with pytest.raises(ValueError, match="more than max_pixels=1919"):
        read_mask(tmp_path / "mask.png", max_pixels=1919)


def test_more_pixels_than_pillow_opens_says_so(fitted_copy, large, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    fitted_copy.set_params(max_pixels=None)
    with pytest.raises(
        ValueError, match=r"X\[0\] \('.*'\) has more pixels than Pillow .*MAX_IMAGE_PIXELS, and max"
    ):
        fitted_copy.score_samples([large["png"]])


def test_by_default_images_of_the_largest_cameras_are_read():
    assert CSFlowDetector().max_pixels >= max(12_000 * 9_000, 14_204 * 10_652)


# Files that end long before what their headers claim


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["sequential", "progressive"])
def test_a_jpeg_of_too_few_bytes_for_its_size_is_refused(fitted, tmp_path, options):
    data = claim(content("jpeg", **options), 2000, 3000)
    with pytest.raises(ValueError, match=r"X\[0\] .* its \d+ bytes are too few for 2000 x 3000 pixels"):
        fitted.score_samples([data])
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ValueError, match=r"X\[0\] \('.*a\.jpg'\) .* too few for 2000 x 3000 pixels"):
        fitted.score_samples([tmp_path / "a.jpg"])


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    "options", [{}, {"optimize": True}, {"progressive": True, "quality": 1, "optimize": True}], ids=str
)
def test_a_jpeg_of_one_colour_has_bytes_enough(mode, options):
    file = BytesIO()
    Image.new(mode, (3000, 2000), 0).save(file, "jpeg", **options)
    assert decode_file(ImageFile(False, file.getvalue()), 3, "it").shape[:2] == (2000, 3000)


# Paths of what is no file


@pytest.fixture
def no_files(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no named pipes on this system")
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(tmp_path)  # addresses of sockets must be short
        try:
            listening.bind("socket.png")
        finally:
            os.chdir(here)
        yield {
            "/dev/zero": "is a device",
            str(tmp_path / "pipe.png"): "is a named pipe",
            str(tmp_path / "socket.png"): "is a socket",
            str(tmp_path): "is a folder",
            "a\0b": "has a NUL character in its path",
        }


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such paths")
@pytest.mark.parametrize("on_error", ["raise", "nan"])
def test_only_files_are_read_as_images(fitted_copy, no_files, on_error):
    fitted_copy.set_params(on_error=on_error)
    for path, kind in no_files.items():
        pattern = rf"X\[0\] \(.*\) {kind}"
        if on_error == "raise":
            with pytest.raises(ValueError, match=pattern):
                fitted_copy.score_samples([path])
        else:
            with pytest.warns(UserWarning, match=pattern):
                assert np.isnan(fitted_copy.score_samples([path]))


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such paths")
def test_only_files_are_read_as_masks_weights_and_detectors(tiny_params, no_files, tmp_path):
    for path, kind in no_files.items():
        reads = {
            "The mask": lambda path=path: read_mask(path),
            "The file": lambda path=path: image_size(path),
            "roi": lambda path=path: CSFlowDetector(**tiny_params, roi=path).fit(SMALL[None]),
            "weights": lambda path=path: MultiScaleFeatureExtractor("test_efficientnet", weights=path),
        }
        for name, read in reads.items():
            with pytest.raises(ValueError, match=f"{name}.*{kind}|a null character"):
                read()
    os.mkfifo(tmp_path / "pipe.skops")
    with pytest.raises(ValueError, match=r"The file '.*pipe\.skops' is a named pipe"):
        skcsflow.load(tmp_path / "pipe.skops")


def test_roi_as_a_meta_or_sparse_tensor_raises(tiny_params):
    for roi, kind in ((torch.ones(48, 40, device="meta"), "meta"), (torch.eye(48).to_sparse(), "sparse")):
        with pytest.raises(TypeError, match=f"roi is a .*{kind}"):
            CSFlowDetector(**tiny_params, roi=roi).fit(SMALL[None])
