"""How values of images are scaled, and warnings where they can't be what was meant."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone

from skcsflow import CSFlowDetector

RNG = np.random.RandomState(0)
BYTES = RNG.randint(10, 240, size=(5, 24, 30)).astype(np.uint8)
TWELVE_BITS = BYTES.astype(np.uint16) * 16


@pytest.fixture(scope="module")
def trained(fitted):
    return clone(fitted).set_params(n_epochs=1).fit(BYTES)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            BYTES.astype(np.int64),
            r"int64 values up to 200\. By the range of their type.*nearly black.*value_range=",
        ),
        (BYTES.astype(np.uint32), "uint32.*nearly black"),
        (torch.from_numpy(BYTES.astype(np.int32))[:, None], "int32.*nearly black"),
        (
            BYTES.astype(np.float32),
            r"float32 values.*Scaled, they reach from 10 to 200, and not from 0 to 1",
        ),
        (-BYTES.astype(np.float64), r"float64 values up to -10\. Scaled, they reach from -200"),
        (
            TWELVE_BITS // 16,
            r"uint16 values.*Scaled, they reach up to 0\.004, those of the training images to 0\.9",
        ),
        (TWELVE_BITS, r"up to 0\.06, those of the training images to 0\.9"),
    ],
    ids=["int64", "uint32", "int32 tensor", "float 255", "negative", "8 in 16 bits", "12 in 16 bits"],
)
@pytest.mark.parametrize("method", ["score_samples", "predict", "transform"])
def test_values_that_cannot_be_meant_give_a_warning(trained, images, message, method):
    with pytest.warns(UserWarning, match=message) as caught:
        getattr(trained, method)(images)
    assert [w.filename for w in caught] == [__file__]


@pytest.mark.parametrize("images", [BYTES.astype(np.int64), BYTES.astype(np.float32)], ids=["int64", "float"])
def test_fit_on_such_values_gives_the_warning_too(tiny_params, images):
    with pytest.warns(UserWarning, match=r"Set value_range=\(low, high\)"):
        CSFlowDetector(**tiny_params).fit(images)


def test_sensible_values_give_no_warning(trained):
    undershot = BYTES / 255 * 1.3 - 0.2  # as resizing with a sharp filter leaves
    for images in (BYTES, BYTES / 255, BYTES.astype(np.uint16) * 257, BYTES > 100, BYTES // 4, undershot):
        trained.score_samples(images)


@pytest.mark.parametrize(("mean", "deviation"), [(0.45, 0.225), (0.5, 0.5)])
def test_normalised_images_give_a_warning(fitted, trained, mean, deviation):
    images = ((BYTES / 255 - mean) / deviation).astype(np.float32)
    low = r"-2" if deviation < 0.5 else r"-0\.9"
    message = (
        rf"float32 values.* reach down to {low}, .* 0 to 1, and the backbone normalises them by itself\. Set"
    )
    with pytest.warns(UserWarning, match=message):
        trained.score_samples(images)
    with pytest.warns(UserWarning, match=message):
        detector = clone(fitted).set_params(n_epochs=1).fit(images)
    detector.set_params(value_range=(-1, 1)).score_samples(images)
    detector.set_params(value_range=None, image_shape=(24, 30)).score_samples(images.reshape(5, -1))


def test_brighter_images_than_in_training_give_a_warning(fitted):
    with pytest.warns(
        UserWarning, match=r"uint16 values up to 4000\. That is 0\.06 of the range.* 12 bits or fewer"
    ):
        dark = clone(fitted).set_params(n_epochs=1).fit(TWELVE_BITS)
    dark.score_samples(TWELVE_BITS)
    with pytest.warns(UserWarning, match=r"up to 0\.9, those of the training images to 0\.06"):
        dark.score_samples(BYTES)


def test_training_that_goes_on_remembers_the_brightest_images_of_all(fitted):
    detector = clone(fitted).set_params(n_epochs=1).partial_fit(BYTES)
    detector.partial_fit(BYTES // 2)
    detector.partial_fit(BYTES // 2)
    detector.score_samples(BYTES / 8 / 255)
    with pytest.warns(UserWarning, match=r"those of the training images to 0\.9"):
        detector.score_samples(BYTES / 16 / 255)


def test_dark_images_of_8_bits_give_no_warning_where_the_training_images_have_8_bits(trained):
    for images in (BYTES // 30, BYTES * 0):
        trained.score_samples(images)


def test_frames_of_a_camera_do_not_give_a_warning_each(trained):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for k in range(40):
            trained.score_samples((BYTES[:1] / 255 / (30 + k / 100)).astype(np.float32))
    assert 1 <= len(caught) <= 2


def test_no_warning_where_the_training_images_were_not_read(tiny_params, tmp_path):
    for _ in range(2):
        detector = CSFlowDetector(**tiny_params, memory=tmp_path).fit(BYTES)
    assert detector._trained_values == {}
    detector.score_samples(BYTES // 16)


def test_value_range_scales_arrays_files_and_rows_alike(trained, tmp_path):
    expected = trained.score_samples(BYTES / 255)
    detector = clone(trained).fit(BYTES)
    detector.set_params(value_range=(0, 4080))
    for images in (TWELVE_BITS, TWELVE_BITS.astype(np.int64), TWELVE_BITS.astype(float)):
        np.testing.assert_allclose(detector.score_samples(images), expected, rtol=1e-6)
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, image in zip(paths, TWELVE_BITS, strict=True):
        Image.fromarray(image).save(path)
    np.testing.assert_allclose(detector.score_samples(paths), expected, rtol=1e-6)
    detector.set_params(image_shape=(24, 30))
    np.testing.assert_allclose(detector.score_samples(TWELVE_BITS.reshape(5, -1)), expected, rtol=1e-6)
    detector.set_params(value_range=(-2040.0, 2040.0))
    np.testing.assert_allclose(detector.score_samples(TWELVE_BITS - 2040.0), expected, rtol=1e-6)
    with pytest.warns(
        UserWarning, match=r"uint16 values.*Scaled, they reach from .* to 10, and not from 0 to 1"
    ):
        detector.set_params(value_range=(0, 255)).score_samples(TWELVE_BITS)


def test_value_range_is_part_of_what_features_are_kept_by(tiny_params, tmp_path):
    detector = CSFlowDetector(**tiny_params, memory=tmp_path, value_range=(0, 255)).fit(BYTES)
    scores = detector.score_samples(BYTES)
    assert (detector.set_params(value_range=(0, 510)).score_samples(BYTES) != scores).all()


@pytest.mark.parametrize(
    "value_range", [(0,), (1, 1), (2, 1), (0, np.inf), (np.nan, 1), ("a", "b"), (0, 1, 2)]
)
def test_impossible_value_range_raises(trained, value_range):
    with pytest.raises(ValueError, match="value_range must be None or two numbers"):
        clone(trained).set_params(value_range=value_range).fit(BYTES)
    detector = clone(trained).fit(BYTES).set_params(value_range=value_range)
    with pytest.raises(ValueError, match="value_range must be None or two numbers"):
        detector.score_samples(BYTES)


def test_value_range_of_another_type_raises(trained):
    with warnings.catch_warnings(), pytest.raises(ValueError, match="value_range"):
        clone(trained).set_params(value_range=255).fit(BYTES)
