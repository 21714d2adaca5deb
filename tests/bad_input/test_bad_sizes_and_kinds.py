"""Sizes that no computer could follow, kinds of tensors and files that are no images, and paths that are none."""

import os

import numpy as np
import pytest
import torch
from conftest import FAST
from outcomes import cases, gives, refused, run
from PIL import Image

from skcsflow import CSFlowDetector
from skcsflow.datasets import list_images, load_image_folder, make_defects, read_mask

NAN = float("nan")
NESTED = torch.nested.nested_tensor([torch.zeros(3, 8, 8)], layout=torch.jagged)
X = np.random.RandomState(0).randint(100, 140, (10, 32, 32)).astype(np.uint8)
ERRORS = (ValueError, TypeError)


class Named:
    """A ValueError or TypeError whose message has a pattern."""

    def __init__(self, words):
        self.words = words

    def check(self, call):
        with pytest.raises(ERRORS, match=self.words):
            call()


def fit(**params):
    return lambda: CSFlowDetector(**{**FAST, **params}).fit(X)


@cases(
    ("batch_size-huge", fit(batch_size=10**30), Named("batch_size")),
    ("hidden-huge", fit(cross_conv_hidden_channels=10**10), Named("cross_conv_hidden_channels")),
    ("hidden-no-int64", fit(cross_conv_hidden_channels=10**30), Named("cross_conv_hidden_channels")),
    ("hidden-texts", fit(cross_conv_hidden_channels=("a", "b", "c")), Named("cross_conv_hidden_channels")),
    ("hidden-NaN", fit(cross_conv_hidden_channels=(NAN,) * 3), Named("cross_conv_hidden_channels")),
    ("hidden-floats", fit(cross_conv_hidden_channels=(8.5, 8, 8)), Named("cross_conv_hidden_channels")),
    ("hidden-matrix", fit(cross_conv_hidden_channels=np.eye(2)), Named("cross_conv_hidden_channels")),
    ("hidden-scalar-array", fit(cross_conv_hidden_channels=np.array(64)), Named("cross_conv_hidden_channels")),
    ("hidden-scalar-tensor", fit(cross_conv_hidden_channels=torch.tensor(64)), Named("cross_conv_hidden_channels")),
    ("hidden-empty", fit(cross_conv_hidden_channels=[]), Named("cross_conv_hidden_channels.*one")),
    ("kernel_size-scalar-array", fit(kernel_size=np.array(4)), Named("kernel_size")),
    ("kernel_size-huge", fit(kernel_size=10**9 + 1), Named("kernel_size")),
    ("strides-scalar-array", fit(strides=np.array(8)), Named("strides")),
    ("image_shape-scalar-array", fit(image_shape=np.array(64)), Named("image_shape")),
    ("value_range-scalar-tensor", fit(value_range=torch.tensor(64)), Named("value_range")),
    ("input_size-huge", fit(input_size=10**9), Named("input_size")),
    ("input_size-no-int64", fit(input_size=10**30), Named("input_size")),
    ("tile_size-no-int64", fit(tile_size=10**30), Named("tile_size")),
    ("num_channels-huge", fit(num_channels=10**7), Named("num_channels")),
    ("n_coupling_blocks-huge", fit(n_coupling_blocks=10**30), Named("n_coupling_blocks")),
    ("clamp-huge", fit(clamp=1e300), Named("clamp")),
    ("feature_noise-huge", fit(feature_noise=1e10), Named("feature_noise")),
    ("weight_decay-huge", fit(weight_decay=1e300), Named("weight_decay")),
    ("memory-null", fit(memory="a\0b"), Named("memory")),
    ("roi-null", fit(roi="a\0b"), Named("roi")),
    ("root-None", lambda: load_image_folder(None), Named("root")),
    ("root-list", lambda: load_image_folder(["a"]), Named("root")),
    ("category-number", lambda: load_image_folder(".", category=3), Named("category")),
    ("category-above", lambda: load_image_folder(".", category="../x"), Named("category")),
    ("list_images-None", lambda: list_images(None), Named("folder")),
    ("read_mask-number", lambda: read_mask(3), Named("path")),
    ("read_mask-bytes", lambda: read_mask(b"x"), Named("path")),
    ("read_mask-huge", lambda: read_mask(None, (10**9, 10**9)), Named("shape")),
    ("make_defects-large", lambda: make_defects(1, 0, size=10**10), Named("size")),
)  # fmt: skip
def test_parameters(call, outcome):
    run(call, outcome)


@cases(
    ("meta", lambda d: d.score_samples(torch.empty(2, 3, 8, 8, device="meta")), Named("X")),
    ("sparse", lambda d: d.score_samples(torch.zeros(2, 3, 8, 8).to_sparse()), Named("X")),
    ("float8", lambda d: d.score_samples(torch.zeros(2, 3, 8, 8).to(torch.float8_e4m3fn)), Named("X")),
    ("nested", lambda d: d.score_samples(NESTED), Named("X")),
    ("masked-number", lambda d: d.score_samples([np.ma.masked_array(3, True)]), Named(r"X\[0\].*masked")),
    ("metas", lambda d: d.score_samples([torch.empty(3, 8, 8, device="meta")]), Named(r"X\[0\]")),
    ("sparses", lambda d: d.score_samples([torch.zeros(3, 8, 8).to_sparse()]), Named(r"X\[0\]")),
    ("LAB", lambda d: d.score_samples([Image.new("LAB", (8, 8))]), gives(lambda s: np.isfinite(s).all())),
    ("path-null", lambda d: d.score_samples(["a\0b.png"]), Named(r"X\[0\].*NUL")),
    ("calibrate-None", lambda d: d.calibrate(None), refused(TypeError, "^X must be")),
    ("calibrate-number", lambda d: d.calibrate(3), refused(TypeError, "^X must be")),
    ("calibrate-generator", lambda d: d.calibrate(iter(X)), refused(TypeError, "^X is a|^X must be")),
    ("cv-1", lambda d: d.calibrate(X, fpr=0.3, cv=1), Named("cv")),
    ("cv-text", lambda d: d.calibrate(X, fpr=0.3, cv="3"), Named("cv")),
    ("cv-too-many", lambda d: d.calibrate(X, fpr=0.3, cv=100), Named("cv")),
    ("cv-numbers", lambda d: d.calibrate(X, fpr=0.3, cv=[1, 2]), Named("cv")),
    ("save_maps-None", lambda d: d.save_maps(X, None), Named("path")),
    ("save_maps-null", lambda d: d.save_maps(X, "a\0b.npy"), Named("path")),
)  # fmt: skip
def test_methods(fitted_copy, call, outcome):
    run(call, outcome, fitted_copy)


@pytest.mark.filterwarnings("ignore:.*Their scores and maps are NaN:UserWarning")
def test_complex_file_is_nan_where_that_is_asked_for(fitted_copy, tmp_path):
    np.save(tmp_path / "complex.npy", X[0] + 0j)
    assert np.isnan(
        fitted_copy.set_params(on_error="nan").score_samples([str(tmp_path / "complex.npy")])
    ).all()


@pytest.mark.parametrize("name", ["/dev/zero", "pipe.png"])
def test_special_files_do_not_hang(fitted_copy, tmp_path, name):
    path = tmp_path / name
    if not path.exists():
        os.mkfifo(path)
    run(fitted_copy.score_samples, Named(r"X\[0\]"), [str(path)])
