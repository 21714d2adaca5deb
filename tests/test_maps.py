"""Maps at every size, streamed and saved; masks and regions; smoothing."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score
from torch.nn import functional as F

from skcsflow import CSFlowDetector, Region, find_regions
from skcsflow.metrics import f1_max, pixel_f1_max
from skcsflow.nn import AnomalyMapGenerator, MultiScaleFeatureExtractor


@pytest.fixture
def fitted(tiny_params, grey_images):
    return CSFlowDetector(**tiny_params).fit(grey_images)


@pytest.fixture
def mixed(grey_images):
    return [grey_images[0], grey_images[1, :30], grey_images[2, :, :33]]


# Smoothing and fusing.


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
def test_smoothing_is_a_gaussian_filter(sigma):
    maps = [torch.rand(2, 1, 20, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)]
    sharp = AnomalyMapGenerator((3, 40, 60), "max").fuse(maps, (40, 60))
    smooth = AnomalyMapGenerator((3, 40, 60), "max", smoothing=sigma).fuse(maps, (40, 60))
    radius = int(np.ceil(4 * sigma))
    for got, source in zip(smooth[:, 0].numpy(), sharp[:, 0].numpy(), strict=True):
        expected = ndimage.gaussian_filter(source, sigma, mode="nearest", radius=radius)
        np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_smooth_maps_of_other_sizes_are_resized():
    maps = [torch.rand(1, 1, 5, 7, generator=torch.Generator().manual_seed(0))]
    generator = AnomalyMapGenerator((3, 40, 60), "max", smoothing=3.0)
    small, large = (generator.fuse(maps, size) for size in ((40, 60), (160, 240)))
    torch.testing.assert_close(large, F.interpolate(small, (160, 240), mode="bilinear"))


def test_smoothing_reaches_beyond_small_maps_and_keeps_constants():
    generator = AnomalyMapGenerator((3, 4, 4), smoothing=10.0)
    z = [torch.full((1, 2, n, n), 2.0) for n in (4, 2, 1)]
    torch.testing.assert_close(generator(z), torch.full((1, 1, 4, 4), 64.0))


def test_no_smoothing_is_the_default():
    z = [torch.rand(1, 2, n, n, generator=torch.Generator().manual_seed(n)) for n in (4, 2, 1)]
    same = AnomalyMapGenerator((3, 64, 64), smoothing=0.0)(z)
    torch.testing.assert_close(AnomalyMapGenerator((3, 64, 64))(z), same, rtol=0, atol=0)


@pytest.mark.parametrize("smoothing", [-1.0, float("nan"), float("inf")])
def test_smoothing_out_of_range_is_an_error(smoothing):
    with pytest.raises(ValueError, match=f"smoothing must be 0 or more, and finite, got {smoothing}"):
        AnomalyMapGenerator((3, 64, 64), smoothing=smoothing)


def test_much_smoothing_takes_little_memory():
    z = [torch.rand(1, 2, n, n, generator=torch.Generator().manual_seed(n)) for n in (4, 2, 1)]
    maps = AnomalyMapGenerator((3, 64, 64), "max", smoothing=1e9)(z)
    assert maps.shape == (1, 1, 64, 64)
    assert maps.isfinite().all()


@pytest.mark.parametrize("smoothing", [3, 5])
def test_features_are_averaged_over_the_neighbours_that_there_are(smoothing):
    images = torch.rand(1, 3, 160, 96, generator=torch.Generator().manual_seed(0))
    sharp, smooth = (
        MultiScaleFeatureExtractor("test_efficientnet", weights=None, smoothing=s) for s in (1, smoothing)
    )
    assert sharp.fingerprint() != smooth.fingerprint()
    for before, after in zip(sharp(images), smooth(images), strict=True):
        n = smoothing // 2
        for i, j in np.ndindex(*before.shape[2:]):
            around = before[0, :, max(i - n, 0) : i + n + 1, max(j - n, 0) : j + n + 1]
            torch.testing.assert_close(after[0, :, i, j], around.mean(dim=(1, 2)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0, 2, -1])
def test_feature_smoothing_is_odd(smoothing, tiny_params, grey_images):
    with pytest.raises(ValueError, match=rf"smoothing must be an odd number of at least 1, got {smoothing}"):
        MultiScaleFeatureExtractor("test_efficientnet", weights=None, smoothing=smoothing)
    with pytest.raises(ValueError, match="feature_smoothing"):
        CSFlowDetector(**tiny_params, feature_smoothing=smoothing).fit(grey_images)


def test_map_smoothing_of_the_detector(tiny_params, grey_images):
    sharp, smooth = (
        CSFlowDetector(**tiny_params, map_smoothing=s).fit(grey_images).transform(grey_images[:2])
        for s in (0, 4.0)
    )
    # 48 x 40 pixels, smoothed at an input_size of 64.
    for before, after in zip(sharp, smooth, strict=True):
        sigma = (4 * 48 / 64, 4 * 40 / 64)
        np.testing.assert_allclose(after, ndimage.gaussian_filter(before, sigma, mode="nearest"), rtol=0.02)


# Sizes.


def test_mixed_sizes(fitted, mixed):
    assert fitted.transform(mixed).shape == (3, 64, 64)
    maps = fitted.set_params(map_size="image").transform(mixed)
    assert (maps.dtype, maps.shape) == (object, (3,))
    assert [m.shape for m in maps] == [image.shape for image in mixed]
    assert all(m.dtype == np.float32 for m in maps)
    for image, anomaly_map in zip(mixed, maps, strict=True):
        np.testing.assert_array_equal(fitted.transform(image[None])[0], anomaly_map)


def test_images_of_one_size_give_one_array_whatever_map_size(fitted, grey_images):
    expected = fitted.transform(grey_images[:3])
    assert expected.shape == (3, 48, 40)
    np.testing.assert_array_equal(fitted.set_params(map_size="image").transform(grey_images[:3]), expected)


def test_iter_maps_gives_what_transform_gives(fitted, grey_images, mixed):
    maps = list(fitted.iter_maps(grey_images[:3]))
    np.testing.assert_array_equal(maps, fitted.transform(grey_images[:3]))
    assert [m.shape for m in fitted.iter_maps(mixed)] == [image.shape for image in mixed]


def test_iter_maps_computes_as_it_goes(fitted, grey_images):
    read = []

    class Lazy(list):
        def __getitem__(self, i):
            read.append(i)
            return super().__getitem__(i)

    maps = fitted.set_params(n_jobs=1).iter_maps(Lazy(grey_images))
    next(maps)
    assert len(set(read)) < len(grey_images)
    maps.close()


def test_iter_maps_complains_at_once(tiny_params, fitted):
    with pytest.raises(NotFittedError):
        CSFlowDetector(**tiny_params).iter_maps(np.zeros((1, 8, 8)))
    with pytest.raises(ValueError, match="shape"):
        fitted.iter_maps(np.zeros(3))


def test_rows_give_rows(tiny_params, blobs):
    detector = CSFlowDetector(**tiny_params).fit(blobs)
    maps = detector.transform(blobs[:5])
    assert maps.shape == (5, 16)
    np.testing.assert_array_equal(np.reshape(list(detector.iter_maps(blobs[:5])), (5, 16)), maps)
    assert detector.predict_masks(blobs[:5]).shape == (5, 16)


# Files.


def test_save_maps(fitted, grey_images, tmp_path):
    path = tmp_path / "maps.npy"
    maps = fitted.save_maps(grey_images[:4], path)
    assert isinstance(maps, np.memmap)
    assert not maps.flags.writeable
    np.testing.assert_array_equal(maps, fitted.transform(grey_images[:4]))
    np.testing.assert_array_equal(np.load(path), maps)
    assert [p.name for p in tmp_path.iterdir()] == ["maps.npy"]


def test_save_maps_at_a_given_size(fitted, mixed, tmp_path):
    maps = fitted.save_maps(mixed, tmp_path / "maps.npy", size=(64, 64))
    np.testing.assert_array_equal(maps, fitted.transform(mixed))


def test_save_maps_that_fails_leaves_what_was_there(fitted, grey_images, mixed, tmp_path):
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
        ("maps.npy", 64, r"two positive integers \(H, W\), got 64"),
        ("maps.npy", ("a", "b"), r"two positive integers"),
        ("maps.npy", (64,), r"two positive integers \(H, W\), got \(64,\)"),
        ("maps.npy", (64, 0), r"two positive integers \(H, W\), got \(64, 0\)"),
    ],
)
def test_save_maps_refuses(fitted, grey_images, tmp_path, path, size, message):
    with pytest.raises(ValueError, match=message):
        fitted.save_maps(grey_images[:2], tmp_path / path, size=size)
    assert not list(tmp_path.iterdir())


def test_save_maps_names_a_folder_that_is_missing(fitted, grey_images, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such folder, for path: '.*nowhere'"):
        fitted.save_maps(grey_images[:2], tmp_path / "nowhere" / "maps.npy")


# Thresholds, masks and regions.


def test_a_threshold_between_neighbouring_floats_tells_them_apart(fitted, grey_images):
    maps = fitted.transform(grey_images[:4])
    peak = maps[0].max()
    fitted.map_threshold_ = float(np.nextafter(np.float64(peak), 0))  # float32 would round it to the peak
    assert fitted.predict_masks(grey_images[:1]).any()
    assert fitted.predict_regions(grey_images[:1])[0][0].peak == peak
    assert find_regions(maps[0], fitted.map_threshold_)


@pytest.mark.parametrize("size", [(64, 64), (150, 90), (20, 30)])
def test_map_threshold_is_the_highest_value_that_the_share_of_training_images_has(tiny_params, size):
    # Of maps at the images' own size: the finer the grid, the higher the peaks.
    images = np.random.RandomState(0).randint(256, size=(20, *size), dtype=np.uint8)
    detector = CSFlowDetector(**tiny_params, contamination=0.25).fit(images)
    peaks = detector.transform(images).max(axis=(1, 2))
    assert detector.map_threshold_ == np.percentile(peaks.tolist(), 75)
    assert detector.predict_masks(images).any(axis=(1, 2)).sum() == 5


def test_masks_are_maps_above_the_threshold(fitted, grey_images, mixed):
    X = grey_images[:4]
    fitted.map_threshold_ = float(np.median(fitted.transform(X)))
    masks = fitted.predict_masks(X)
    assert masks.dtype == bool
    np.testing.assert_array_equal(masks, fitted.transform(X) > fitted.map_threshold_)
    masks = fitted.set_params(map_size="image").predict_masks(mixed)
    assert masks.dtype == object
    assert [m.shape for m in masks] == [image.shape for image in mixed]
    assert all(m.dtype == bool for m in masks)


def test_regions_are_those_of_the_masks(fitted, grey_images, mixed):
    fitted.map_threshold_ = float(np.quantile(fitted.transform(grey_images[:4]), 0.8))
    for image, regions in zip(mixed, fitted.predict_regions(mixed), strict=True):
        mask = fitted.predict_masks(image[None])[0]
        assert sum(region.area for region in regions) == mask.sum()
        assert len(regions) == ndimage.label(mask, np.ones((3, 3)))[1]
        assert all(isinstance(region, Region) for region in regions)


def test_a_detector_without_map_threshold_says_so(fitted, grey_images):
    del fitted.map_threshold_
    for method in (fitted.predict_masks, fitted.predict_regions):
        with pytest.raises(NotFittedError, match="before there was a map_threshold_"):
            method(grey_images[:2])


def test_the_threshold_of_pixel_f1_max_makes_masks_of_that_score(fitted, grey_images):
    masks = np.zeros(grey_images.shape, dtype=bool)
    masks[:, :9, :9] = True  # at the edge, where neighbours have the same value
    f1, threshold = pixel_f1_max(masks, fitted.transform(grey_images), return_threshold=True)
    fitted.map_threshold_ = threshold
    marked = fitted.predict_masks(grey_images)
    assert 2 * np.sum(marked & masks) / (marked.sum() + masks.sum()) == pytest.approx(f1, abs=1e-12)


def test_the_threshold_of_f1_max_makes_predictions_of_that_score(fitted, grey_images):
    y = np.where(np.arange(40) % 3, 1, -1)
    f1, threshold = f1_max(y, -fitted.score_samples(grey_images), return_threshold=True)
    fitted.offset_ = -threshold
    assert f1_score(y, fitted.predict(grey_images), pos_label=-1) == pytest.approx(f1, abs=1e-12)


def test_find_regions():
    values = np.zeros((6, 8))
    values[0, 0] = values[1, 1] = 2.0  # touch at a corner
    values[3:5, 5:8] = 3.0
    values[4, 6] = 7.0
    values[5, 0] = 9.0
    regions = find_regions(values, threshold=1.0)
    assert regions == [
        Region((5, 0, 6, 1), 1, 9.0, (5, 0)),
        Region((3, 5, 5, 8), 6, 7.0, (4, 6)),
        Region((0, 0, 2, 2), 2, 2.0, (0, 0)),
    ]
    assert find_regions(values, threshold=1.0, min_area=2) == regions[1:]
    assert find_regions(values, threshold=9.0) == []


def test_a_regions_peak_is_its_own_and_not_that_of_one_inside_its_box():
    values = np.ones((5, 5))
    values[1:4, 1:4] = 0.0
    values[2, 2] = 5.0
    assert [(r.peak, r.area) for r in find_regions(values, 0.5)] == [(5.0, 1), (1.0, 16)]


@pytest.mark.parametrize(
    ("values", "min_area", "message"),
    [
        (np.zeros(3), 1, r"shape \(H, W\), got shape \(3,\)"),
        (np.zeros((3, 3)), 0, "min_area must be an int of at least 1, got 0"),
        (np.zeros((3, 3)), 1.5, "min_area must be an int of at least 1, got 1.5"),
        (np.zeros((0, 3)), 1, r"anomaly_map has no pixels: its shape is \(0, 3\)"),
    ],
)
def test_find_regions_refuses(values, min_area, message):
    with pytest.raises(ValueError, match=message):
        find_regions(values, 0.0, min_area=min_area)


def test_find_regions_refuses_a_threshold_that_is_nan():
    with pytest.raises(ValueError, match="threshold is NaN"):
        find_regions(np.zeros((3, 3)), np.nan)
