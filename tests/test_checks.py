"""Checks of sizes and of scores."""

import numpy as np
import pytest
import torch

from skcsflow._checks import check_finite_scores, check_size


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (5, (5, 5)),
        (np.int16(5), (5, 5)),
        (np.array(5), (5, 5)),
        ((3, 7), (3, 7)),
        ([3, 7], (3, 7)),
        (np.array([3, 7]), (3, 7)),
        ((np.int64(3), 7), (3, 7)),
        (torch.Size([3, 7]), (3, 7)),
    ],
    ids=repr,
)
def test_check_size_gives_height_and_width(size, expected):
    result = check_size(size, "size", least=3)
    assert result == expected
    assert {type(side) for side in result} == {int}


@pytest.mark.parametrize(
    "size",
    [0, 2, -4, 4.0, True, None, "44", "ab", (4,), (4, 5, 6), (4, 2), (4, 4.0), (True, 4), np.array([[4, 4]])],
    ids=repr,
)
def test_check_size_refuses_others_with_name_and_value(size):
    with pytest.raises(ValueError, match="an int or a pair of ints") as caught:
        check_size(size, "size", least=3)
    assert str(caught.value) == (
        f"size must be an int or a pair of ints (H, W), each 3 or more, got {size!r}."
    )


def test_check_size_least_is_one_by_default():
    assert check_size(1, "size") == (1, 1)
    with pytest.raises(ValueError, match="each 1 or more, got 0"):
        check_size(0, "size")


@pytest.mark.parametrize("scores", [[1, 2], (1.0, 2.0), np.float32([1, 2]), torch.tensor([1, 2])], ids=repr)
def test_check_finite_scores_gives_float64(scores):
    values = check_finite_scores(scores, "scores")
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, [1, 2])


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        ([0, np.nan, np.inf], ValueError, "^scores must be finite, but is nan at row 1"),
        ([0, 1, -np.inf], ValueError, "scores must be finite, but is -inf at row 2"),
        ([], ValueError, "scores is empty"),
        ([[1.0]], ValueError, r"scores must have shape \(n,\), got shape \(1, 1\)"),
        (1.0, ValueError, r"got shape \(\)"),
        (["1", "2"], TypeError, "scores must hold real numbers, got dtype <U1"),
        ([1j], TypeError, "got dtype complex128"),
        ([1, None], TypeError, "got dtype object"),
    ],
    ids=str,
)
def test_check_finite_scores_refuses_others(scores, error, message):
    with pytest.raises(error, match=message):
        check_finite_scores(scores, "scores")


def test_check_finite_scores_tells_the_way_out_of_nan_of_images_alone():
    with pytest.raises(
        ValueError, match=r'at row 1\. A detector with on_error="nan" .* leave such images out'
    ):
        check_finite_scores([0, np.nan], "scores")
    with pytest.raises(ValueError, match=r"at row 1\.$"):
        check_finite_scores([0, np.inf], "scores")
    with pytest.raises(ValueError, match=r"at row 1\.$"):
        check_finite_scores([0, np.nan], "history['loss']", are_of_images=False)


def test_check_finite_scores_may_allow_none():
    assert check_finite_scores([], "scores", allow_empty=True).shape == (0,)
