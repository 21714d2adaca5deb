"""Images that can't be read: errors that list them, or results without them."""

import threading

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone

from skcsflow import CSFlowDetector

RNG = np.random.RandomState(0)
IMAGES = RNG.randint(0, 256, size=(16, 24, 30, 3)).astype(np.uint8)
BAD = {1: "missing", 4: "empty", 5: "text", 9: "truncated"}
GOOD = [i for i in range(len(IMAGES)) if i not in BAD]
READ_BY_HEADER = 3


@pytest.fixture
def paths(tmp_path):
    """Sixteen files, of which four can't be read, each in its way."""
    paths = [str(tmp_path / f"{i:02d}.png") for i in range(len(IMAGES))]
    for i, (path, image) in enumerate(zip(paths, IMAGES, strict=True)):
        with open(path, "wb") as file:
            Image.fromarray(image).save(file, "png")
            if i in BAD:
                file.truncate({"missing": 0, "empty": 0, "text": 0, "truncated": 900}[BAD[i]])
    (tmp_path / "05.png").write_text("no image")
    (tmp_path / "01.png").unlink()
    return paths


@pytest.fixture(scope="module")
def going_on(fitted):
    return clone(fitted).set_params(n_epochs=1, on_error="nan").fit(IMAGES)


@pytest.mark.parametrize("method", ["fit", "score_samples", "predict", "transform", "iter_maps"])
def test_all_files_that_do_not_begin_as_images_are_listed_before_any_work(
    fitted_copy, paths, method, monkeypatch
):
    monkeypatch.setattr("skcsflow._features.FeatureExtraction.read", None)
    message = (
        r"3 of the 16 images of X can't be read: X\[1\] \('.*01\.png'\): there is no such file; "
        r"X\[4\] .* 0 bytes; X\[5\] .*no format that Pillow knows\. Mend or leave out such images, or set "
        r"on_error=\"nan\""
    )
    with pytest.raises(ValueError, match=message):
        getattr(fitted_copy, method)(paths)


def test_no_more_than_twenty_files_are_listed(fitted, tmp_path):
    with pytest.raises(
        ValueError, match=r"30 of the 30 .*X\[19\] [^;]* no such file, and 10 more\."
    ) as caught:
        fitted.score_samples([tmp_path / f"{i}.png" for i in range(30)])
    assert "X[20]" not in str(caught.value)


def test_files_are_looked_at_several_at_a_time_and_listed_in_order(fitted, paths, monkeypatch):
    together = threading.Barrier(2)

    def wait(path, name, *others):
        together.wait(timeout=10)  # fails where one file is looked at after the other
        raise ValueError(name)

    monkeypatch.setattr("skcsflow._images._collection.check_header", wait)
    with pytest.raises(
        ValueError, match=r"32 of the 32 .*: X\[0\].*; X\[1\].*; X\[15\].*; X\[16\].*; X\[19\]"
    ):
        fitted.score_samples(paths * 2)


def test_scores_and_maps_of_images_that_cannot_be_read_are_nan(going_on, paths, tmp_path):
    def run(method, *args):
        message = (
            r"4 of the 16 images of X can't be read: X\[1\] .*; X\[9\] .*\. Their scores and maps are NaN"
        )
        function = getattr(going_on, method)
        with pytest.warns(UserWarning, match=message) as caught:
            result = list(function(paths)) if method == "iter_maps" else function(paths, *args)
        assert [w.filename for w in caught] == [__file__]
        return result

    images = IMAGES[GOOD]
    scores = run("score_samples")
    assert np.isnan(scores[list(BAD)]).all()
    np.testing.assert_array_equal(scores[GOOD], going_on.score_samples(images))
    verdicts = run("predict")
    assert (verdicts[list(BAD)] == -1).all()
    np.testing.assert_array_equal(verdicts[GOOD], going_on.predict(images))
    maps = going_on.transform(images)
    for found in (run("transform"), run("save_maps", tmp_path / "maps.npy"), np.stack(run("iter_maps")[2:4])):
        if len(found) == 16:
            assert np.isnan(found[list(BAD)]).all()
            np.testing.assert_array_equal(found[GOOD], maps)
    masks = run("predict_masks")
    assert masks[list(BAD)].all()  # what nobody could look at doesn't pass
    np.testing.assert_array_equal(masks[GOOD], going_on.predict_masks(images))
    regions = run("predict_regions")
    assert all([r.area for r in regions[i]] == [going_on.model_.input_size[0] ** 2] for i in BAD)
    assert [regions[i] for i in GOOD] == going_on.predict_regions(images)
    assert run("score") == going_on.score(images)


def test_maps_begin_with_nan_where_the_first_images_cannot_be_read(going_on, paths, tmp_path):
    X = [paths[1], paths[4], paths[0]]
    with pytest.warns(UserWarning, match="2 of the 3"):
        saved = going_on.save_maps(X, tmp_path / "maps.npy")
    assert saved.shape == (3, 24, 30)
    np.testing.assert_array_equal(np.isnan(saved).all(axis=(1, 2)), [True, True, False])
    with pytest.warns(UserWarning, match=r"X\[0\] .* no such file"):
        assert np.isnan(going_on.transform(X[:1])).all()


@pytest.mark.slow
def test_nan_rows_are_the_same_with_a_cache_and_among_arrays(going_on, paths, tmp_path):
    expected = clone(going_on).fit(IMAGES).score_samples(IMAGES[GOOD])
    detector = clone(going_on).set_params(memory=tmp_path / "features").fit(IMAGES)
    arrays = list(IMAGES.astype(float) / 255)
    arrays[3] = np.full((24, 30), np.nan)
    for _ in range(2):
        with pytest.warns(UserWarning, match="can't be read"):
            np.testing.assert_array_equal(detector.score_samples(paths)[GOOD], expected)
        with pytest.warns(UserWarning, match=r"NaN or infinity: X\[3\]"):
            assert np.flatnonzero(np.isnan(detector.score_samples(arrays))).tolist() == [3]


def test_fit_leaves_out_what_cannot_be_read(tiny_params, paths):
    with pytest.warns(UserWarning, match=r"4 of the 16 images.*They are left out of the training"):
        detector = CSFlowDetector(**tiny_params, on_error="nan").fit(paths)
    expected = CSFlowDetector(**tiny_params).fit([paths[i] for i in GOOD])
    assert detector.offset_ == expected.offset_
    np.testing.assert_array_equal(detector.score_samples(IMAGES), expected.score_samples(IMAGES))
    with (
        pytest.warns(UserWarning, match="no such file"),
        pytest.raises(ValueError, match="No image of X can be read"),
    ):
        detector.fit([paths[1]])


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.*of the .* images of X can't be read", "ignore:X.*could not be read", "ignore:X.*no such file"
)
def test_calibrate_and_p_values_leave_out_what_cannot_be_read(fitted_copy, paths):
    detector = fitted_copy.set_params(on_error="nan")
    detector.calibrate(paths, fpr=0.2)
    found = detector.offset_, detector.map_threshold_, len(detector.calibration_scores_)
    detector.calibrate([paths[i] for i in GOOD], fpr=0.2)
    assert found == (detector.offset_, detector.map_threshold_, len(detector.calibration_scores_))
    p_values = detector.p_values(paths)
    assert np.flatnonzero(np.isnan(p_values)).tolist() == list(BAD)
    np.testing.assert_array_equal(p_values[GOOD], detector.p_values([paths[i] for i in GOOD]))
    detector.set_params(n_epochs=1).fit(paths).calibrate(paths, fpr=0.2, cv=2)
    assert len(detector.calibration_scores_) == len(GOOD)


def test_calibrate_by_nothing_that_can_be_read_raises_and_says_so(fitted_copy, paths):
    fitted_copy.set_params(on_error="nan")
    for X, y in ((paths[1:2] * 9, None), ([*paths[1:2] * 9, paths[0]], [1] * 9 + [-1])):
        with (
            pytest.warns(UserWarning, match="no such file"),
            pytest.raises(ValueError, match="No normal image of X can be read"),
        ):
            fitted_copy.calibrate(X, y, fpr=0.2)


def test_a_damaged_file_is_an_error_that_names_it_and_the_way_out(fitted, paths):
    with pytest.raises(ValueError, match=r"X\[1\] \('.*09\.png'\) could not be read as an image"):
        fitted.score_samples([paths[0], paths[9]])


@pytest.mark.parametrize("on_error", ["ignore", None, 0])
def test_unknown_on_error_raises_in_fit_and_after_it(fitted_copy, on_error):
    fitted_copy.set_params(on_error=on_error)
    for method in (fitted_copy.fit, fitted_copy.score_samples):
        with pytest.raises(ValueError, match="on_error"):
            method(IMAGES)


def test_rows_without_an_image_are_nan(going_on, paths):
    pd = pytest.importorskip("pandas")
    some = [None, *paths[2:4], np.nan, paths[6]]
    expected = going_on.score_samples(IMAGES[[2, 3, 6]])
    arrays = [None, *IMAGES[2:4], None, IMAGES[6]]
    for X in (
        some,
        pd.Series(some, dtype=object),
        pd.Series(some, dtype="string"),
        pd.DataFrame({"p": some}),
        arrays,
    ):
        with pytest.warns(
            UserWarning, match=r"2 of the 5 images of X can't be read: X\[0\] is .*; X\[3\] is "
        ):
            scores = going_on.score_samples(X)
        np.testing.assert_array_equal(scores[[1, 2, 4]], expected)
        assert np.isnan(scores[[0, 3]]).all()


def test_fit_leaves_out_rows_without_an_image(tiny_params, paths):
    good = [paths[i] for i in GOOD]
    detector = CSFlowDetector(**tiny_params, on_error="nan")
    with pytest.warns(UserWarning, match=r"X\[0\] is None, .*They are left out of the training"):
        detector.fit([None, *good])
    np.testing.assert_array_equal(
        detector.score_samples(IMAGES), CSFlowDetector(**tiny_params).fit(good).score_samples(IMAGES)
    )
    with (
        pytest.warns(UserWarning, match="can't be read"),
        pytest.raises(ValueError, match="No image of X can"),
    ):
        detector.fit([None, None])


class FailingOrNone:
    """A data set whose files can't be read, as it finds out, or which gives None for one."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        if i == 1:
            raise OSError("image file is truncated")
        return None if i == 2 else IMAGES[i]


def test_items_of_a_data_set_that_cannot_be_read_are_named_or_nan(fitted, going_on):
    with pytest.raises(ValueError, match=r"X\[1\] could not be read: image file is truncated"):
        fitted.score_samples(FailingOrNone())
    with pytest.warns(UserWarning, match=r"2 of the 4 .*X\[1\] could not be read: .*; X\[2\] is None"):
        scores = going_on.score_samples(FailingOrNone())
    np.testing.assert_array_equal(np.isnan(scores), [False, True, True, False])
