"""A detector for each group of a table."""

import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest
from conftest import FAST
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV

import skcsflow
from skcsflow import CSFlowDetector, GroupedDetector

NAMES = ["nut", "bolt", "nut", "pin"]
"""The order of the groups among the rows, again and again."""


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (48, 32, 40), dtype=np.uint8))
    return pd.DataFrame({"group": NAMES * 12, "image": images})


def new(**params):
    return GroupedDetector(CSFlowDetector(**FAST), **params)


@pytest.fixture(scope="module")
def grouped(table):
    return new().fit(table)


def of(table, name):
    return list(table[table["group"] == name]["image"])


def test_each_group_has_the_detector_of_its_images(table, grouped):
    assert list(grouped.detectors_) == ["bolt", "nut", "pin"]
    scores = grouped.score_samples(table)
    for name, detector in grouped.detectors_.items():
        alone = CSFlowDetector(**FAST).fit(of(table, name))
        rows = np.flatnonzero(table["group"] == name)
        np.testing.assert_array_equal(scores[rows], alone.score_samples(of(table, name)))
        assert detector.offset_ == alone.offset_
        np.testing.assert_array_equal(grouped.decision_function(table)[rows], scores[rows] - alone.offset_)
        np.testing.assert_array_equal(grouped.predict(table)[rows], alone.predict(of(table, name)))
    assert grouped.score(table) == pytest.approx(
        np.average([d.score(of(table, name)) for name, d in grouped.detectors_.items()], weights=[12, 24, 12])
    )
    np.testing.assert_array_equal(new().fit_predict(table), grouped.predict(table))


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [2])
@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_any_backend_of_joblib_gives_the_same_bits(table, grouped, n_jobs, backend):
    with joblib.parallel_config(backend, n_jobs=n_jobs):
        again = new().fit(table)
        scores = again.score_samples(table)
    np.testing.assert_array_equal(scores, grouped.score_samples(table))


@pytest.mark.slow
def test_tables_of_all_libraries_are_read(table, grouped):
    scores = grouped.score_samples(table)
    content = {"group": list(table["group"]), "image": list(table["image"])}
    for some in (content, table.iloc[::-1][::-1], table.set_index(np.arange(48) * 3)):
        np.testing.assert_array_equal(grouped.score_samples(some), scores)


@pytest.mark.slow
def test_paths_in_tables_of_polars_and_pyarrow(table, grouped, tmp_path):
    paths = []
    for i, image in enumerate(table["image"]):
        paths.append(str(tmp_path / f"{i}.npy"))
        np.save(paths[-1], image)
    content = {"product": list(table["group"]), "path": paths}
    renamed = clone(grouped).set_params(group_column="product", image_column="path")
    renamed.detectors_ = grouped.detectors_
    for some in (polars.DataFrame(content), pyarrow.table(content), pd.DataFrame(content, dtype="string")):
        np.testing.assert_array_equal(renamed.score_samples(some), grouped.score_samples(table))


@pytest.mark.slow
def test_one_backbone_in_memory_and_in_every_file(table, grouped, tmp_path):
    def backbones(grouped):
        return {id(d.model_.feature_extractor) for d in grouped.detectors_.values()}

    assert len(backbones(grouped)) == 1
    scores = grouped.score_samples(table)
    n_backbone = sum(
        a.nbytes
        for a in grouped.detectors_["nut"].__getstate__()["model_"]["arrays"]["feature_extractor"].values()
    )
    for name in ("a.skops", "a.joblib", "a.pkl"):
        path = tmp_path / name
        skcsflow.save(grouped, path)
        one = tmp_path / f"one-{name}"
        skcsflow.save(grouped.detectors_["nut"], one)
        assert path.stat().st_size < 3 * one.stat().st_size - 1.7 * n_backbone  # skops compresses
        loaded = skcsflow.load(path)
        assert len(backbones(loaded)) == 1
        np.testing.assert_array_equal(loaded.score_samples(table), scores)
    assert (pickle.loads(pickle.dumps(grouped)).score_samples(table) == scores).all()
    pickle.dumps(new())


@pytest.mark.parametrize("kind", ["flow", "backbone"])
def test_damaged_numbers_are_told(grouped, kind):
    state = grouped.__getstate__()
    packed = state["detectors_"]
    arrays = (
        next(iter(packed["backbones"].values()))
        if kind == "backbone"
        else packed["states"][1]["model_"]["arrays"]["flow"]
    )
    array = max(arrays.values(), key=lambda a: a.size)
    array.reshape(-1)[3] += 1
    with pytest.raises(ValueError, match="damaged"):
        GroupedDetector().__setstate__(state)


def test_calibrate_sets_the_thresholds_of_each_group_or_of_none(table):
    grouped = new().fit(table)
    rng = np.random.default_rng(1)
    fresh = pd.DataFrame(
        {"group": NAMES * 10, "image": list(rng.integers(0, 256, (40, 32, 40), dtype=np.uint8))}
    )
    with pytest.raises(NotFittedError, match="calibrate"):
        grouped.p_values(fresh)
    before = {name: d.offset_ for name, d in grouped.detectors_.items()}
    with pytest.raises(ValueError, match="needs at least 19 normal"):
        grouped.calibrate(fresh, fpr=0.05)  # enough of nuts alone
    assert {name: d.offset_ for name, d in grouped.detectors_.items()} == before
    assert grouped.calibrate(fresh, fpr=0.1) is grouped
    alone = CSFlowDetector(**FAST).fit(of(table, "nut")).calibrate(of(fresh, "nut"), fpr=0.1)
    assert grouped.detectors_["nut"].offset_ == alone.offset_
    assert grouped.detectors_["nut"].map_threshold_ == alone.map_threshold_
    np.testing.assert_array_equal(
        grouped.p_values(fresh)[fresh["group"] == "nut"], alone.p_values(of(fresh, "nut"))
    )


@pytest.mark.slow
def test_labels_are_read_for_the_table_as_a_whole(table):
    y = ["good"] * 48
    for row in (0, 2, 5):  # two nuts and a bolt
        y[row] = "broken"
    grouped = new().fit(table, y)
    nuts = [
        image for row, image in enumerate(table["image"]) if NAMES[row % 4] == "nut" and row not in (0, 2)
    ]
    alone = CSFlowDetector(**FAST).fit(nuts)
    assert grouped.detectors_["nut"].offset_ == alone.offset_
    only = table.iloc[[0, 2, 1]]
    assert grouped.score(only, ["broken", "broken", "good"]) == grouped.score(table.iloc[[1]])


@pytest.mark.slow
def test_grid_search_over_the_detectors_parameters(table):
    search = GridSearchCV(new(), {"detector__clamp": [2.0, 3.0]}, cv=2).fit(table)
    assert search.best_estimator_.detectors_.keys() == {"bolt", "nut", "pin"}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.slow
def test_groups_may_be_put_in_and_taken_out(table, grouped):
    other = new().fit(table)
    other.detectors_["washer"] = CSFlowDetector(**FAST).fit(of(table, "pin"))
    del other.detectors_["bolt"]
    washers = pd.DataFrame({"group": "washer", "image": of(table, "pin")})
    pins = table[table["group"] == "pin"]
    copy = pickle.loads(pickle.dumps(other))
    np.testing.assert_array_equal(copy.score_samples(washers), grouped.score_samples(pins))
    with pytest.raises(ValueError, match=r"group 'bolt' in row 1 .*'nut', 'pin', 'washer'"):
        other.predict(table)


def test_a_warning_is_given_once_with_its_groups(table):
    few = table.iloc[:16].copy()
    detector = CSFlowDetector(**{**FAST, "contamination": "auto"})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        GroupedDetector(detector).fit(few)
    (warning,) = [w for w in caught if "too few to hold any out" in str(w.message)]
    assert warning.category is ConvergenceWarning
    assert str(warning.message).endswith(" (In 3 of 3 groups: 'bolt', 'nut', 'pin'.)")
    assert warning.filename == __file__


def test_errors_name_the_group(table):
    bad = {"group": list(table["group"]), "image": [*table["image"][:47], np.zeros((4, 0))]}
    with pytest.raises(ValueError, match=r"X\[47\]") as caught:
        new().fit(bad)
    assert str(caught.value).endswith("(In the group 'pin'.)")


def test_images_that_cannot_be_read_do_not_count_in_the_score(table):
    detector = CSFlowDetector(**FAST, on_error="nan")
    grouped = GroupedDetector(detector).fit(table)
    bad = {
        "group": ["nut"] * 3 + ["pin"] * 2,
        "image": [*of(table, "nut")[:3], of(table, "pin")[0], np.zeros((4, 0))],
    }
    for n_jobs in (2, 1):  # threads, and none
        grouped.set_params(n_jobs=n_jobs)
        with pytest.warns(UserWarning, match=r"X\[4\] has shape \(4, 0\).* \(In 1 of 2 groups: 'pin'\.\)"):
            score = grouped.score(bad)
    nut = grouped.detectors_["nut"].score(bad["image"][:3])
    pin = grouped.detectors_["pin"].score(bad["image"][3:4])
    assert score == pytest.approx((3 * nut + pin) / 4)


def test_splits_of_rows_and_detectors_that_are_none_are_refused(table, grouped):
    with pytest.raises(ValueError, match="cv must be a number of folds or a splitter"):
        grouped.calibrate(table, cv=[([0], [1])])
    with pytest.raises(ValueError, match="y labels every row a defect"):
        grouped.score(table, np.full(48, -1))
    other = new().fit(table)
    other.detectors_["nut"] = CSFlowDetector()
    for call in (lambda: other.predict(table), lambda: pickle.dumps(other)):
        with pytest.raises(TypeError, match=r"detectors_\['nut'\] must be a fitted CSFlowDetector"):
            call()


IMAGES = [np.zeros((32, 32), np.uint8)] * 4


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        (IMAGES, None, TypeError, "X must be a table, .* got list"),
        (np.zeros((3, 2)), None, TypeError, "X must be a table, .* got ndarray"),
        ({"group": ["a"] * 4}, None, ValueError, r"X has no column 'image' \(image_column\); its columns are 'group'"),
        ({"group": ["a"] * 3, "image": IMAGES}, None, ValueError, "'group' has 3 rows, 'image' has 4"),
        ({"group": [], "image": []}, None, ValueError, "X has no rows"),
        ({"group": ["a", None, "b", "b"], "image": IMAGES}, None, ValueError, r"group of row 1 .*got None"),
        ({"group": [1, 2, np.nan, 2], "image": IMAGES}, None, ValueError, r"group of row 2 .*got nan"),
        ({"group": [True, 1, 1, 1], "image": IMAGES}, None, ValueError, r"group of row 0 .*got True"),
        ({"group": "abcd", "image": IMAGES}, None, TypeError, "column 'group' of X must be a list or an array"),
        (polars.LazyFrame({"group": [1], "image": ["a"]}), None, TypeError, r"Pass X\.collect\(\)"),
        ({"group": ["a"] * 4, "image": IMAGES}, [1, 1], ValueError, "X has 4 rows, but y has 2 labels"),
        (
            pd.DataFrame([["a", "b", 0]], columns=["group", "group", "image"]),
            None,
            ValueError,
            "X has 2 columns 'group'",
        ),
    ],
)  # fmt: skip
def test_tables_that_are_none_are_refused(X, y, error, message):
    with pytest.raises(error, match=message):
        new().fit(X, y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"detector": 3}, "'detector' parameter .* must be"),
        ({"group_column": 3}, "'group_column' parameter"),
        ({"n_jobs": "all"}, "'n_jobs' parameter"),
    ],
)
def test_bad_parameters_are_refused(table, params, message):
    with pytest.raises(ValueError, match=message):
        GroupedDetector(**params).fit(table)


def test_without_a_fit_it_says_so(table):
    with pytest.raises(NotFittedError):
        new().predict(table)
