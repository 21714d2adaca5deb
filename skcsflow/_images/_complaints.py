"""What Pillow and libtiff say against a file while they read it. They don't name the file.

Python's filters of warnings and libtiff's error handler are one for all threads of a process. What is put there asks
whether the thread that it is called in is reading, and lets everything else pass.
"""

import atexit
import ctypes
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, cast

from PIL import Image

__all__ = ["complaints_noted"]

_MOST = 3
"""Complaints that are kept of a file: libtiff has one for each row of pixels."""

_HARMLESS = (
    "Image size (",  # of many pixels, below Pillow's own limit; the one that counts here is max_pixels
    "Palette images with Transparency",  # alpha is dropped all the same
)
_WARN_OF_FILES = ("PIL.Image", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "PIL.TiffImagePlugin")

_LIBTIFF_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)


class _Reading(threading.local):
    """What this thread reads."""

    complaints: list[str] | None = None
    text = ""


_reading = _Reading()


@contextmanager
def complaints_noted() -> Iterator[list[str]]:
    """Note complaints about what this thread reads meanwhile, in a list."""
    before, _reading.complaints = _reading.complaints, []
    _hear_libtiff()
    for name in _WARN_OF_FILES:
        if name in sys.modules:  # what Python has shown once would not be heard again
            vars(sys.modules[name]).pop("__warningregistry__", None)
    # Not by catch_warnings: other threads may use it, and what was set meanwhile would stay, or be undone.
    filters = cast("list[Any]", warnings.filters)
    filters.insert(0, _FILTER)
    try:
        yield _reading.complaints
    finally:
        with suppress(ValueError):
            filters.remove(_FILTER)  # one of them: there is one for each thread that reads
        _reading.complaints = before


def _note(complaint: str) -> None:
    complaint = " ".join(complaint.split())
    complaints = _reading.complaints
    if complaints is not None and complaint not in complaints and len(complaints) < _MOST:
        complaints.append(complaint)


class _Matcher:
    """Stands in a filter of warnings where a regular expression is expected."""

    def __init__(self, match: Callable[[str], bool]) -> None:
        self.match = match

    def __reduce__(self) -> tuple[Any, ...]:
        # scikit-learn sends the filters to other processes: there, one that matches nothing.
        return re.compile, ("(?!)",)


def _keep_text(text: str) -> bool:
    _reading.text = text
    return _reading.complaints is not None


def _note_if_pillow_says_so(module: str) -> bool:
    is_heard = _reading.complaints is not None and module.startswith("PIL.")
    if is_heard and not _reading.text.startswith(_HARMLESS):
        _note(_reading.text)
    return is_heard


_FILTER = ("ignore", _Matcher(_keep_text), Warning, _Matcher(_note_if_pillow_says_so), 0)
"""Python asks about a warning's text, then about its module."""


@cache
def _hear_libtiff() -> None:
    """Put an error handler into the libtiff that Pillow reads by, once for all."""
    try:
        set_handler = ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler
        write = ctypes.CDLL(None).vsnprintf
    except (AttributeError, OSError, TypeError):  # out of reach, as on Windows
        return
    set_handler.restype, set_handler.argtypes = _LIBTIFF_HANDLER, [_LIBTIFF_HANDLER]
    write.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p]

    def print_or_note(module: bytes | None, text: bytes, arguments: int) -> None:
        if _reading.complaints is None:
            if previous:
                previous(module, text, arguments)
            return
        line = ctypes.create_string_buffer(300)
        write(line, len(line), text, arguments)
        said = line.value.decode(errors="replace")
        # Where there is no module, libtiff gives the name that Pillow makes up for all files.
        _note(f"libtiff: {said}" if module in (None, b"tempfile.tif") else f"{module.decode()}: {said}")

    own = _LIBTIFF_HANDLER(print_or_note)
    previous = set_handler(own)
    atexit.register(lambda: (set_handler(previous), own))
