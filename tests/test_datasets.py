"""The data sets: ELPV cells, folders in the MVTec AD layout, synthetic defects."""

import hashlib
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from skcsflow._images import check_images
from skcsflow.datasets import DEFECTS, SURFACES, load_elpv, load_image_folder, make_defects, read_mask
from skcsflow.datasets._canvas import Canvas
from skcsflow.datasets._objects import blister, circuit, tiles
from skcsflow.datasets._synthetic import draw_sample

N_TRAIN, N_NORMAL, N_PER_DEFECT = 10, 6, 1


# ELPV


@pytest.fixture(scope="module")
def cells():
    pytest.importorskip("elpv_dataset")
    return load_elpv()


def test_load_elpv_all_has_documented_shapes_and_types(cells):
    assert cells.images.shape == (2624, 300, 300)
    assert cells.images.dtype == np.uint8
    assert cells.data is cells.images
    assert cells.y is cells.target
    assert cells.target.dtype == np.int64
    assert cells.probability.dtype == np.float64
    for name in ("target", "probability", "cell_type", "filenames"):
        assert cells[name].shape == (2624,)
    assert "CC BY-NC-SA 4.0" in cells.DESCR
    assert "10.1016/j.solener.2019.02.067" in cells.DESCR


def test_load_elpv_all_has_published_counts(cells):
    mono = cells.cell_type == "mono"
    assert set(cells.cell_type) == {"mono", "poly"}
    assert set(cells.probability) == {0.0, 1 / 3, 2 / 3, 1.0}
    counts = {p: (int(np.sum(mono & (cells.probability == p)))) for p in (0, 1 / 3, 2 / 3, 1)}
    assert counts == {0: 588, 1 / 3: 117, 2 / 3: 56, 1: 313}
    counts = {p: (int(np.sum(~mono & (cells.probability == p)))) for p in (0, 1 / 3, 2 / 3, 1)}
    assert counts == {0: 920, 1 / 3: 178, 2 / 3: 50, 1: 402}


def test_load_elpv_target_is_one_where_functional(cells):
    np.testing.assert_array_equal(cells.target, np.where(cells.probability == 0, 1, -1))
    assert int(np.sum(cells.target == 1)) == 1508


@pytest.fixture
def few_cells(tmp_path, monkeypatch):
    """Make `load_elpv` see every 20th cell only, and give the path of their labels."""
    source = Path(pytest.importorskip("elpv_dataset").__file__).parent / "data"
    (tmp_path / "data").mkdir()
    (tmp_path / "data/images").symlink_to(source / "images")
    labels = tmp_path / "data/labels.csv"
    labels.write_text("\n".join((source / "labels.csv").read_text().splitlines()[::20]))
    fake = types.ModuleType("elpv_dataset")
    fake.__file__ = str(tmp_path / "__init__.py")
    monkeypatch.setitem(sys.modules, "elpv_dataset", fake)
    return labels


def test_load_elpv_rows_agree_with_the_package_own_reader(few_cells, cells, monkeypatch):
    monkeypatch.undo()
    from elpv_dataset.utils import load_dataset

    images, probability, cell_type = load_dataset(str(few_cells))
    np.testing.assert_array_equal(cells.images[::20], images)
    np.testing.assert_allclose(cells.probability[::20], probability, atol=1e-12)
    np.testing.assert_array_equal(cells.cell_type[::20], cell_type)
    names = [line.split()[0] for line in few_cells.read_text().splitlines()]
    assert [f"images/{name}" for name in cells.filenames[::20]] == names
    assert len(set(cells.filenames)) == 2624


@pytest.mark.parametrize("subset", ["mono", "poly"])
def test_load_elpv_subset_gives_the_rows_of_that_type(few_cells, cells, subset):
    images, y = load_elpv(subset=subset, return_X_y=True)
    rows = cells.cell_type[::20] == subset
    np.testing.assert_array_equal(images, cells.images[::20][rows])
    np.testing.assert_array_equal(y, cells.target[::20][rows])


@pytest.mark.parametrize("subset", ["Mono", "both", 1, ["mono"]])
def test_load_elpv_unknown_subset_raises(subset):
    with pytest.raises(ValueError, match=re.escape(f"subset must be 'mono', 'poly' or None, got {subset!r}")):
        load_elpv(subset=subset)


@pytest.mark.parametrize("name", ["../cell.png", "images/../../cell.png", "/cell.png"])
def test_load_elpv_of_labels_that_lead_out_of_the_package_raises(few_cells, name):
    few_cells.write_text(f"{name} 0.0 mono\n")
    with pytest.raises(ValueError, match=f"The image '{re.escape(name)}' of '.*labels.csv' lies outside"):
        load_elpv()


def test_load_elpv_without_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "elpv_dataset", None)
    with pytest.raises(ImportError, match=re.escape('pip install "skcsflow[elpv]"')):
        load_elpv()


# Folders


def save(path, *, size=(40, 30), value=128, mode="L", **options):
    """Write an image of one colour; `size` is (width, height)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path, **options)
    return path


@pytest.fixture
def bottle(tmp_path):
    """Write a category in the MVTec AD layout, with all that should be ignored."""
    root = tmp_path / "mvtec" / "bottle"
    for name in ("002.png", "000.PNG", "001.jpeg"):
        save(root / "train/good" / name)
    for name in ("good/000.png", "good/001.TIF", "broken_large/001.png", "broken_large/000.bmp"):
        save(root / "test" / name)
    save(root / "test/contamination/000.webp")
    save(root / "test/contamination/001.JPG")
    save(root / "ground_truth/broken_large/000_mask.png", value=255)
    save(root / "ground_truth/broken_large/001_mask.PNG", value=255)
    save(root / "ground_truth/contamination/000.png", value=255)
    save(root / "train/good/.hidden.png")
    save(root / "test/.cache/000.png")
    (root / "test/good/.DS_Store").write_bytes(b"x")
    (root / "train/good/notes.txt").write_text("not an image")
    (root / "train/good/folder.png").mkdir()
    (root / "readme.txt").write_text("not an image")
    return root


def test_load_image_folder_full_tree_lists_images_labels_and_masks(bottle):
    data = load_image_folder(bottle)
    assert data.train.tolist() == [str(bottle / "train/good" / f) for f in ("000.PNG", "001.jpeg", "002.png")]
    assert data.y_train.tolist() == [1, 1, 1]
    names = ["broken_large/000.bmp", "broken_large/001.png"]
    names += ["contamination/000.webp", "contamination/001.JPG", "good/000.png", "good/001.TIF"]
    assert data.test.tolist() == [str(bottle / "test" / name) for name in names]
    assert data.y_test.tolist() == [-1, -1, -1, -1, 1, 1]
    assert data.defect.tolist() == ["broken_large"] * 2 + ["contamination"] * 2 + ["good"] * 2
    truth = bottle / "ground_truth"
    assert data.masks.tolist() == [
        str(truth / "broken_large/000_mask.png"),
        str(truth / "broken_large/001_mask.PNG"),
        str(truth / "contamination/000.png"),
        None,
        None,
        None,
    ]
    assert data.y_train.dtype == data.y_test.dtype == np.int64
    assert data.train.dtype == data.test.dtype == data.masks.dtype == object


def test_load_image_folder_category_equals_its_own_root(bottle):
    data, same = load_image_folder(str(bottle.parent), category="bottle"), load_image_folder(bottle)
    assert data.train.tolist() == same.train.tolist()
    assert data.test.tolist() == same.test.tolist()


def test_load_image_folder_train_only_gives_empty_test(tmp_path):
    save(tmp_path / "train/good/0.png")
    data = load_image_folder(tmp_path)
    assert len(data.train) == 1
    for name in ("test", "y_test", "defect", "masks"):
        assert data[name].shape == (0,)


def test_load_image_folder_one_defect_image_keeps_one_row(tmp_path):
    save(tmp_path / "train/good/0.png")
    save(tmp_path / "test/dent/0.png")
    data = load_image_folder(tmp_path)
    assert data.masks.shape == data.test.shape == (1,)
    assert data.masks[0] is None


def test_load_image_folder_home_directory_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "parts/train/good/0.png")
    assert load_image_folder("~/parts").train.tolist() == [str(tmp_path / "parts/train/good/0.png")]


def test_load_image_folder_rotated_by_exif_fits_upright_mask(tmp_path):
    save(tmp_path / "train/good/0.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "test/dent/0.jpg", size=(40, 30), exif=exif)
    mask = save(tmp_path / "ground_truth/dent/0_mask.png", size=(30, 40))
    assert load_image_folder(tmp_path).masks.tolist() == [str(mask)]


def test_load_image_folder_mixed_sizes_are_height_and_width(bottle):
    save(bottle / "train/good/000.PNG", size=(17, 50))
    save(bottle / "test/broken_large/001.png", size=(8, 9), mode="RGB")
    save(bottle / "ground_truth/broken_large/001_mask.PNG", size=(8, 9))
    data = load_image_folder(bottle)
    assert data.train_sizes.tolist() == [[50, 17], [30, 40], [30, 40]]
    assert data.test_sizes.tolist() == [[30, 40], [9, 8], *[[30, 40]] * 4]
    assert data.train_sizes.dtype == data.test_sizes.dtype == np.int64
    for path, shape in zip(data.masks, data.test_sizes, strict=True):
        assert read_mask(path, tuple(shape)).shape == tuple(shape)


def test_load_image_folder_without_test_has_sizes_of_two_columns(tmp_path):
    save(tmp_path / "train/good/0.png")
    data = load_image_folder(tmp_path)
    assert data.train_sizes.tolist() == [[30, 40]]
    assert data.test_sizes.shape == (0, 2)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "webp"])
def test_load_image_folder_sizes_are_those_that_a_detector_sees(tmp_path, extension, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"train/good/0.{extension}", exif=exif)
    seen = check_images([path], 3)[0].shape[1:]
    assert seen == ((40, 30) if orientation > 4 else (30, 40))
    assert load_image_folder(tmp_path).train_sizes.tolist() == [list(seen)]


def png_chunks(data):
    """Split a PNG file into its chunks, the signature left out."""
    chunks, start = [], 8
    while start < len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        chunks.append(data[start:end])
        start = end
    return chunks


def is_exif(chunk):
    return chunk[4:8] == b"eXIf"


def test_load_image_folder_exif_after_the_pixels_of_a_png_counts(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "train/good/0.png", exif=exif)
    data = path.read_bytes()
    *chunks, end = png_chunks(data)
    path.write_bytes(data[:8] + b"".join(sorted(chunks, key=is_exif)) + end)
    assert check_images([path], 3)[0].shape[1:] == (40, 30)
    assert load_image_folder(tmp_path).train_sizes.tolist() == [[40, 30]]


def test_load_image_folder_reads_headers_alone(tmp_path):
    path = save(tmp_path / "train/good/0.png", size=(300, 200))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"IDAT") + 10])
    with pytest.raises(ValueError, match="could not be read"):
        check_images([path], 3)[0]
    assert load_image_folder(tmp_path).train_sizes.tolist() == [[200, 300]]


@pytest.mark.parametrize("name", ["train/good/001.jpeg", "test/good/000.png", "test/contamination/001.JPG"])
@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_load_image_folder_file_that_is_no_image_raises(bottle, name, content):
    (bottle / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(bottle / name))}' could not be read as an image"):
        load_image_folder(bottle)


@pytest.mark.parametrize("missing", ["", "train", "train/good"])
def test_load_image_folder_missing_folder_raises(tmp_path, missing):
    path = tmp_path / "nowhere"
    if missing:
        (path / missing).parent.mkdir(parents=True)
    expected = path / ("train/good" if missing else "")
    with pytest.raises(FileNotFoundError, match=re.escape(repr(str(expected)))):
        load_image_folder(path)


@pytest.mark.parametrize("category", ["../mvtec/bottle", "/", "..", ".", "", "bottle/train", ".hidden", 3])
def test_load_image_folder_category_that_is_no_name_raises(bottle, category):
    with pytest.raises((TypeError, ValueError), match="category must be"):
        load_image_folder(bottle.parent, category=category)


def test_load_image_folder_missing_category_raises(bottle):
    expected = str(bottle.parent / "cable")
    with pytest.raises(FileNotFoundError, match=f"category 'cable'.*{re.escape(expected)}"):
        load_image_folder(bottle.parent, category="cable")


def test_load_image_folder_root_is_file_raises(tmp_path):
    path = save(tmp_path / "image.png")
    with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
        load_image_folder(path)


@pytest.mark.parametrize("folder", ["train/good", "test/good", "test/dent"])
def test_load_image_folder_folder_without_images_raises(tmp_path, folder):
    save(tmp_path / "train/good/0.png")
    if folder == "train/good":
        (tmp_path / "train/good/0.png").rename(tmp_path / "train/good/.0.png")
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    with pytest.raises(ValueError, match=f"No images .*{re.escape(str(tmp_path / folder))}"):
        load_image_folder(tmp_path)


def test_load_image_folder_mask_of_other_size_raises(bottle):
    mask = save(bottle / "ground_truth/broken_large/001_mask.PNG", size=(40, 31))
    with pytest.raises(ValueError, match=f"{re.escape(str(mask))}.* is 31 x 40 .*001.png' is 30 x 40"):
        load_image_folder(bottle)


def test_load_image_folder_mask_without_image_raises(bottle):
    mask = save(bottle / "ground_truth/broken_large/007_mask.png")
    with pytest.raises(ValueError, match=f"{re.escape(str(mask))}' belongs to no image"):
        load_image_folder(bottle)


def test_load_image_folder_masks_without_test_folder_raises(bottle):
    mask = save(bottle / "ground_truth/bent/000_mask.png")
    with pytest.raises(
        ValueError, match=f"The masks in '{re.escape(str(mask.parent))}' need a folder of images"
    ):
        load_image_folder(bottle)


def test_load_image_folder_two_masks_for_one_image_raises(bottle):
    save(bottle / "ground_truth/broken_large/001.png")
    with pytest.raises(ValueError, match=r"The image .*001\.png' has two masks"):
        load_image_folder(bottle)


def test_load_image_folder_two_masks_of_one_stem_raises(bottle):
    save(bottle / "ground_truth/broken_large/001_mask.bmp")
    with pytest.raises(ValueError, match=r"The image .*001\.png' has two masks: .*001_mask\.PNG' and .*bmp'"):
        load_image_folder(bottle)


def test_load_image_folder_mask_for_two_images_raises(bottle):
    save(bottle / "test/broken_large/001.jpg")
    with pytest.raises(ValueError, match=r"belongs to two images: .*001\.jpg' and .*001\.png"):
        load_image_folder(bottle)


def test_load_image_folder_image_outside_kinds_raises(bottle):
    path = save(bottle / "test/000.png")
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}' lies directly in the folder test"):
        load_image_folder(bottle)


def test_load_image_folder_unreadable_mask_raises(bottle):
    path = bottle / "ground_truth/broken_large/001_mask.PNG"
    path.write_bytes(b"not an image")
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}' could not be read"):
        load_image_folder(bottle)


@pytest.fixture
def pushpins(tmp_path):
    """Write a category in the layout of MVTec LOCO AD: for each image a folder of masks."""
    root = tmp_path / "loco" / "pushpins"
    for name in ("train/good/000", "validation/good/001", "validation/good/000", "test/good/000"):
        save(root / f"{name}.png")
    for name in ("logical_anomalies/000", "logical_anomalies/001", "structural_anomalies/000"):
        save(root / f"test/{name}.png")
    truth = root / "ground_truth"
    for value, name in ((254, "logical_anomalies/000/001"), (236, "logical_anomalies/000/000")):
        half = np.zeros((30, 40), dtype=np.uint8)
        half[:, slice(10) if value == 254 else slice(35, None)] = value
        (truth / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(half).save(truth / f"{name}.png")
    save(truth / "structural_anomalies/000/000.png", value=0)
    return root


def test_load_image_folder_folder_of_masks_gives_tuple_of_several(pushpins):
    data = load_image_folder(pushpins)
    truth = pushpins / "ground_truth"
    logical = truth / "logical_anomalies/000"
    assert data.defect.tolist() == ["good", "logical_anomalies", "logical_anomalies", "structural_anomalies"]
    assert ":Validation images: 2, all good" in data.DESCR
    assert ":Test images with masks: 2" in data.DESCR
    assert data.masks.shape == (4,)
    assert data.masks.tolist() == [
        None,
        (str(logical / "000.png"), str(logical / "001.png")),
        None,
        str(truth / "structural_anomalies/000/000.png"),
    ]


def test_load_image_folder_equally_many_masks_for_all_images_stay_one_dimensional(pushpins):
    (pushpins / "test/good/000.png").unlink()
    (pushpins / "test/good").rmdir()
    (pushpins / "test/logical_anomalies/001.png").unlink()
    save(pushpins / "ground_truth/structural_anomalies/000/001.png")
    data = load_image_folder(pushpins)
    assert data.masks.shape == (2,)
    assert [len(mask) for mask in data.masks] == [2, 2]


def test_load_image_folder_validation_images_are_listed(pushpins):
    save(pushpins / "validation/good/001.png", size=(17, 50))
    data = load_image_folder(pushpins)
    assert data.validation.tolist() == [str(pushpins / "validation/good" / f"00{i}.png") for i in range(2)]
    assert data.y_validation.tolist() == [1, 1]
    assert data.validation_sizes.tolist() == [[30, 40], [50, 17]]
    assert data.train.tolist() == [str(pushpins / "train/good/000.png")]


def test_load_image_folder_without_validation_gives_empty_arrays(bottle):
    data = load_image_folder(bottle)
    assert data.validation.shape == data.y_validation.shape == (0,)
    assert data.validation_sizes.shape == (0, 2)


def test_load_image_folder_file_and_folder_of_masks_for_one_image_raises(pushpins):
    save(pushpins / "ground_truth/logical_anomalies/000.png")
    with pytest.raises(
        ValueError, match=r"The image .*000\.png' has two masks: .* Move both to .*anomalies/000'"
    ):
        load_image_folder(pushpins)


@pytest.mark.parametrize("name", ["007/000.png", "000/more/000.png"])
def test_load_image_folder_folder_of_masks_without_image_raises(pushpins, name):
    mask = save(pushpins / "ground_truth/logical_anomalies" / name)
    with pytest.raises(ValueError, match=f"{re.escape(str(mask))}' belongs to no image"):
        load_image_folder(pushpins)


def test_load_image_folder_second_mask_of_other_size_raises(pushpins):
    mask = save(pushpins / "ground_truth/logical_anomalies/000/001.png", size=(41, 30))
    with pytest.raises(ValueError, match=f"{re.escape(str(mask))}' is 30 x 41"):
        load_image_folder(pushpins)


def test_load_image_folder_names_in_any_case_are_found(bottle):
    for name in ("train", "test", "ground_truth"):
        (bottle / name).rename(bottle / name.title())
    data = load_image_folder(bottle)
    assert data.train[0] == str(bottle / "Train/good/000.PNG")
    assert data.test[0] == str(bottle / "Test/broken_large/000.bmp")
    assert data.masks[0] == str(bottle / "Ground_Truth/broken_large/000_mask.png")


@pytest.mark.parametrize("name", ["train", "test", "ground_truth"])
def test_load_image_folder_names_that_differ_in_case_only_raise(bottle, name):
    try:
        (bottle / name.upper()).mkdir()
    except FileExistsError:
        pytest.skip("the file system takes both names for one")
    with pytest.raises(ValueError, match=f"/{name.upper()}' and '.*/{name}' differ in case only"):
        load_image_folder(bottle)


def test_load_image_folder_folders_below_are_read_with_their_masks(tmp_path):
    for name in ("b/1", "0", "a/deep/0"):
        save(tmp_path / f"train/good/{name}.png")
    for name in ("crack/batch1/0", "crack/batch2/0", "crack/0", "good/batch1/0"):
        save(tmp_path / f"test/{name}.png")
    for name in ("batch1/0_mask", "batch2/0/0", "batch2/0/1", "0"):
        save(tmp_path / f"ground_truth/crack/{name}.png")
    data = load_image_folder(tmp_path)
    names = ["0", "a/deep/0", "b/1"]
    assert data.train.tolist() == [str(tmp_path / f"train/good/{name}.png") for name in names]
    names = ["crack/0", "crack/batch1/0", "crack/batch2/0", "good/batch1/0"]
    assert data.test.tolist() == [str(tmp_path / f"test/{name}.png") for name in names]
    assert data.defect.tolist() == ["crack", "crack", "crack", "good"]
    assert data.y_test.tolist() == [-1, -1, -1, 1]
    truth = tmp_path / "ground_truth/crack"
    two = (str(truth / "batch2/0/0.png"), str(truth / "batch2/0/1.png"))
    assert data.masks.tolist() == [str(truth / "0.png"), str(truth / "batch1/0_mask.png"), two, None]


def test_load_image_folder_mask_below_other_folder_than_its_image_raises(tmp_path):
    save(tmp_path / "train/good/0.png")
    save(tmp_path / "test/crack/batch1/0.png")
    mask = save(tmp_path / "ground_truth/crack/batch2/0_mask.png")
    with pytest.raises(ValueError, match=f"{re.escape(str(mask))}' belongs to no image"):
        load_image_folder(tmp_path)


def test_load_image_folder_mask_of_image_and_of_folder_raises(tmp_path):
    for name in ("train/good/0", "test/crack/0", "test/crack/0/0", "ground_truth/crack/0/0"):
        save(tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match=r"The mask .*crack/0/0\.png' belongs to two images"):
        load_image_folder(tmp_path)


def test_load_image_folder_nested_masks_without_test_folder_raise(bottle):
    save(bottle / "ground_truth/bent/monday/000_mask.png")
    folder = re.escape(str(bottle / "ground_truth/bent"))
    with pytest.raises(ValueError, match=f"The masks in '{folder}' need a folder of images"):
        load_image_folder(bottle)


def test_load_image_folder_mask_outside_kinds_raises(bottle):
    mask = save(bottle / "ground_truth/000_mask.png")
    with pytest.raises(ValueError, match=f"{re.escape(str(mask))}' lies directly in the folder ground_truth"):
        load_image_folder(bottle)


def test_load_image_folder_link_to_folder_above_raises(bottle):
    link = bottle / "train/good/again"
    link.symlink_to(bottle / "train", target_is_directory=True)
    with pytest.raises(ValueError, match=r"train/good/again/good' is a link to a folder that it lies in"):
        load_image_folder(bottle)


@pytest.mark.parametrize(("image", "mask"), [("bmp", "png"), ("png", "png"), ("bmp", "bmp")])
def test_load_image_folder_other_name_of_good_reads_btad(tmp_path, image, mask):
    root = tmp_path / "BTech_Dataset_transformed"
    for name in ("train/ok/0000", "test/ok/0000", "test/ko/0000"):
        save(root / f"01/{name}.{image}")
    path = save(root / f"01/ground_truth/ko/0000.{mask}")
    data = load_image_folder(root, category="01", good="ok")
    assert data.train.tolist() == [str(root / f"01/train/ok/0000.{image}")]
    assert data.defect.tolist() == ["ko", "good"]
    assert data.y_test.tolist() == [-1, 1]
    assert data.masks.tolist() == [str(path), None]


def test_load_image_folder_other_name_of_good_is_proposed(tmp_path):
    save(tmp_path / "train/bad/0.png")
    save(tmp_path / "train/ok/0.png")
    with pytest.raises(FileNotFoundError, match=r"train/good'\. train holds 'bad', 'ok': .* good='ok'"):
        load_image_folder(tmp_path)


@pytest.mark.parametrize(
    ("good", "other"), [("good", "OK"), ("good", "normal"), ("ok", "good"), ("fine", "Fine")]
)
def test_load_image_folder_second_folder_for_good_images_raises(tmp_path, good, other):
    save(tmp_path / "train" / good / "0.png")
    save(tmp_path / "test" / other / "0.png")
    with pytest.raises(ValueError, match=f"test/{other}' would be a kind of defect. Rename it to '{good}'"):
        load_image_folder(tmp_path, good=good)


def test_load_image_folder_category_is_proposed(bottle):
    with pytest.raises(FileNotFoundError, match=r"mvtec' holds 'bottle': .* category='bottle'"):
        load_image_folder(bottle.parent)


@pytest.mark.parametrize("suffix", ["_GT", "", "-label"])
def test_load_image_folder_mask_suffix_is_that_of_the_masks(tmp_path, suffix):
    save(tmp_path / "train/good/0.png")
    save(tmp_path / "test/crack/0.png")
    save(tmp_path / "test/crack/1.png")
    masks = [save(tmp_path / f"ground_truth/crack/{name}.png") for name in (f"0{suffix}", "1")]
    data = load_image_folder(tmp_path, mask_suffix=suffix)
    assert data.masks.tolist() == list(map(str, masks))
    if suffix:
        with pytest.raises(ValueError, match=rf"0{suffix}\.png' belongs to no image .* mask_suffix='_mask'"):
            load_image_folder(tmp_path)


@pytest.mark.parametrize(
    ("parameter", "value", "error"),
    [
        ("good", "", ValueError),
        ("good", "train/ok", ValueError),
        ("good", "..", ValueError),
        ("good", None, TypeError),
        ("mask_suffix", None, TypeError),
    ],
)
def test_load_image_folder_bad_names_raise(bottle, parameter, value, error):
    with pytest.raises(error, match=re.escape(f"{parameter} must be")) as caught:
        load_image_folder(bottle, **{parameter: value})
    assert f"got {value!r}" in str(caught.value)


def test_load_image_folder_visa_as_downloaded_names_its_script(tmp_path):
    save(tmp_path / "candle/Data/Images/Normal/0000.JPG")
    save(tmp_path / "candle/Data/Images/Anomaly/000.JPG")
    save(tmp_path / "candle/Data/Masks/Anomaly/000.png")
    (tmp_path / "split_csv").mkdir()
    for options in ({"category": "candle"}, {}):
        with pytest.raises(
            ValueError, match=r"holds VisA as it is downloaded.* run prepare_data\.py .* 1cls"
        ):
            load_image_folder(tmp_path, **options)


def test_load_image_folder_visa_prepared_is_read(tmp_path):
    for name in ("train/good/0001.JPG", "test/good/0000.JPG", "test/bad/000.JPG"):
        save(tmp_path / "candle" / name)
    mask = save(tmp_path / "candle/ground_truth/bad/000.png", value=1)
    data = load_image_folder(tmp_path, category="candle")
    assert data.masks.tolist() == [str(mask), None]
    assert read_mask(data.masks[0]).all()


@pytest.mark.parametrize(
    ("image", "mask"),
    [("train/10301.png", "train/10301_GT.png"), ("kos01/Part0.jpg", "kos01/Part0_label.bmp")],
)
def test_load_image_folder_kolektor_says_how_to_sort_the_files(tmp_path, image, mask):
    save(tmp_path / image)
    save(tmp_path / mask)
    with pytest.raises(ValueError, match=rf"{mask}' lies beside its image '.*{image}', as in KolektorSDD"):
        load_image_folder(tmp_path)


def test_load_image_folder_images_directly_in_train_raise(tmp_path):
    save(tmp_path / "train/0.png")
    with pytest.raises(FileNotFoundError, match=r"Move the images that lie directly in '.*train' there"):
        load_image_folder(tmp_path)


@pytest.mark.parametrize("name", ["train/good/001_mask.png", "test/broken_large/000_GT.png"])
def test_load_image_folder_mask_beside_its_image_raises(bottle, name):
    mask = save(bottle / name)
    with pytest.raises(ValueError, match=f"The mask '{re.escape(str(mask))}' lies beside its image"):
        load_image_folder(bottle)


@pytest.mark.parametrize(
    "name", ["train/good/xyz/0.tiff", "test/bent/gt/0.png", "test/Ground_Truth/bent/0.png"]
)
def test_load_image_folder_folder_of_masks_among_images_raises(bottle, name):
    path = save(bottle / name)
    with pytest.raises(ValueError, match=f"The file '{re.escape(str(path))}' is no image to inspect"):
        load_image_folder(bottle)


def disc_mask(height=24, width=32):
    rows, columns = np.mgrid[:height, :width]
    return (rows - 12) ** 2 + (columns - 20) ** 2 < 50


@pytest.mark.parametrize("value", [1, 255])
def test_read_mask_grey_file_is_true_where_nonzero(tmp_path, value):
    Image.fromarray((disc_mask() * value).astype(np.uint8)).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, disc_mask())


@pytest.mark.parametrize("mode", ["1", "P", "I;16", "RGB", "LA", "RGBA"])
def test_read_mask_any_mode_is_true_where_nonzero(tmp_path, mode):
    expected = disc_mask()
    if mode == "I;16":
        image = Image.fromarray(expected.astype(np.uint16) * 256)
    else:
        image = Image.fromarray((expected * 255).astype(np.uint8)).convert(mode)
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), expected)


def test_read_mask_jpeg_noise_around_edges_is_left_out(tmp_path):
    Image.fromarray((disc_mask() * 255).astype(np.uint8)).save(tmp_path / "mask.jpg", quality=50)
    assert np.mean(read_mask(tmp_path / "mask.jpg") != disc_mask()) < 0.02


@pytest.mark.parametrize("alpha", [False, True])
def test_read_mask_webp_is_exact_but_for_the_noise_of_lossy_ones(tmp_path, alpha):
    mode = "RGBA" if alpha else "RGB"
    lossless = Image.fromarray(disc_mask().astype(np.uint8)).convert(mode)  # of 0 and 1
    lossless.save(tmp_path / "lossless.webp", lossless=True)
    np.testing.assert_array_equal(read_mask(tmp_path / "lossless.webp"), disc_mask())
    lossy = Image.fromarray((disc_mask() * 255).astype(np.uint8)).convert(mode)
    lossy.save(tmp_path / "lossy.webp", quality=60)
    assert np.mean(read_mask(tmp_path / "lossy.webp") != disc_mask()) < 0.02


def test_load_image_folder_good_in_capitals_is_no_defect(tmp_path):
    save(tmp_path / "train/good/0.png")
    save(tmp_path / "test/Good/0.png")
    with pytest.raises(ValueError, match=r"test/Good' would be a kind of defect\. Rename it to 'good'"):
        load_image_folder(tmp_path)


def test_read_mask_shape_resizes_by_nearest_neighbour(tmp_path):
    Image.fromarray((disc_mask() * 255).astype(np.uint8)).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", shape=(48, 96))
    np.testing.assert_array_equal(mask, disc_mask().repeat(2, axis=0).repeat(3, axis=1))


def test_read_mask_result_is_writable(tmp_path):
    save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
    mask[0, 0] = False
    assert mask.sum() == mask.size - 1


def test_read_mask_none_is_empty_mask_of_shape():
    assert read_mask(None, shape=4).shape == (4, 4)
    mask = read_mask(None, shape=np.array([3, 5]))
    assert mask.shape == (3, 5)
    assert mask.dtype == bool
    assert not mask.any()


def test_read_mask_none_without_shape_raises():
    with pytest.raises(ValueError, match="shape must be given if path is None"):
        read_mask(None)


@pytest.mark.parametrize("shape", [(3,), (0, 4), (2.0, 4), "ab"])
def test_read_mask_bad_shape_raises(shape):
    message = re.escape(f"shape must be an int or a pair of ints (H, W), each 1 or more, got {shape!r}")
    with pytest.raises(ValueError, match=message):
        read_mask(None, shape=shape)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"not an image", "could not be read as an image"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "could not be read as an image"),
    ],
)
def test_read_mask_unreadable_file_raises(tmp_path, content, message):
    if content is not None:
        (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(ValueError, match=rf"The mask '.*mask\.png'.*{message}"):
        read_mask(tmp_path / "mask.png")


def test_read_mask_several_files_give_their_union(pushpins):
    expected = np.zeros((30, 40), dtype=bool)
    expected[:, :10] = expected[:, 35:] = True
    paths = load_image_folder(pushpins).masks[1]
    np.testing.assert_array_equal(read_mask(paths), expected)
    np.testing.assert_array_equal(read_mask(list(map(Path, paths))), expected)
    np.testing.assert_array_equal(read_mask(paths, shape=(60, 40)), expected.repeat(2, axis=0))
    assert read_mask(paths[:1]).sum() == 30 * 5


def test_read_mask_files_of_different_sizes_raise(tmp_path):
    paths = save(tmp_path / "0.png"), save(tmp_path / "1.png", size=(40, 31))
    message = r"0\.png' has shape \(30, 40\) and '.*1\.png' has shape \(31, 40\)"
    with pytest.raises(ValueError, match=message):
        read_mask(paths, shape=(30, 40))


def test_read_mask_no_file_raises():
    with pytest.raises(ValueError, match=r"path must name at least one file, got \(\)"):
        read_mask(())


@pytest.mark.parametrize("read", [read_mask, lambda path: load_image_folder(path.parents[2])])
def test_read_mask_of_more_pixels_than_pillow_allows_names_the_path(tmp_path, monkeypatch, read):
    save(tmp_path / "train/good/0.png", size=(8, 8))
    save(tmp_path / "test/dent/0.png", size=(8, 8))
    path = save(tmp_path / "ground_truth/dent/0.png", size=(40, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # it refuses twice as many
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}' .*exceeds limit of \d+ pixels"):
        read(path)


@pytest.mark.parametrize("n_bytes", [1, 14, 20, 26, 40, 54, 60, 1000])
def test_read_mask_truncated_bmp_names_the_path(tmp_path, n_bytes):
    path = save(tmp_path / "mask.bmp")
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=f"The mask '{re.escape(str(path))}' could not be read as an image"):
        read_mask(path)


@pytest.mark.parametrize("byte", [14, 28, 30], ids=["header", "bits", "compression"])
def test_read_mask_damaged_bmp_names_the_path(tmp_path, byte):
    path = save(tmp_path / "mask.bmp")
    data = bytearray(path.read_bytes())
    data[byte] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"The mask '{re.escape(str(path))}' could not be read as an image"):
        read_mask(path)


def test_read_mask_npy_file(tmp_path):
    np.save(tmp_path / "mask.npy", np.stack([disc_mask()] * 3, axis=-1).astype(float))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.npy"), disc_mask())
    np.save(tmp_path / "mask.npy", np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match=r"mask\.npy' contains NaN"):
        read_mask(tmp_path / "mask.npy")
    np.save(tmp_path / "mask.npy", np.zeros((1, 24, 32)))
    with pytest.raises(ValueError, match=r"mask\.npy' has shape \(1, 24, 32\)"):
        read_mask(tmp_path / "mask.npy")


# Synthetic defects


@pytest.fixture(scope="module")
def grid():
    """Draw every surface with every defect, and enough normal images to train and test on."""
    return {
        surface: make_defects(
            N_TRAIN + N_NORMAL, N_PER_DEFECT * len(DEFECTS), surface=surface, size=96, random_state=7
        )
        for surface in SURFACES
    }


def test_make_defects_names_cover_textures_and_objects():
    assert len(SURFACES) >= 6
    assert set(DEFECTS) >= {"scratch", "spot", "missing_part", "swap", "blend"}


@pytest.mark.slow
def test_make_defects_every_pair_has_mask_of_fair_size(grid):
    for surface, data in grid.items():
        area = data.masks[data.y == -1].mean(axis=(1, 2))
        assert area.min() >= 0.002, surface
        assert area.max() <= 0.15, surface


def test_make_defects_normal_rows_have_empty_masks(grid):
    for data in grid.values():
        assert not data.masks[data.y == 1].any()
        assert set(data.defect[data.y == 1]) == {"good"}


def test_make_defects_every_defect_is_drawn_equally_often(grid):
    for data in grid.values():
        kinds, counts = np.unique(data.defect[data.y == -1], return_counts=True)
        assert set(kinds) == set(DEFECTS)
        assert set(counts) == {N_PER_DEFECT}


@pytest.mark.parametrize(
    "detector", ["largest difference", "mean difference", "largest z-score", "mean z-score"]
)
def test_make_defects_trivial_detector_fails(grid, detector):
    aurocs = []
    for data in grid.values():
        images = data.images.mean(axis=-1) / 255
        train, test = images[:N_TRAIN], images[N_TRAIN:]
        difference = np.abs(test - train.mean(axis=0))
        if detector.endswith("z-score"):
            difference = difference / (train.std(axis=0) + 0.02)
        scores = difference.max(axis=(1, 2)) if "largest" in detector else difference.mean(axis=(1, 2))
        defect = data.defect[N_TRAIN:]
        for kind in DEFECTS:
            rows = (defect == "good") | (defect == kind)
            aurocs.append(roc_auc_score(defect[rows] == kind, scores[rows]))
    assert np.mean(aurocs) < 0.75


def test_make_defects_normal_images_of_one_surface_all_differ(grid):
    for data in grid.values():
        normal = data.images[data.y == 1].astype(float)
        blurred = ndimage.gaussian_filter(normal, (0, 2, 2, 0))
        # Beyond noise, which this blur takes down to less than one grey level.
        assert np.abs(blurred[:-1] - blurred[1:]).mean(axis=(1, 2, 3)).min() > 3


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("surface", SURFACES)
def test_draw_sample_defect_changes_image_inside_mask_only(surface, defect):
    sample = draw_sample(np.random.RandomState(3), Canvas(96, 96), surface, defect)
    np.testing.assert_array_equal(sample.image[~sample.mask], sample.clean[~sample.mask])
    change = np.abs(sample.image[sample.mask].astype(int) - sample.clean[sample.mask]).max(axis=1)
    # More than 3 % of 255, but for rounding (1) and clipping of the noise, which few pixels see.
    assert np.mean(change >= 6) > 0.98
    assert change.mean() > 0.06 * 255


@pytest.mark.parametrize("seed", range(6))
def test_tiles_remove_shows_the_mortar_bed_instead_of_a_tile(seed):
    scene = tiles(np.random.RandomState(seed), Canvas(96, 96))
    removed = scene.remove(np.random.RandomState(seed))
    changed = np.abs(removed - scene.albedo).max(axis=2) > 0.03
    assert 0.03 < changed.mean() < 0.07
    inside = removed[ndimage.binary_erosion(changed, iterations=3)]
    red, _, blue = inside.mean(axis=0)
    # Neither a slate tile, which is bluish, nor a cream one, which is bright.
    assert red > blue + 0.08
    assert np.quantile(inside[:, 0], 0.9) < 0.72


@pytest.mark.parametrize("seed", range(6))
def test_circuit_remove_shows_the_green_board(seed):
    scene = circuit(np.random.RandomState(seed), Canvas(96, 96))
    removed = scene.remove(np.random.RandomState(seed))
    changed = np.abs(removed - scene.albedo).max(axis=2) > 0.03
    green_before, green_after = (np.mean(im[changed].argmax(axis=1) == 1) for im in (scene.albedo, removed))
    assert green_after > max(0.5, green_before)


@pytest.mark.parametrize("seed", range(6))
def test_blister_remove_shows_the_grey_pocket(seed):
    scene = blister(np.random.RandomState(seed), Canvas(96, 96))
    removed = scene.remove(np.random.RandomState(seed))
    changed = np.abs(removed - scene.albedo).max(axis=2) > 0.03
    assert np.ptp(removed[changed], axis=1).max() < 0.12
    assert np.ptp(scene.albedo[changed], axis=1).max() > 0.4


def test_draw_sample_without_defect_is_clean():
    sample = draw_sample(np.random.RandomState(0), Canvas(64, 64), "tiles", None)
    np.testing.assert_array_equal(sample.image, sample.clean)
    assert not sample.mask.any()


def test_make_defects_images_are_those_of_draw_sample():
    data = make_defects(1, 1, surface="wood", defect="spot", size=64, random_state=5)
    seeds = np.random.RandomState(5).randint(0, 2**31 - 1, size=2)
    sample = draw_sample(np.random.RandomState(seeds[1]), Canvas(64, 64), "wood", "spot")
    np.testing.assert_array_equal(data.images[1], sample.image)
    np.testing.assert_array_equal(data.masks[1], sample.mask)


def test_make_defects_bunch_has_documented_shapes_and_types():
    data = make_defects(3, 2, size=(64, 96), random_state=0)
    assert data.images.shape == (5, 64, 96, 3)
    assert data.images.dtype == np.uint8
    assert data.masks.shape == (5, 64, 96)
    assert data.masks.dtype == bool
    assert data.y.tolist() == [1, 1, 1, -1, -1]
    assert data.y.dtype == np.int64
    assert data.y is data.target
    assert data.data is data.images
    assert data.surface.tolist() == ["fabric"] * 5
    assert "3 normal and 2 defective images of 64 x 96 pixels" in data.DESCR


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 256), (256, 64)])
@pytest.mark.parametrize("surface", SURFACES)
def test_make_defects_long_images_are_filled(surface, size):
    data = make_defects(1, 3, surface=surface, size=size, random_state=0)
    assert data.masks[1:].any(axis=(1, 2)).all()
    ends = (np.s_[:, :, :40], np.s_[:, :, -40:]) if size[1] > size[0] else (np.s_[:, :40], np.s_[:, -40:])
    for part in ends:
        assert data.images[part].std(axis=(1, 2, 3)).min() > 3


def test_make_defects_lists_take_turns():
    data = make_defects(3, 5, surface=["wood", "tiles"], defect=("spot", "crack"), size=64, random_state=0)
    assert data.surface.tolist() == ["wood", "tiles", "wood"] + ["wood", "tiles"] * 2 + ["wood"]
    assert data.defect.tolist() == ["good"] * 3 + ["spot", "spot", "crack", "crack", "spot"]


@pytest.mark.slow
def test_make_defects_same_seed_gives_same_bytes_of_every_pair():
    n_pairs = len(SURFACES) * len(DEFECTS)
    first, second = (make_defects(8, n_pairs, surface="all", size=64, random_state=11) for _ in range(2))
    pairs = set(zip(first.surface[8:].tolist(), first.defect[8:].tolist(), strict=True))
    assert pairs == {(surface, defect) for surface in SURFACES for defect in DEFECTS}
    assert first.images.tobytes() == second.images.tobytes()
    assert first.masks.tobytes() == second.masks.tobytes()


@pytest.mark.slow
def test_make_defects_same_seed_in_other_process_gives_same_bytes():
    code = (
        "import hashlib; from skcsflow.datasets import make_defects; "
        "data = make_defects(8, 8, surface='all', size=64, random_state=11); "
        "print(hashlib.sha256(data.images.tobytes() + data.masks.tobytes()).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    data = make_defects(8, 8, surface="all", size=64, random_state=11)
    here = hashlib.sha256(data.images.tobytes() + data.masks.tobytes()).hexdigest()
    assert other.stdout.strip() == here


def test_make_defects_other_seed_gives_other_images():
    first = make_defects(2, 2, size=64, random_state=0)
    second = make_defects(2, 2, size=64, random_state=1)
    assert (first.images != second.images).any(axis=(1, 2, 3)).all()


def test_make_defects_none_seed_gives_other_images_each_time():
    first, second = make_defects(1, 0, size=64), make_defects(1, 0, size=64)
    assert (first.images != second.images).any()


def test_make_defects_random_state_instance_moves_on():
    rng = np.random.RandomState(0)
    first, second = (
        make_defects(1, 0, size=64, random_state=rng),
        make_defects(1, 0, size=64, random_state=rng),
    )
    same = make_defects(1, 0, size=64, random_state=0)
    np.testing.assert_array_equal(first.images, same.images)
    assert (first.images != second.images).any()


def test_make_defects_normal_rows_do_not_depend_on_later_rows():
    few = make_defects(2, 0, size=64, random_state=0)
    more = make_defects(3, 2, size=64, random_state=0)
    np.testing.assert_array_equal(few.images, more.images[:2])


@pytest.mark.parametrize("random_state", [0, None])
def test_make_defects_global_random_state_is_untouched(random_state):
    before = np.random.get_state()  # noqa: NPY002
    make_defects(8, 8, surface="all", size=64, random_state=random_state)
    after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("n_normal", -1),
        ("n_normal", 1.5),
        ("n_defective", -2),
        ("n_defective", "5"),
        ("surface", "velvet"),
        ("surface", ["wood", "velvet"]),
        ("surface", []),
        ("surface", 3),
        ("defect", "dent"),
        ("defect", ["spot", None]),
        ("defect", ()),
        ("size", 63),
        ("size", (128, 32)),
        ("size", (128,)),
        ("size", (64, 257)),
        ("size", (128.0, 128)),
        ("size", True),
        ("size", "128"),
        ("random_state", "zero"),
        ("random_state", -1),
    ],
)
def test_make_defects_bad_parameter_raises(parameter, value):
    with pytest.raises(ValueError, match=f"{parameter}.*{re.escape(repr(value))}"):
        make_defects(**{"n_normal": 1, "n_defective": 1, parameter: value})


def test_make_defects_no_images_raises():
    with pytest.raises(ValueError, match="n_normal and n_defective must not both be 0"):
        make_defects(0, 0)
