"""What must hold whatever is passed: an error with our words, or a right result."""

import traceback
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import sklearn
from conftest import FAST

import skcsflow
from skcsflow import CSFlowDetector

OURS = (str(Path(skcsflow.__file__).parent), str(Path(sklearn.__file__).parent / "utils"))
"""Where words are ours: this package, and scikit-learn's validation of parameters and tables."""

DOCUMENTED = (ValueError, TypeError, FileNotFoundError, IsADirectoryError)

PIXELS = np.random.RandomState(0).randint(90, 160, (12, 24, 20)).astype(np.uint8)


@cache
def detector():
    """A small detector, fitted and calibrated once in a process; nothing may change it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CSFlowDetector(**FAST).fit(PIXELS[:10]).calibrate(PIXELS, fpr=0.2)


def outcome(call, *names):
    """The result of a call, or None after an error that is documented, has our words and one of these names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except DOCUMENTED as caught:
            error = caught
    file, message = traceback.extract_tb(error.__traceback__)[-1].filename, str(error)
    assert message, type(error)
    assert file.startswith(OURS), f"{type(error).__name__} of {file}: {message}"
    # scikit-learn's own estimators don't name X either.
    is_named = not names or any(name in message for name in names)
    assert is_named or not file.startswith(OURS[0]), f"{type(error).__name__} without {names}: {message}"
    return None


def is_finite(result):
    return bool(np.isfinite(np.asarray(result, dtype=float)).all())
