"""Cases of bad input, and what each must end in: an exact error, an exact result, or an exact warning."""

import io
import re
import signal
import warnings
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

SECONDS = 20
"""A case that takes longer hangs."""


class Refused(NamedTuple):
    """An error of exactly this type, whose message has all of these patterns, in this order."""

    kind: type[Exception]
    words: tuple[str, ...]

    def check(self, call):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(self.kind) as caught:
                call()
        assert type(caught.value) is self.kind
        message = " ".join(str(caught.value).split())
        assert re.search(".*".join(self.words), message), message


class Given(NamedTuple):
    """A result: equal, of the same type and shape; or one of which the function is true. No warning."""

    value: Any

    def check(self, call):
        compare(call(), self.value)


class Warned(NamedTuple):
    """A warning of exactly this type and with this pattern, none beside it, and a result."""

    kind: type[Warning]
    words: str
    value: Any

    def check(self, call):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = call()
        assert [w.category for w in caught] == [self.kind], [str(w.message) for w in caught]
        message = " ".join(str(caught[0].message).split())
        assert re.search(self.words, message), message
        compare(result, self.value)


def compare(result, expected):
    if callable(expected):
        assert expected(result), result
        return
    assert type(result) is type(expected), result
    if isinstance(expected, np.ndarray):
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)
    else:
        assert result == expected


def refused(kind, *words):
    return Refused(kind, words)


def gives(value):
    return Given(value)


def warns(kind, words, value):
    return Warned(kind, words, value)


def cases(*rows):
    """Cases for `pytest.mark.parametrize`: the name, the call and its outcome; and marks, where there are any."""
    names = [row[0] for row in rows]
    assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)
    params = [pytest.param(call, outcome, id=name, marks=marks) for name, call, outcome, *marks in rows]
    return pytest.mark.parametrize(("call", "outcome"), params)


@contextmanager
def no_hang():
    """An error in place of a case that takes too long; on systems that have the signal."""

    def end(*_):
        raise AssertionError(f"It took more than {SECONDS} s.")

    before = signal.signal(signal.SIGALRM, end) if hasattr(signal, "SIGALRM") else None
    if before is not None:
        signal.alarm(SECONDS)
    try:
        yield
    finally:
        if before is not None:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)


def png(array):
    """The content of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def run(call, outcome, *args):
    """Run a case."""
    with no_hang():
        outcome.check(lambda: call(*args))
