"""A detector that looks at parts of images: region of interest, tiles, and images that keep their aspect ratio."""

import copy
import pickle

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone

from skcsflow import CSFlowDetector
from skcsflow._images import Framing
from skcsflow.datasets import make_defects

pytestmark = pytest.mark.slow  # five detectors see some hundred parts of images
TINY = {"input_size": 64, "strides": (8, 16), "n_epochs": 1, "random_state": 0}
SHAPE = (96, 144)
TRIANGLE = np.add.outer(np.arange(96), np.arange(144)) < 120
OPTIONS = {
    "tiles": {"tile_size": 64},
    "box": {"roi": (10, 20, 80, 120)},
    "mask": {"roi": TRIANGLE},
    "aspect": {"keep_aspect": True},
    "all": {"roi": TRIANGLE, "tile_size": (48, 64), "tile_overlap": 0, "keep_aspect": True},
}


@pytest.fixture(scope="module")
def images():
    return make_defects(18, 0, surface="circuit", size=SHAPE, random_state=0).images


@pytest.fixture(scope="module")
def detectors(images):
    return {name: CSFlowDetector(**TINY, **options).fit(images[:12]) for name, options in OPTIONS.items()}


@pytest.fixture(params=OPTIONS)
def detector(request, detectors):
    return detectors[request.param]


def test_rows_are_independent_bit_for_bit(detector, images):
    scores, maps = detector.score_samples(images), detector.transform(images)
    assert maps.shape == images.shape[:3]
    for i in (0, 13):
        assert detector.score_samples(images[i : i + 1])[0] == scores[i]
        np.testing.assert_array_equal(detector.transform(images[i : i + 1])[0], maps[i])


def test_number_of_threads_changes_no_bit(detector, images):
    other = copy.copy(detector).set_params(n_jobs=3)
    np.testing.assert_array_equal(other.score_samples(images[:5]), detector.score_samples(images[:5]))
    np.testing.assert_array_equal(other.score_samples(images[:1]), detector.score_samples(images[:1]))


@pytest.mark.parametrize("name", ["tiles", "mask"])
def test_memory_and_the_number_of_threads_in_fit_change_no_bit(name, detectors, images, tmp_path):
    kept = clone(detectors[name]).set_params(memory=tmp_path, n_jobs=1).fit(images[:12])
    for _ in range(2):
        np.testing.assert_array_equal(kept.score_samples(images), detectors[name].score_samples(images))


def test_engine_openvino_agrees(detectors, images):
    detector = detectors["tiles"]
    other = copy.copy(detector).set_params(engine="openvino")
    np.testing.assert_allclose(
        other.score_samples(images[:4]), detector.score_samples(images[:4]), rtol=1e-3, atol=1e-3
    )


def test_saved_detector_gives_the_same(detector, images, tmp_path):
    joblib.dump(detector, tmp_path / "detector.joblib")
    for loaded in (joblib.load(tmp_path / "detector.joblib"), pickle.loads(pickle.dumps(detector))):
        np.testing.assert_array_equal(loaded.transform(images[:3]), detector.transform(images[:3]))


def test_all_methods_tell_the_same_maps(detector, images, tmp_path):
    maps = detector.transform(images[:3])
    np.testing.assert_array_equal(list(detector.iter_maps(images[:3])), maps)
    np.testing.assert_array_equal(detector.save_maps(images[:3], tmp_path / "maps.npy"), maps)
    inspected = list(detector.inspect(images[:3]))
    np.testing.assert_array_equal([found.anomaly_map for found in inspected], maps)
    np.testing.assert_array_equal([found.score for found in inspected], detector.score_samples(images[:3]))
    assert [found.regions for found in inspected] == detector.predict_regions(images[:3])


def test_images_that_differ_in_size_get_maps_at_the_input_size(detectors, images):
    mixed = [images[0], images[1][:70, :100]]
    assert detectors["tiles"].transform(mixed).shape == (2, 64, 64)
    assert [m.shape for m in detectors["tiles"].iter_maps(mixed)] == [(96, 144), (70, 100)]


def test_tiles_score_an_image_as_its_worst_tile(detectors, images):
    image = images[15].copy()
    image[:24, :24] = np.random.RandomState(0).randint(0, 256, (24, 24, 3))
    detector = detectors["tiles"]
    framing = detector._framing
    tiles = [image[t:b, left:r] for t, left, b, r in framing.boxes(SHAPE)]
    whole = copy.copy(detector)
    whole._framing = Framing()
    assert detector.score_samples(image[None])[0] == whole.score_samples(tiles).min()
    assert len(tiles) == 6


@pytest.mark.parametrize("name", ["box", "mask", "all"])
def test_what_lies_beside_the_roi_changes_no_bit(name, detectors, images):
    beside = ~TRIANGLE
    if name == "box":
        beside = np.ones(SHAPE, bool)
        beside[10:80, 20:120] = False
    changed = images[:3].copy()
    changed[:, beside] = np.random.RandomState(0).randint(0, 256, (3, beside.sum(), 3))
    detector = detectors[name]
    np.testing.assert_array_equal(detector.transform(changed), detector.transform(images[:3]))
    np.testing.assert_array_equal(detector.score_samples(changed), detector.score_samples(images[:3]))
    assert not detector.predict_masks(changed)[:, beside].any()


def test_roi_of_a_file_is_not_needed_after_fit(detectors, images, tmp_path):
    Image.fromarray(TRIANGLE).save(tmp_path / "roi.png")
    fitted = CSFlowDetector(**TINY, roi=tmp_path / "roi.png").fit(images[:12])
    (tmp_path / "roi.png").unlink()
    np.testing.assert_array_equal(fitted.score_samples(images), detectors["mask"].score_samples(images))


def test_options_act_in_fit_alone(detector, images):
    changed = copy.copy(detector).set_params(roi=None, tile_size=None, keep_aspect=False)
    np.testing.assert_array_equal(changed.score_samples(images[:2]), detector.score_samples(images[:2]))


def test_training_that_goes_on_refuses_other_frames(detector, images):
    changed = copy.deepcopy(detector).set_params(roi=(0, 0, 50, 50))
    with pytest.raises(ValueError, match="can't change its roi, tile_size"):
        changed.partial_fit(images[:12])
    with pytest.raises(ValueError, match="can't change its roi, tile_size"):
        changed.set_params(warm_start=True).fit(images[:12])


def test_training_goes_on_with_the_same_frames(detector, images):
    continued = copy.deepcopy(detector).partial_fit(images[:12])
    assert len(continued.history_["loss"]) == 2


def test_tiles_larger_than_all_training_images_give_a_warning(images):
    with pytest.warns(UserWarning, match=r"tile_size=\(100, 50\) is larger than every .* \[96, 144\] pixels"):
        CSFlowDetector(**TINY, tile_size=(100, 50)).fit(images[:12])


def test_auto_epochs_count_tiles(images, monkeypatch):
    numbers = []
    monkeypatch.setattr(
        "skcsflow._detector._fitting.resolve_n_epochs", lambda *args: numbers.append(args) or 1
    )
    CSFlowDetector(**{**TINY, "n_epochs": "auto"}, tile_size=48, tile_overlap=0).fit(images[:12])
    n_learnt = 10 * 6  # a fifth of the images is held out, with all of their tiles
    assert numbers == [("auto", n_learnt, 8)]


def test_roi_box_sees_what_a_cropped_image_shows(detectors, images):
    cropped = CSFlowDetector(**TINY).fit(images[:12, 10:80, 20:120])
    box, maps = detectors["box"], cropped.transform(images[:, 10:80, 20:120])
    np.testing.assert_array_equal(box.transform(images)[:, 10:80, 20:120], maps)
    assert (box.offset_, box.map_threshold_) == (cropped.offset_, cropped.map_threshold_)


def test_large_jpegs_are_read_at_a_reduced_size_with_their_aspect_kept(images, tmp_path):
    path = tmp_path / "0.jpg"
    Image.fromarray(images[0]).resize((1440, 960), Image.Resampling.BICUBIC).save(path, quality=95)
    detector = CSFlowDetector(**TINY, keep_aspect=True).fit(images[:12])
    (reduced,), (full,) = (detector.score_samples([X]) for X in (path, np.array(Image.open(path))))
    assert reduced != full
    assert reduced == pytest.approx(full, abs=0.05)
    assert detector.transform([path]).shape == (1, 960, 1440)


def test_roi_that_does_not_fit_names_the_image(detectors, images):
    small = [images[0], images[1][:50]]
    with pytest.raises(
        ValueError, match=r"roi=\(10, 20, 80, 120\) reaches beyond X\[1\], which has 50 x 144"
    ):
        detectors["box"].score_samples(small)
    with pytest.raises(ValueError, match=r"roi is a mask of 96 x 144 pixels, but X\[1\] has 50 x 144"):
        detectors["mask"].score_samples(small)
    with pytest.raises(ValueError, match=r"roi=\(0, 0, 200, 200\) reaches beyond X\[0\]"):
        CSFlowDetector(**TINY, roi=(0, 0, 200, 200)).fit(images)


def test_roi_that_does_not_fit_may_be_gone_past(detectors, images):
    going_on = copy.copy(detectors["box"]).set_params(on_error="nan")
    with pytest.warns(UserWarning, match="reaches beyond X"):
        scores = going_on.score_samples([images[0], images[1][:50]])
    assert np.isnan(scores).tolist() == [False, True]


def test_rows_of_a_table_have_frames_too(images):
    grey = images[..., 0].reshape(len(images), -1)
    rows = CSFlowDetector(**TINY, image_shape=SHAPE, tile_size=64).fit(grey[:12])
    whole = CSFlowDetector(**TINY, tile_size=64).fit(images[:12, ..., 0])
    np.testing.assert_array_equal(rows.score_samples(grey), whole.score_samples(images[..., 0]))
    assert rows.transform(grey[:2]).shape == (2, 96 * 144)


def test_cv_of_calibrate_fits_clones_on_the_same_frames(images):
    detector = CSFlowDetector(**TINY, roi=TRIANGLE).fit(images[:12])
    assert len(detector.calibrate(images[:12], cv=2, fpr=0.2).calibration_scores_) == 12


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("tile_size", 0),
        ("tile_size", (10, 20, 30)),
        ("tile_size", 3.5),
        ("tile_overlap", 1.0),
        ("tile_overlap", -0.1),
        ("keep_aspect", "yes"),
        ("roi", (5, 5, 5, 9)),
        ("roi", 3),
        ("roi", np.zeros((4, 4))),
    ],
)
def test_bad_options_name_the_parameter(parameter, value, images):
    with pytest.raises(ValueError, match=parameter):
        CSFlowDetector(**TINY, **{parameter: value}).fit(images)
