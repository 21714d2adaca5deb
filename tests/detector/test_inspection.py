"""All that a detector says of an image, from one pass."""

import itertools

import numpy as np
import pytest
from PIL import Image
from sklearn.exceptions import NotFittedError

from skcsflow import CSFlowDetector
from skcsflow._regions import mark_pixels


@pytest.fixture
def calibrated(fitted_copy, grey_images):
    return fitted_copy.set_params(n_jobs=2).calibrate(255 - grey_images, fpr=0.2)


def check(found, detector, X):
    found = list(found)
    np.testing.assert_array_equal([f.score for f in found], detector.score_samples(X))
    np.testing.assert_array_equal([f.p_value for f in found], detector.p_values(X))
    np.testing.assert_array_equal([f.verdict for f in found], detector.predict(X))
    for f, anomaly_map, regions in zip(
        found, detector.iter_maps(X), detector.predict_regions(X), strict=True
    ):
        np.testing.assert_array_equal(f.anomaly_map, anomaly_map)
        level = detector.model_.anomaly_map_generator.half_level
        np.testing.assert_array_equal(f.mask, mark_pixels(anomaly_map, detector.map_threshold_, level))
        assert f.regions == regions


def test_inspect_gives_what_the_single_methods_give(calibrated, grey_images, tmp_path):
    mixed = [grey_images[0], 255 - grey_images[1][:30], np.zeros((20, 50), np.uint8)]
    for X in (grey_images, mixed):
        check(calibrated.inspect(X), calibrated, X)
    Image.fromarray(grey_images[0]).save(tmp_path / "0.png")
    check(calibrated.inspect(tmp_path), calibrated, grey_images[:1])
    assert {f.verdict for f in calibrated.inspect([*grey_images, *mixed])} == {1, -1}
    assert any(f.regions for f in calibrated.inspect(mixed))
    assert not any(f.regions for f in calibrated.inspect(mixed, min_area=10**6))


def test_inspect_reads_and_runs_each_image_once(calibrated, grey_images, monkeypatch):
    images = []
    extract = type(calibrated._current_runner()).features
    monkeypatch.setattr(
        type(calibrated._current_runner()),
        "features",
        lambda self, batch, *args: images.extend(batch) or extract(self, batch, *args),
    )
    assert len(list(calibrated.inspect(grey_images))) == len(images) == len(grey_images)


def test_inspect_takes_an_image_from_an_iterator_when_its_inspection_is_asked_for(calibrated, grey_images):
    taken = []

    def camera():
        for k in itertools.count():
            taken.append(k)
            yield grey_images[k]

    inspections = calibrated.inspect(camera())
    assert taken == []
    for k in range(3):
        found = next(inspections)
        assert taken == list(range(k + 1))
        assert found.score == calibrated.score_samples(grey_images[k : k + 1])[0]
    check(calibrated.inspect(iter(grey_images[:4])), calibrated, grey_images[:4])


def test_inspect_without_calibration_has_no_p_values(fitted, grey_images):
    assert all(np.isnan(f.p_value) for f in fitted.inspect(grey_images[:3]))


def test_inspect_of_what_cannot_be_read_says_so_and_goes_on(calibrated, grey_images):
    X = [grey_images[0], np.full((9, 9), np.nan)]
    with pytest.warns(UserWarning, match=r"NaN or infinity: X\[1\]"):
        good, bad = calibrated.set_params(on_error="nan").inspect(X)
    assert good.score == calibrated.score_samples(X[:1])[0]
    assert np.isnan([bad.score, bad.p_value]).all()
    assert bad.verdict == -1
    assert np.isnan(bad.anomaly_map).all()
    assert bad.mask.all()
    assert [region.area for region in bad.regions] == [bad.mask.size]
    assert good.error is None
    assert bad.error == "Input X contains NaN or infinity: X[1] does."


def test_inspect_of_wrong_arguments_raises_at_once(fitted, grey_images):
    with pytest.raises(ValueError, match="min_area"):
        fitted.inspect(grey_images, min_area=0)
    with pytest.raises(TypeError, match="PIL image"):
        fitted.inspect(Image.fromarray(grey_images[0]))
    with pytest.raises(NotFittedError):
        CSFlowDetector().inspect(grey_images)


def test_inspect_of_an_iterator_counts_images_in_messages(calibrated, grey_images, tmp_path):
    for bad, error, message in (
        (np.full((9, 9), np.nan), ValueError, r"NaN or infinity: X\[2\]"),
        (np.zeros((9, 9, 2)), ValueError, r"X\[2\] has 2 channels"),
        (np.zeros((9, 9, 9, 9)), ValueError, r"X\[2\] has shape"),
        (tmp_path / "a.png", ValueError, r"X\[2\] \('.*a\.png'\): there is no such file"),
        (b"no image", ValueError, r"X\[2\] could not be read"),
        (None, ValueError, r"X\[2\] is None"),
        ({"image": 1}, TypeError, r"X\[2\] is of type dict"),
    ):
        found = calibrated.inspect(iter([*grey_images[:2], bad]))
        assert len([next(found), next(found)]) == 2
        with pytest.raises(error, match=message):
            next(found)
    calibrated.set_params(on_error="nan")
    with pytest.warns(UserWarning, match=r"X\[1\] is None.* NaN"):
        _, bad, good = calibrated.inspect(iter([grey_images[0], None, grey_images[1]]))
    assert np.isnan(bad.score)
    assert bad.mask.all()
    assert good.score == calibrated.score_samples(grey_images[1:2])[0]


@pytest.mark.parametrize("end", [False, True])
def test_inspect_of_what_opencv_reads_asks_for_the_frame(fitted, grey_images, end):
    read = [(False, None)] if end else [(True, grey_images[0])]
    with pytest.raises(TypeError, match=r"X\[0\] is a tuple of 2 items.*\(ok, frame\).* the frame"):
        next(fitted.inspect(iter(read)))
    with pytest.raises(TypeError, match=r"X\[0\] is a tuple of 2 items"):
        fitted.score_samples(read)
