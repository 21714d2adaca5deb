"""Files that are written whole or not at all."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

__all__ = ["writing_whole"]

_ENDING = ".part"

ABANDONED_SECONDS = 3600
"""An unfinished file that nobody has written to for so long is a killed process's."""


@contextmanager
def writing_whole(path: Path) -> Iterator[Path]:
    """Write a file beside another, and put it in its place once it is whole.

    A process that is killed leaves an unfinished file, ``.NAME.*.part``. The next one that writes into the folder, an
    hour later or more, removes it.

    Parameters
    ----------
    path : Path
        The file that is wanted. It stays as it is until the end, and after an error.

    Yields
    ------
    Path
        An empty file in the same folder, to be written to. It exists from the start, so that a folder that can't be
        written to shows before the work.

    Raises
    ------
    OSError
        Where the folder doesn't exist, or can't be written to, or the path is a folder itself.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skcsflow._whole_files import writing_whole
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing_whole(Path(folder, "a.txt")) as unfinished:
    ...         _ = unfinished.write_text("all of it")
    ...     [path.name for path in Path(folder).iterdir()]
    ['a.txt']
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to write {str(path)!r} in.")
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder. Name a file.")
    _remove_abandoned(path.parent)
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}{_ENDING}")
    unfinished.touch(exist_ok=False)
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # such as that of a full disk
            error.filename = str(path)
        raise
    finally:
        unfinished.unlink(missing_ok=True)


@lru_cache(maxsize=64)  # once for a folder, and not for each of the many files that may go there
def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes have left behind in a folder."""
    oldest = time.time() - ABANDONED_SECONDS
    for left in folder.glob(f".*{_ENDING}"):
        with suppress(OSError):  # another process may be first
            if re.fullmatch(rf"\..+\.[0-9a-f]{{32}}\{_ENDING}", left.name) and left.stat().st_mtime < oldest:
                left.unlink()
