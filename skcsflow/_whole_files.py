"""Files that are written whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

__all__ = ["writing_whole"]


@contextmanager
def writing_whole(path: Path) -> Iterator[Path]:
    """Write a file beside another, and put it in its place once it is whole.

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
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}.part")
    unfinished.touch(exist_ok=False)
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
