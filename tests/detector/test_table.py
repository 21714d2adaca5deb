"""What a detector says of images, as a table of numbers."""

import pickle
import weakref

import joblib
import numpy as np
import pytest
import sklearn
from conftest import FAST
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_global_output_transform_pandas,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
    estimator_checks_generator,
)

from skcsflow import CSFlowDetector, Inspection, InspectionTable

NAMES = ["score", "p_value", "verdict", "peak", "flagged_area", "n_regions"]
WITHOUT_P_VALUE = [name for name in NAMES if name != "p_value"]
OF_SERIES = pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 8),
    reason="scikit-learn keeps the index of a Series from 1.8 on",
)


# scikit-learn's own checks


def own_checks():
    for estimator, check in estimator_checks_generator(InspectionTable(CSFlowDetector(**FAST))):
        name = check.func.__name__
        yield pytest.param(estimator, check, id=name)


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "check"), list(own_checks()))
def test_table_passes_scikit_learns_check(estimator, check):
    check(estimator)


# The checks themselves fit on a frame and transform an array, and the other way round.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
@pytest.mark.parametrize(
    "check",
    [
        check_dataframe_column_names_consistency,
        check_transformer_get_feature_names_out,
        check_transformer_get_feature_names_out_pandas,
        check_set_output_transform,
        check_set_output_transform_pandas,
        pytest.param(check_global_output_transform_pandas, marks=pytest.mark.slow),
    ],
)
def test_table_passes_scikit_learns_check_of_names(check):
    pytest.importorskip("pandas")
    check("InspectionTable", InspectionTable(CSFlowDetector(**FAST)))


# The numbers


@pytest.fixture(scope="module")
def images():
    """12 smooth images, and 6 that have a bright spot."""
    rng = np.random.RandomState(0)
    X = (100 + 20 * rng.rand(18, 1, 1) + rng.normal(0, 4, size=(18, 32, 32))).astype(np.uint8)
    X[12:, 8:20, 8:20] = 250
    return X


@pytest.fixture(scope="module")
def kinds():
    return np.repeat(["good", "scratch"], [12, 6])


@pytest.fixture(scope="module")
def paths(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("paths")
    names = [str(folder / f"{i:02}.png") for i in range(len(images))]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(name)
    return names


@pytest.fixture(scope="module")
def fitted(images):
    """Not calibrated; tests must not change it."""
    return CSFlowDetector(**FAST).fit(images[:6])


@pytest.fixture(scope="module")
def calibrated(images):
    """Tests must not change it."""
    return CSFlowDetector(**FAST).fit(images[:6]).calibrate(images[6:12], fpr=0.2)


def of(detector, **params):
    """A table of a detector that stays as it is; its `fit` looks at nothing."""
    return InspectionTable(FrozenEstimator(detector), **params).fit([])


@pytest.mark.slow
def test_transform_gives_the_numbers_of_the_single_methods(calibrated, images):
    found = of(calibrated).transform(images)
    assert found.shape == (18, 6)
    assert found.dtype == np.float64
    columns = dict(zip(NAMES, found.T, strict=True))
    np.testing.assert_array_equal(columns["score"], calibrated.score_samples(images))
    np.testing.assert_array_equal(columns["p_value"], calibrated.p_values(images))
    np.testing.assert_array_equal(columns["verdict"], calibrated.predict(images))
    np.testing.assert_array_equal(columns["peak"], calibrated.transform(images).max(axis=(1, 2)))
    np.testing.assert_array_equal(columns["flagged_area"], calibrated.predict_masks(images).mean(axis=(1, 2)))
    np.testing.assert_array_equal(columns["n_regions"], [len(r) for r in calibrated.predict_regions(images)])
    assert set(columns["verdict"]) == {1, -1}
    assert columns["n_regions"].max() >= 1


def test_transform_with_min_area_leaves_small_regions_out_of_the_count_alone(calibrated, images):
    all_of_them, large = of(calibrated).transform(images), of(calibrated, min_area=10**6).transform(images)
    assert (large[:, -1] == 0).all()
    np.testing.assert_array_equal(large[:, :-1], all_of_them[:, :-1])


def test_p_value_is_left_out_before_calibrate(fitted, calibrated, images):
    table = of(fitted)
    assert table.get_feature_names_out().tolist() == WITHOUT_P_VALUE
    found = table.transform(images)
    assert found.shape == (18, 5)
    np.testing.assert_array_equal(found[:, 0], of(calibrated).transform(images)[:, 0])
    assert of(calibrated).get_feature_names_out().tolist() == NAMES


def test_calibrate_of_the_fitted_detector_adds_p_values(images):
    table = InspectionTable(CSFlowDetector(**FAST)).fit(images[:6])
    table.detector_.calibrate(images[6:12], fpr=0.2)
    assert table.transform(images).shape == (18, 6)
    assert table.get_feature_names_out().tolist() == NAMES


def test_transform_of_what_cannot_be_read_flags_all_of_it(calibrated, images):
    detector = pickle.loads(pickle.dumps(calibrated)).set_params(on_error="nan")
    with pytest.warns(UserWarning, match=r"NaN or infinity: X\[1\]"):
        found = of(detector, min_area=50).transform([images[0], np.full((9, 9), np.nan), images[17]])
    np.testing.assert_array_equal(found[1], [np.nan, np.nan, -1, np.nan, 1, 1])
    np.testing.assert_array_equal(found[::2], of(calibrated, min_area=50).transform(images[[0, 17]]))


def test_transform_takes_folders_mixed_sizes_and_iterators(calibrated, images, paths, tmp_path):
    table = of(calibrated)
    expected = table.transform(images[:3])
    np.testing.assert_array_equal(table.transform(paths[:3]), expected)
    np.testing.assert_array_equal(table.transform(iter(images[:3])), expected)
    Image.open(paths[0]).save(tmp_path / "0.png")
    np.testing.assert_array_equal(table.transform(tmp_path), expected[:1])
    assert table.transform([images[0], images[1][:20]]).shape == (2, 6)
    assert table.transform(iter([])).shape == (0, 6)


def test_transform_keeps_no_map_of_the_images_before(images):
    class Stub(sklearn.base.BaseEstimator):
        def fit(self, X, y=None):
            return self

        def inspect(self, X, *, min_area):
            before = []
            for _ in X:
                assert sum(ref() is not None for ref in before) <= 1  # the one that the loop holds
                anomaly_map = np.zeros((4, 4), np.float32)
                before.append(weakref.ref(anomaly_map))
                yield Inspection(0.0, 0.5, 1, anomaly_map, anomaly_map > 0, [])

    assert InspectionTable(Stub()).fit_transform(images).shape == (18, 5)


# fit


@pytest.mark.slow
def test_fit_fits_a_clone_and_leaves_known_defects_out(images, kinds):
    detector = CSFlowDetector(**FAST)
    table = InspectionTable(detector).fit(images, kinds)
    assert not hasattr(detector, "model_")
    alone = clone(detector).fit(images, kinds)
    np.testing.assert_array_equal(table.transform(images)[:, 0], alone.score_samples(images))
    np.testing.assert_array_equal(
        alone.score_samples(images), clone(detector).fit(images[:12]).score_samples(images)
    )


def test_fit_of_no_detector_fits_one_by_default(monkeypatch):
    fitted_on = []
    monkeypatch.setattr(CSFlowDetector, "fit", lambda self, X, y=None: fitted_on.append((X, y)) or self)
    table = InspectionTable().fit("parts", "labels")
    assert fitted_on == [("parts", "labels")]
    assert table.detector is None
    assert table.detector_.get_params() == CSFlowDetector().get_params()


def test_fit_of_a_frozen_detector_leaves_it_as_it_is(calibrated, images, kinds):
    frozen = FrozenEstimator(calibrated)
    table = InspectionTable(frozen)
    found = table.fit_transform(images, kinds)
    assert table.detector_ is frozen
    assert table.detector_.estimator is calibrated
    np.testing.assert_array_equal(found, of(calibrated).transform(images))
    with pytest.raises(NotFittedError):
        InspectionTable(FrozenEstimator(CSFlowDetector())).fit(images)


def test_wrong_parameters_raise_naming_them(fitted, images):
    with pytest.raises(ValueError, match="'detector' parameter of InspectionTable"):
        InspectionTable(LogisticRegression()).fit(images)
    with pytest.raises(ValueError, match="'min_area' parameter of InspectionTable"):
        InspectionTable(FrozenEstimator(fitted), min_area=0).fit(images)
    with pytest.raises(ValueError, match="min_area"):
        of(fitted).set_params(min_area=0).transform(images)


def test_before_fit_nothing_is_said(fitted, images):
    table = InspectionTable(FrozenEstimator(fitted))
    for call in (lambda: table.transform(images), table.get_feature_names_out):
        with pytest.raises(NotFittedError):
            call()
    assert not hasattr(table, "n_features_in_")
    assert not hasattr(of(fitted), "n_features_in_")  # images have none


# Names, frames, files


def test_rows_of_a_frame_have_names_and_an_index(images):
    pd = pytest.importorskip("pandas")
    rows = pd.DataFrame(images.reshape(18, -1), index=range(40, 58)).add_prefix("pixel_")
    table = InspectionTable(CSFlowDetector(**FAST)).set_output(transform="pandas").fit(rows)
    frame = table.transform(rows)
    assert table.n_features_in_ == 1024
    assert table.feature_names_in_[-1] == "pixel_1023"
    assert list(frame.index) == list(range(40, 58))
    assert list(frame.columns) == WITHOUT_P_VALUE
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        table.get_feature_names_out([f"other_{i}" for i in range(1024)])


@pytest.mark.parametrize("kind", [pytest.param("series", marks=OF_SERIES), "frame"])
def test_set_output_of_pandas_keeps_the_index_of_paths(calibrated, images, paths, kind):
    pd = pytest.importorskip("pandas")
    X = pd.Series(paths, index=[f"cell {i}" for i in range(18)], name="path")
    frame = of(calibrated).set_output(transform="pandas").transform(X if kind == "series" else X.to_frame())
    assert list(frame.index) == list(X.index)
    assert list(frame.columns) == NAMES
    np.testing.assert_array_equal(frame.to_numpy(), of(calibrated).transform(images))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_of_images_gives_a_frame(calibrated, images, library):
    tables = pytest.importorskip(library)
    frame = of(calibrated).set_output(transform=library).transform(images)
    assert isinstance(frame, tables.DataFrame)
    assert list(frame.columns) == NAMES
    np.testing.assert_array_equal(frame.to_numpy(), of(calibrated).transform(images))


def test_table_is_saved_with_its_detector(calibrated, images, tmp_path):
    table = of(calibrated, min_area=3)
    expected = table.transform(images[:3])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(table)).transform(images[:3]), expected)
    joblib.dump(table, tmp_path / "table.joblib")
    loaded = joblib.load(tmp_path / "table.joblib")
    np.testing.assert_array_equal(loaded.transform(images[:3]), expected)
    assert loaded.min_area == 3


def test_clone_keeps_a_frozen_detector_alone(calibrated):
    table = of(calibrated)
    twin = clone(table)
    assert not hasattr(twin, "detector_")
    assert twin.detector.estimator is calibrated
    assert clone(InspectionTable(calibrated)).detector is not calibrated


def test_html_repr_links_to_the_documentation_of_the_class(calibrated):
    assert "generated/skcsflow.InspectionTable.html" in of(calibrated)._repr_html_()


# Among scikit-learn's other tools


@pytest.mark.parametrize("is_frozen", [False, True])
def test_pipeline_with_a_classifier_learns_kinds_of_defects(calibrated, images, kinds, is_frozen):
    detector = FrozenEstimator(calibrated) if is_frozen else CSFlowDetector(**FAST)
    pipeline = Pipeline(
        [
            ("table", InspectionTable(detector)),
            ("scale", StandardScaler()),
            ("classify", LogisticRegression()),
        ]
    )
    pipeline.fit(images, kinds)
    assert pipeline.classes_.tolist() == ["good", "scratch"]
    assert pipeline.score(images, kinds) > 0.9
    assert pipeline[:-1].get_feature_names_out().tolist() == (NAMES if is_frozen else WITHOUT_P_VALUE)


@pytest.mark.slow
def test_pipeline_with_labels_of_0_and_1_takes_1_for_a_defect(images, kinds):
    y = (kinds == "scratch").astype(int)
    pipeline = make_pipeline(
        InspectionTable(CSFlowDetector(**FAST)), StandardScaler(), LogisticRegression()
    ).fit(images, y)
    by_kinds = InspectionTable(CSFlowDetector(**FAST)).fit(images, kinds)
    np.testing.assert_array_equal(pipeline[0].transform(images), by_kinds.transform(images))
    assert pipeline.score(images, y) > 0.9


def test_pipeline_with_labels_that_a_detector_cannot_read_needs_a_frozen_one(calibrated, images):
    classes = np.repeat([0, 1, 2], 6)
    with pytest.raises(ValueError, match="labels in y must be"):
        InspectionTable(CSFlowDetector(**FAST)).fit(images, classes)
    pipeline = make_pipeline(
        InspectionTable(FrozenEstimator(calibrated)), StandardScaler(), LogisticRegression()
    )
    assert pipeline.fit(images, classes).classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("column", [pytest.param("path", marks=OF_SERIES), ["path"]], ids=str)
def test_column_transformer_puts_a_column_of_paths_beside_numbers(calibrated, images, paths, column):
    pd = pytest.importorskip("pandas")
    data = pd.DataFrame({"weight": np.linspace(1, 2, 18), "path": paths}, index=np.arange(18)[::-1])
    columns = ColumnTransformer(
        [
            ("image", InspectionTable(FrozenEstimator(calibrated)), column),
            ("number", "passthrough", ["weight"]),
        ]
    )
    expected = of(calibrated).transform(images)
    np.testing.assert_array_equal(columns.fit_transform(data)[:, :-1], expected)
    frame = columns.set_output(transform="pandas").fit_transform(data)
    assert list(frame.columns) == [*(f"image__{name}" for name in NAMES), "number__weight"]
    assert list(frame.index) == list(data.index)
    np.testing.assert_array_equal(frame.to_numpy()[:, :-1], expected)
    np.testing.assert_array_equal(frame["number__weight"], data["weight"])


def test_feature_union_joins_the_tables_of_two_detectors(fitted, calibrated, images):
    union = FeatureUnion(
        [
            ("a", InspectionTable(FrozenEstimator(fitted))),
            ("b", InspectionTable(FrozenEstimator(calibrated))),
        ]
    )
    assert union.fit_transform(images).shape == (18, 11)
    assert union.get_feature_names_out().tolist() == [
        *(f"a__{name}" for name in WITHOUT_P_VALUE),
        *(f"b__{name}" for name in NAMES),
    ]


@pytest.mark.slow
def test_grid_search_sets_parameters_of_the_detector(images, kinds):
    pipeline = make_pipeline(InspectionTable(CSFlowDetector(**FAST)), StandardScaler(), LogisticRegression())
    grid = {"inspectiontable__detector__clamp": [1.0, 2.0], "inspectiontable__min_area": [2]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(images, kinds)
    assert len(search.cv_results_["params"]) == 2
    best = search.best_estimator_[0]
    assert best.detector_.model_.config["clamp"] == search.best_params_["inspectiontable__detector__clamp"]
    assert best.min_area == 2
