"""What is fuzzed: a property for each target, over anything that users might pass."""

import copy
import io
import os
import pickle
import resource
import signal
import warnings
from contextlib import contextmanager
from functools import cache, wraps
from numbers import Real

import numpy as np
from conftest import FAST
from hypothesis import assume, given
from hypothesis import strategies as st
from inputs import ANYTHING, FORMS, LABELS, VALUES, image_arrays, scratch
from mutations import damaged, image_files, model_files
from properties import PIXELS, detector, is_finite, outcome

from skcsflow import CSFlowDetector, find_regions, load
from skcsflow.calibration import conformal_p_values, conformal_threshold, optimal_threshold, prediction_limit
from skcsflow.datasets import read_mask
from skcsflow.metrics import aupimo_score, f1_max, pixel_f1_max, pixel_roc_auc_score, pro_auc_score, pro_score
from skcsflow.model_selection import OneClassKFold
from skcsflow.monitoring import DriftMonitor, discoveries

TARGETS = {}
"""By name: makes a test of hypothesis, which calls `note` before each case."""

SECONDS = 60
"""For what takes longer: it hangs."""


def target(**strategies):
    """Register a property over what these strategies give."""

    def register(check):
        def test(note=lambda: None):
            @wraps(check)
            def noted(**drawn):
                note()
                check(**drawn)

            return given(**strategies)(noted)

        TARGETS[check.__name__] = test
        return check

    return register


@contextmanager
def no_hang():
    def end(*_):
        raise AssertionError(f"It took more than {SECONDS} s.")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# Images whose scores are known: those of each image alone, as a contiguous array


@target(images=image_arrays(), form=st.sampled_from(sorted(FORMS)))
def images(images, form):
    """In whatever form, order and company images come, each has the bits that it has alone."""
    formed = FORMS[form](images)
    assume(formed is not None)
    with no_hang(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = outcome(lambda: detector().score_samples(formed), "X")
        if scores is None:
            return
        channels = images if images.ndim == 4 else images[..., None]
        alone = [detector().score_samples(image[None].copy()) for image in channels]
    assert scores.dtype == np.float64
    assert is_finite(scores)
    np.testing.assert_array_equal(scores, np.concatenate(alone))


METHODS = {
    "score_samples": lambda d, X: d.score_samples(X),
    "decision_function": lambda d, X: d.decision_function(X),
    "predict": lambda d, X: d.predict(X),
    "transform": lambda d, X: d.transform(X),
    "iter_maps": lambda d, X: [m.sum() for m in d.iter_maps(X)],
    "predict_masks": lambda d, X: d.predict_masks(X),
    "p_values": lambda d, X: d.p_values(X),
    "score": lambda d, X: d.score(X),
    "inspect": lambda d, X: [found.score for found in d.inspect(X)],
    "fit": lambda d, X: CSFlowDetector(**FAST).fit(X).offset_,
    "calibrate": lambda d, X: copy.copy(d).calibrate(X, fpr=0.5).offset_,
}


@target(X=ANYTHING, method=st.sampled_from(sorted(METHODS)))
def anything(X, method):
    """Whatever is passed as images: an error that names X, or finite results."""
    with no_hang():
        result = outcome(lambda: METHODS[method](detector(), X), "X", "fpr")
    assert result is None or is_finite(result)


# Labels


@target(y=LABELS)
def labels(y):
    """What is read as labels means the same everywhere; all else is refused by name."""
    n = len(y) if hasattr(y, "__len__") and getattr(y, "ndim", 1) else 2
    rows = np.zeros((max(n, 1), 1))
    scores = np.arange(len(rows), dtype=float)
    with no_hang():
        threshold = outcome(lambda: optimal_threshold(y, scores, recall=1), "y ", "y,")
        f1 = outcome(lambda: f1_max(y, scores), "y_true")
        folds = outcome(
            lambda: list(OneClassKFold(2, shuffle=True, random_state=0).split(rows, y)), "y ", "y,"
        )
        likelihood = outcome(lambda: detector().score(PIXELS[:n], y), "y ", "y,", "X")
    if threshold is not None:
        assert is_finite(threshold)
        assert f1 is None or 0 <= f1 <= 1
        if (
            folds is not None
        ):  # no split trains on a defect, and the threshold is just above the last one's score
            defects = set(range(len(rows))) - {k for train, _ in folds for k in train}
            assert max(defects) + 1 == np.sum(scores < threshold)
    if likelihood is not None:
        assert is_finite(likelihood)


# Parameters

PARAMETERS = sorted(
    set(CSFlowDetector().get_params()) - {"memory", "checkpoint", "verbose"}
)  # folders, and output
COSTLY = {
    "n_epochs": 3,
    "n_coupling_blocks": 3,
    "cross_conv_hidden_channels": 64,
    "input_size": 128,
    "num_channels": 5,
}
"""What a number may be at most, so that a case takes less than seconds."""


@target(params=st.dictionaries(st.sampled_from(PARAMETERS), VALUES, min_size=1, max_size=3))
def parameters(params):
    """Whatever parameters are: an error that names one, or finite scores."""
    for name, value in params.items():
        numbers = [v for v in np.ravel(np.array(value, dtype=object)) if isinstance(v, Real) and v == v]
        assume(name not in COSTLY or max(numbers, default=0) <= COSTLY[name])
    with no_hang():
        fitted = outcome(lambda: CSFlowDetector(**{**FAST, **params}).fit(PIXELS), *params)
        scores = None if fitted is None else outcome(lambda: fitted.score_samples(PIXELS), *params)
    assert scores is None or is_finite(scores)


# Numbers

MASKS = np.zeros((3, 4, 4), bool)
MASKS[1:, 1:3, 1:3] = True
MAPS = MASKS + np.linspace(0, 1, 16).reshape(4, 4)
SCORES = [1.0, 2.0, 3.0]
NUMBERS = {
    "conformal_threshold": lambda v: conformal_threshold(v, 0.5),
    "fpr": lambda v: conformal_threshold(SCORES, v),
    "prediction_limit": lambda v: prediction_limit(v, 0.5),
    "conformal_p_values": lambda v: conformal_p_values(v, SCORES),
    "calibration_scores": lambda v: conformal_p_values(SCORES, v),
    "optimal_threshold": lambda v: optimal_threshold([1, -1, -1], v, criterion="f1"),
    "recall": lambda v: optimal_threshold([1, -1, -1], SCORES, recall=v),
    "criterion": lambda v: optimal_threshold([1, -1, -1], SCORES, criterion=v),
    "discoveries": discoveries,
    "fdr": lambda v: discoveries([0.1, 0.2], v),
    "DriftMonitor": lambda v: DriftMonitor(v, random_state=0).update(SCORES).p_values_,
    "random_state": lambda v: DriftMonitor(SCORES, random_state=v).update(SCORES).p_values_,
    "update": lambda v: DriftMonitor(SCORES, random_state=0).update(v).p_values_,
    "f1_max": lambda v: f1_max([1, -1, -1], v),
    "pixel_roc_auc_score": lambda v: pixel_roc_auc_score(MASKS, v),
    "masks": lambda v: pixel_roc_auc_score(v, MAPS),
    "sample_weight": lambda v: pixel_f1_max(MASKS, MAPS, sample_weight=v),
    "n_bins": lambda v: pixel_f1_max(MASKS, MAPS, n_bins=v),
    "pro_auc_score": lambda v: pro_auc_score(MASKS, v),
    "max_fpr": lambda v: pro_auc_score(MASKS, MAPS, max_fpr=v),
    "pro_score": lambda v: pro_score(MASKS, v),
    "aupimo_score": lambda v: aupimo_score(MASKS, v, fpr_bounds=(0.1, 0.9)),
    "fpr_bounds": lambda v: aupimo_score(MASKS, MAPS, fpr_bounds=v),
    "find_regions": lambda v: [region.area for region in find_regions(v, 0.5)],
    "threshold": lambda v: [region.area for region in find_regions(MAPS[0], v)],
    "min_area": lambda v: [region.area for region in find_regions(MAPS[0], 0.5, min_area=v)],
    "level": lambda v: [region.area for region in find_regions(MAPS[0], 0.5, level=v)],
    "n_splits": lambda v: OneClassKFold(v).get_n_splits(),
    "normal_label": lambda v: len(list(OneClassKFold(2, normal_label=v).split(np.zeros((3, 1)), [1, 1, -1]))),
}
MAY_BE_NAN = ("masks", "sample_weight", "pixel_roc_auc_score")
"""With a warning: where a kind of pixels is missing, or has no weight."""

NAMES = {
    "conformal_threshold": "scores",
    "prediction_limit": "scores",
    "conformal_p_values": "scores",
    "optimal_threshold": "scores",
    "discoveries": "p_values",
    "DriftMonitor": "calibration_scores",
    "update": "scores",
    "f1_max": "y_score",
    "pixel_roc_auc_score": "maps",
    "pro_auc_score": "maps",
    "pro_score": "predicted_masks",
    "aupimo_score": "maps",
    "find_regions": "anomaly_map",
}
ALSO = {
    "aupimo_score": ["fpr_bounds"],
    "masks": ["mask"],
    "normal_label": ["y", "n_splits"],
    "recall": ["criterion"],
}


@target(value=ANYTHING, function=st.sampled_from(sorted(NUMBERS)))
def numbers(value, function):
    """Whatever is passed to functions of numbers: an error that names it, or a finite result."""
    with no_hang():
        names = [NAMES.get(function, function), *ALSO.get(function, [])]
        result = outcome(lambda: NUMBERS[function](value), *names)
    assert result is None or function in MAY_BE_NAN or is_finite(result)


# Image files


@target(file=st.deferred(lambda: damaged(image_files)))
def files(file):
    """A damaged image file: an error that names it, or one finite score, whatever way it is passed."""
    name, content = file.name, file.content(image_files)
    path = scratch() / f"damaged.{name}"
    path.write_bytes(content)
    with no_hang():
        scores = outcome(lambda: detector().score_samples([str(path)]), "X[0]")
        with_nan = copy.copy(detector()).set_params(on_error="nan")
        beside = outcome(lambda: with_nan.score_samples([str(path), whole_file()]))
        assert beside[1] == known_score()
        assert np.isnan(beside[0]) == (scores is None)
        if scores is not None:
            assert is_finite(scores)
            assert beside[0] == scores[0]
            if name.endswith("npy") == content.startswith(b"\x93NUMPY"):
                assert np.array_equal(scores, outcome(lambda: detector().score_samples([content])))
                assert np.array_equal(
                    scores, outcome(lambda: detector().score_samples([io.BytesIO(content)]))
                )
        mask = outcome(lambda: read_mask(path), str(path))
        assert mask is None or mask.dtype == bool


@cache
def whole_file():
    path = scratch() / "whole.png"
    path.write_bytes(image_files()["grey.png"])
    return str(path)


@cache
def known_score():
    return detector().score_samples([whole_file()])[0]


# Files of models, in a process of their own: damaged pickles may do anything


def in_child(call):
    """What a call gives, as bytes, in a forked process with limits."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(source)
            size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115
            resource.setrlimit(resource.RLIMIT_AS, (size + 2**32, size + 2**32))
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(SECONDS)
            with open(os.devnull, "w") as null:
                for stream in (1, 2):
                    os.dup2(null.fileno(), stream)
            os.write(sink, pickle.dumps(call()))
        except BaseException as error:
            os.write(sink, pickle.dumps(AssertionError(f"{type(error).__name__}: {error}"[:2000])))
        finally:
            os._exit(0)
    os.close(sink)
    with os.fdopen(source, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert os.WIFEXITED(status), f"ended by signal {os.WTERMSIG(status)}"
    result = pickle.loads(content)
    if isinstance(result, AssertionError):
        raise result
    return result


@target(file=st.deferred(lambda: damaged(model_files)))
def models(file):
    """A damaged file of a detector: an error that names it, or the very detector."""
    ending, content = file.name, file.content(model_files)
    path = scratch() / f"damaged.{ending}"
    path.write_bytes(content)

    def score():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                loaded = load(path)
            except (ValueError, OSError) as caught:
                error = caught
            else:
                return loaded.score_samples(PIXELS[:2]), loaded.predict(PIXELS[:2]), loaded.get_params()
        assert str(path) in str(error), error
        return None

    found = in_child(score)
    if found is not None:
        scores, labels, params = found
        np.testing.assert_array_equal(scores, detector().score_samples(PIXELS[:2]))
        np.testing.assert_array_equal(labels, detector().predict(PIXELS[:2]))
        assert params == detector().get_params()


# The service

KINDS = ["image/png", "application/octet-stream", "multipart/form-data"]


@target(file=st.deferred(lambda: damaged(image_files)), kind=st.sampled_from(KINDS))
def service(file, kind):
    """A damaged upload: a refusal in one sentence, or the detector's bits."""
    content = file.content(image_files)
    options = {"content": content, "headers": {"Content-Type": kind}}
    if kind.startswith("multipart"):
        options = {"files": {"image": ("a.png", content, "image/png")}}
    with no_hang(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = client().post("/inspect/a", **options)
    assert answer.status_code in (200, 400, 413), answer.text
    if answer.status_code == 200:
        assert answer.json()["score"] == outcome(lambda: detector().score_samples([content]))[0]
    else:
        assert answer.json()["detail"].strip()


@cache
def client():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fastapi.testclient import TestClient

        from skcsflow.serving import create_app

        return TestClient(create_app({"a": detector()}, max_pixels=2**22)).__enter__()
