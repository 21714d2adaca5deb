"""Bad parameters of `CSFlowDetector` and `InspectionTable`: each with its name, the value and what it may be."""

import numpy as np
import pytest
import torch
from conftest import FAST
from outcomes import cases, refused, run
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import InvalidParameterError

from skcsflow import CSFlowDetector, InspectionTable

NAN, INF = float("nan"), float("inf")
X = np.random.RandomState(0).randint(100, 140, (10, 32, 32)).astype(np.uint8)

BY_SCIKIT_LEARN = {
    "input_size": [None, "64", NAN, INF, 0, -1, 31, 64.0, 1j, b"64"],
    "roi": [3, 1.5, NAN, True, 1j],
    "tile_size": ["64", NAN, INF, 0, -1, 7, True, 64.0, 1j],
    "tile_overlap": [None, "0.1", NAN, INF, -0.1, 0.95, [0.1], 1j],
    "keep_aspect": [None, "yes", NAN, 1, 0, []],
    "num_channels": [None, "3", NAN, INF, 0, -1, 3.0, [3]],
    "image_shape": ["8x8", 8, NAN, True],
    "value_range": ["0-255", 255, NAN, True],
    "on_error": [None, "ignore", "", NAN, 1, ["nan"]],
    "backbone": [None, 3, NAN, b"tf_efficientnet_lite0", ["tf_efficientnet_lite0"]],
    "weights": [3, NAN, True, b"auto", ["auto"]],
    "strides": [None, "8", 8, NAN, INF],
    "n_coupling_blocks": [None, "2", NAN, INF, 0, -1, 2.0, [2]],
    "cross_conv_hidden_channels": [None, "32", NAN, INF, 0, -1, 32.0],
    "kernel_size": [None, "3", NAN, INF, 0, -1, 3.0],
    "clamp": [None, "3", NAN, INF, -INF, 0, -1, [3]],
    "whiten": [None, "yes", NAN, 1, 0],
    "n_epochs": [None, "all", NAN, INF, 0, -1, 1.5, [1]],
    "batch_size": [None, "8", NAN, INF, 0, -1, 8.0, [8]],
    "learning_rate": [None, "0.1", NAN, INF, 0, -1, 1j],
    "lr_schedule": [None, "cosine", "", NAN, 1],
    "weight_decay": [None, "0", NAN, INF, -1e-9, 1j],
    "max_grad_norm": ["1", NAN, INF, 0, -1, 1j],
    "feature_noise": [None, "0", NAN, INF, -0.1, 1j],
    "warm_start": [None, "yes", NAN, 1, 0],
    "random_state": ["0", NAN, 1.5, -1, 2**32, [0], np.random.default_rng(0)],
    "contamination": [None, "all", NAN, INF, 0, -0.1, 0.51, 1],
    "score_mode": [None, "max", "", NAN, 1],
    "map_mode": [None, "mean", "", NAN, 1],
    "checkpoint": [3, NAN, True, b"folder", ["folder"]],
    "distributed": [None, 2, "yes", NAN],
    "max_pixels": [0, -1, 1.5, NAN, INF, "many"],
    "memory": [3, NAN, True, b"folder", ["folder"]],
    "device": [None, 3, NAN, b"cpu"],
    "precision": [None, "float16", "", NAN, 32],
    "engine": [None, "onnx", "", NAN, 1],
    "n_jobs": ["1", NAN, INF, 0, 1.5],
    "verbose": [None, "yes", NAN, -1, 1.5],
}
"""By the validation that all of scikit-learn's estimators have; nothing may be computed before."""


def test_each_parameter_has_three_bad_values():
    assert set(BY_SCIKIT_LEARN) == set(CSFlowDetector().get_params())
    assert min(map(len, BY_SCIKIT_LEARN.values())) >= 3


@pytest.mark.parametrize(("name", "value"), [(k, v) for k, values in BY_SCIKIT_LEARN.items() for v in values])
def test_bad_parameter_is_refused_with_its_value(name, value):
    words = rf"^The '{name}' parameter of CSFlowDetector must be .* Got .* instead\.$"
    run(CSFlowDetector(**{**FAST, name: value}).fit, refused(InvalidParameterError, words), X)


def fit(**params):
    return lambda: CSFlowDetector(**{**FAST, **params}).fit(X)


SIZE = r"^{} must be an int or a pair of ints \(H, W\), each from {} to 16384, got "


@cases(
    ("input_size-three", fit(input_size=(64, 64, 64)), refused(ValueError, SIZE.format("input_size", 32))),
    ("input_size-floats", fit(input_size=(64.0, 64.0)), refused(ValueError, SIZE.format("input_size", 32))),
    ("input_size-NaNs", fit(input_size=(NAN, NAN)), refused(ValueError, SIZE.format("input_size", 32))),
    ("input_size-small", fit(input_size=(64, 31)), refused(ValueError, SIZE.format("input_size", 32), "64, 31")),
    ("input_size-empty", fit(input_size=[]), refused(ValueError, SIZE.format("input_size", 32), r"\[\]")),
    ("tile_size-pair", fit(tile_size=(7, 8)), refused(ValueError, SIZE.format("tile_size", 8), "7, 8")),
    ("tile_size-zero", fit(tile_size=(0, 8)), refused(ValueError, SIZE.format("tile_size", 8), "0, 8")),
    ("tile_size-texts", fit(tile_size=("a", "b")), refused(ValueError, SIZE.format("tile_size", 8))),
    ("image_shape-one", fit(image_shape=[64]), refused(ValueError, r"^image_shape must be None, .* got \[64\]")),
    ("image_shape-zero", fit(image_shape=(0, 8)), refused(ValueError, "^image_shape .* got .0, 8")),
    ("image_shape-NaN", fit(image_shape=(NAN, 8)), refused(ValueError, "^image_shape .* got .nan, 8")),
    ("value_range-one", fit(value_range=[1]), refused(ValueError, r"^value_range must be None or two .* got \[1\]")),
    ("value_range-NaN", fit(value_range=(0, NAN)), refused(ValueError, "^value_range .* got .0, nan")),
    ("value_range-infinite", fit(value_range=(0, INF)), refused(ValueError, "^value_range .* got .0, inf")),
    ("value_range-equal", fit(value_range=(5, 5)), refused(ValueError, "^value_range .* got .5, 5")),
    ("value_range-texts", fit(value_range=("a", "b")), refused(ValueError, "^value_range .* got .'a', 'b'")),
    ("backbone-unknown", fit(backbone="nonsense"),
     refused(ValueError, "^backbone must be the name of a timm model", "got 'nonsense'")),
    ("weights-missing", fit(weights="no/such.pth"),
     refused(FileNotFoundError, "^weights must be 'auto', None or the path of a file, .* none at 'no/such.pth'")),
    ("strides-empty", fit(strides=()), refused(ValueError, r"^strides must be integers, .* got \(\)")),
    ("strides-equal", fit(strides=(16, 16)), refused(ValueError, "^strides .* got .16, 16")),
    ("strides-floats", fit(strides=(16.0, 32.0)), refused(ValueError, "^strides .* got .16.0, 32.0")),
    ("strides-NaN", fit(strides=(NAN, NAN)), refused(ValueError, "^strides .* got .nan, nan")),
    ("hidden-for-three-of-two", fit(cross_conv_hidden_channels=(8, 8, 8)),
     refused(ValueError, "^cross_conv_hidden_channels must be an int .* of 2 strides, got .8, 8, 8")),
    ("kernel_size-even", fit(kernel_size=4), refused(ValueError, "^kernel_size must be odd, got 4")),
    ("kernel_size-for-two-of-one", fit(kernel_size=(3, 3)),
     refused(ValueError, "^kernel_size must be an int from 1 to 63, or one for each of 1 coupling blocks, got .3, 3")),
    ("device-unknown", fit(device="tpu!"),
     refused(ValueError, "^device must be 'auto' or a device of torch such as 'cpu' or 'cuda', got 'tpu!'")),
    ("roi-one", fit(roi=[64]), refused(ValueError, "^roi must be None, a box .* got .64")),
    ("roi-texts", fit(roi=("a", "b")), refused(ValueError, "^roi must be None, a box .* got .'a', 'b'")),
    ("roi-NaN", fit(roi=[[NAN, 1.0]]), refused(ValueError, "^roi contains NaN")),
    ("roi-backwards", fit(roi=(8, 8, 2, 2)), refused(ValueError, "^roi must be .*min_row < max_row", "8, 8, 2, 2")),
    ("roi-outside", fit(roi=(0, 0, 99, 99)),
     refused(ValueError, r"^roi=\(0, 0, 99, 99\) reaches beyond X\[0\], which has 32 x 32 pixels")),
    ("roi-empty-mask", fit(roi=np.zeros((32, 32))), refused(ValueError, "^roi is a mask without a pixel")),
    ("roi-other-size", fit(roi=np.eye(2)),
     refused(ValueError, r"^roi is a mask of 2 x 2 pixels, but X\[0\] has 32 x 32. Give a mask of the images' size")),
    ("roi-missing", fit(roi="no.png"), refused(ValueError, "^roi .'no.png'.: there is no such file")),
    ("learning_rate-huge", fit(learning_rate=1e30),
     refused(ValueError, "^Training diverged: .* Lower learning_rate=1e.30")),
    ("unknown-parameter", lambda: CSFlowDetector(epochs=3), refused(TypeError, "epochs")),
    ("unknown-in-set_params", lambda: CSFlowDetector().set_params(epochs=3),
     refused(ValueError, "Invalid parameter 'epochs' for estimator CSFlowDetector", "Valid parameters are")),
    ("positional", lambda: CSFlowDetector(256), refused(TypeError, "positional")),
)  # fmt: skip
def test_parameters_that_only_fit_can_refuse(call, outcome):
    run(call, outcome)


GOOD = {
    "input_size": [np.int64(32), np.array([32, 32]), [32, 32]],
    "tile_size": [np.array([32, 32])],
    "tile_overlap": [np.float32(0.25), 0],
    "keep_aspect": [np.True_],
    "n_coupling_blocks": [np.uint8(1)],
    "cross_conv_hidden_channels": [np.int32(8), np.array([8, 8])],
    "kernel_size": [np.int64(3), np.array([3])],
    "clamp": [np.float32(3), 3, True],
    "whiten": [np.bool_(True)],
    "n_epochs": [np.int64(1)],
    "batch_size": [np.int64(8), 10**9],
    "learning_rate": [np.float32(4e-3)],
    "weight_decay": [np.float16(0.0), 0],
    "max_grad_norm": [np.float64(1), 1e300, None],
    "feature_noise": [np.float32(0.1), 0],
    "random_state": [np.int64(0), np.random.RandomState(0), None, True],
    "contamination": [np.float32(0.1), 0.5],
    "n_jobs": [np.int64(1), -1, 10**9],
    "verbose": [np.False_, 0],
    "device": [torch.device("cpu")],
    "value_range": [(np.uint8(0), np.uint8(255)), np.array([0, 255]), [0.0, 255.0]],
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("name", "value"), [(k, v) for k, values in GOOD.items() for v in values])
def test_good_parameter_of_another_form_is_taken(name, value):
    scores = CSFlowDetector(**{**FAST, name: value}).fit(X).score_samples(X)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    "name", ["image_shape", "value_range", "on_error", "memory", "engine", "n_jobs", "verbose"]
)
def test_parameter_that_acts_after_fit_is_checked_then(calibrated, name):
    detector = CSFlowDetector()
    vars(detector).update(vars(calibrated))
    detector.set_params(**{name: BY_SCIKIT_LEARN[name][0]})
    words = rf"^The '{name}' parameter of CSFlowDetector must be .* Got .* instead\.$"
    for call in (detector.score_samples, detector.predict, detector.transform, detector.score):
        run(call, refused(InvalidParameterError, words), X)


@cases(
    ("detector-number", lambda: InspectionTable(3).fit(X),
     refused(InvalidParameterError, "'detector' parameter of InspectionTable must be .*'fit' and 'inspect'", "Got 3")),
    ("detector-text", lambda: InspectionTable("a.skops").fit(X),
     refused(InvalidParameterError, "'detector'", "Got 'a")),
    ("detector-class", lambda: InspectionTable(CSFlowDetector).fit(X),
     refused(TypeError, "provide an instance of scikit-learn estimator instead of a class")),
    ("detector-frozen-unfitted", lambda: InspectionTable(FrozenEstimator(CSFlowDetector())).fit(X),
     refused(NotFittedError, "This CSFlowDetector instance is not fitted yet")),
    ("unfitted", lambda: InspectionTable().transform(X), refused(NotFittedError, "InspectionTable .*not fitted yet")),
    ("min_area-0", lambda: InspectionTable(min_area=0).fit(X),
     refused(InvalidParameterError, "'min_area' parameter of InspectionTable", "Got 0 ")),
    ("min_area-NaN", lambda: InspectionTable(min_area=NAN).fit(X),
     refused(InvalidParameterError, "'min_area'", "Got nan ")),
    ("min_area-text", lambda: InspectionTable(min_area="1").fit(X),
     refused(InvalidParameterError, "'min_area'", "Got '1' ")),
)  # fmt: skip
def test_inspection_table(call, outcome):
    run(call, outcome)
