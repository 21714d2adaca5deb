"""Maps at every size, streamed and saved; masks and regions."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score

from skcsflow import CSFlowDetector, Region
from skcsflow._images import ImageCollection
from skcsflow.metrics import f1_max, pixel_f1_max


@pytest.fixture
def mixed(grey_images):
    return [grey_images[0], grey_images[1, :30], grey_images[2, :, :33]]


# Sizes


def test_transform_of_mixed_sizes_gives_maps_of_input_size(fitted, mixed):
    maps = fitted.transform(mixed)
    assert (maps.dtype, maps.shape) == (np.float32, (3, 64, 64))


def test_transform_of_one_size_gives_maps_of_it_on_any_number_of_threads(fitted_copy, grey_images):
    maps = fitted_copy.set_params(n_jobs=1).transform(grey_images)
    assert maps.shape == grey_images.shape
    np.testing.assert_array_equal(fitted_copy.set_params(n_jobs=3).transform(grey_images), maps)


def test_transform_of_rows_gives_rows(tiny_params, blobs):
    detector = CSFlowDetector(**tiny_params).fit(blobs[:9])
    maps = detector.transform(blobs[:5])
    assert maps.shape == (5, 16)
    np.testing.assert_array_equal(np.reshape(list(detector.iter_maps(blobs[:5])), (5, 16)), maps)
    assert detector.predict_masks(blobs[:5]).shape == (5, 16)


def test_iter_maps_of_one_size_gives_what_transform_gives(fitted, grey_images):
    np.testing.assert_array_equal(list(fitted.iter_maps(grey_images[:3])), fitted.transform(grey_images[:3]))


def test_iter_maps_of_mixed_sizes_gives_each_at_its_own(fitted, mixed):
    for image, anomaly_map in zip(mixed, fitted.iter_maps(mixed), strict=True):
        assert (anomaly_map.dtype, anomaly_map.shape) == (np.float32, image.shape)
        np.testing.assert_array_equal(fitted.transform(image[None])[0], anomaly_map)


def test_iter_maps_computes_as_it_goes(fitted_copy, grey_images, monkeypatch):
    read = []
    load = ImageCollection.load
    monkeypatch.setattr(ImageCollection, "load", lambda self, i: read.append(i) or load(self, i))
    maps = fitted_copy.set_params(n_jobs=1).iter_maps(list(grey_images))
    next(maps)
    assert len(set(read)) < len(grey_images)
    maps.close()


def test_iter_maps_of_bad_X_raises_at_once(tiny_params, fitted):
    with pytest.raises(NotFittedError):
        CSFlowDetector(**tiny_params).iter_maps(np.zeros((1, 8, 8)))
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        fitted.iter_maps(np.zeros(3))


# Files


def test_save_maps_writes_what_transform_gives(fitted, grey_images, tmp_path):
    path = tmp_path / "maps.npy"
    maps = fitted.save_maps(grey_images[:4], path)
    assert isinstance(maps, np.memmap)
    assert not maps.flags.writeable
    np.testing.assert_array_equal(maps, fitted.transform(grey_images[:4]))
    np.testing.assert_array_equal(np.load(path), maps)
    assert [p.name for p in tmp_path.iterdir()] == ["maps.npy"]


def test_save_maps_at_a_given_size_takes_mixed_sizes(fitted, mixed, tmp_path):
    for size in (64, (64, 64), np.array([64, 64])):
        maps = fitted.save_maps(mixed, tmp_path / "maps.npy", size=size)
        np.testing.assert_array_equal(maps, fitted.transform(mixed))


def test_save_maps_that_fails_leaves_the_file_that_was_there(fitted, grey_images, mixed, tmp_path):
    path = tmp_path / "maps.npy"
    fitted.save_maps(grey_images[:2], path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"X\[1\] has 30 x 40 pixels, but X\[0\] 48 x 40"):
        fitted.save_maps(mixed, path)
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.fromarray(grey_images[0]).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"broken\.png"):
        fitted.save_maps([tmp_path / "a.png", tmp_path / "broken.png"], path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "broken.png", "maps.npy"]


@pytest.mark.parametrize(
    ("path", "size", "message"),
    [
        ("maps.txt", None, r"path must end in \.npy, got '.*maps\.txt'"),
        ("maps.npy", 0, r"size must be an int or a pair of ints \(H, W\), each 1 or more, got 0"),
        ("maps.npy", ("a", "b"), r"size must be an int or a pair of ints \(H, W\).*got \('a', 'b'\)"),
        ("maps.npy", (64,), r"got \(64,\)"),
        ("maps.npy", (64, 0), r"got \(64, 0\)"),
    ],
)
def test_save_maps_with_a_bad_path_or_size_raises(fitted, grey_images, tmp_path, path, size, message):
    with pytest.raises(ValueError, match=message):
        fitted.save_maps(grey_images[:2], tmp_path / path, size=size)
    assert not list(tmp_path.iterdir())


def test_save_maps_in_a_missing_folder_raises_with_its_name(fitted, grey_images, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such folder, for path: '.*nowhere'"):
        fitted.save_maps(grey_images[:2], tmp_path / "nowhere" / "maps.npy")


# Thresholds, masks and regions


def test_map_threshold_between_neighbouring_floats_tells_them_apart(fitted_copy, grey_images):
    peak = fitted_copy.transform(grey_images[:1]).max()
    fitted_copy.map_threshold_ = float(
        np.nextafter(np.float64(peak), 0)
    )  # float32 would round it to the peak
    assert fitted_copy.predict_masks(grey_images[:1]).any()
    assert fitted_copy.predict_regions(grey_images[:1])[0][0].peak == peak


@pytest.mark.parametrize("size", [(64, 64), (150, 90), (20, 30)])
def test_map_threshold_of_fit_is_exceeded_in_the_share_of_training_images(tiny_params, size):
    # In maps at the images' own size: the finer the grid, the higher the peaks.
    images = np.random.RandomState(0).randint(256, size=(20, *size), dtype=np.uint8)
    detector = CSFlowDetector(**{**tiny_params, "n_epochs": 1, "contamination": 0.25}).fit(images)
    peaks = detector.transform(images).max(axis=(1, 2))
    assert detector.map_threshold_ == np.percentile(peaks.tolist(), 75)
    assert detector.predict_masks(images).any(axis=(1, 2)).sum() == 5


def test_predict_masks_are_the_upper_parts_of_what_is_above_the_threshold(fitted_copy, grey_images, mixed):
    level = fitted_copy.model_.anomaly_map_generator.half_level
    for X in (grey_images[:4], mixed):
        maps = fitted_copy.transform(X)
        fitted_copy.map_threshold_ = threshold = float(np.quantile(maps, 0.8))
        masks = fitted_copy.predict_masks(X)
        assert masks.dtype == bool
        np.testing.assert_array_equal(masks.any(axis=(1, 2)), (maps > threshold).any(axis=(1, 2)))
        for anomaly_map, mask in zip(maps, masks, strict=True):
            labels, n_regions = ndimage.label(anomaly_map > threshold, np.ones((3, 3)))
            for i in range(1, n_regions + 1):
                region = labels == i
                expected = region & (anomaly_map >= level(float(anomaly_map[region].max())))
                np.testing.assert_array_equal(mask & region, expected)
            assert not mask[labels == 0].any()


def test_predict_masks_of_rows_are_those_of_images(tiny_params, blobs):
    detector = CSFlowDetector(**tiny_params).fit(blobs[:9])
    detector.map_threshold_ = float(np.median(detector.transform(blobs[:5])))
    masks = detector.predict_masks(blobs[:5])
    assert masks.shape == (5, 16)
    np.testing.assert_array_equal([f.mask.ravel() for f in detector.inspect(blobs[:5])], masks)


def test_predict_regions_are_those_of_the_masks_at_the_images_own_size(fitted_copy, grey_images, mixed):
    fitted_copy.map_threshold_ = float(np.quantile(fitted_copy.transform(grey_images[:4]), 0.5))
    for image, regions in zip(mixed, fitted_copy.predict_regions(mixed), strict=True):
        mask = fitted_copy.predict_masks(image[None])[0]
        assert mask.any()
        assert sum(region.area for region in regions) == mask.sum()
        assert len(regions) == ndimage.label(mask, np.ones((3, 3)))[1]
        assert all(isinstance(region, Region) for region in regions)


def test_predict_regions_with_min_area_leaves_out_smaller_ones(fitted_copy, grey_images):
    X = grey_images[:4]
    fitted_copy.map_threshold_ = float(np.quantile(fitted_copy.transform(X), 0.8))
    every = fitted_copy.predict_regions(X)
    least = max(region.area for regions in every for region in regions)
    large = fitted_copy.predict_regions(X, min_area=least)
    assert large == [[region for region in regions if region.area >= least] for regions in every]
    assert large != every


def test_maps_above_the_threshold_of_pixel_f1_max_have_that_score(fitted, grey_images):
    masks = np.zeros(grey_images.shape, dtype=bool)
    masks[:, :9, :9] = True  # at the edge, where neighbours have the same value
    maps = fitted.transform(grey_images)
    f1, threshold = pixel_f1_max(masks, maps, return_threshold=True)
    marked = maps > threshold
    assert 2 * np.sum(marked & masks) / (marked.sum() + masks.sum()) == pytest.approx(f1, abs=1e-12)


def test_predict_by_the_threshold_of_f1_max_has_that_score(fitted_copy, grey_images):
    y = np.where(np.arange(24) % 3, 1, -1)
    f1, threshold = f1_max(y, -fitted_copy.score_samples(grey_images), return_threshold=True)
    fitted_copy.offset_ = -threshold
    assert f1_score(y, fitted_copy.predict(grey_images), pos_label=-1) == pytest.approx(f1, abs=1e-12)
