"""scikit-learn's promises: its own checks, pipelines, cross-validation, searches, tables."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import sklearn
import torch
from conftest import FAST, TINY
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    train_test_split,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from skcsflow import CSFlowDetector
from skcsflow.model_selection import OneClassKFold, anomaly_f1, anomaly_roc_auc

N_CHECKS = {(1, 6): 48, (1, 7): 50, (1, 8): 52, (1, 9): 53}
"""How many checks each release of scikit-learn has for such an estimator."""
SLOW_CHECKS = {
    "check_classifier_data_not_an_array",
    "check_dtype_object",
    "check_estimators_dtypes",
    "check_estimators_pickle",
    "check_fit_idempotent",
    "check_fit_score_takes_y",
    "check_methods_subset_invariance",
    "check_outliers_fit_predict",
    "check_outliers_train",
    "check_pipeline_consistency",
    "check_transformer_data_not_an_array",
    "check_transformer_general",
}
"""Checks of more than two seconds."""


# scikit-learn's own checks


CHECKS = list(estimator_checks_generator(CSFlowDetector(**FAST)))


def checks():
    for estimator, check in CHECKS:
        name = check.func.__name__
        yield pytest.param(estimator, check, id=name, marks=pytest.mark.slow if name in SLOW_CHECKS else ())


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_detector_passes_scikit_learns_check(estimator, check):
    check(estimator)


def test_scikit_learn_has_all_its_checks_for_such_an_estimator():
    release = tuple(int(n) for n in sklearn.__version__.split(".")[:2])
    assert release not in N_CHECKS or len(CHECKS) == N_CHECKS[release]
    assert len(CHECKS) >= min(N_CHECKS.values())


@pytest.mark.slow
def test_detector_passes_scikit_learns_array_api_check_where_it_is_switched_on():
    script = (
        "from sklearn.utils.estimator_checks import estimator_checks_generator\n"
        "from skcsflow import CSFlowDetector\n"
        "detector = CSFlowDetector(backbone='test_efficientnet', weights=None, input_size=32, n_epochs=1)\n"
        "for estimator, check in estimator_checks_generator(detector):\n"
        "    if 'array_api' in str(check):\n"
        "        check(estimator)\n"
    )
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


def test_tags_loosen_nothing():
    tags = CSFlowDetector().__sklearn_tags__()
    assert tags.input_tags.two_d_array
    assert not tags.non_deterministic
    assert not tags._skip_test
    assert tags.estimator_type == "outlier_detector"
    assert not tags.no_validation
    assert not tags.input_tags.allow_nan


# Pipelines


@pytest.fixture
def detector():
    return CSFlowDetector(**FAST)


@pytest.fixture(scope="module")
def labelled():
    """10 smooth images, and 6 that have a bright spot; y is +1 and -1."""
    rng = np.random.RandomState(0)
    X = (100 + 20 * rng.rand(16, 1, 1) + rng.normal(0, 4, size=(16, 32, 32))).astype(np.uint8)
    X[10:, 8:20, 8:20] = 250
    return X, np.repeat([1, -1], [10, 6])


@pytest.fixture(scope="module")
def paths(labelled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("paths")
    names = [str(folder / f"{i:02}.png") for i in range(16)]
    for name, image in zip(names, labelled[0], strict=True):
        Image.fromarray(image).save(name)
    return names


@pytest.fixture(scope="module")
def of_all(labelled):
    """Fitted on all images, without labels; tests must not change it."""
    return CSFlowDetector(**FAST).fit(labelled[0])


def test_pipeline_with_the_detector_last_has_all_its_methods(detector, labelled):
    X, y = labelled
    pipeline = make_pipeline(FunctionTransformer(lambda X: X / 255), detector).fit(X, y)
    alone = clone(detector).fit(X / 255, y)
    for method in ("predict", "score_samples", "decision_function", "transform"):
        np.testing.assert_array_equal(getattr(pipeline, method)(X), getattr(alone, method)(X / 255))
    assert pipeline.score(X) == alone.score(X / 255)
    np.testing.assert_array_equal(pipeline.fit_predict(X, y), alone.predict(X / 255))


def test_pipeline_with_maps_in_the_middle_feeds_another_estimator(detector, labelled):
    X, y = labelled
    rows = X.reshape(16, -1)
    pipeline = make_pipeline(detector, PCA(4, random_state=0), LogisticRegression())
    pipeline.fit(rows, y)
    assert pipeline.score(rows, y) > 0.9
    peaks = FunctionTransformer(lambda maps: maps.max(axis=(1, 2))[:, None])
    of_images = make_pipeline(clone(detector), peaks, EllipticEnvelope(random_state=0)).fit(X)
    assert of_images.predict(X).shape == (16,)


def test_pipeline_with_scaled_rows_takes_a_memory_of_its_own(detector, labelled, tmp_path):
    rows = labelled[0].reshape(16, -1).astype(float)
    pipeline = Pipeline([("scale", MinMaxScaler()), ("detect", detector)], memory=str(tmp_path / "pipeline"))
    pipeline.set_params(detect__memory=str(tmp_path / "features")).fit(rows)
    np.testing.assert_array_equal(clone(pipeline).fit(rows).score_samples(rows), pipeline.score_samples(rows))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_of_rows_gives_tables_with_names(detector, labelled, library):
    tables = pytest.importorskip(library)
    rows = labelled[0].reshape(16, -1)
    maps = clone(detector).fit(rows).transform(rows)
    frame = detector.set_output(transform=library).fit(rows).transform(rows)
    assert isinstance(frame, tables.DataFrame)
    assert list(frame.columns) == [f"anomaly_{i}_{j}" for i in range(32) for j in range(32)]
    np.testing.assert_array_equal(frame.to_numpy(), maps)


def test_set_output_of_a_frame_of_pandas_keeps_its_index(detector, labelled):
    pd = pytest.importorskip("pandas")
    rows = pd.DataFrame(labelled[0][:4, :5, :5].reshape(4, -1), index=range(40, 44)).add_prefix("p")
    frame = detector.set_output(transform="pandas").fit(rows).transform(rows)
    assert list(frame.index) == list(range(40, 44))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_and_set_config_leave_maps_of_images_as_arrays(detector, labelled, library):
    pytest.importorskip(library)
    X = labelled[0][:4]
    maps = detector.fit(X).transform(X)
    detector.set_output(transform=library)
    np.testing.assert_array_equal(detector.transform(X), maps)
    detector.set_output(transform="default")
    with sklearn.config_context(transform_output=library):
        for found in (detector.transform(X), clone(detector).fit_transform(X)):
            assert isinstance(found, np.ndarray)
            np.testing.assert_array_equal(found, maps)


def test_predict_masks_is_an_array_whatever_set_output_says(detector, labelled):
    pytest.importorskip("pandas")
    rows = labelled[0].reshape(16, -1)
    masks = detector.set_output(transform="pandas").fit(rows).predict_masks(rows)
    assert isinstance(masks, np.ndarray)
    maps = detector.transform(rows).to_numpy()
    assert masks.shape == maps.shape
    np.testing.assert_array_equal(masks.any(axis=1), (maps > detector.map_threshold_).any(axis=1))


def test_set_output_of_rows_after_a_fit_on_images_has_names(detector, labelled):
    pytest.importorskip("pandas")
    X = labelled[0][:4]
    detector.set_params(image_shape=(32, 32)).set_output(transform="pandas").fit(X)
    assert detector.transform(X.reshape(4, -1)).shape == (4, 1024)


def test_set_config_is_heeded(detector, labelled):
    pd = pytest.importorskip("pandas")
    rows = labelled[0][:5].reshape(5, -1).astype(float)
    with sklearn.config_context(transform_output="pandas"):
        assert isinstance(clone(detector).fit(rows).transform(rows), pd.DataFrame)
    expected = clone(detector).fit(rows).score_samples(rows)
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        np.testing.assert_array_equal(clone(detector).fit(rows).score_samples(rows), expected)
    with sklearn.config_context(print_changed_only=False):
        assert "clamp=3.0" in repr(detector)


def test_html_repr_links_to_the_documentation_of_the_class(detector):
    html = detector._repr_html_()
    links = re.findall(r'href="(https://skcsflow[^"#]*)', html)
    assert links
    assert set(links) == {"https://skcsflow.readthedocs.io/en/stable/generated/skcsflow.CSFlowDetector.html"}
    assert "CSFlowDetector" in make_pipeline(FunctionTransformer(), detector)._repr_html_()


def test_metadata_routing_passes_groups_to_the_splitter_alone(detector, labelled):
    X, y = labelled
    groups = np.arange(16) // 2
    with sklearn.config_context(enable_metadata_routing=True):
        splitter = OneClassKFold(2).set_split_request(groups=True)
        pipeline = make_pipeline(FunctionTransformer(), detector)
        scores = cross_val_score(
            pipeline,
            X,
            y,
            cv=splitter,
            scoring=anomaly_roc_auc,
            params={"groups": groups},
            error_score="raise",
        )
        assert len(scores) == 2
        assert not detector.get_metadata_routing().fit.requests
        with pytest.raises(TypeError, match="sample_weight"):
            pipeline.fit(X, y, sample_weight=np.ones(16))


def test_pipeline_with_a_reading_function_first_takes_paths(detector, labelled, paths, of_all):
    def read(names):
        return np.stack([np.asarray(Image.open(name)) for name in names])

    pipeline = make_pipeline(FunctionTransformer(read), detector).fit(paths)
    np.testing.assert_array_equal(pipeline.score_samples(paths), of_all.score_samples(labelled[0]))


def test_column_transformer_maps_a_column_of_paths(detector, labelled, paths, of_all):
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"weight": np.linspace(1, 2, 16), "image": paths})
    peak = make_pipeline(detector, FunctionTransformer(lambda maps: maps.max(axis=(1, 2))[:, None]))
    columns = ColumnTransformer([("number", "passthrough", ["weight"]), ("image", peak, "image")])
    features = columns.fit_transform(table)
    assert features.shape == (16, 2)
    expected = of_all.transform(labelled[0]).max(axis=(1, 2))
    np.testing.assert_array_equal(features[:, 1], expected)
    as_frame = ColumnTransformer([("image", clone(peak), ["image"])]).fit_transform(table)
    np.testing.assert_array_equal(as_frame[:, 0], expected)


def test_feature_union_joins_maps_of_two_detectors(detector, labelled):
    rows = labelled[0].reshape(16, -1)
    union = FeatureUnion([("a", detector), ("b", clone(detector).set_params(map_mode="all"))]).fit(rows)
    assert union.transform(rows).shape == (16, 2048)
    assert union.get_feature_names_out()[-1] == "b__anomaly_31_31"


# Cross-validation


@pytest.mark.slow
def test_cross_validation_functions_take_the_detector(labelled):
    X, y = labelled
    detector = CSFlowDetector(**TINY)
    splitter = OneClassKFold(3)
    predicted = cross_val_predict(detector, X, y, cv=splitter)
    assert set(predicted) <= {-1, 1}
    # Without y: given one, scikit-learn looks for the classes_ of a classifier.
    scores = cross_val_predict(detector, X, cv=list(splitter.split(X, y)), method="decision_function")
    assert scores[y == 1].mean() > scores[y == -1].mean()
    assert cross_val_score(detector, X, y, cv=splitter, scoring=anomaly_roc_auc).min() > 0.9
    assert np.isfinite(cross_val_score(detector, X, cv=3)).all()  # log-likelihood, without labels
    several = cross_validate(detector, X, y, cv=splitter, scoring={"auc": anomaly_roc_auc, "f1": anomaly_f1})
    assert {"test_auc", "test_f1"} <= set(several)
    sizes, train_scores, test_scores = learning_curve(detector, X[:10], None, cv=2, train_sizes=[0.5, 1.0])
    assert list(sizes) == [2, 5]
    assert np.isfinite(train_scores).all()
    assert np.isfinite(test_scores).all()
    score, permuted, p_value = permutation_test_score(
        detector, X, y, cv=splitter, scoring=anomaly_roc_auc, n_permutations=4, random_state=0
    )
    assert score > permuted.max()
    assert p_value == pytest.approx(0.2)


@pytest.mark.slow
def test_permutation_importance_of_pixels_has_one_number_for_each(detector, labelled):
    X, y = labelled
    rows = X[:, 4:22:6, 4:22:6].reshape(16, -1)
    detector.fit(rows, y)
    importances = permutation_importance(
        detector, rows, y, scoring=anomaly_roc_auc, n_repeats=2, random_state=0
    ).importances_mean
    assert importances.shape == (9,)


def test_clone_of_a_fitted_detector_is_unfitted_and_fits_alike(labelled, of_all):
    X, _ = labelled
    twin = clone(of_all)
    with pytest.raises(NotFittedError):
        twin.predict(X)
    np.testing.assert_array_equal(twin.fit(X).score_samples(X), of_all.score_samples(X))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"input_size": 96, "backbone": "test_efficientnet_ln", "cross_conv_hidden_channels": 4},
        {"whiten": False, "clamp": 1.0, "map_mode": "all", "num_channels": 1},
        {"precision": "float64", "contamination": 0.4, "n_jobs": 2, "weights": "auto"},
        {"precision": "bfloat16", "score_mode": "fused", "image_shape": (3, 3)},
    ],
    ids=str,
)
def test_set_params_after_fit_waits_for_the_next_fit(detector, labelled, changes):
    X = labelled[0][7:12]
    detector.fit(X)
    scores, maps, predicted = detector.score_samples(X), detector.transform(X), detector.predict(X)
    detector.set_params(**changes)
    np.testing.assert_array_equal(detector.score_samples(X), scores)
    np.testing.assert_array_equal(detector.transform(X), maps)
    np.testing.assert_array_equal(detector.predict(X), predicted)
    if "weights" not in changes:
        detector.fit(X)
        fresh = CSFlowDetector(**{**FAST, **changes}).fit(X)
        np.testing.assert_array_equal(detector.score_samples(X), fresh.score_samples(X))
        np.testing.assert_array_equal(detector.transform(X), fresh.transform(X))
        assert set(vars(detector)) == set(vars(fresh))


# Searches


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_grid_search_over_backbone_and_input_size_refits_the_best(detector, labelled, tmp_path, n_jobs):
    X, y = labelled
    grid = [{"backbone": ["test_resnet"]}, {"input_size": [32, 64]}]
    detector.set_params(memory=tmp_path)
    search = GridSearchCV(
        detector, grid, cv=OneClassKFold(2), scoring=anomaly_roc_auc, n_jobs=n_jobs, error_score="raise"
    ).fit(X, y)
    assert len(search.cv_results_["params"]) == 3
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = clone(search.best_estimator_).fit(X, y)  # on the rows labelled +1 alone
    np.testing.assert_array_equal(search.predict(X), best.predict(X))


@pytest.mark.slow
def test_grid_search_ranks_alike_with_labels_of_every_kind(detector, labelled):
    X, y = labelled
    results = [
        GridSearchCV(
            detector, {"clamp": [0.01, 3.0]}, cv=OneClassKFold(2), scoring=anomaly_roc_auc, refit=False
        )
        .fit(X, labels)
        .cv_results_["mean_test_score"]
        for labels in (y, (y == -1).astype(int), np.where(y == 1, "good", "spot"))
    ]
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])
    assert results[0].min() > 0.9


@pytest.mark.slow
def test_searches_without_labels_maximise_likelihood(detector, labelled):
    X = labelled[0][:8]
    likelihoods = {
        whiten: np.mean(
            [
                clone(detector).set_params(whiten=whiten).fit(X[train]).score(X[test])
                for train, test in KFold(2).split(X)
            ]
        )
        for whiten in (False, True)
    }
    best = max(likelihoods, key=likelihoods.get)
    search = RandomizedSearchCV(
        detector, {"whiten": [False, True]}, n_iter=2, cv=2, random_state=0, error_score="raise"
    ).fit(X)
    assert search.best_params_ == {"whiten": best}
    assert search.best_score_ == likelihoods[best]
    halving = HalvingGridSearchCV(
        detector, {"whiten": [False, True]}, cv=2, resource="n_epochs", min_resources=1, max_resources=2, factor=2,
        random_state=0, error_score="raise",
    ).fit(X)  # fmt: skip
    assert halving.n_resources_ == [1, 2]
    assert np.isfinite(halving.best_score_)


# Every kind of X is split into folds by scikit-learn's own functions


def assert_splits_like_arrays(kinds, labelled):
    images, y = labelled
    X_train, X_test, y_train, _ = train_test_split(images, y, stratify=y, random_state=0)
    expected = CSFlowDetector(**FAST).fit(X_train, y_train).score_samples(X_test)
    for kind, X in kinds.items():
        X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
        scores = CSFlowDetector(**FAST).fit(X_train, y_train).score_samples(X_test)
        np.testing.assert_allclose(scores, expected, rtol=1e-5, err_msg=kind)
        assert len(scores) == len(y_test), kind


def assert_search_finds_the_defects(X, y):
    search = GridSearchCV(
        CSFlowDetector(**FAST), {"clamp": [2.0]}, cv=OneClassKFold(2), scoring=anomaly_roc_auc
    )
    assert search.set_params(error_score="raise", refit=False).fit(X, y).best_score_ > 0.9


@pytest.mark.slow
def test_train_test_split_and_search_take_every_kind_of_X(labelled, paths):
    X, y = labelled
    colour = np.repeat(X[..., None], 3, axis=-1)
    objects = np.empty(len(X), dtype=object)
    objects[:] = list(X)
    kinds = {
        "colour array": colour,
        "tensor": torch.from_numpy(colour).movedim(-1, 1),
        "rows": X.reshape(len(X), -1),
        "list of arrays": list(X),
        "object array": objects,
        "pil": [Image.fromarray(x) for x in X],
        "paths": paths,
        "array of paths": np.array(paths),
    }
    assert_splits_like_arrays(kinds, labelled)
    assert_search_finds_the_defects(paths, y)


@pytest.mark.slow
def test_train_test_split_and_search_take_tables_of_pandas(labelled, paths):
    pd = pytest.importorskip("pandas")
    X, y = labelled
    n = len(X)
    kinds = {
        "frame of rows": pd.DataFrame(X.reshape(n, -1)),
        "series": pd.Series(paths, index=[f"cell {i}" for i in range(n)][::-1]),
        "series of duplicate index": pd.Series(paths, index=[7] * n),
        "strings": pd.Series(paths, dtype="string"),
        "series of arrays": pd.Series(list(X), index=np.arange(100, 100 + n)),
        "frame of one column": pd.DataFrame({"path": paths}, index=np.arange(n)[::-1]),
    }
    assert_splits_like_arrays(kinds, labelled)
    assert_search_finds_the_defects(kinds["series of duplicate index"], y)


@pytest.mark.slow
def test_train_test_split_and_search_take_tables_of_polars(labelled, paths):
    pl = pytest.importorskip("polars")
    kinds = {"series": pl.Series("path", paths), "frame": pl.DataFrame({"path": paths})}
    assert_splits_like_arrays(kinds, labelled)
    assert_search_finds_the_defects(kinds["frame"], labelled[1])
