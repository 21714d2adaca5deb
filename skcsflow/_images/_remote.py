"""Images that a URL names: in object stores, archives and on servers, by fsspec."""

import re
import threading
from pathlib import PurePosixPath
from typing import Any, TypeGuard

__all__ = ["find_urls", "is_url", "read_url"]

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+://")
"""Two letters at least: a drive of Windows has one."""

_READING_ARCHIVE = threading.Lock()
"""Members of an archive are read from one open file."""


def is_url(path: Any) -> TypeGuard[str]:
    """Whether a path is a URL, such as ``"s3://bucket/part.png"`` or ``"zip://part.png::parts.zip"``."""
    return isinstance(path, str) and _URL.match(path) is not None


def read_url(url: str) -> bytes:
    """Read what a URL names.

    Raises
    ------
    ImportError
        Where fsspec, or what it needs for this kind of URL, is missing.
    OSError
        Where there is no such file, or it can't be read.
    """
    system, path = _open(url)
    if "::" in url:
        with _READING_ARCHIVE:
            content: bytes = system.cat_file(path)
    else:
        content = system.cat_file(path)
    return content


def find_urls(url: str, extensions: frozenset[str], *, recursive: bool) -> list[str]:
    """URLs of the files below a URL that have one of some extensions, sorted.

    Raises
    ------
    ImportError, OSError
        As :func:`read_url`.
    """
    system, path = _open(url)
    _, _, archive = url.partition("::")
    found = []
    for name in system.find(path, maxdepth=None if recursive else 1):
        parts = name.removeprefix(path).strip("/").split("/")
        is_hidden = any(part.startswith(".") for part in parts)
        if PurePosixPath(name).suffix.lower() in extensions and not is_hidden:
            protocol = url.partition("://")[0]
            found.append(
                f"{protocol}://{name.lstrip('/')}::{archive}" if archive else system.unstrip_protocol(name)
            )
    return sorted(found)


def _open(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise ImportError(f'{url!r} is a URL, which takes fsspec: pip install "skcsflow[remote]".') from error
    try:
        system, path = url_to_fs(url)
    except ImportError as error:  # of the package for this kind of store
        raise ImportError(f"{url!r} can't be opened: {error}") from error
    except ValueError as error:
        raise OSError(f"{url!r} can't be opened: {error}") from error
    return system, path
