"""Bad scores, labels, masks, maps and weights: metrics, calibration, monitoring, model selection and regions."""

import numpy as np
import pandas as pd
import pytest
import torch
from outcomes import cases, gives, refused, run, warns
from PIL import Image
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression
from sklearn.utils._param_validation import InvalidParameterError

from skcsflow import Region, find_regions
from skcsflow.calibration import conformal_p_values, conformal_threshold, optimal_threshold, prediction_limit
from skcsflow.metrics import (
    aupimo_score,
    f1_max,
    pixel_average_precision_score,
    pixel_f1_max,
    pixel_roc_auc_score,
    pro_auc_score,
    pro_score,
)
from skcsflow.model_selection import (
    OneClassKFold,
    anomaly_average_precision,
    anomaly_f1,
    anomaly_roc_auc,
)
from skcsflow.monitoring import DriftMonitor, discoveries

NAN, INF = float("nan"), float("inf")
SCORES = [-1.0, -2.0, -3.0, -4.0]
Y = [1, 1, -1, -1]
MASKS = np.zeros((3, 4, 4), dtype=bool)
MASKS[1:, :2, :2] = True
MAPS = np.where(MASKS, 2.0, 1.0) + np.arange(16).reshape(4, 4) / 100


def with_value(array, value):
    changed = array.astype(np.result_type(array, type(value)))
    changed[1, 2, 3] = value
    return changed


# Scores: every function that takes a vector of them

OF_SCORES = {
    "conformal_threshold": (lambda s: conformal_threshold(s, 0.3), "scores"),
    "prediction_limit": (lambda s: prediction_limit(s, 0.3), "scores"),
    "conformal_p_values": (lambda s: conformal_p_values(s, SCORES), "scores"),
    "conformal_p_values-calibration": (lambda s: conformal_p_values(SCORES, s), "calibration_scores"),
    "optimal_threshold": (lambda s: optimal_threshold(Y, s, criterion="f1"), "scores"),
    "f1_max": (lambda s: f1_max(Y, s), "y_score"),
    "discoveries": (discoveries, "p_values"),
    "DriftMonitor": (DriftMonitor, "calibration_scores"),
    "DriftMonitor.update": (lambda s: DriftMonitor(SCORES).update(s), "scores"),
}
BAD_SCORES = {
    "None": (None, ValueError, r"must have shape \(n,\), got shape \(\)"),
    "a-number": (3, ValueError, r"must have shape \(n,\), got shape \(\)"),
    "text": ("abc", ValueError, r"must have shape \(n,\), got shape \(\)"),
    "dict": ({"a": 1}, ValueError, r"must have shape \(n,\), got shape \(\)"),
    "generator": ((s for s in SCORES), ValueError, r"must have shape \(n,\), got shape \(\)"),
    "table": (np.zeros((4, 2)), ValueError, r"must have shape \(n,\), got shape \(4, 2\)"),
    "ragged": ([[1.0, 2.0], [3.0]], ValueError, "can't be read as an array: .*inhomogeneous"),
    "NaN": ([1.0, NAN, 2.0, 3.0], ValueError, 'must be finite, but is nan at row 1.*on_error="nan"'),
    "infinity": ([1.0, 2.0, INF, 3.0], ValueError, r"must be finite, but is inf at row 2\.$"),
    "too-large-for-float64": (
        np.array(["1e4000", "1", "2", "3"], np.longdouble),
        ValueError,
        "must be finite, but is inf at row 0",
    ),
    "strings": (["1", "2", "3", "4"], TypeError, "must hold real numbers, got dtype <U1"),
    "complex": (np.zeros(4, complex), TypeError, "must hold real numbers, got dtype complex128"),
    "dates": (np.zeros(4, "M8[D]"), TypeError, r"must hold real numbers, got dtype datetime64\[D\]"),
    "None-among-numbers": ([1.0, None, 2.0, 3.0], TypeError, "must hold real numbers, got dtype object"),
    "too-large-for-int64": ([10**400, 1, 2, 3], TypeError, "must hold real numbers, got dtype object"),
    "masked": (
        np.ma.array([1.0, 2.0, 3.0, 4.0], mask=[0, 1, 0, 0]),
        ValueError,
        r"is a masked array with masked values\. Fill them",
    ),
    "tensor-without-values": (torch.empty(4, device="meta"), ValueError, "can't be read as an array: .*meta"),
    "sparse-tensor": (
        torch.zeros(4).to_sparse(),
        ValueError,
        "can't be read as an array: .*(to_dense|Tensor.dense)",
    ),
}


@pytest.mark.parametrize("bad", BAD_SCORES)
@pytest.mark.parametrize("function", OF_SCORES)
def test_bad_scores_are_refused_by_name(function, bad):
    call, name = OF_SCORES[function]
    value, kind, words = BAD_SCORES[bad]
    run(call, refused(kind, rf"^{name} {words}"), value)


GOOD_SCORES = {
    "list": [1, 2, 3, 4],
    "int8": np.array([1, 2, 3, 4], np.int8),
    "big-endian": np.array([1, 2, 3, 4], ">f4"),
    "reversed": np.array([4.0, 3.0, 2.0, 1.0])[::-1],
    "with-gaps": np.repeat([1.0, 2.0, 3.0, 4.0], 2)[::2],
    "longdouble": np.array([1, 2, 3, 4], np.longdouble),
    "Series": pd.Series([1.0, 2.0, 3.0, 4.0], index=[9, 8, 7, 6]),
    "no-value-masked": np.ma.array([1.0, 2.0, 3.0, 4.0], mask=False),
    "tensor-with-gradient": torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True),
    "bfloat16-tensor": torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.bfloat16),
}


@pytest.mark.parametrize("form", GOOD_SCORES)
def test_scores_of_every_form_give_one_result(form):
    run(lambda s: conformal_p_values(s, [2.5, 3.5]), gives(np.array([1, 1, 2, 3]) / 3), GOOD_SCORES[form])


# Shares

OF_SHARES = {
    "fpr": lambda v: conformal_threshold(SCORES, v),
    "fdr": lambda v: discoveries([0.1], v),
    "false_alarm_rate": lambda v: DriftMonitor(SCORES, false_alarm_rate=v),
}
BAD_SHARES = [None, "0.1", NAN, INF, -INF, 0, 1, -0.1, 1.5, True, 0.1j, np.float32(NAN), [0.1]]


@pytest.mark.parametrize("value", BAD_SHARES, ids=repr)
@pytest.mark.parametrize("name", OF_SHARES)
def test_bad_share_is_refused_with_its_value(name, value):
    words = rf"^{name} must be above 0 and below 1, got "
    run(OF_SHARES[name], refused(ValueError, words), value)


@pytest.mark.parametrize("value", [0.3, np.float32(0.3), np.float64(0.3)], ids=repr)
def test_numpy_share_counts_as_a_number(value):
    run(lambda v: conformal_threshold(SCORES, v), gives(-4.0), value)


# Seeds

BAD_SEEDS = ["abc", -1, 1.5, NAN, 2**32, [1, 2], np.random.default_rng(0)]


@pytest.mark.parametrize("seed", BAD_SEEDS, ids=lambda seed: repr(seed).split(" at ")[0])
@pytest.mark.parametrize(
    "call",
    [
        lambda seed: DriftMonitor(SCORES, random_state=seed),
        lambda seed: OneClassKFold(shuffle=True, random_state=seed),
    ],
    ids=["DriftMonitor", "OneClassKFold"],
)
def test_bad_seed_is_refused_by_name(call, seed):
    run(
        call,
        refused(ValueError, "^random_state must be None, an int from 0 to .* or a RandomState, got "),
        seed,
    )


def test_drift_monitor_leaves_numpys_global_state():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    DriftMonitor(SCORES).update(SCORES)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


# Labels

LABELS_UNREADABLE = r"^The labels in {name} must be \+1/-1.*got {got}.*Convert other labels"
BAD_LABELS = {
    "None": (None, "^{name} is None, but labels are needed"),
    "text": ("good", r"^{name} must have shape \(n,\), got shape \(\)"),
    "empty": ([], "^{name} is empty"),
    "table": (np.ones((4, 2)), r"^{name} must have shape \(n,\), got shape \(4, 2\)"),
    "ragged": ([[1], [1, 2], [1], [1]], "^{name} can't be read as an array: .*inhomogeneous"),
    "NaN": ([1, NAN, -1, -1], "^{name} lacks a label: it is nan at row 1"),
    "None-among": (["good", None, "bad", "bad"], "^{name} lacks a label: it is None at row 1"),
    "NA": (pd.Series([1, None, -1, -1], dtype="Int64"), "^{name} lacks a label: .* at row 1"),
    "masked": (np.ma.array(Y, mask=[1, 0, 0, 0]), "^{name} is a masked array with masked values"),
    "meta": (torch.empty(4, device="meta"), "^{name} can't be read as an array: .*meta"),
    "twos": ([1, 2, 1, 2], LABELS_UNREADABLE.replace("{got}", "1, 2")),
    "mixed": ([1, "good", -1, -1], LABELS_UNREADABLE.replace("{got}", "1, 'good', -1")),
    "no-good": (["a", "b", "a", "b"], LABELS_UNREADABLE.replace("{got}", "'a', 'b'")),
    "other-spelling": (["Good", "bad", "bad", "bad"], LABELS_UNREADABLE.replace("{got}", "'Good', 'bad'")),
    "infinity": ([1, INF, 1, 1], LABELS_UNREADABLE.replace("{got}", r"1\.0, inf")),
    "complex": (np.array([1j, 1, 1, 1]), LABELS_UNREADABLE.replace("{got}", "1j")),
    "halves": ([0.5, 0.5, 1, 0], LABELS_UNREADABLE.replace("{got}", "0.5")),
}
OF_LABELS = {
    "optimal_threshold": (lambda y: optimal_threshold(y, SCORES, criterion="f1"), "y"),
    "f1_max": (lambda y: f1_max(y, SCORES), "y_true"),
    "OneClassKFold.split": (lambda y: OneClassKFold(2).split(np.zeros((4, 1)), y), "y"),
    "anomaly_roc_auc": (lambda y: anomaly_roc_auc(FOREST, np.zeros((4, 1)), y), "y"),
}
FOREST = IsolationForest(n_estimators=2, random_state=0).fit(np.zeros((4, 1)))


@pytest.mark.parametrize("bad", BAD_LABELS)
@pytest.mark.parametrize("function", OF_LABELS)
def test_bad_labels_are_refused_by_name(function, bad):
    call, name = OF_LABELS[function]
    value, words = BAD_LABELS[bad]
    run(call, refused(ValueError, words.format(name=name)), value)


@pytest.mark.parametrize(
    "y",
    [
        [1, 1, -1, -1],
        [0, 0, 1, 1],
        [0.0, 0.0, 1.0, 1.0],
        [False, False, True, True],
        np.array([False, False, True, True]),
        np.array([1, 1, -1, -1], ">i2"),
        np.array([0, 0, 1, 1], np.uint8),
        ["good", "good", "a", "b"],
        pd.Series(["good", "normal", "a", "b"], dtype="category"),
        pd.DataFrame({"y": [1, 1, -1, -1]}),
        torch.tensor([1, 1, -1, -1]),
    ],
    ids=lambda y: type(y).__name__,
)
def test_labels_of_every_form_mean_the_same(y):
    run(lambda y: optimal_threshold(y, SCORES, criterion="f1"), gives(-2.5), y)


# Masks and maps: every metric of pixels

OF_MAPS = {
    "pixel_roc_auc_score": pixel_roc_auc_score,
    "pixel_average_precision_score": pixel_average_precision_score,
    "pixel_f1_max": pixel_f1_max,
    "pro_auc_score": pro_auc_score,
    "aupimo_score": lambda masks, maps: aupimo_score(masks, maps, fpr_bounds=(0.1, 0.9)),
}
NO_SEQUENCE = r"must be an array of shape \(n, H, W\) or a sequence of arrays of shape \(H, W\), got "
BAD_MAPS = {
    "None": (None, TypeError, f"{NO_SEQUENCE}NoneType"),
    "text": ("abc", TypeError, f"{NO_SEQUENCE}str"),
    "dict": ({0: MAPS[0]}, TypeError, f"{NO_SEQUENCE}dict"),
    "generator": ((m for m in MAPS), TypeError, f"{NO_SEQUENCE}generator"),
    "one-map": (MAPS[0], ValueError, r"must have shape \(n, H, W\).*got shape \(4, 4\)"),
    "channels": (MAPS[None], ValueError, r"must have shape \(n, H, W\).*got shape \(1, 3, 4, 4\)"),
    "empty": ([], ValueError, "is empty"),
    "no-pixels": (np.zeros((3, 0, 4)), ValueError, r"\[0\] has no pixels: its shape is \(0, 4\)"),
    "ragged": ([[[1, 2], [3]]] * 3, ValueError, r"\[0\] can't be read as an array: .*inhomogeneous"),
    "complex": (MAPS + 0j, TypeError, r"must hold real numbers, but .*\[0\] has dtype complex128"),
    "objects": (MAPS.astype(object), TypeError, r"must hold real numbers, but .*\[0\] has dtype object"),
    "strings": (MAPS.astype(str), TypeError, r"must hold real numbers, but .*\[0\] has dtype <U"),
    "masked": (np.ma.array(MAPS, mask=MASKS), ValueError, "is a masked array with masked values"),
    "masked-ones": (
        [np.ma.array(m, mask=MASKS[1]) for m in MAPS],
        ValueError,
        r"\[0\] is a masked array with masked values",
    ),
    "meta": (torch.empty(3, 4, 4, device="meta"), ValueError, "can't be read as an array: .*meta"),
}
BAD_MAPS_ALONE = {
    "NaN": (with_value(MAPS, NAN), ValueError, r"must be finite, but maps\[1\] holds nan at row 2, column 3"),
    "infinity": (with_value(MAPS, INF), ValueError, r"must be finite, but maps\[1\] holds inf at row 2, col"),
    "None-among": ([MAPS[0], None, MAPS[2]], ValueError, r"\[1\] must have shape \(H, W\), got shape \(\)"),
    "paths": (["a.png"] * 3, ValueError, r"\[0\] must have shape \(H, W\), got shape \(\)"),
}


@pytest.mark.parametrize("bad", [*BAD_MAPS, *BAD_MAPS_ALONE])
@pytest.mark.parametrize("metric", OF_MAPS)
def test_bad_maps_are_refused_by_name(metric, bad):
    value, kind, words = {**BAD_MAPS, **BAD_MAPS_ALONE}[bad]
    run(lambda maps: OF_MAPS[metric](MASKS, maps), refused(kind, rf"^maps ?{words}"), value)


@pytest.mark.parametrize("bad", BAD_MAPS)
def test_bad_masks_are_refused_by_name(bad):
    value, kind, words = BAD_MAPS[bad]
    run(lambda masks: pixel_roc_auc_score(masks, MAPS), refused(kind, rf"^masks ?{words}"), value)


PERFECT = 1.0
UNDEFINED = "There are no {} pixels in masks. pixel_roc_auc_score is not defined in that case and is NaN"


@cases(
    ("masks-with-NaN", lambda: pixel_roc_auc_score(with_value(MASKS, NAN), MAPS),
     refused(ValueError, r"^masks must not hold NaN, but masks\[1\] does")),
    ("mask-file-is-missing", lambda: pixel_roc_auc_score(["no.png"] * 3, MAPS),
     refused(ValueError, "'no.png'", "no such file")),
    ("lengths-differ", lambda: pixel_roc_auc_score(MASKS[:2], MAPS),
     refused(ValueError, "^masks and maps must be of the same length, got 2 masks and 3 maps")),
    ("sizes-differ", lambda: pixel_roc_auc_score(MASKS[:, :3], MAPS),
     refused(ValueError, r"masks\[0\] has shape \(3, 4\) and maps\[0\] has shape \(4, 4\)")),
    ("no-defect", lambda: pixel_roc_auc_score([None] * 3, MAPS),
     warns(UndefinedMetricWarning, UNDEFINED.format("defective"), np.isnan)),
    ("no-normal-pixel", lambda: pixel_roc_auc_score(~MASKS | MASKS, MAPS),
     warns(UndefinedMetricWarning, UNDEFINED.format("normal"), np.isnan)),
    ("masks-0-255", lambda: pixel_roc_auc_score(255 * MASKS.astype(np.uint8), MAPS), gives(PERFECT)),
    ("masks-of-PIL", lambda: pixel_roc_auc_score([Image.fromarray(m) for m in MASKS], MAPS), gives(PERFECT)),
    ("maps-backwards", lambda: pixel_roc_auc_score(MASKS[::-1], MAPS[::-1]), gives(PERFECT)),
    ("maps-big-endian", lambda: pixel_roc_auc_score(MASKS, MAPS.astype(">f4")), gives(PERFECT)),
    ("maps-columns-first", lambda: pixel_roc_auc_score(MASKS, np.asfortranarray(MAPS)), gives(PERFECT)),
    ("maps-bfloat16", lambda: pixel_roc_auc_score(MASKS, torch.tensor(MAPS).bfloat16()), gives(PERFECT)),
    ("maps-with-gradient", lambda: pixel_roc_auc_score(MASKS, torch.tensor(MAPS, requires_grad=True)),
     gives(PERFECT)),
    ("maps-as-nested-lists", lambda: pixel_roc_auc_score(MASKS.tolist(), MAPS.tolist()), gives(PERFECT)),
    ("maps-booleans", lambda: pixel_roc_auc_score(MASKS, MASKS), gives(PERFECT)),
    ("pro_score-of-maps", lambda: pro_score(MASKS, MAPS),
     refused(ValueError, "^predicted_masks must hold 0 and 1, or 0 and 255, got .*maps > threshold")),
    ("pro_score-text", lambda: pro_score(MASKS, "abc"), refused(TypeError, "^predicted_masks must be an array")),
    ("n_bins-1", lambda: pixel_roc_auc_score(MASKS, MAPS, n_bins=1),
     refused(InvalidParameterError, "'n_bins' parameter of pixel_roc_auc_score", r"\[2, inf\).*Got 1 ")),
    ("n_bins-NaN", lambda: pixel_roc_auc_score(MASKS, MAPS, n_bins=NAN),
     refused(InvalidParameterError, "'n_bins'", "Got nan ")),
    ("n_bins-text", lambda: pro_auc_score(MASKS, MAPS, n_bins="9"),
     refused(InvalidParameterError, "'n_bins' parameter of pro_auc_score", "Got '9' ")),
    ("n_bins-True", lambda: pixel_f1_max(MASKS, MAPS, n_bins=True),
     refused(InvalidParameterError, "'n_bins' parameter of pixel_f1_max", "Got True ")),
    ("n_bins-numpy", lambda: pixel_roc_auc_score(MASKS, MAPS, n_bins=np.int16(64)), gives(PERFECT)),
    ("n_bins-huge", lambda: pixel_roc_auc_score(MASKS, MAPS, n_bins=10**12), gives(PERFECT)),
    ("max_fpr-0", lambda: pro_auc_score(MASKS, MAPS, max_fpr=0),
     refused(InvalidParameterError, "'max_fpr' parameter of pro_auc_score", r"\(0.0, 1.0\]. Got 0 ")),
    ("max_fpr-NaN", lambda: pro_auc_score(MASKS, MAPS, max_fpr=NAN),
     refused(InvalidParameterError, "'max_fpr'", "Got nan ")),
    ("max_fpr-infinite", lambda: pro_auc_score(MASKS, MAPS, max_fpr=INF),
     refused(InvalidParameterError, "'max_fpr'", "Got inf ")),
    ("max_fpr-text", lambda: pro_auc_score(MASKS, MAPS, max_fpr="0.3"),
     refused(InvalidParameterError, "'max_fpr'", "Got '0.3' ")),
    ("max_fpr-float32", lambda: pro_auc_score(MASKS, MAPS, max_fpr=np.float32(0.5)), gives(PERFECT)),
    ("return_threshold-text", lambda: pixel_f1_max(MASKS, MAPS, return_threshold="no"),
     refused(InvalidParameterError, "'return_threshold' parameter of pixel_f1_max", "Got 'no' ")),
    ("return_threshold-numpy", lambda: pixel_f1_max(MASKS, MAPS, return_threshold=np.True_)[0], gives(1.0)),
    ("fpr_bounds-None", lambda: aupimo_score(MASKS, MAPS, fpr_bounds=None),
     refused(ValueError, "^fpr_bounds must be a pair of numbers", "got None")),
    ("fpr_bounds-text", lambda: aupimo_score(MASKS, MAPS, fpr_bounds=("a", "b")),
     refused(ValueError, "^fpr_bounds must be a pair of numbers", r"got \('a', 'b'\)")),
    ("fpr_bounds-descending", lambda: aupimo_score(MASKS, MAPS, fpr_bounds=(0.2, 0.1)),
     refused(ValueError, "^fpr_bounds", r"got \(0.2, 0.1\)")),
    ("fpr_bounds-NaN", lambda: aupimo_score(MASKS, MAPS, fpr_bounds=(NAN, 0.1)),
     refused(ValueError, "^fpr_bounds", "got .nan, 0.1")),
    ("fpr_bounds-three", lambda: aupimo_score(MASKS, MAPS, fpr_bounds=(0.1, 0.2, 0.3)),
     refused(ValueError, "^fpr_bounds")),
    ("fpr_bounds-too-fine", lambda: aupimo_score(MASKS, MAPS),
     refused(ValueError, "^fpr_bounds=.* can't be resolved by the 16 pixels of good images", "Pass more good")),
    ("aupimo-no-good-image", lambda: aupimo_score(MASKS[1:], MAPS[1:]),
     refused(ValueError, "^masks has no good image among its 2", "add some")),
    ("aupimo-no-defect", lambda: aupimo_score(MASKS[:1], MAPS[:1]),
     refused(ValueError, "^masks has no defective image among its 1", "add some")),
    ("f1-lengths-differ", lambda: f1_max(Y, SCORES[:3]),
     refused(ValueError, r"^y_score must have shape \(4,\), one score per label in y_true, got shape \(3,\)")),
    ("f1-only-ones", lambda: f1_max([1, 1], [1.0, 2.0]), refused(ValueError, "^y_true is ambiguous")),
    ("f1-no-defect", lambda: f1_max([False, False], [1.0, 2.0]),
     warns(UndefinedMetricWarning, "no defective images in y_true", np.isnan)),
)  # fmt: skip
def test_metrics(call, outcome):
    run(call, outcome)


# Weights

OF_WEIGHTS = {
    "pixel_roc_auc_score": lambda w: pixel_roc_auc_score(MASKS, MAPS, sample_weight=w),
    "pro_score": lambda w: pro_score(MASKS, MASKS, sample_weight=w),
    "f1_max": lambda w: f1_max([1, -1, 1], [1, 2, 1], sample_weight=w),
    "anomaly_roc_auc": lambda w: anomaly_roc_auc(FOREST, np.zeros((3, 1)), [1, -1, 1], sample_weight=w),
    "anomaly_average_precision": lambda w: anomaly_average_precision(
        FOREST, np.zeros((3, 1)), [1, -1, 1], sample_weight=w
    ),
    "anomaly_f1": lambda w: anomaly_f1(FOREST, np.zeros((3, 1)), [1, -1, 1], sample_weight=w),
}
BAD_WEIGHTS = {
    "text": ("abc", ValueError, r"must have shape \(3,\).*got shape \(\)"),
    "too-few": ([1, 1], ValueError, r"must have shape \(3,\).*got shape \(2,\)"),
    "table": ([[1, 1, 1]], ValueError, r"must have shape \(3,\).*got shape \(1, 3\)"),
    "ragged": ([[1], [1, 2], 3], ValueError, "can't be read as an array: .*inhomogeneous"),
    "strings": (["1", "2", "3"], TypeError, "must hold real numbers, got dtype <U1"),
    "None-among": ([None, 1, 1], TypeError, "must hold real numbers, got dtype object"),
    "complex": ([1j, 1, 1], TypeError, "must hold real numbers, got dtype complex128"),
    "dates": (np.zeros(3, "M8[s]"), TypeError, "must hold real numbers, got dtype datetime64"),
    "too-large": ([10**400, 1, 1], TypeError, "must hold real numbers, got dtype object"),
    "negative": ([1, -1, 1], ValueError, "must be finite and not negative, but sample_weight.1. is -1.0"),
    "NaN": ([1, 1, NAN], ValueError, "must be finite and not negative, but sample_weight.2. is nan"),
    "infinity": ([INF, 1, 1], ValueError, "must be finite and not negative, but sample_weight.0. is inf"),
    "masked": (np.ma.array([1, 2, 3], mask=[0, 1, 0]), ValueError, "is a masked array with masked values"),
    "meta": (torch.empty(3, device="meta"), ValueError, "can't be read as an array: .*meta"),
}


@pytest.mark.parametrize("bad", BAD_WEIGHTS)
@pytest.mark.parametrize("function", OF_WEIGHTS)
def test_bad_weights_are_refused_by_name(function, bad):
    value, kind, words = BAD_WEIGHTS[bad]
    run(OF_WEIGHTS[function], refused(kind, f"^sample_weight {words}"), value)


# The rest

REGION = [Region((0, 1, 1, 2), 1, 3.0, (0, 1))]
MAP = [[0.0, 3.0, 0.0]]


class Zeros:
    """A detector without `predict`."""

    def score_samples(self, X):
        return np.zeros(len(X))


@cases(
    ("fpr-too-low", lambda: conformal_threshold(SCORES, 0.1),
     refused(ValueError, "^fpr=0.1 needs at least 9 normal images, got 4. Pass more images, or a higher fpr")),
    ("criterion-unknown", lambda: optimal_threshold(Y, SCORES, criterion="best"),
     refused(ValueError, "^criterion must be 'f1' or 'youden', got 'best'")),
    ("criterion-array", lambda: optimal_threshold(Y, SCORES, criterion=np.array(["f1", "youden"])),
     refused(ValueError, "^criterion must be 'f1' or 'youden', got array")),
    ("criterion-and-recall", lambda: optimal_threshold(Y, SCORES, criterion="f1", recall=1),
     refused(ValueError, "^Give either criterion or recall, got 'f1' and 1")),
    ("neither", lambda: optimal_threshold(Y, SCORES),
     refused(ValueError, "^Give either criterion or recall, got None and None")),
    ("recall-NaN", lambda: optimal_threshold(Y, SCORES, recall=NAN),
     refused(ValueError, "^recall must be above 0 and at most 1, got nan")),
    ("recall-True", lambda: optimal_threshold(Y, SCORES, recall=True),
     refused(ValueError, "^recall must be above 0 and at most 1, got True")),
    ("one-kind", lambda: optimal_threshold([1] * 4, SCORES, recall=1),
     refused(ValueError, "^y labels no defect", "conformal_threshold")),
    ("lengths-differ", lambda: optimal_threshold(Y, SCORES[:3], recall=1),
     refused(ValueError, "^There are 3 scores, but y has 4 labels")),
    ("no-score", lambda: conformal_p_values([], SCORES), gives(np.empty(0))),
    ("no-calibration-score", lambda: conformal_p_values(SCORES, []),
     refused(ValueError, "^calibration_scores is empty")),
    ("p-values-beyond-1", lambda: discoveries([0.5, 1.5]),
     refused(ValueError, r"^p_values must lie between 0 and 1, but p_values\[1\] is 1.5")),
    ("no-p-value", lambda: discoveries([]), gives(np.empty(0, dtype=bool))),
    ("drift-of-nothing", lambda: DriftMonitor(SCORES, random_state=0).update([]).p_values_, gives(np.empty(0))),
    ("map-None", lambda: find_regions(None, 1), refused(ValueError, r"^anomaly_map must have shape \(H, W\)")),
    ("map-3-D", lambda: find_regions(MAPS, 1), refused(ValueError, r"^anomaly_map.*got shape \(3, 4, 4\)")),
    ("map-empty", lambda: find_regions(np.zeros((0, 3)), 1), refused(ValueError, "^anomaly_map has no pixels")),
    ("map-NaN", lambda: find_regions([[NAN, 3.0]], 1), refused(ValueError, "^anomaly_map holds NaN")),
    ("map-infinite", lambda: find_regions([[0.0, INF, 0.0]], 1), gives([Region((0, 1, 1, 2), 1, INF, (0, 1))])),
    ("map-complex", lambda: find_regions([[1j, 2]], 1),
     refused(TypeError, "^anomaly_map must hold real numbers, got dtype complex128")),
    ("map-text", lambda: find_regions([["a"]], 1),
     refused(TypeError, "^anomaly_map must hold real numbers, got dtype <U1")),
    ("map-ragged", lambda: find_regions([[1, 2], [3]], 1), refused(ValueError, "^anomaly_map can't be read")),
    ("map-masked", lambda: find_regions(np.ma.array([[1, 2]], mask=[[0, 1]]), 1),
     refused(ValueError, "^anomaly_map is a masked array")),
    ("map-with-gradient", lambda: find_regions(torch.tensor(MAP, requires_grad=True), 1), gives(REGION)),
    ("map-of-bool", lambda: find_regions([[False, True]], 0), gives([Region((0, 1, 1, 2), 1, 1.0, (0, 1))])),
    ("threshold-None", lambda: find_regions(MAP, None), refused(ValueError, "^threshold must be a number, got None")),
    ("threshold-text", lambda: find_regions(MAP, "1"), refused(ValueError, "^threshold must be a number, got '1'")),
    ("threshold-complex", lambda: find_regions(MAP, 1j), refused(ValueError, "^threshold must be a number, got 1j")),
    ("threshold-NaN", lambda: find_regions(MAP, NAN), refused(ValueError, "^threshold must be a number, got nan")),
    ("threshold-infinite", lambda: find_regions(MAP, INF), gives([])),
    ("threshold-numpy", lambda: find_regions(MAP, np.float32(1)), gives(REGION)),
    ("min_area-0", lambda: find_regions(MAP, 1, min_area=0),
     refused(ValueError, "^min_area must be an int of at least 1, got 0")),
    ("min_area-NaN", lambda: find_regions(MAP, 1, min_area=NAN), refused(ValueError, "^min_area .* got nan")),
    ("min_area-text", lambda: find_regions(MAP, 1, min_area="1"), refused(ValueError, "^min_area .* got '1'")),
    ("min_area-numpy", lambda: find_regions(MAP, 1, min_area=np.uint8(1)), gives(REGION)),
    ("min_area-huge", lambda: find_regions(MAP, 1, min_area=10**30), gives([])),
    ("level-number", lambda: find_regions(MAP, 1, level=3), refused(TypeError, "^level must be a function or None")),
    ("level-gives-text", lambda: find_regions(MAP, 1, level=str),
     refused(ValueError, "^level must give a number, but gives '3.0' for a peak of 3")),
    ("n_splits-1", lambda: OneClassKFold(1), refused(ValueError, "^n_splits must be an int, 2 or more, got 1")),
    ("n_splits-NaN", lambda: OneClassKFold(NAN), refused(ValueError, "^n_splits .* got nan")),
    ("n_splits-float", lambda: OneClassKFold(2.0), refused(ValueError, "^n_splits .* got 2.0")),
    ("n_splits-True", lambda: OneClassKFold(True), refused(ValueError, "^n_splits .* got True")),
    ("n_splits-huge", lambda: OneClassKFold(10**9).split(np.zeros((4, 1)), Y),
     refused(ValueError, "^n_splits=1000000000 is more than the number of normal rows in y, 2")),
    ("n_splits-numpy", lambda: OneClassKFold(np.int32(3)).get_n_splits(), gives(3)),
    ("n_repeats-0", lambda: OneClassKFold(n_repeats=0), refused(ValueError, "^n_repeats .*1 or more, got 0")),
    ("n_repeats-text", lambda: OneClassKFold(n_repeats="2"), refused(ValueError, "^n_repeats .* got '2'")),
    ("n_repeats-alone", lambda: OneClassKFold(n_repeats=2), refused(ValueError, "^n_repeats=2 .*shuffle=True")),
    ("shuffle-1", lambda: OneClassKFold(shuffle=1), refused(ValueError, "^shuffle must be True or False, got 1")),
    ("shuffle-None", lambda: OneClassKFold(shuffle=None), refused(ValueError, "^shuffle .* got None")),
    ("seed-alone", lambda: OneClassKFold(random_state=0), refused(ValueError, "^random_state=0 has no effect")),
    ("X-None", lambda: OneClassKFold(2).split(None, Y),
     refused(TypeError, "^X must be an array or a sequence, got NoneType")),
    ("X-generator", lambda: OneClassKFold(2).split(iter(Y), Y), refused(TypeError, "^X must be an array")),
    ("y-too-short", lambda: OneClassKFold(2).split(np.zeros((4, 1)), Y[:3]),
     refused(ValueError, "^X has 4 rows, but y has 3 labels")),
    ("all-defects", lambda: OneClassKFold(2).split(np.zeros((4, 1)), [-1] * 4),
     refused(ValueError, "^y labels all of its 4 rows defects")),
    ("groups-too-short", lambda: OneClassKFold(2).split(np.zeros((4, 1)), Y, [1]),
     refused(ValueError, "^X has 4 rows, but groups has 1 labels")),
    ("groups-NaN", lambda: OneClassKFold(2).split(np.zeros((4, 1)), Y, [1, NAN, 2, 2]),
     refused(ValueError, "^groups lacks a label: it is nan at row 1")),
    ("groups-too-few", lambda: OneClassKFold(2).split(np.zeros((4, 1)), Y, [1] * 4),
     refused(ValueError, "^n_splits=2 is more than the number of groups with normal rows, 1")),
    ("normal_label-array", lambda: OneClassKFold(2, normal_label=np.array([1, 2])).split(np.zeros((4, 1)), Y),
     refused(ValueError, "^normal_label must be one label, got array")),
    ("normal_label-missing", lambda: OneClassKFold(2, normal_label="ok").split(np.zeros((4, 1)), Y),
     refused(ValueError, "^normal_label='ok' is not among the labels in y: 1, -1")),
    ("too-few-defects", lambda: len(list(OneClassKFold(2).split(np.zeros((4, 1)), [1, 1, 1, -1]))),
     warns(UserWarning, "1 of the n_splits=2 test folds hold no defect, because y has 1", 2)),
    ("scorer-None", lambda: anomaly_roc_auc(None, np.zeros((4, 1)), Y),
     refused(AttributeError, "NoneType has none of the following attributes: score_samples")),
    ("scorer-of-classifier", lambda: anomaly_f1(LogisticRegression(), np.zeros((4, 1)), Y),
     refused(ValueError, "^anomaly_f1 is for outlier detectors", "LogisticRegression is a classifier")),
    ("scorer-without-method", lambda: anomaly_f1(Zeros(), np.zeros((4, 1)), Y),
     refused(AttributeError, "Zeros has none of the following attributes: predict")),
    ("scorer-y-too-short", lambda: anomaly_f1(FOREST, np.zeros((4, 1)), [1, -1]),
     refused(ValueError, r"^y has 2 labels, but IsolationForest.predict\(X\) has shape \(4,\)")),
    ("scorer-only-ones", lambda: anomaly_f1(FOREST, np.zeros((4, 1)), [1] * 4),
     refused(ValueError, "^y is ambiguous: all of its 4 labels are 1")),
)  # fmt: skip
def test_functions_of_numbers(call, outcome):
    run(call, outcome)
