"""Images that a URL names: in object stores, archives and on servers, by fsspec."""

import re
import threading
from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from pathlib import PurePosixPath
from typing import Any, TypeGuard

__all__ = ["find_urls", "is_url", "read_url"]

_PROTOCOL = re.compile(r"(?:^|(?<=::))[A-Za-z][A-Za-z0-9+.-]+(?=://|::)")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+://")
"""Two letters at least: a drive of Windows has one."""

_OPENED: OrderedDict[tuple[str, str, str], tuple[Any, threading.Lock]] = OrderedDict()
"""Archives that were read last, and their locks. To open one is to read its index, and it is read at one place only."""

_MOST_OPENED = 8
_OPENING = threading.Lock()


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
    system, path, lock = _open(url)
    with lock:
        content: bytes = system.cat_file(path)
    return content


def find_urls(url: str, name: str, extensions: frozenset[str], *, recursive: bool) -> list[str]:
    """URLs of the files below a URL, which messages call `name`, that have one of some extensions, sorted.

    Raises
    ------
    FileNotFoundError
        Where there is nothing below the URL.
    ValueError
        Where it is a file's.
    ImportError, OSError
        As :func:`read_url`.
    """
    system, path, lock = _open(url)
    with lock:
        names = system.find(path, maxdepth=None if recursive else 1)
        is_there = names or not path.strip("/") or system.isdir(path)
    if names == [path]:
        raise ValueError(f"{name}={url!r} is a file. Pass a folder, or a list of files: [{name}].")
    if not is_there:
        raise FileNotFoundError(f"There is no folder {name}={url!r}.")
    pieces = url.split("::")
    place = next(i for i, piece in enumerate(pieces) if "://" in piece)  # before it stand caches
    found = []
    for file in names:
        below = file.removeprefix(path).lstrip("/")
        is_hidden = any(part.startswith(".") for part in below.split("/") if part != ".")
        if PurePosixPath(file).suffix.lower() in extensions and not is_hidden:
            folder = pieces[place] if pieces[place].endswith("://") else f"{pieces[place].rstrip('/')}/"
            found.append("::".join([*pieces[:place], f"{folder}{below}", *pieces[place + 1 :]]))
    return sorted(found)


def _open(url: str) -> tuple[Any, str, AbstractContextManager[Any]]:
    """What reads a URL, the path there, and what to hold meanwhile."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise ImportError(f'{url!r} is a URL, which takes fsspec: pip install "skcsflow[remote]".') from error
    member, _, archive = _PROTOCOL.sub(lambda match: match[0].lower(), url).partition("::")
    protocol, _, path = member.partition("://")
    try:
        if not archive or "://" not in member:  # which is the name of a cache
            system, path = url_to_fs(f"{member}::{archive}" if archive else member)
            return system, path, nullcontext()
        below, archive_path = url_to_fs(archive)
        key = protocol, archive, below.ukey(archive_path)  # another one once the archive has changed
        with _OPENING:
            if key not in _OPENED:
                _OPENED[key] = url_to_fs(f"{protocol}://::{archive}")[0], threading.Lock()
            _OPENED.move_to_end(key)
            system, lock = _OPENED[key]
            while len(_OPENED) > _MOST_OPENED:
                _OPENED.popitem(last=False)
    except (ImportError, ValueError) as error:  # of the package for this kind of store, or there is none
        raise ImportError(f"{url!r} can't be opened: {error}") from error
    except OSError:
        raise
    except Exception as error:  # of a damaged archive
        raise OSError(f"{url!r} can't be opened: {error}") from error
    return system, path, lock
