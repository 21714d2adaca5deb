"""What Pillow and libtiff say against files that they read all the same: told once a call, with the files."""

import os
import pickle
import re
import signal
import sys
import threading
import warnings
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin, features
from sklearn.base import clone

from skcsflow._images import check_images, image_size, read_image, read_mask_file
from skcsflow._images._complaints import complaints_noted
from skcsflow.datasets import load_image_folder

IMAGES = np.random.RandomState(0).randint(0, 256, size=(12, 40, 32), dtype=np.uint8)
CUT_EXIF = 10
"""Place of the byte, after "Exif", by which the number of entries in an image's EXIF data is read."""


def jpeg_with_damaged_exif(pixels):
    exif, file = Image.Exif(), BytesIO()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(file, "JPEG", exif=exif)
    data = bytearray(file.getvalue())
    data[data.index(b"Exif\0\0") + CUT_EXIF] ^= 0xFF
    return bytes(data)


def tiff_with_damaged_rows(size=64):
    """A fax image whose pixels libtiff finds wrong, and gives all the same."""
    file = BytesIO()
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (size, size), np.uint8)).convert("1").save(
        file, "TIFF", compression="group4"
    )
    data = bytearray(file.getvalue())
    with Image.open(BytesIO(data)) as image:
        start, length = image.tag_v2[273][0], image.tag_v2[279][0]
    data[start + length // 2 : start + length // 2 + 4] = b"\xaa\x55\xaa\x55"
    return bytes(data)


@pytest.fixture
def paths(tmp_path):
    """Twelve JPEG files, of which two have damaged EXIF data."""
    paths = [tmp_path / f"{k:02}.jpg" for k in range(len(IMAGES))]
    for k, path in enumerate(paths):
        if k in (3, 7):
            path.write_bytes(jpeg_with_damaged_exif(IMAGES[k]))
        else:
            Image.fromarray(IMAGES[k]).save(path)
    return paths


def only(recorded):
    assert len(recorded) == 1, [str(w.message) for w in recorded]
    return str(recorded[0].message)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("method", ["fit", "score_samples"])
def test_one_warning_names_all_files_of_a_call(fitted, paths, method, n_jobs):
    detector = clone(fitted) if method == "fit" else fitted
    detector.set_params(n_jobs=n_jobs)
    for _ in range(2):  # not the first time alone
        with pytest.warns(UserWarning, match=r"X has images that were read, .*2 of 12") as recorded:
            getattr(detector, method)(paths)
        message = only([w for w in recorded if "hardly learnt" not in str(w.message)])
        assert message.count("Corrupt EXIF data") == 2
        assert f"X[3] ({str(paths[3])!r}): Corrupt EXIF data. Expecting" in message
        assert f"X[7] ({str(paths[7])!r}): Corrupt EXIF data. Expecting" in message
        assert recorded[0].filename == __file__


def test_images_that_are_left_out_do_not_hide_the_others(fitted, paths):
    paths[5].write_text("no image")
    detector = clone(fitted).set_params(on_error="nan")
    with (
        pytest.warns(UserWarning, match=r"X\[5\] .*left out of the training"),
        pytest.warns(UserWarning, match=r"X has images that were read, .*2 of 12"),
    ):
        detector.fit(paths)


def test_of_an_opened_image_and_a_files_content(fitted):
    data = jpeg_with_damaged_exif(IMAGES[0])
    with pytest.warns(UserWarning, match=r"X has images that were read, .*1 of 1.*: X\[0\]: Corrupt EXIF"):
        fitted.score_samples([data])
    with (
        Image.open(BytesIO(tiff_with_damaged_rows())) as image,
        pytest.warns(UserWarning, match=r"X\[0\]: Fax4"),
    ):
        fitted.score_samples([image])


def test_a_single_file_is_named_too(tmp_path):
    path = tmp_path / "mask.jpg"
    path.write_bytes(jpeg_with_damaged_exif(IMAGES[0]))
    message = r"Read, but perhaps damaged: masks\[2\]: Corrupt EXIF data\."
    with pytest.warns(UserWarning, match=message) as recorded:
        read_mask_file(path, "masks[2]")
    assert recorded[0].filename == __file__
    with pytest.warns(UserWarning, match=r"damaged: it: Corrupt EXIF data\."):
        read_image(path, "it")


def test_sizes_alone_are_read_without_a_word(tmp_path, paths):
    assert image_size(paths[3]) == (40, 32)
    for k, path in enumerate(paths[2:6]):
        (tmp_path / "train/good").mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / f"train/good/{k}.jpg")
    assert len(load_image_folder(tmp_path).train) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="Pillow keeps libtiff to itself there")
def test_what_libtiff_prints_names_the_file(fitted, capfd):
    data = tiff_with_damaged_rows()
    with Image.open(BytesIO(data)) as image:
        image.load()
    assert "Fax4Decode" in capfd.readouterr().err  # what the user would see of it
    with pytest.warns(UserWarning, match=r"X\[1\]: Fax4Decode: .* at line \d+ of strip 0") as recorded:
        fitted.score_samples([jpeg_with_damaged_exif(IMAGES[0]), data])
    assert only(recorded).count("Fax4Decode: ") <= 3
    assert capfd.readouterr().err == ""
    with Image.open(BytesIO(data)) as image:
        image.load()
    assert "Fax4Decode" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Pillow keeps libtiff to itself there")
@pytest.mark.parametrize(
    ("compression", "said"),
    [("tiff_adobe_deflate", "ZIPDecode: "), ("tiff_lzw", "libtiff: Using code not yet")],
)
def test_an_error_says_what_libtiff_said(tmp_path, capfd, compression, said):
    Image.fromarray(IMAGES[0]).save(tmp_path / "part.tif", compression=compression)
    data = bytearray((tmp_path / "part.tif").read_bytes())
    with Image.open(BytesIO(data)) as image:
        start = image.tag_v2[TiffImagePlugin.STRIPOFFSETS][0]
    data[start + 100 : start + 120] = bytes([0 if "deflate" in compression else 255] * 20)
    (tmp_path / "part.tif").write_bytes(data)
    with pytest.raises(ValueError, match=f"it could not be read as an image: .*; {said}"):
        read_image(tmp_path / "part.tif", "it")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["path", "PIL image"])
def test_a_sound_palette_with_transparency_is_no_complaint(fitted, tmp_path, kind):
    path = tmp_path / "palette.png"
    palette = Image.fromarray(IMAGES[0]).convert("P")
    palette.save(path, transparency=bytes(range(256)))
    with Image.open(path) as image:
        with pytest.warns(UserWarning, match="Palette images with Transparency"):
            image.convert("RGB")
        fitted.score_samples([path if kind == "path" else image])


def test_a_format_that_this_pillow_lacks_is_told(tmp_path, monkeypatch):
    WebPImagePlugin = pytest.importorskip("PIL.WebPImagePlugin")
    if not features.check("webp"):
        pytest.skip("this Pillow can't write WebP")
    Image.fromarray(IMAGES[0]).save(tmp_path / "part.webp")
    monkeypatch.setattr(WebPImagePlugin, "SUPPORTED", False)
    with pytest.raises(ValueError, match=r"no format that Pillow knows; .*WEBP support not installed"):
        read_image(tmp_path / "part.webp", "it")


def test_many_pixels_are_no_complaint(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # it warns from here, and raises from twice as many
    Image.fromarray(IMAGES[0]).save(tmp_path / "part.png")
    fitted.score_samples([tmp_path / "part.png"])
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(tmp_path / "part.png").close()


def test_filters_are_left_as_they_were(fitted, paths):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = list(warnings.filters)
        fitted.score_samples(paths)
        assert warnings.filters == before
        with complaints_noted():
            warnings.simplefilter("ignore", BytesWarning)
        assert warnings.filters[0][:3:2] == ("ignore", BytesWarning)  # what is set meanwhile stays
        assert warnings.filters[1:] == before


def test_filters_of_the_user_hold_for_the_one_warning(fitted, paths):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=r"were read, .*2 of 12"):
            fitted.score_samples(paths)
        warnings.filterwarnings("ignore", message="X has images that were read")
        fitted.score_samples(paths)


def test_what_was_shown_once_is_not_shown_with_every_call_and_yet_files_are_named(fitted, paths):
    def other():
        warnings.warn("shown once", FutureWarning, stacklevel=1)

    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("default")
        for path in (paths[3], paths[7]):
            Image.open(path).close()
            fitted.score_samples([path])
            other()
    messages = [str(w.message).split(":")[0] for w in recorded]
    assert messages.count("shown once") == 1
    assert messages.count("X has images that were read, but whose files may be damaged (1 of 1)") == 2


def test_files_that_the_users_own_code_opens_meanwhile_give_their_own_warnings(fitted, paths):
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        for _ in fitted.iter_maps(paths[:2]):
            Image.open(paths[3]).close()
    assert [str(w.message).split(".")[0] for w in recorded] == ["Corrupt EXIF data"] * 2
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("default")
        maps = fitted.iter_maps(paths[2:4])
        next(maps)
        with warnings.catch_warnings():  # changes the filters while half of the images are read
            warnings.simplefilter("ignore")
        list(maps)
    assert "X[1] " in only(recorded)


def warn_of_a_file(text, category=UserWarning):
    warnings.warn_explicit(text, category, "TiffImagePlugin.py", 1, "PIL.TiffImagePlugin")


def test_warnings_of_other_threads_and_of_other_code_pass_by():
    def read_beside_another_thread():
        with complaints_noted() as noted:
            other = threading.Thread(target=warn_of_a_file, args=("of another thread", RuntimeWarning))
            other.start()
            other.join()
            warnings.warn("of other code", FutureWarning, stacklevel=1)
            warn_of_a_file("of this file")
        return noted

    with (
        pytest.warns(RuntimeWarning, match="of another thread"),
        pytest.warns(FutureWarning, match="of other code"),
    ):
        assert read_beside_another_thread() == ["of this file"]
    with pytest.warns(UserWarning, match="after all"):
        warn_of_a_file("after all")


def test_each_complaint_is_kept_once_and_three_of_a_file():
    with complaints_noted() as noted:
        for text in "aabbcde":
            warn_of_a_file(text)
    assert noted == ["a", "b", "c"]


def test_files_are_named_in_their_order(paths):
    images = check_images(list(map(str, paths)), 3)
    images.complaints = {7: "X[7]: second", 3: "X[3]: first"}  # as threads come to them
    with pytest.warns(UserWarning, match=r"X\[3\]: first; X\[7\]: second"):
        images.warn_of_complaints()


def test_reading_within_reading_takes_only_its_own():
    with complaints_noted() as outer:
        warn_of_a_file("of the first")
        with complaints_noted() as inner:
            warn_of_a_file("of the second")
        warn_of_a_file("again of the first")
    assert inner == ["of the second"]
    assert outer == ["of the first", "again of the first"]


def test_many_threads_read_at_once_and_each_names_its_own_file():
    noted = {}

    def read(name):
        for k in range(200):
            with complaints_noted() as complaints:
                warn_of_a_file(f"{k} of {name}")
            noted.setdefault(name, []).extend(complaints)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=read, args=(name,)) for name in "abcdefgh"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert noted == {name: [f"{k} of {name}" for k in range(200)] for name in "abcdefgh"}


def test_filters_may_be_sent_to_other_processes_meanwhile():
    with complaints_noted():
        action, text, category, module, line = pickle.loads(pickle.dumps(warnings.filters))[0]
    assert (action, category, line) == ("ignore", Warning, 0)
    assert type(text) is type(module) is re.Pattern
    assert text.match("Corrupt EXIF data") is module.match("PIL.Image") is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_processes_that_fork_in_the_midst_of_reading_read_on(paths):
    ends = threading.Event()

    def read():
        while not ends.is_set():
            read_image(paths[0], "it")

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                read_image(paths[1], "it")
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        ends.set()
        thread.join()
