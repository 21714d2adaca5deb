"""Image files and PIL images as arrays."""

import struct
import sys
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from skcsflow._images import _reader, image_size, load_file, read_image, read_pil
from skcsflow._images._reader import ImageFile, decode_reduced

RNG = np.random.RandomState(0)
COLOUR = RNG.randint(0, 256, size=(24, 30, 3)).astype(np.uint8)
GREY = COLOUR[..., 0].copy()


@pytest.mark.parametrize(
    ("mode", "is_grey"),
    [
        ("1", True), ("L", True), ("La", True), ("LA", True), ("P", False), ("PA", False), ("RGB", False),
        ("RGBA", False), ("RGBa", False), ("RGBX", False), ("CMYK", False), ("YCbCr", False), ("HSV", False),
    ],
)  # fmt: skip
def test_read_pil_of_any_mode_gives_its_grey_or_rgb_picture(mode, is_grey):
    source = Image.fromarray(COLOUR)
    steps = {"La": ["LA", "La"], "LA": ["LA"], "PA": ["L", "PA"], "RGBa": ["RGBA", "RGBa"]}
    for step in steps.get(mode, [mode]):
        source = source.convert(step)
    assert source.mode == mode
    plain = {"La": "LA", "RGBa": "RGBA"}.get(mode)
    expected = np.asarray((source.convert(plain) if plain else source).convert("RGB"))
    array = read_pil(source, "the image")
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, expected[..., 0] if is_grey else expected)


def test_read_pil_of_lab_gives_the_rgb_picture():
    profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    lab = ImageCms.profileToProfile(Image.fromarray(COLOUR), *profiles, outputMode="LAB")
    assert np.abs(read_pil(lab, "the image") - COLOUR.astype(float)).mean() < 2


def test_read_pil_drops_alpha_unless_four_channels_are_asked_for():
    rgba = np.dstack([COLOUR, GREY])
    image = Image.fromarray(rgba)
    np.testing.assert_array_equal(read_pil(image, "the image"), COLOUR)
    np.testing.assert_array_equal(read_pil(image, "the image", 4), rgba)


def test_read_pil_of_32_bits_takes_the_range_of_16_bits_alone():
    # One scale for values up to 65535 and another beyond would differ from image to image.
    array = read_pil(Image.fromarray(np.full((2, 2), 65535, np.int32)), "the image")
    assert (array.dtype, array.max()) == (np.uint16, 65535)
    for value in (65536, -1):
        with pytest.raises(ValueError, match=rf"the image .* from {value} to {value}, .* more than 16 bits"):
            read_pil(Image.fromarray(np.full((2, 2), value, np.int32)), "the image")


def test_read_image_of_every_kind_of_file_gives_its_pixels(tmp_path):
    rgb = Image.fromarray(COLOUR)
    files = {
        "palette.png": rgb.quantize(16),
        "rgba.png": rgb.convert("RGBA"),
        "la.png": rgb.convert("LA"),
        "cmyk.tif": rgb.convert("CMYK"),
        "rgb.bmp": rgb,
        "bits.png": rgb.convert("1"),
    }
    for name, image in files.items():
        image.save(tmp_path / name)
        array = read_image(tmp_path / name, name)
        np.testing.assert_array_equal(array, read_pil(image, name), err_msg=name)
        assert array.shape[:2] == image_size(tmp_path / name) == (24, 30), name
    rgb.save(tmp_path / "rgb.JPEG", quality=100, subsampling=0)
    assert np.abs(read_image(tmp_path / "rgb.JPEG", "rgb.JPEG") - COLOUR.astype(float)).mean() < 25
    np.save(tmp_path / "array.npy", COLOUR)
    np.testing.assert_array_equal(read_image(str(tmp_path / "array.npy"), "array.npy"), COLOUR)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_read_image_of_16_bit_grey_gives_uint16(tmp_path, suffix):
    array = RNG.randint(0, 2**16, size=(24, 30)).astype(np.uint16)
    path = tmp_path / f"grey.{suffix}"
    if suffix == "pgm":  # written by hand: older Pillows read it, but don't write it
        path.write_bytes(b"P5 30 24 65535\n" + array.astype(">u2").tobytes())
    else:
        Image.fromarray(array).save(path)
    found = read_image(path, "the image")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, array)


def test_read_image_of_floats_gives_them_as_they_are(tmp_path):
    array = RNG.rand(24, 30).astype(np.float32)
    Image.fromarray(array).save(tmp_path / "float.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "float.tif", "the image"), array)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_read_image_rotates_as_exif_says_and_image_size_too(tmp_path, suffix):
    gradient = np.add.outer(np.linspace(0, 160, 40), np.linspace(0, 90, 24)).astype(np.uint8)
    path = tmp_path / f"rotated.{suffix}"
    for orientation, expected in {
        1: gradient,
        2: gradient[:, ::-1],
        3: gradient[::-1, ::-1],
        4: gradient[::-1],
        5: gradient.T,
        6: np.rot90(gradient, -1),
        7: gradient[::-1, ::-1].T,
        8: np.rot90(gradient),
    }.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(gradient).convert("RGB").save(path, exif=exif)
        assert image_size(path) == expected.shape, orientation
        with Image.open(path) as opened:
            for array in (read_image(path, "the image"), read_pil(opened, "the image")):
                assert array.shape == (*expected.shape, 3), orientation
                assert np.abs(array[..., 0] - expected.astype(float)).max() < 13, orientation


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "npy"])
def test_read_image_of_a_truncated_file_raises_with_its_name(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    pixels = RNG.randint(0, 256, size=(60, 60, 3)).astype(np.uint8)
    np.save(path, pixels) if suffix == "npy" else Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    for share in (0.0, 0.02, 0.6, 0.95):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ValueError, match=r"X\[1\] could not be read as an image"):
            read_image(path, "X[1]")


def test_read_pil_of_a_truncated_file_raises_with_its_name(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:800])
    with (
        Image.open(tmp_path / "bad.png") as image,
        pytest.raises(ValueError, match=r"X\[1\] could not be read as an image"),
    ):
        read_pil(image, "X[1]")


def test_read_image_of_what_is_no_image_raises_with_its_name(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    for name in ("text.png", "objects.npy"):
        with pytest.raises(ValueError, match="the image could not be read as an image"):
            read_image(tmp_path / name, "the image")
    with pytest.raises(ValueError, match="the image: there is no such file"):
        read_image(tmp_path / "nowhere.png", "the image")
    with pytest.raises(ValueError, match=r"'.*text\.png' could not be read as an image"):
        image_size(tmp_path / "text.png")


def test_load_file_gives_bytes_and_whether_they_are_numpys(tmp_path):
    for name in ("a.NPY", "a.png"):
        (tmp_path / name).write_bytes(b"1234")
        assert load_file(tmp_path / name, name) == (name == "a.NPY", b"1234")


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
"""What each orientation of EXIF asks for, by its definition."""

DEEP = RNG.randint(0, 65536, size=(24, 30, 4)).astype(np.uint16)


@pytest.mark.parametrize("extension", ["png", "tiff"])
@pytest.mark.parametrize("n_channels", [3, 4])
def test_colours_of_16_bits_are_read_whole(tmp_path, extension, n_channels):
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / f"deep.{extension}"
    cv2.imwrite(str(path), DEEP[..., [2, 1, 0, 3][:n_channels]])
    np.testing.assert_array_equal(read_image(path, "it"), DEEP[..., :3])
    np.testing.assert_array_equal(read_image(path, "it", 4), DEEP[..., :n_channels])
    with (
        Image.open(path) as image,
        pytest.raises(ValueError, match=r"it could.* 16 bits, of which Pillow keeps 8.*path"),
    ):
        read_pil(image, "it")


@pytest.mark.parametrize("extension", ["ppm", "jp2"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_of_ppm_and_jpeg_2000_keep_their_bits(tmp_path, extension, dtype):
    cv2 = pytest.importorskip("cv2")
    ramp = np.add.outer(np.arange(64), np.arange(64))[..., None] * np.array([1, 2, 1])
    picture = ramp.astype(dtype) * dtype(1 if dtype is np.uint8 else 200)
    path = tmp_path / f"picture.{extension}"
    cv2.imwrite(str(path), picture[..., ::-1])
    found = read_image(path, "it")
    np.testing.assert_array_equal(found, picture)
    assert found.dtype == dtype


def with_orientation(png, orientation):
    """The bytes of a PNG file with that orientation in its metadata."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = exif.tobytes()[6:]
    chunk = b"eXIf" + data
    chunk = struct.pack(">I", len(data)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:33] + chunk + png[33:]  # behind the header


@pytest.mark.parametrize("orientation", TURNS)
def test_colours_of_16_bits_are_turned_as_pillow_turns_others(tmp_path, orientation):
    cv2 = pytest.importorskip("cv2")
    shallow = with_orientation(cv2.imencode(".png", COLOUR[..., ::-1])[1].tobytes(), orientation)
    deep = with_orientation(cv2.imencode(".png", DEEP[..., [2, 1, 0]])[1].tobytes(), orientation)
    for data, expected in ((shallow, COLOUR), (deep, DEEP[..., :3])):
        (tmp_path / "turned.png").write_bytes(data)
        np.testing.assert_array_equal(read_image(tmp_path / "turned.png", "it"), TURNS[orientation](expected))


def test_colours_of_16_bits_without_opencv_raise_and_say_what_to_install(tmp_path, monkeypatch):
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "deep.png"), DEEP[..., :3])
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ValueError, match=r"it could not be read.* 16 bits.*skcsflow\[images\]"):
        read_image(tmp_path / "deep.png", "it")


@pytest.mark.parametrize("name", ["pages.tiff", "moves.gif", "moves.webp", "moves.png"])
def test_files_of_several_pages_raise(tmp_path, name):
    frames = [Image.fromarray(COLOUR), Image.fromarray(COLOUR[::-1]), Image.fromarray(255 - COLOUR)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    with pytest.raises(
        ValueError, match=r"it could not be read as an image: it has 3 pages, of which only the first"
    ):
        read_image(tmp_path / name, "it")
    with Image.open(tmp_path / name) as image:
        image.seek(1)
        read_pil(image, "it")  # the page that was chosen


# Pillow's writer seeks in its file once more when it is forgotten, which Python tells from 3.13 on.
@pytest.mark.filterwarnings("ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning")
def test_tiff_with_smaller_pictures_of_itself_is_read(tmp_path):
    with TiffImagePlugin.AppendingTiffWriter(tmp_path / "pyramid.tiff", True) as file:
        Image.fromarray(COLOUR).save(file, "TIFF")
        file.newFrame()
        Image.fromarray(COLOUR[::2, ::2]).save(file, "TIFF", tiffinfo={254: 1})
    np.testing.assert_array_equal(read_image(tmp_path / "pyramid.tiff", "it"), COLOUR)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "I;16B", "F"]
)
def test_read_pil_in_bands_gives_the_same_pixels(monkeypatch, mode, orientation):
    if mode == "P":
        image = Image.fromarray(COLOUR).quantize(16)
    elif mode.startswith("I;16"):
        image = Image.frombytes(mode, (30, 24), RNG.bytes(2 * 30 * 24))
    else:
        image = Image.fromarray(COLOUR).convert(mode)
    image.getexif()[0x0112] = orientation
    for num_channels in (3, 4):
        expected = read_pil(image, "it", num_channels)
        assert expected.shape[:2] == ((24, 30) if orientation == 1 else (30, 24))
        for n_pixels in (1, 100, 719):  # less than a row, some rows, all but one
            with monkeypatch.context() as context:
                context.setattr(_reader, "_BAND_PIXELS", n_pixels)
                found = read_pil(image, "it", num_channels)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)


def test_read_pil_leaves_the_image_as_it_is():
    image = Image.fromarray(COLOUR)
    image.getexif()[0x0112] = 6
    read_pil(image, "it")
    assert image.size == (30, 24)
    assert image.getexif()[0x0112] == 6
    np.testing.assert_array_equal(np.asarray(image), COLOUR)


SMOOTH = (np.add.outer(np.linspace(0, 120, 300), np.linspace(0, 100, 500))).astype(np.uint8)


def saved(pixels, kind="JPEG", orientation=1, mode="RGB"):
    exif, file = Image.Exif(), BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).convert(mode).save(file, kind, exif=exif)
    return ImageFile(False, file.getvalue())


@pytest.mark.parametrize(
    ("least_size", "factor"),
    [
        ((300, 500), 1),
        ((151, 100), 1),
        ((150, 250), 2),
        ((76, 10), 2),
        ((75, 125), 4),
        ((30, 50), 8),
        ((1, 1), 8),
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("orientation", TURNS)
def test_decode_reduced_reads_a_jpeg_no_smaller_than_the_least_size(orientation, mode, least_size, factor):
    pixels = SMOOTH if orientation < 5 else SMOOTH.T  # upright: 300 x 500
    found, size = decode_reduced(saved(pixels, "JPEG", orientation, mode), 3, "it", least_size)
    assert size == (None if factor == 1 else (300, 500))
    assert found.shape[:2] == (-(-300 // factor), -(-500 // factor))
    expected = TURNS[orientation](pixels)[factor // 2 :: factor, factor // 2 :: factor]
    grey = (found if mode == "L" else found[..., 0])[: len(expected), : expected.shape[1]]
    assert np.abs(grey - expected.astype(float)).max() < 13


def test_decode_reduced_of_other_files_gives_all_their_pixels():
    for kind, mode in [("PNG", "RGB"), ("TIFF", "L"), ("WEBP", "RGB"), ("JPEG", "CMYK")]:
        found, size = decode_reduced(saved(SMOOTH, kind, 1, mode), 3, "it", (10, 10))
        assert (found.shape[:2], size) == ((300, 500), None)


def test_decode_reduced_of_a_cameras_jpeg_with_previews_gives_its_first_picture():
    file = BytesIO()
    picture = Image.fromarray(SMOOTH).convert("RGB")
    picture.save(file, "MPO", save_all=True, append_images=[picture.resize((50, 30))])
    found, size = decode_reduced(ImageFile(False, file.getvalue()), 3, "it", (30, 30))
    assert (found.shape, size) == ((38, 63, 3), (300, 500))


def test_decode_reduced_of_a_truncated_jpeg_raises_with_its_name():
    data = saved(RNG.randint(0, 256, size=(300, 500)).astype(np.uint8)).data
    with pytest.raises(ValueError, match=r"X\[1\] could not be read as an image"):
        decode_reduced(ImageFile(False, data[: len(data) // 2]), 3, "X[1]", (10, 10))


def test_read_image_reads_jpegs_at_their_full_size(tmp_path):
    (tmp_path / "a.jpg").write_bytes(saved(SMOOTH).data)
    assert read_image(tmp_path / "a.jpg", "it").shape == (300, 500, 3)
