"""Every kind of X, good and bad."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image, ImageCms
from sklearn.base import clone

from skcsflow import CSFlowDetector
from skcsflow._images import check_images, is_row_matrix, resize, resolve_image_shape

RNG = np.random.RandomState(0)
COLOUR = RNG.randint(0, 256, size=(5, 24, 30, 3)).astype(np.uint8)
GREY = COLOUR[..., 0].copy()


def read(image, num_channels=3):
    """The one image, through the whole of the reading."""
    return check_images([image], num_channels)[0]


def as_kinds(images, folder):
    """The same images as everything that X may be."""
    paths = [folder / f"{i}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    channels_last = images if images.ndim == 4 else images[..., None]
    tensor = torch.from_numpy(channels_last).movedim(-1, 1)
    arrays = np.empty(len(images), dtype=object)
    arrays[:] = list(images)
    names = [str(p) for p in paths]
    kinds = {
        "array": images,
        "fortran": np.asfortranarray(images),
        "tensor": tensor,
        "contiguous tensor": tensor.contiguous(),
        "arrays": list(images),
        "tuple": tuple(images),
        "object array": arrays,
        "tensors": list(tensor),
        "PIL": [Image.fromarray(i) for i in images],
        "opened": [Image.open(p) for p in paths],
        "Path": paths,
        "str": names,
        "str array": np.array(names),
        "Series": pd.Series(names, index=list("edcba")),
        "Series of objects": pd.Series(paths, index=[7, 7, 0, -1, 2]),
        "Series of arrays": pd.Series(list(images)),
        "Series of strings": pd.Series(names, dtype="string"),
        "Categorical": pd.Series(names, dtype="category"),
        "polars": pl.Series(names),
        "DataFrame": pd.DataFrame({"path": names}),
        "DataFrame of images": pd.DataFrame({"image": [Image.fromarray(i) for i in images]}),
        "polars DataFrame": pl.DataFrame({"path": names}),
    }
    if hasattr(np.dtypes, "StringDType"):  # numpy 2
        kinds["string dtype"] = np.array(names, dtype=np.dtypes.StringDType())
    return kinds


@pytest.mark.parametrize("images", [COLOUR, GREY], ids=["colour", "grey"])
def test_images_every_kind_of_X_gives_the_same_bits(fitted, tmp_path, images):
    expected = fitted.score_samples(images)
    assert len(np.unique(expected)) == len(images)
    for kind, X in as_kinds(images, tmp_path).items():
        np.testing.assert_array_equal(fitted.score_samples(X), expected, err_msg=kind)
        assert fitted.transform(X).shape == (5, 24, 30), kind


def test_images_one_channel_every_layout_gives_the_same_bits(tiny_params, tmp_path):
    detector = CSFlowDetector(**tiny_params, num_channels=1).fit(GREY)
    expected = detector.score_samples(GREY)
    for kind, X in {**as_kinds(GREY, tmp_path), "(n, H, W, 1)": GREY[..., None]}.items():
        np.testing.assert_array_equal(detector.score_samples(X), expected, err_msg=kind)


def test_images_mixed_sizes_score_as_each_alone(fitted):
    images = [COLOUR[0], COLOUR[1][:10], GREY[2], COLOUR[3][:, :7]]
    expected = [fitted.score_samples([image])[0] for image in images]
    np.testing.assert_array_equal(fitted.score_samples(images), expected)


def test_images_one_lazily_opened_image_many_times_is_read_safely(fitted, tmp_path):
    pixels = RNG.randint(0, 256, size=(500, 500, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    opened = Image.open(tmp_path / "large.png")
    scores = fitted.score_samples([opened] * 8)
    np.testing.assert_array_equal(scores, np.repeat(fitted.score_samples([pixels]), 8))


@pytest.mark.parametrize(
    "dtype",
    ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">u2", ">i4"],
)
def test_images_integers_are_scaled_by_the_range_of_their_type(dtype):
    dtype = np.dtype(dtype)
    top = 1 if dtype.kind == "b" else np.iinfo(dtype).max
    array = np.array([[0, top], [top // 2, top // 4]], dtype)
    expected = torch.from_numpy(array.astype(np.float64) / float(top))
    X = array[None]
    for image in (check_images(X, 1)[0], check_images([array], 1)[0]):
        assert image.dtype in (torch.float32, torch.float64)
        torch.testing.assert_close(image[0].double(), expected, rtol=1e-6, atol=0)
    if dtype.isnative:
        tensor = torch.from_numpy(X)[:, None]
        torch.testing.assert_close(check_images(tensor, 1)[0], image, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", ">f4", ">f8"])
def test_images_floats_are_taken_as_they_are(dtype):
    array = np.array([[0, -1.5], [0.25, 300]]).astype(dtype)
    torch.testing.assert_close(read(array, 1)[0].double(), torch.from_numpy(array.astype(np.float64)))


def test_images_bfloat16_tensor_is_taken_as_it_is():
    tensor = torch.tensor([[[[0.5, 2.0]]]], dtype=torch.bfloat16)
    assert check_images(tensor, 1)[0].tolist() == [[[0.5, 2.0]]]


def test_images_awkward_memory_is_read_and_left_alone():
    array = COLOUR[0].copy()
    array.flags.writeable = False
    assert torch.equal(read(array), read(COLOUR[0]))
    flipped = COLOUR[0][::-1, ::-1]
    assert torch.equal(read(flipped), read(flipped.copy()))
    assert torch.equal(read(np.asfortranarray(COLOUR[0])), read(COLOUR[0]))
    floats = RNG.rand(1, 64, 64, 3).astype(np.float32)
    before = floats.copy()
    read(floats[0]).mul(0)
    np.testing.assert_array_equal(floats, before)


def test_images_tensor_with_gradient_is_detached():
    tensor = torch.rand(1, 3, 4, 4, requires_grad=True)
    assert not check_images(tensor, 3)[0].requires_grad


@pytest.mark.parametrize(
    ("mode", "channels"),
    [
        ("1", 1), ("L", 1), ("La", 1), ("LA", 1), ("P", 3), ("PA", 3), ("RGB", 3), ("RGBA", 3),
        ("RGBa", 3), ("RGBX", 3), ("CMYK", 3), ("YCbCr", 3), ("HSV", 3),
    ],
)  # fmt: skip
def test_images_pil_mode_gives_its_rgb_picture(mode, channels):
    source = Image.fromarray(COLOUR[0])
    steps = {"La": ["LA", "La"], "LA": ["LA"], "PA": ["L", "PA"], "RGBa": ["RGBA", "RGBa"]}
    for step in steps.get(mode, [mode]):
        source = source.convert(step)
    assert source.mode == mode
    plain = {"La": "LA", "RGBa": "RGBA"}.get(mode)
    expected = np.asarray((source.convert(plain) if plain else source).convert("RGB"))
    image = read(source)
    assert image.shape == (3, 24, 30)
    torch.testing.assert_close(image, torch.from_numpy(expected / np.float32(255)).movedim(-1, 0))
    if channels == 1:
        assert torch.equal(read(source, 1)[0], image[0])


def test_images_alpha_is_dropped_and_not_blended():
    rgba = np.dstack([COLOUR[0], np.zeros((24, 30), np.uint8)])
    for image in (rgba, Image.fromarray(rgba), torch.from_numpy(rgba).movedim(-1, 0)):
        assert torch.equal(read(image), read(COLOUR[0]))


def test_images_alpha_is_kept_where_four_channels_are_asked_for():
    rgba = np.dstack([COLOUR[0], GREY[1]])
    assert torch.equal(read(Image.fromarray(rgba), 4), read(rgba, 4))
    assert read(rgba, 4).shape == (4, 24, 30)


def test_images_file_kinds_are_read(tmp_path):
    rgb = Image.fromarray(COLOUR[0])
    rgb.quantize(16).save(tmp_path / "palette.png")
    rgb.convert("RGBA").save(tmp_path / "rgba.png")
    rgb.convert("LA").save(tmp_path / "la.png")
    rgb.convert("CMYK").save(tmp_path / "cmyk.tif")
    rgb.save(tmp_path / "rgb.bmp")
    rgb.save(tmp_path / "rgb.JPEG", quality=100, subsampling=0)
    rgb.convert("1").save(tmp_path / "bits.png")
    np.save(tmp_path / "array.npy", COLOUR[0])
    for path in sorted(tmp_path.iterdir()):
        image = read(path)
        assert image.shape == (3, 24, 30), path
        assert 0 <= image.min() < image.max() <= 1, path
    for name in ("array.npy", "rgb.bmp", "rgba.png"):
        assert torch.equal(read(tmp_path / name), read(COLOUR[0])), name
    assert (read(tmp_path / "rgb.JPEG") - read(COLOUR[0])).abs().mean() < 0.1


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_images_16_bit_grey_file_equals_its_array(tmp_path, suffix):
    array = RNG.randint(0, 2**16, size=(24, 30)).astype(np.uint16)
    array[0, :2] = 0, 2**16 - 1
    path = tmp_path / f"grey.{suffix}"
    if suffix == "pgm":  # written by hand: older Pillows read it, but don't write it
        path.write_bytes(b"P5 30 24 65535\n" + array.astype(">u2").tobytes())
    else:
        Image.fromarray(array).save(path)
    assert torch.equal(read(path, 1), read(array, 1))
    assert read(array, 1).max() == 1


def test_images_32_bit_pil_image_beyond_16_bits_raises():
    # One scale for values up to 65535 and another beyond would differ from image to image.
    assert read(Image.fromarray(np.full((2, 2), 65535, np.int32)), 1).max() == 1
    for value in (65536, -1):
        with pytest.raises(ValueError, match=rf"X\[0\] .* from {value} to {value}, .* more than 16 bits"):
            read(Image.fromarray(np.full((2, 2), value, np.int32)), 1)


def test_images_float_file_is_taken_as_it_is(tmp_path):
    array = RNG.rand(24, 30).astype(np.float32)
    Image.fromarray(array).save(tmp_path / "float.tif")
    assert torch.equal(read(tmp_path / "float.tif", 1)[0], torch.from_numpy(array))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", [3, 5, 6])
def test_images_exif_rotation_is_applied(tmp_path, suffix, orientation):
    gradient = np.tile(np.linspace(0, 255, 40).astype(np.uint8)[:, None], (1, 24))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"rotated.{suffix}"
    Image.fromarray(gradient).convert("RGB").save(path, exif=exif)
    expected = {3: gradient[::-1, ::-1], 5: gradient.T, 6: np.rot90(gradient, -1)}[orientation]
    for item in (path, Image.open(path)):
        image = read(item)
        assert image.shape[1:] == expected.shape
        torch.testing.assert_close(image[0], torch.from_numpy(expected / np.float32(255)), atol=0.05, rtol=0)


@pytest.mark.parametrize("num_channels", [1, 2, 4, 12])
def test_images_other_channel_counts_must_match(num_channels):
    array = RNG.rand(6, 8, num_channels)
    assert torch.equal(read(array, num_channels), torch.from_numpy(array).movedim(-1, 0))
    wrong = RNG.rand(6, 8, num_channels + 1)
    with pytest.raises(
        ValueError, match=rf"X\[0\] has {num_channels + 1} channels.*num_channels={num_channels}"
    ):
        read(wrong, num_channels)


@pytest.mark.parametrize("channels", [2, 5])
def test_images_wrong_channels_of_colour_raise(channels):
    with pytest.raises(ValueError, match=rf"X\[0\] has {channels} channels, but num_channels=3"):
        read(RNG.rand(6, 8, channels))


# 2-D rows


@pytest.mark.parametrize(
    ("image_shape", "n_features", "expected"),
    [
        (None, 49, (7, 7)),
        (None, 1, (1, 1)),
        (None, 50, (1, 50)),
        ((5, 10), 50, (5, 10)),
        ([2, 4, 3], 24, (2, 4, 3)),
    ],
)
def test_image_shape_of_rows_is_resolved(image_shape, n_features, expected):
    assert resolve_image_shape(image_shape, n_features) == expected


@pytest.mark.parametrize("image_shape", [(24, 30), (24, 30, 3)])
def test_rows_with_image_shape_score_as_the_images(tiny_params, image_shape):
    images = GREY if len(image_shape) == 2 else COLOUR
    by_images = CSFlowDetector(**tiny_params).fit(images)
    rows = images.reshape(5, -1)
    detector = CSFlowDetector(**tiny_params, image_shape=image_shape)
    scores = detector.fit(rows).score_samples(rows)
    np.testing.assert_array_equal(scores, by_images.score_samples(images))
    assert detector.image_shape_ == image_shape
    assert detector.n_features_in_ == rows.shape[1]
    np.testing.assert_allclose(detector.score_samples((rows / 255).tolist()), scores, rtol=1e-4)
    assert detector.transform(rows).shape == (5, 24 * 30)
    names = pd.DataFrame(rows).add_prefix("pixel")
    np.testing.assert_array_equal(detector.fit(names).score_samples(names), scores)
    assert detector.feature_names_in_[-1] == f"pixel{rows.shape[1] - 1}"


@pytest.mark.parametrize(("n_features", "shape"), [(49, (7, 7)), (50, (1, 50))])
def test_rows_default_shape_is_square_or_strip(tiny_params, n_features, shape):
    X = RNG.rand(4, n_features)
    detector = CSFlowDetector(**tiny_params).fit(X)
    assert detector.image_shape_ == shape
    np.testing.assert_array_equal(detector.score_samples(X), detector.score_samples(X.reshape(-1, *shape)))


def test_rows_matrix_is_told_from_images():
    assert is_row_matrix(np.zeros((3, 4)))
    assert is_row_matrix([[1, 2], [3, 4]])
    assert is_row_matrix([np.zeros(3), np.zeros(3)])
    assert is_row_matrix(pd.DataFrame({"a": [1.0], "b": [2.0]}))
    assert is_row_matrix(pd.DataFrame({"a": [1.0]}))
    assert not is_row_matrix(pd.DataFrame({"a": ["x.png"]}))
    assert not is_row_matrix(Image.fromarray(GREY[0]))
    assert not is_row_matrix(torch.zeros(3, 4))


def test_resize_shrinks_with_antialiasing():
    checkers = torch.from_numpy((np.indices((64, 64)).sum(axis=0) % 2).astype(np.float32))[None]
    torch.testing.assert_close(resize(checkers, (8, 8)), torch.full((1, 8, 8), 0.5), atol=0.02, rtol=0)


def test_resize_same_size_changes_nothing():
    image = torch.rand(3, 9, 7)
    assert torch.equal(resize(image, (9, 7)), image)


# Bad input


def nothing():
    yield GREY[0]


OBJECTS_OF_3D = np.zeros((2, 4, 4), dtype=object)
BAD_X = {
    "empty list": ([], ValueError, r"0 sample\(s\)"),
    "empty tuple": ((), ValueError, r"0 sample\(s\)"),
    "empty images": (np.empty((0, 4, 4)), ValueError, r"0 sample\(s\)"),
    "empty tensor": (torch.empty(0, 3, 4, 4), ValueError, r"0 sample\(s\)"),
    "empty rows": (np.empty((0, 16)), ValueError, r"0 sample\(s\)"),
    "empty objects": (np.array([], dtype=object), ValueError, r"0 sample\(s\)"),
    "empty strings": (np.array([], dtype=str), ValueError, r"0 sample\(s\)"),
    "empty Series": (pd.Series([], dtype=object), ValueError, r"0 sample\(s\)"),
    "empty polars": (pl.Series([], dtype=pl.String), ValueError, r"0 sample\(s\)"),
    "no features": (np.empty((3, 0)), ValueError, r"0 feature\(s\)"),
    "1-D": (np.arange(4.0), ValueError, "Expected 2D array, got 1D array"),
    "list of numbers": ([1, 2, 3], ValueError, "Expected 2D array, got 1D array"),
    "5-D": (np.zeros((2, 2, 2, 2, 2)), ValueError, r"\(n, H, W, C\).*got \(2, 2, 2, 2, 2\)"),
    "3-D tensor": (torch.zeros(3, 4, 4), ValueError, r"\(n, C, H, W\), got \(3, 4, 4\)"),
    "2-D tensor": (torch.zeros(4, 4), ValueError, r"\(n, C, H, W\), got \(4, 4\)"),
    "4-D item": ([GREY[0], np.zeros((2, 2, 2, 2))], ValueError, r"X\[1\] has shape \(2, 2, 2, 2\)"),
    "1-D item": ([GREY[0], np.zeros(3)], ValueError, r"X\[1\] has shape \(3,\)"),
    "0 high": (np.zeros((2, 0, 4)), ValueError, r"X\[0\] has shape \(0, 4\)"),
    "0 wide": ([GREY[0], np.zeros((4, 0, 3))], ValueError, r"X\[1\] has shape \(4, 0, 3\)"),
    "0 channels": (np.zeros((2, 4, 4, 0)), ValueError, r"X\[0\] has shape \(4, 4, 0\)"),
    "0 high tensor": (torch.zeros(2, 3, 0, 4), ValueError, r"X\[0\] has shape \(3, 0, 4\)"),
    "ragged lists": ([[1, 2, 3], [1, 2]], ValueError, r"X is ragged: X\[0\]"),
    "ragged rows": ([np.zeros(3), np.zeros(2)], ValueError, r"X is ragged: X\[0\]"),
    "array and path": ([GREY[0], "a.png"], TypeError, r"X\[0\] is an array, X\[1\] is a path"),
    "PIL and tensor": ([Image.fromarray(GREY[0]), torch.zeros(3, 4, 4)], TypeError, r"X\[1\] is a tensor"),
    "None in list": ([GREY[0], None], TypeError, r"X\[1\] is of type NoneType"),
    "missing path": (pd.Series(["a.png", None]), TypeError, r"X\[1\] is of type"),
    "bytes": ([b"a.png"], TypeError, r"X\[0\] is of type bytes"),
    "no such file": (["nowhere.png"], ValueError, r"X\[0\] \('nowhere.png'\): there is no such file"),
    "a folder": (["."], ValueError, r"X\[0\] \('\.'\) could not be read"),
    "complex": (np.zeros((2, 4, 4), complex), TypeError, "X has dtype complex128"),
    "complex rows": (np.zeros((2, 16), complex), ValueError, "Complex data not supported"),
    "complex tensor": (torch.zeros(2, 3, 4, 4, dtype=torch.complex64), TypeError, r"X\[0\].*complex64"),
    "dates": (np.zeros((2, 4, 4), "M8[s]"), TypeError, "datetime64"),
    "dates in rows": (np.zeros((2, 16), "M8[s]"), TypeError, "datetime64"),
    "object item": ([GREY[0].astype(object)], TypeError, r"X\[0\] has dtype object"),
    "3-D objects": (OBJECTS_OF_3D, ValueError, r"must have shape \(n,\), got \(2, 4, 4\)"),
    "channels first": (np.zeros((2, 3, 8, 9)), ValueError, r"X\[0\] has 9 channels"),
    "channels last tensor": (torch.zeros(2, 8, 9, 3), ValueError, r"X\[0\] has 8 channels"),
    "one PIL image": (Image.fromarray(GREY[0]), TypeError, "got Image"),
    "one path": ("a.png", TypeError, "got str"),
    "dict": ({"a": 1}, TypeError, "got dict"),
    "set": ({1}, TypeError, "got set"),
    "None": (None, TypeError, "got NoneType"),
    "scalar": (3.0, TypeError, "got float"),
    "generator": (nothing(), TypeError, "got generator"),
}  # fmt: skip
for _value in (np.nan, np.inf, -np.inf):
    _bad = RNG.rand(3, 4, 4)
    _bad[1, 2, 3] = _value
    _tensor = torch.from_numpy(_bad)[:, None].expand(-1, 3, -1, -1)
    BAD_X |= {
        f"{_value} array": (_bad, ValueError, r"Input X contains NaN or infinity: X\[1\] does"),
        f"{_value} list": (list(_bad), ValueError, r"Input X contains NaN or infinity: X\[1\] does"),
        f"{_value} tensor": (_tensor, ValueError, r"Input X contains NaN or infinity: X\[1\] does"),
        f"{_value} rows": (
            _bad.reshape(3, -1),
            ValueError,
            "Input X contains NaN" if np.isnan(_value) else r"NaN or infinity: X\[1\]",
        ),
    }


@pytest.fixture(scope="module")
def fitted_on_rows(fitted):
    return clone(fitted).set_params(n_epochs=1).fit(RNG.rand(3, 16))


@pytest.mark.parametrize("kind", BAD_X)
def test_fit_and_score_bad_X_raise(tiny_params, fitted_on_rows, kind):
    X, error, message = BAD_X[kind]
    with pytest.raises(error, match=message):
        CSFlowDetector(**tiny_params).fit(X)
    if kind == "no features":
        return
    if kind == "generator":
        X = nothing()
    with pytest.raises(error, match=message):
        fitted_on_rows.score_samples(X)


@pytest.mark.parametrize("value", [1e300, 1e38])
@pytest.mark.parametrize("method", ["fit", "score_samples", "transform", "predict"])
def test_values_too_large_to_compute_with_raise(tiny_params, fitted_on_rows, method, value):
    X = RNG.rand(3, 4, 4)
    X[1] = value
    estimator = CSFlowDetector(**tiny_params) if method == "fit" else fitted_on_rows
    with pytest.raises(ValueError, match=r"Input X contains .*too large.*X\[1\]"):
        getattr(estimator, method)(X)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "npy"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.6, 0.95])
def test_truncated_file_raises_with_row_and_path(fitted, tmp_path, suffix, share):
    good, bad = tmp_path / f"good.{suffix}", tmp_path / f"bad.{suffix}"
    pixels = RNG.randint(0, 256, size=(60, 60, 3)).astype(np.uint8)
    np.save(good, pixels) if suffix == "npy" else Image.fromarray(pixels).save(good)
    content = good.read_bytes()
    bad.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=rf"X\[1\] \('.*bad\.{suffix}'\) could not be read as an image"):
        fitted.score_samples([good, bad])


def test_truncated_pil_image_raises_with_row(fitted, tmp_path):
    Image.fromarray(COLOUR[0]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:800])
    with (
        Image.open(tmp_path / "bad.png") as image,
        pytest.raises(ValueError, match=r"X\[1\] could not be read as an image"),
    ):
        fitted.score_samples([Image.fromarray(COLOUR[0]), image])


@pytest.mark.parametrize("name", ["text.png", "objects.npy", "four.npy"])
def test_file_that_holds_no_image_raises(fitted, tmp_path, name):
    (tmp_path / "text.png").write_text("no image")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    np.save(tmp_path / "four.npy", np.zeros((1, 2, 2, 3)))
    with pytest.raises(ValueError, match=rf"X\[0\] \('.*{name}'\)"):
        fitted.score_samples([tmp_path / name])


def test_errors_count_rows_of_X_even_where_y_leaves_some_out(tiny_params, tmp_path):
    detector = CSFlowDetector(**tiny_params)
    y = np.array([-1, 1, -1, 1, 1])
    images = list(COLOUR / 255)
    images[3] = np.full((4, 4), np.nan)
    with pytest.raises(ValueError, match=r"X\[3\]"):
        detector.fit(images, y)
    images[3] = np.full((4, 4), 1e38)
    with pytest.raises(ValueError, match=r"X\[3\]"):
        detector.fit(images, y)
    images[3] = np.zeros((4, 4, 2))
    with pytest.raises(ValueError, match=r"X\[3\] has 2 channels"):
        detector.fit(images, y)
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, image in zip(paths[:3], COLOUR, strict=False):
        Image.fromarray(image).save(path)
    with pytest.raises(ValueError, match=r"X\[3\] \('.*3\.png'\): there is no such file"):
        detector.fit(paths, y)


def test_lab_image_from_a_profile_is_read():
    lab = ImageCms.profileToProfile(
        Image.fromarray(COLOUR[0]),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert (read(lab) - read(COLOUR[0])).abs().mean() < 0.05
