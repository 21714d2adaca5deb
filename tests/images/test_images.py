"""Every kind of X, good and bad."""

import time
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import sparse
from sklearn.base import clone

from skcsflow import CSFlowDetector
from skcsflow._images import check_images, image_size, is_row_matrix, resolve_image_shape
from skcsflow.datasets import list_images

RNG = np.random.RandomState(0)
COLOUR = RNG.randint(0, 256, size=(5, 24, 30, 3)).astype(np.uint8)
GREY = COLOUR[..., 0].copy()


def read(image, num_channels=3):
    """The one image, decoded and checked."""
    return check_images([image], num_channels)[0]


def save(images, folder):
    paths = [folder / f"{i}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


class Lazy(torch.utils.data.Dataset):
    """Items that are only to be had one by one, with Python's integers."""

    def __init__(self, items):
        self.items = items
        self.asked = []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        assert type(i) is int
        self.asked.append(i)
        return self.items[i]


def as_kinds(images, folder):
    """The same images as everything that X may be, but for tables."""
    paths = save(images, folder)
    channels_last = images if images.ndim == 4 else images[..., None]
    tensor = torch.from_numpy(channels_last).movedim(-1, 1)
    arrays = np.empty(len(images), dtype=object)
    arrays[:] = list(images)
    names = [str(p) for p in paths]
    kinds = {
        "array": images,
        "array with a last axis of channels": channels_last,
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
        "folder": folder,
        "folder's name": str(folder),
        "contents": [path.read_bytes() for path in paths],
        "buffers": [BytesIO(path.read_bytes()) for path in paths],
        "data set": Lazy(list(images)),
        "data set of tensors": Lazy(list(tensor)),
        "data set of paths": Lazy(paths),
        "labelled data set": torch.utils.data.TensorDataset(tensor, torch.zeros(len(tensor))),
        "nothing masked": np.ma.masked_array(images),
    }
    if hasattr(np.dtypes, "StringDType"):  # numpy 2
        kinds["string dtype"] = np.array(names, dtype=np.dtypes.StringDType())
    return kinds


@pytest.mark.slow
@pytest.mark.parametrize("images", [COLOUR, GREY], ids=["colour", "grey"])
def test_score_samples_of_every_kind_of_X_gives_the_same_bits(fitted, tmp_path, images):
    expected = fitted.score_samples(images)
    assert len(np.unique(expected)) == len(images)
    for kind, X in as_kinds(images, tmp_path).items():
        np.testing.assert_array_equal(fitted.score_samples(X), expected, err_msg=kind)
        assert fitted.transform(X).shape == (5, 24, 30), kind


def test_score_samples_of_tables_of_pandas_gives_the_same_bits(fitted, tmp_path):
    pd = pytest.importorskip("pandas")
    paths = save(GREY, tmp_path)
    names = [str(p) for p in paths]
    expected = fitted.score_samples(GREY)
    for kind, X in {
        "Series": pd.Series(names, index=list("edcba")),
        "Series of objects": pd.Series(paths, index=[7, 7, 0, -1, 2]),
        "Series of arrays": pd.Series(list(GREY)),
        "Series of strings": pd.Series(names, dtype="string"),
        "Categorical": pd.Series(names, dtype="category"),
        "DataFrame": pd.DataFrame({"path": names}),
        "DataFrame of contents": pd.DataFrame({"content": [path.read_bytes() for path in paths]}),
        "DataFrame of images": pd.DataFrame({"image": [Image.fromarray(i) for i in GREY]}),
    }.items():
        np.testing.assert_array_equal(fitted.score_samples(X), expected, err_msg=kind)


def test_score_samples_of_tables_of_polars_gives_the_same_bits(fitted, tmp_path):
    pl = pytest.importorskip("polars")
    names = [str(p) for p in save(GREY, tmp_path)]
    expected = fitted.score_samples(GREY)
    for X in (pl.Series(names), pl.DataFrame({"path": names})):
        np.testing.assert_array_equal(fitted.score_samples(X), expected)


@pytest.mark.parametrize("library", ["h5py", "zarr", "dask.array", "pyarrow", "polars", "datasets"])
def test_score_samples_of_arrays_and_columns_of_other_libraries_gives_the_same_bits(
    fitted, tmp_path, library
):
    module = pytest.importorskip(library)
    paths = save(GREY, tmp_path)
    if library == "h5py":
        with module.File(tmp_path / "images.h5", "w") as file:
            file["images"] = GREY
        kinds = [module.File(tmp_path / "images.h5")["images"]]
    elif library == "zarr":
        kinds = [module.array(GREY)]
    elif library == "dask.array":
        kinds = [module.from_array(GREY, chunks=2)]
    elif library == "pyarrow":
        names = module.array([str(path) for path in paths])
        grey = module.list_(module.list_(module.uint8()))
        contents = module.array([path.read_bytes() for path in paths])
        kinds = [names, module.chunked_array([names]), contents, module.array(GREY.tolist(), grey)]
        kinds += [
            table({"image": column}) for table in (module.table, module.record_batch) for column in kinds[::2]
        ]
    elif library == "polars":
        kinds = [module.Series(GREY, dtype=module.Array(module.UInt8, GREY.shape[1:]))]
    else:
        rows = module.Dataset.from_dict({"image": [str(path) for path in paths], "label": [0] * len(paths)})
        kinds = [rows.cast_column("image", module.Image())["image"]]
        with pytest.raises(TypeError, match=r"X\[0\] is a dict with the keys 'image', 'label'.*X\['image'\]"):
            fitted.score_samples(rows)
    for X in kinds:
        np.testing.assert_array_equal(
            fitted.score_samples(X), fitted.score_samples(GREY), err_msg=str(type(X))
        )


@pytest.mark.slow
def test_tables_of_pyarrow_are_read_like_those_of_pandas(tiny_params, tmp_path):
    pa = pytest.importorskip("pyarrow")
    names = [str(path) for path in save(np.concatenate([GREY, 255 - GREY]), tmp_path)]
    table = pa.table({"path": names})
    detector = CSFlowDetector(**tiny_params).fit(table).calibrate(table, fpr=0.2, cv=2)
    expected = CSFlowDetector(**tiny_params).fit(names).calibrate(names, fpr=0.2, cv=2)
    np.testing.assert_array_equal(detector.calibration_scores_, expected.calibration_scores_)
    with pytest.raises(ValueError, match=r"Choose the column of the images, such as X\['path'\]"):
        detector.score_samples(pa.table({"path": names, "label": names}))
    rows = GREY.reshape(5, -1)[:, :16] / 255
    numbers = pa.table({str(i): column for i, column in enumerate(rows.T)})
    np.testing.assert_array_equal(
        CSFlowDetector(**tiny_params).fit(numbers).score_samples(numbers),
        CSFlowDetector(**tiny_params).fit(rows).score_samples(rows),
    )


class OneReader(Lazy):
    """A data set that must not be read by two threads at once, as those that seek in a file."""

    def __getitem__(self, i):
        self.position = i
        time.sleep(0.002)
        return self.items[self.position]


def test_data_set_is_read_by_one_thread_at_a_time(fitted_copy):
    images = list(GREY) * 4
    expected = fitted_copy.score_samples(images)
    np.testing.assert_array_equal(fitted_copy.set_params(n_jobs=4).score_samples(OneReader(images)), expected)


def test_nested_lists_and_several_views_as_items_raise(fitted):
    for item in (GREY[0].tolist(), [COLOUR[0], COLOUR[1]], (COLOUR[0], GREY[0])):
        with pytest.raises(TypeError, match=r"X\[0\] is a (list|tuple) of .* an image and perhaps its label"):
            fitted.score_samples(Lazy([item]))


@pytest.mark.slow
def test_calibrate_by_cv_of_a_labelled_data_set_reads_it_lazily(tiny_params):
    tensor = torch.from_numpy(np.concatenate([COLOUR, 255 - COLOUR])).movedim(-1, 1)
    images = torch.utils.data.TensorDataset(tensor, torch.zeros(len(tensor)))
    detector = CSFlowDetector(**tiny_params).fit(images).calibrate(images, fpr=0.2, cv=2)
    expected = CSFlowDetector(**tiny_params).fit(tensor).calibrate(tensor, fpr=0.2, cv=2)
    np.testing.assert_array_equal(detector.calibration_scores_, expected.calibration_scores_)


def test_names_that_begin_with_a_tilde_are_no_home_folder(fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(GREY[0]).save("~a.png")
    np.testing.assert_array_equal(fitted.score_samples("."), fitted.score_samples(GREY[:1]))
    np.testing.assert_array_equal(fitted.score_samples(["~a.png"]), fitted.score_samples(GREY[:1]))


def test_empty_string_is_no_folder(fitted):
    with pytest.raises(ValueError, match="X is an empty string"):
        fitted.score_samples("")


def test_data_set_is_read_item_by_item_and_each_once(fitted):
    images = Lazy(list(GREY))
    fitted.score_samples(images)
    assert sorted(images.asked) == list(range(len(GREY)))


def test_fit_on_a_folder_is_that_on_its_images(tiny_params, tmp_path):
    paths = save(GREY, tmp_path)
    (tmp_path / "notes.txt").write_text("no image")
    detector = CSFlowDetector(**tiny_params).fit(tmp_path)
    expected = CSFlowDetector(**tiny_params).fit(paths)
    np.testing.assert_array_equal(detector.score_samples(tmp_path), expected.score_samples(paths))
    (tmp_path / "maps").mkdir()
    assert len(detector.save_maps(tmp_path, tmp_path / "maps" / "maps.npy")) == len(paths)
    (tmp_path / "others").mkdir()
    others = save(255 - GREY, tmp_path / "others")
    calibrated = detector.calibrate(others, fpr=0.2).offset_
    assert detector.calibrate(str(tmp_path / "others"), fpr=0.2).offset_ == calibrated


def test_folder_without_images_raises_and_names_its_folders(fitted, tmp_path):
    with pytest.raises(ValueError, match="There are no images"):
        fitted.score_samples(tmp_path)
    (tmp_path / "good").mkdir()
    save(GREY, tmp_path / "good")
    with pytest.raises(ValueError, match=r"It holds the folders 'good': pass one of them, or list_images"):
        fitted.score_samples(tmp_path)
    assert fitted.score_samples(list_images(tmp_path, recursive=True)).shape == (5,)


def test_list_images_is_sorted_takes_any_case_and_leaves_out_what_is_hidden(tmp_path):
    for name in ("b.JPG", "a.png", ".hidden.png", "c.txt", "sub/d.Tiff", ".git/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("moves.gif", "e.webp"):
        (tmp_path / name).touch()
    names = [str(tmp_path / name) for name in ("a.png", "b.JPG", "e.webp")]
    assert list_images(tmp_path) == names
    assert list_images(str(tmp_path), recursive=True) == [*names, str(tmp_path / "sub" / "d.Tiff")]


@pytest.mark.parametrize("extension", ["jfif", "jp2", "j2k", "jpx", "pbm", "pgm", "pnm", "ppm", "PGM"])
def test_folder_of_each_further_format_is_read(fitted, tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    image = Image.fromarray(GREY[0])
    (image.convert("1") if extension == "pbm" else image).save(path)
    assert list_images(tmp_path) == [str(path)]
    assert image_size(path) == (24, 30)
    np.testing.assert_array_equal(fitted.score_samples(tmp_path), fitted.score_samples([Image.open(path)]))


def test_list_images_of_a_folder_that_links_to_one_above_raises(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.png").touch()
    (tmp_path / "sub" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert list_images(tmp_path) == [str(tmp_path / "a.png")]
    with pytest.raises(ValueError, match=r"sub/again' is a link to a folder that it lies in"):
        list_images(tmp_path, recursive=True)


def test_home_folder_is_found(tmp_path, monkeypatch, fitted):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    save(GREY, tmp_path)
    expected = fitted.score_samples(GREY)
    np.testing.assert_array_equal(fitted.score_samples("~"), expected)
    np.testing.assert_array_equal(fitted.score_samples([f"~/{i}.png" for i in range(5)]), expected)


def test_empty_file_raises(fitted, tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(
        ValueError, match=r"X\[0\] \('.*empty\.png'\) could not be read as an image: .* 0 bytes"
    ):
        fitted.score_samples(tmp_path)


def test_table_of_two_columns_raises_and_asks_for_one(fitted):
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"path": ["a.png"], "label": ["good"]})
    with pytest.raises(ValueError, match=r"Choose the column of the images, such as X\['path'\]"):
        fitted.score_samples(table)


@pytest.mark.slow
def test_score_samples_of_one_channel_gives_the_same_bits_for_every_kind_of_X(tiny_params, tmp_path):
    detector = CSFlowDetector(**tiny_params, num_channels=1).fit(GREY)
    expected = detector.score_samples(GREY)
    for kind, X in as_kinds(GREY, tmp_path).items():
        np.testing.assert_array_equal(detector.score_samples(X), expected, err_msg=kind)


def test_score_samples_of_mixed_sizes_gives_each_as_alone(fitted):
    images = [COLOUR[0], COLOUR[1][:10], GREY[2], COLOUR[3][:, :7]]
    expected = [fitted.score_samples([image])[0] for image in images]
    np.testing.assert_array_equal(fitted.score_samples(images), expected)


def test_score_samples_of_grey_among_colour_gives_each_as_alone(fitted_copy):
    # So many that groups of images share a core.
    images = [image for pair in zip(GREY, COLOUR, strict=True) for image in pair] * 2
    detector = fitted_copy.set_params(n_jobs=1)
    expected = [detector.score_samples([image])[0] for image in images[:10]] * 2
    np.testing.assert_array_equal(detector.score_samples(images), expected)


def test_score_samples_of_one_lazily_opened_image_many_times_reads_it_safely(fitted, tmp_path):
    pixels = RNG.randint(0, 256, size=(500, 500, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    opened = Image.open(tmp_path / "large.png")
    scores = fitted.score_samples([opened] * 8)
    np.testing.assert_array_equal(scores, np.repeat(fitted.score_samples([pixels]), 8))


def test_score_samples_leaves_images_alone(fitted):
    floats = RNG.rand(2, 64, 64, 3).astype(np.float32)  # of the detector's own size and type
    before = floats.copy()
    fitted.score_samples(floats)
    np.testing.assert_array_equal(floats, before)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", ">u2", ">i4", "uint64", "float16", ">f4", "longdouble"]
)
def test_check_images_of_any_type_keeps_values(dtype):
    array = np.array([[0, 1], [1, 100]]).astype(dtype)
    for X in (array[None], [array]):
        image = check_images(X, 1)[0]
        assert image.shape == (1, 2, 2)
        np.testing.assert_array_equal(image[0].numpy().astype(float), array.astype(float))
        assert image.is_floating_point() == (array.dtype.kind == "f")


def test_check_images_of_tensors_keeps_type_and_detaches():
    tensor = torch.rand(1, 3, 4, 4, requires_grad=True)
    assert not check_images(tensor, 3)[0].requires_grad
    assert check_images(tensor.bfloat16(), 3)[0].dtype == torch.bfloat16


def test_check_images_of_awkward_memory_reads_the_same_pixels():
    array = COLOUR[0].copy()
    array.flags.writeable = False
    assert torch.equal(read(array), read(COLOUR[0]))
    flipped = COLOUR[0][::-1, ::-1]
    assert torch.equal(read(flipped), read(flipped.copy()))
    assert torch.equal(read(np.asfortranarray(COLOUR[0])), read(COLOUR[0]))


def test_check_images_of_three_channels_repeats_grey_and_drops_alpha_unblended():
    grey = read(GREY[0])
    assert torch.equal(grey, torch.from_numpy(GREY[0]).expand(3, -1, -1))
    rgba = np.dstack([COLOUR[0], np.zeros((24, 30), np.uint8)])
    for image in (rgba, Image.fromarray(rgba), torch.from_numpy(rgba).movedim(-1, 0)):
        assert torch.equal(read(image), read(COLOUR[0]))


def test_check_images_of_four_channels_keeps_alpha():
    rgba = np.dstack([COLOUR[0], GREY[1]])
    assert torch.equal(read(Image.fromarray(rgba), 4), read(rgba, 4))
    assert read(rgba, 4).shape == (4, 24, 30)


@pytest.mark.parametrize("num_channels", [1, 2, 4, 12])
def test_check_images_of_other_channel_counts_must_match(num_channels):
    array = RNG.rand(6, 8, num_channels)
    assert torch.equal(read(array, num_channels), torch.from_numpy(array).movedim(-1, 0))
    wrong = RNG.rand(6, 8, num_channels + 1)
    with pytest.raises(
        ValueError, match=rf"X\[0\] has {num_channels + 1} channels.*num_channels={num_channels}"
    ):
        read(wrong, num_channels)


@pytest.mark.parametrize("channels", [2, 5])
def test_check_images_of_wrong_channels_raises(channels):
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
def test_resolve_image_shape_of_rows_gives_it_or_a_square_or_a_strip(image_shape, n_features, expected):
    assert resolve_image_shape(image_shape, n_features) == expected


@pytest.mark.parametrize("image_shape", [(24, 30), (24, 30, 3)])
def test_fit_on_rows_with_image_shape_gives_the_scores_of_the_images(tiny_params, image_shape):
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


def test_fit_on_a_frame_of_rows_keeps_names_and_scores(tiny_params):
    pd = pytest.importorskip("pandas")
    rows = RNG.rand(4, 16)
    expected = CSFlowDetector(**tiny_params).fit(rows).score_samples(rows)
    frame = pd.DataFrame(rows).add_prefix("pixel")
    detector = CSFlowDetector(**tiny_params).fit(frame)
    np.testing.assert_array_equal(detector.score_samples(frame), expected)
    assert detector.feature_names_in_[-1] == "pixel15"


@pytest.mark.parametrize(("n_features", "shape"), [(49, (7, 7)), (50, (1, 50))])
def test_fit_on_rows_without_image_shape_reads_a_square_or_a_strip(tiny_params, n_features, shape):
    X = RNG.rand(4, n_features)
    detector = CSFlowDetector(**tiny_params).fit(X)
    assert detector.image_shape_ == shape
    np.testing.assert_array_equal(detector.score_samples(X), detector.score_samples(X.reshape(-1, *shape)))


def test_is_row_matrix_tells_rows_from_images():
    assert is_row_matrix(np.zeros((3, 4)))
    assert is_row_matrix([[1, 2], [3, 4]])
    assert is_row_matrix([np.zeros(3), np.zeros(3)])
    assert not is_row_matrix(Image.fromarray(GREY[0]))
    assert not is_row_matrix(torch.zeros(3, 4))
    assert not is_row_matrix(GREY)
    assert not is_row_matrix(["a.png"])


def test_is_row_matrix_tells_frames_of_numbers_from_frames_of_paths():
    pd = pytest.importorskip("pandas")
    assert is_row_matrix(pd.DataFrame({"a": [1.0], "b": [2.0]}))
    assert is_row_matrix(pd.DataFrame({"a": [1.0]}))
    assert not is_row_matrix(pd.DataFrame({"a": ["x.png"]}))


# Bad input


def nothing():
    yield GREY[0]


def nested():
    return torch.nested.nested_tensor([torch.zeros(3, 8, 8), torch.zeros(3, 9, 8)], layout=torch.jagged)


OBJECTS_OF_3D = np.zeros((2, 4, 4), dtype=object)
try:
    SPARSE_CUBE = {
        "sparse cube": (sparse.coo_array(np.ones((2, 9, 9))), TypeError, r"X is a coo_array.*toarray\(\)")
    }
except ValueError:  # SciPy has them from 1.15 on
    SPARSE_CUBE = {}
BAD_X = {
    "empty list": ([], ValueError, r"0 sample\(s\)"),
    "empty tuple": ((), ValueError, r"0 sample\(s\)"),
    "empty images": (np.empty((0, 4, 4)), ValueError, r"0 sample\(s\)"),
    "empty tensor": (torch.empty(0, 3, 4, 4), ValueError, r"0 sample\(s\)"),
    "empty rows": (np.empty((0, 16)), ValueError, r"0 sample\(s\)"),
    "empty objects": (np.array([], dtype=object), ValueError, r"0 sample\(s\)"),
    "empty strings": (np.array([], dtype=str), ValueError, r"0 sample\(s\)"),
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
    "None in list": ([GREY[0], None], ValueError, r"X\[1\] is None, .* or set on_error="),
    "None first": ([None, GREY[0]], ValueError, r"X\[0\] is None, .* or set on_error="),
    "missing paths": (np.array([None, None]), ValueError, r"X\[0\] is None.*; X\[1\] is None.* or set on_error="),
    "NaN for a path": ([np.nan, "a.png"], ValueError, r"X\[0\] is nan, .*; X\[1\] \('a.png'\): there is no such file"),
    "None and two kinds": ([None, GREY[0], "a.png"], TypeError, r"X\[1\] is an array, X\[2\] is a path"),
    "no image's bytes": ([b"a.png"], ValueError, r"X\[0\] could not be read as an image: no format"),
    "no such file": (["nowhere.png"], ValueError, r"X\[0\] \('nowhere.png'\): there is no such file"),
    "a folder": (["."], ValueError, r"X\[0\] \('\.'\) is a folder, not a file"),
    "NUL": (["a\0b"], ValueError, r"X\[0\] \('a\\x00b'\) has a NUL character in its path"),
    "meta tensor": (torch.zeros(2, 3, 8, 8, device="meta"), TypeError, r"X is a tensor on the meta device"),
    "meta tensors": ([torch.zeros(3, 8, 8, device="meta")], TypeError, r"X\[0\] is a tensor on the meta"),
    "sparse tensor": (torch.zeros(2, 3, 8, 8).to_sparse(), TypeError, r"X is a sparse tensor.*to_dense\(\)"),
    "sparse tensors": ([torch.zeros(3, 8, 8).to_sparse()], TypeError, r"X\[0\] is a sparse tensor"),
    "nested tensor": (nested(), TypeError, r"X is a nested tensor.*unbind\(\)"),
    "nested tensors": ([nested()], TypeError, r"X\[0\] is a nested tensor"),
    "sparse rows": (sparse.csr_array(np.eye(16)), TypeError, "Sparse data was passed"),
    **SPARSE_CUBE,
    "sparse images": ([sparse.csr_matrix(np.eye(16))], TypeError, r"X\[0\] is of type csr_matrix"),
    "complex": (np.zeros((2, 4, 4), complex), TypeError, "X has dtype complex128"),
    "complex rows": (np.zeros((2, 16), complex), ValueError, "Complex data not supported"),
    "complex tensor": (torch.zeros(2, 3, 4, 4, dtype=torch.complex64), TypeError, r"X\[0\].*complex64"),
    "dates": (np.zeros((2, 4, 4), "M8[s]"), TypeError, "datetime64"),
    "dates in rows": (np.zeros((2, 16), "M8[s]"), TypeError, "datetime64"),
    "object item": ([GREY[0].astype(object)], TypeError, r"X\[0\] has dtype object"),
    "3-D objects": (OBJECTS_OF_3D, ValueError, r"must have shape \(n,\), got \(2, 4, 4\)"),
    "channels first": (np.zeros((2, 3, 8, 9)), ValueError, r"X looks like \(n, C, H, W\).*np\.moveaxis\(X, -3, -1\)"),
    "channels last tensor": (torch.zeros(2, 8, 9, 3), ValueError, r"X looks like \(n, H, W, C\).*movedim\(-1, -3\)"),
    "channels first item": ([np.zeros((3, 8, 9))], ValueError, r"X\[0\] looks like \(C, H, W\)"),
    "two channels": (np.zeros((2, 8, 9, 2)), ValueError, "X has 2 channels, but num_channels=3"),
    "one colour image": (np.zeros((48, 64, 3), np.uint8), ValueError, r"one image of 3 channels.*X\[None\]"),
    "one image with alpha": (np.zeros((48, 64, 4), np.uint8), ValueError, r"one image of 4 channels.*X\[None\]"),
    "one grey image": (np.zeros((48, 64, 1), np.uint8), ValueError, r"one image of 1 channels.*X\[None\]"),
    "rows of a colour image": (list(np.zeros((48, 64, 3), np.uint8)), ValueError, r"X\[0\].*row of a colour image"),
    "masked": (np.ma.masked_less(np.arange(128).reshape(2, 8, 8), 5), ValueError, r"masked values.*filled"),
    "one PIL image": (Image.fromarray(GREY[0]), TypeError, r"one PIL image.*\[X\]"),
    "no folder": ("a.png", FileNotFoundError, "no folder X='a.png'"),
    "pattern": ("parts/*.jpg", FileNotFoundError, r"no folder.*sorted\(glob"),
    "one file": (__file__, ValueError, r"is a file\. Pass a folder, or a list"),
    "one file's bytes": (b"a", TypeError, r"content of one file.*\[X\]"),
    "one file's buffer": (BytesIO(b"a"), TypeError, r"content of one file.*\[X\]"),
    "dict": ({"a": 1}, TypeError, "X is a dict with the keys 'a'"),
    "set": ({1}, TypeError, "X is a set"),
    "values of a dict": ({1: GREY[0]}.values(), TypeError, r"X is a dict_values; pass the images in it, as a list"),
    "None": (None, TypeError, "got NoneType"),
    "scalar": (3.0, TypeError, "got float"),
    "generator": (nothing(), TypeError, r"generator, which can be read only once\. Pass list\(X\)"),
    "map": (map(abs, [1]), TypeError, r"map, which can be read only once\. Pass list\(X\)"),
}  # fmt: skip
for _value in (np.nan, np.inf, -np.inf):
    _bad = RNG.rand(3, 2, 8)
    _bad[1, 1, 3] = _value
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
def test_fit_and_score_samples_of_bad_X_raise(tiny_params, fitted_on_rows, kind):
    X, error, message = BAD_X[kind]
    with pytest.raises(error, match=message):
        CSFlowDetector(**tiny_params).fit(X)
    if kind == "no features":
        return
    if kind == "generator":
        X = nothing()
    with pytest.raises(error, match=message):
        fitted_on_rows.score_samples(X)


def test_fit_on_bad_tables_raises(tiny_params):
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        CSFlowDetector(**tiny_params).fit(pd.Series([], dtype=object))
    for dtype, missing in (("object", "None"), ("string", "<NA>"), ("category", "nan")):
        with pytest.raises(ValueError, match=rf"X\[1\] is {missing}, .*or set on_error="):
            CSFlowDetector(**tiny_params).fit(pd.Series(["a.png", None], dtype=dtype))
    pl = pytest.importorskip("polars")
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        CSFlowDetector(**tiny_params).fit(pl.Series([], dtype=pl.String))


@pytest.mark.parametrize("value", [1e300, 1e38])
@pytest.mark.parametrize("method", ["fit", "score_samples", "transform", "predict"])
def test_values_too_large_to_compute_with_raise(tiny_params, fitted_on_rows, method, value):
    X = RNG.rand(3, 2, 8)
    X[1] = value
    estimator = CSFlowDetector(**tiny_params) if method == "fit" else fitted_on_rows
    with pytest.raises(ValueError, match=r"Input X contains .*too large.*X\[1\]"):
        getattr(estimator, method)(X)


def test_score_samples_of_bad_files_and_images_raises_with_row_and_path(fitted, tmp_path):
    good, bad, four = tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "four.npy"
    Image.fromarray(COLOUR[0]).save(good)
    bad.write_bytes(good.read_bytes()[:800])
    np.save(four, np.zeros((1, 2, 2, 3)))
    with pytest.raises(ValueError, match=r"X\[1\] \('.*bad\.png'\) could not be read as an image"):
        fitted.score_samples([good, bad])
    with (
        Image.open(bad) as image,
        pytest.raises(ValueError, match=r"X\[1\] could not be read as an image"),
    ):
        fitted.score_samples([Image.fromarray(COLOUR[0]), image])
    with pytest.raises(ValueError, match=r"X\[0\] \('.*four\.npy'\) .* has shape \(1, 2, 2, 3\)"):
        fitted.score_samples([four])


def test_fit_errors_count_rows_of_X_even_where_y_leaves_some_out(tiny_params, tmp_path):
    detector = CSFlowDetector(**tiny_params)
    y = np.array([-1, 1, -1, 1, 1])
    images = list(COLOUR / 255)
    for bad, message in [
        (np.full((4, 4), np.nan), r"X\[3\]"),
        (np.full((4, 4), 1e38), r"X\[3\]"),
        (np.zeros((4, 4, 2)), r"X\[3\] has 2 channels"),
    ]:
        images[3] = bad
        with pytest.raises(ValueError, match=message):
            detector.fit(images, y)
    paths = [*save(COLOUR[:3], tmp_path), tmp_path / "3.png", tmp_path / "4.png"]
    with pytest.raises(ValueError, match=r"X\[3\] \('.*3\.png'\): there is no such file"):
        detector.fit(paths, y)


def test_digest_of_awkward_memory_is_that_of_the_same_pixels_in_one_piece():
    images = check_images(COLOUR, 3)
    for array in (COLOUR[0], GREY[0].astype(np.float32)):
        for view in (array[::2], array[:, ::2], array[::-1], np.asfortranarray(array)):
            assert images.digest(view) == images.digest(view.copy(order="C"))
        for view in (torch.from_numpy(array)[:, ::2], torch.from_numpy(array).movedim(-1, 0)):
            assert images.digest(view) == images.digest(view.contiguous())


@pytest.mark.parametrize("kind", [list, np.array])
def test_check_images_knows_a_folder_that_was_cut_into_letters(kind):
    with pytest.raises(ValueError, match=r"X is the letters of 'parts/good'.*Pass list_images\(folder\)"):
        check_images(kind(list("parts/good")), 3)
