"""What y means: which rows are defects, and which rows a detector learns from."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from skcsflow._labels import check_labels, is_defect, normal_rows, show_labels

READABLE = [
    [1, -1, 1],
    [0, 1, 0],
    [False, True, False],
    [1.0, -1.0, 1.0],
    [0.0, 1.0, 0.0],
    ["good", "crack", "normal"],
]


@pytest.mark.parametrize("labels", READABLE, ids=str)
def test_is_defect_reads_each_kind_of_labels(labels):
    containers = [list, tuple, np.array, pd.Series, pl.Series, lambda y: np.array(y, dtype=object)[:, None]]
    if not isinstance(labels[0], str):
        containers.append(torch.tensor)
    for container in containers:
        np.testing.assert_array_equal(is_defect(container(labels)), [False, True, False])


@pytest.mark.parametrize(
    "y",
    [
        np.array([0, 1, 0], dtype=np.uint8),
        pd.DataFrame({"y": [1, -1, 1]}),
        pd.Series([1, -1, 1], index=[7, 7, 7], dtype="Int64"),
        pd.Series([False, True, False], dtype="boolean"),
        pd.Categorical(["good", "crack", "good"]),
        [np.int8(1), np.float32(-1), 1],
        [np.str_("good"), "crack", "good"],
    ],
    ids=lambda y: type(y).__name__,
)
def test_is_defect_reads_other_containers(y):
    np.testing.assert_array_equal(is_defect(y), [False, True, False])


@pytest.mark.parametrize(
    ("y", "n_defects"),
    [
        ([1, 1], 0),
        ([1.0, 1.0], 0),
        ([0, 0], 0),
        ([-1, -1], 2),
        ([False, False], 0),
        ([True, True], 2),
        (["good", "good"], 0),
        (["normal", "good"], 0),
    ],
    ids=str,
)
def test_is_defect_labels_of_one_kind(y, n_defects):
    assert is_defect(y).sum() == n_defects


def test_is_defect_only_ones_are_an_error_where_they_are_ambiguous():
    with pytest.raises(ValueError, match="y is ambiguous: all of its 2 labels are 1"):
        is_defect([1, 1], ones_are_normal=False)
    for y in ([True, True], [0, 0], [-1, -1], ["good", "good"]):
        np.testing.assert_array_equal(is_defect(y, ones_are_normal=False), is_defect(y))


@pytest.mark.parametrize("normal_label", ["ok", "crack", 7, 0, True])
def test_is_defect_normal_label_makes_all_others_defects(normal_label):
    y = np.array([normal_label, "good", "hole", normal_label], dtype=object)
    np.testing.assert_array_equal(is_defect(y, normal_label), [False, True, True, False])


@pytest.mark.parametrize(
    ("y", "shown"),
    [
        (["ok", "bad"], "'ok', 'bad'"),
        (["Good", "bad"], "'Good', 'bad'"),
        (["1", "-1"], "'1', '-1'"),
        (["good", 1], "'good', 1"),
        ([1, 0, -1], "1, 0, -1"),
        ([0, 2], "0, 2"),
        ([-1, 0], "-1, 0"),
        ([0.5, 1], "0.5, 1.0"),
        ([2, 2], "2"),
        ([1j], "1j"),
        (range(100), "0, 1, 2, 3, 4, 5, 6, 7, ..."),
    ],
    ids=str,
)
def test_is_defect_other_labels_raise_with_them_and_the_way_out(y, shown):
    with pytest.raises(ValueError, match=r"labels in y must be \+1/-1 .*np\.where\(y ==") as caught:
        is_defect(y)
    assert f"got {shown}. " in str(caught.value)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_is_defect_missing_label_raises_with_its_row(missing):
    for labels in ([1, -1, missing, 1], ["good", "crack", missing, "good"]):
        for normal_label in (None, labels[0]):
            with pytest.raises(ValueError, match=r"labels lacks a label: .* at row 2"):
                is_defect(labels, normal_label, name="labels")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "y is None"),
        ([], "y is empty"),
        (1, r"shape \(\)"),
        ([[1, 0], [0, 1]], r"shape \(2, 2\)"),
    ],
)
def test_is_defect_other_shapes_raise(y, message):
    with pytest.raises(ValueError, match=message):
        is_defect(y)


def test_is_defect_absent_normal_label_raises():
    with pytest.raises(ValueError, match="normal_label='ok' is not among the labels in y: 'good', 'bad'"):
        is_defect(["good", "bad"], "ok")


def test_check_labels_gives_python_scalars():
    labels = check_labels(np.array([[1], [2]], dtype=np.int8))
    assert labels == [1, 2]
    assert {type(label) for label in labels} == {int}


def test_show_labels_names_each_once():
    assert show_labels(["b", "a", "b", 1]) == "'b', 'a', 1"
    assert show_labels(range(4), limit=2) == "0, 1, ..."


# Rows to learn from


@pytest.mark.parametrize("is_table", [False, True])
def test_normal_rows_leave_defects_out(is_table):
    assert normal_rows(None, 3, is_table=is_table).tolist() == [0, 1, 2]
    for y in (*READABLE, np.array([[1], [-1], [1]])):
        rows = normal_rows(y, 3, is_table=is_table)
        assert rows.tolist() == [0, 2]
        assert rows.dtype == np.int64
    for y in ([1, 1, 1], [0, 0, 0], ["good", "good", "good"]):
        assert normal_rows(y, 3, is_table=is_table).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "y",
    [[0, 1, 2], [0.5, 1.5, 2.5], [1, np.nan, -1], ["a", "b", "c"], [[1, 0], [0, 1], [1, 1]], [1, None, 0]],
    ids=str,
)
def test_normal_rows_unreadable_labels_are_ignored_for_a_table_alone(y):
    assert normal_rows(y, 3, is_table=True).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"y must be \+1/-1|y lacks a label|y has shape"):
        normal_rows(y, 3)


@pytest.mark.parametrize(("y", "is_ignored"), [([-1, -1], True), ([-1.0, -1.0], True), ([True, True], False)])
def test_normal_rows_without_a_normal_row(y, is_ignored):
    with pytest.raises(ValueError, match="y labels every row a defect, so there is no normal image"):
        normal_rows(y, 2)
    if is_ignored:
        assert normal_rows(y, 2, is_table=True).tolist() == [0, 1]
    else:
        with pytest.raises(ValueError, match="y labels every row a defect"):
            normal_rows(y, 2, is_table=True)


@pytest.mark.parametrize("is_table", [False, True])
@pytest.mark.parametrize(
    ("y", "shape"), [([1, -1], r"\(2,\)"), ([], r"\(0,\)"), (1, r"\(\)"), ([[1, -1, 1]], r"\(1, 3\)")]
)
def test_normal_rows_of_other_length_raise(y, shape, is_table):
    with pytest.raises(ValueError, match=f"X has 3 images, but y has shape {shape}"):
        normal_rows(y, 3, is_table=is_table)
