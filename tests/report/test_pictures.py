"""Small pictures of images and maps."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from skcsflow._images import check_images
from skcsflow.report._pictures import MAP_SIDE, colour_scale, draw_map, draw_thumbnail, shrink_map


def opened(data):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize("side", [160, 320])
def test_thumbnail_of_noise_keeps_within_its_bytes(side):
    noise = np.random.RandomState(0).randint(0, 256, (1, 400, 400, 3), np.uint8)
    data, size, _ = draw_thumbnail(check_images(noise, 3), 0, side)
    assert size == (400, 400)
    assert len(base64.b64decode(data)) <= 0.17 * side**2


def test_thumbnail_has_the_values_that_the_detector_takes():
    image = np.zeros((1, 8, 8, 3), np.uint16)
    image[0, :, 4:] = 4095
    dark = opened(draw_thumbnail(check_images(image, 3), 0, 64)[0])
    bright = opened(draw_thumbnail(check_images(image, 3, (0, 4095)), 0, 64)[0])
    assert dark.max() < 30
    assert bright[:, -1].min() > 225
    assert bright[:, 0].max() < 30


def test_thumbnail_of_floats_beyond_0_to_1_is_scaled_by_its_own_range():
    ramp = np.linspace(-5, 5, 64 * 64).reshape(1, 64, 64)
    shown = opened(draw_thumbnail(check_images(ramp, 3), 0, 64)[0])
    assert shown[0].max() < 30
    assert shown[-1].min() > 225


def test_thumbnail_of_many_channels_is_their_mean():
    image = np.zeros((1, 16, 16, 5), np.uint8)
    image[..., 0] = 255
    shown = opened(draw_thumbnail(check_images(image, 5), 0, 64)[0])
    assert abs(shown.mean() - 51) < 4


def test_thumbnail_of_a_large_jpeg_has_its_own_size_and_shape(tmp_path):
    Image.new("RGB", (2000, 1000), (200, 10, 10)).save(tmp_path / "a.jpg")
    data, size, shown = draw_thumbnail(check_images([tmp_path / "a.jpg"], 3), 0, 100)
    assert (size, shown) == ((1000, 2000), (50, 100))
    assert opened(data).shape == (50, 100, 3)


def test_shrunken_map_keeps_its_peak_and_place():
    large = np.zeros((1000, 500), np.float32)
    large[705, 101] = 9
    small = shrink_map(large)
    assert small.shape == (MAP_SIDE, MAP_SIDE // 2)
    row, column = np.unravel_index(small.argmax(), small.shape)
    assert small.max() == 9
    assert (row, column) == (705 * 64 // 1000, 101 * 32 // 500)
    np.testing.assert_array_equal(shrink_map(large[:40, :3]), large[:40, :3])


def test_maps_share_one_scale_on_which_good_ones_are_clear():
    rng = np.random.RandomState(0)
    good, bad = rng.normal(0, 1, (2, 32, 32)).astype(np.float32)
    bad[:8, :8] = 20
    scale = colour_scale([good, bad], 4.0)
    assert not scale.is_log
    assert 0.39 < scale.threshold < 0.51
    shown = opened(draw_map(bad, scale))
    assert shown[2:6, 2:6, 3].min() > 160
    assert opened(draw_map(good, scale))[..., 3].mean() < 25


def test_map_of_noise_keeps_within_its_bytes():
    noise = np.random.RandomState(0).normal(0, 5, (64, 64)).astype(np.float32)
    data = draw_map(noise, colour_scale([noise], 3.0))
    assert len(base64.b64decode(data)) <= 1000
    assert opened(data).ndim == 3


def test_scale_of_positive_maps_is_logarithmic():
    maps = [np.exp(np.random.RandomState(0).normal(0, 1, (32, 32))).astype(np.float32)]
    scale = colour_scale(maps, 30.0)
    assert scale.is_log
    assert scale.low < np.log(30) < scale.high


@pytest.mark.parametrize("threshold", [-5.0, 0.0, 1.0, 1e6])
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_scale_of_constant_maps_is_finite(value, threshold):
    maps = [np.full((8, 8), value, np.float32)]
    scale = colour_scale(maps, threshold)
    assert np.isfinite(scale[:2]).all()
    assert scale.low < scale.high
    assert 0 < scale.threshold < 1
    assert opened(draw_map(maps[0], scale)).shape == (8, 8, 4)
