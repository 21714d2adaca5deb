"""What Pillow and libtiff say against a file while they read it. They don't name the file.

Python's warnings and libtiff's error handler are one for all threads of a process. While images are read, both are
replaced by functions that note what comes from a thread that is reading, and pass on all else.
"""

import ctypes
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import Any, cast

from PIL import Image

__all__ = ["complaints_heard", "complaints_noted"]

_MOST = 3
"""Complaints that are kept of a file: libtiff has one for each row of pixels."""

_WARN_OF_FILES = ("PIL.Image", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "PIL.TiffImagePlugin")

_LIBTIFF_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)


class _Reading(threading.local):
    complaints: list[str] | None = None


_reading = _Reading()
_lock = threading.Lock()
_hearing = ExitStack()
_n_hearing = 0


@contextmanager
def complaints_heard() -> Iterator[None]:
    """Replace the functions that complaints go to, for as long as any thread asks for it.

    Around a whole call this is done once, and not for each file.
    """
    global _n_hearing
    with _lock:
        if _n_hearing == 0:
            _hear_warnings(_hearing)
            if (libtiff := _libtiff()) is not None:
                libtiff.replace()
                _hearing.callback(libtiff.restore)
        _n_hearing += 1
    try:
        yield
    finally:
        with _lock:
            _n_hearing -= 1
            if _n_hearing == 0:
                _hearing.close()


@contextmanager
def complaints_noted() -> Iterator[list[str]]:
    """Note complaints about what this thread reads meanwhile, in a list."""
    with complaints_heard():
        before, _reading.complaints = _reading.complaints, []
        try:
            yield _reading.complaints
        finally:
            _reading.complaints = before


def _note(complaint: str) -> bool:
    """Note a complaint, if this thread is reading."""
    complaints = _reading.complaints
    if complaints is not None and complaint not in complaints and len(complaints) < _MOST:
        complaints.append(complaint)
    return complaints is not None


def _hear_warnings(hearing: ExitStack) -> None:
    show = warnings.showwarning

    def show_or_note(message: Any, category: type[Warning], *where: Any, **line: Any) -> None:
        # Of many pixels Pillow warns below its own limit, and max_pixels is ours.
        if issubclass(category, Image.DecompressionBombWarning) and _reading.complaints is not None:
            return
        if not _note(" ".join(str(message).split())):
            show(message, category, *where, **line)

    # Not by catch_warnings and filterwarnings: Python would forget which warnings it has shown, of all modules, and
    # at the end undo what other threads have set meanwhile.
    filters = cast("list[Any]", warnings.filters)
    always = ("always", None, Warning, re.compile(r"PIL\."), 0)
    filters.insert(0, always)
    for name in _WARN_OF_FILES:
        if name in sys.modules:  # what was shown before would not be heard again
            vars(sys.modules[name]).pop("__warningregistry__", None)
    warnings.showwarning = show_or_note

    def end() -> None:
        with suppress(ValueError):
            filters.remove(always)
        if warnings.showwarning is show_or_note:
            warnings.showwarning = show

    hearing.callback(end)


class _Libtiff:
    """The error handler of the libtiff that Pillow reads by.

    Its functions live as long as the process: another thread may still be in one when it is replaced.
    """

    def __init__(self) -> None:
        self._set = ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler
        self._set.restype, self._set.argtypes = _LIBTIFF_HANDLER, [_LIBTIFF_HANDLER]
        self._format = ctypes.CDLL(None).vsnprintf
        self._format.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p]
        self._own = _LIBTIFF_HANDLER(self._print_or_note)
        self._previous: Any = None

    def replace(self) -> None:
        self._previous = self._set(self._own)

    def restore(self) -> None:
        self._set(self._previous)

    def _print_or_note(self, module: bytes | None, text: bytes, arguments: int) -> None:
        if _reading.complaints is not None:
            line = ctypes.create_string_buffer(300)
            self._format(line, len(line), text, arguments)
            _note(f"{(module or b'libtiff').decode()}: {line.value.decode(errors='replace')}")
        elif self._previous:
            self._previous(module, text, arguments)


@cache
def _libtiff() -> _Libtiff | None:
    try:
        return _Libtiff()
    except (AttributeError, OSError, TypeError):  # it is out of reach, as on Windows
        return None
