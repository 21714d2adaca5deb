"""Images that a line drops into a folder, inspected as they come."""

import json
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import watchfiles
from filelock import FileLock, Timeout

from skcsflow._checks import as_path
from skcsflow._detector import CSFlowDetector, Inspection
from skcsflow._images import EXTENSIONS, walk_files
from skcsflow.serving._detectors import Source, make_ready
from skcsflow.serving._inspecting import Unreadable, inspect_each
from skcsflow.serving._pictures import save_mask, save_overlay

__all__ = ["watch"]

_RESULTS = "results.jsonl"

_BEGINNING = b'{"file": '
"""Of each line of it."""

_SECOND_LOOK = 10
"""An unreadable file is read again when it has been at rest for so many times longer: its writer may have paused."""

_TOGETHER = 32
"""Files that are inspected together, at most."""

_BYTES_TOGETHER = 2**28
"""And about so many bytes of them, at most."""

_SECONDS_PER_SCAN = 10.0
"""The folder is gone through so often. Network drives don't tell of all changes."""


class _State(NamedTuple):
    """What tells one content of a file from the next, without reading it."""

    size: int
    mtime_ns: int


class _Pending:
    """A file that isn't done."""

    def __init__(self, state: _State) -> None:
        self.state = state
        self.since = monotonic()
        self.has_failed = False


def watch(
    detector: Source,
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    recursive: bool = False,
    settle: float = 1.0,
    overlays: bool = False,
    masks: bool = False,
    min_area: int = 1,
    on_result: Callable[[dict[str, Any]], None] | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Inspect the images in a folder, and those that come into it, until Ctrl-C or SIGTERM.

    Each image adds a line of JSON to ``results.jsonl`` in `output`, which is also the memory of what is done: after
    a restart, even one after a crash, none is left out and none has two lines. A file that is written anew, with
    another size or time, is a new image. One that can't be read gets a line with its ``error``.

    Parameters
    ----------
    detector : path or CSFlowDetector
        A file that skops (``.skops``) or joblib has written, or a fitted detector, which is copied.
    folder : path
        Where images come. Files whose names begin with a dot or don't end as images do are passed over.
    output : path
        Folder of the results. It is made where it doesn't exist.
    recursive : bool, default=False
        Whether images in folders of `folder` are taken too.
    settle : float, default=1.0
        Seconds for which a file's size and time must be at rest before it is read. 0: at once, for
        lines that write under another name (``part.png.tmp``) and then rename.
    overlays : bool, default=False
        Whether each image is saved in ``overlays`` in `output` as PNG, with its anomalous pixels outlined.
    masks : bool, default=False
        Whether the mask of each image is saved in ``masks`` in `output` as PNG, 255 where anomalous.
    min_area : int, default=1
        Regions of fewer pixels are left out of the lines.
    on_result : callable, default=None
        Is called with each line, a dict, after it was written.
    stop : threading.Event, default=None
        Ends the watch when it is set, such as from another thread.

    Returns
    -------
    int
        Number of lines that were written.

    Raises
    ------
    OSError, TypeError, ValueError
        Where a folder or the detector can't be used, another watch writes to `output`, or an argument is out of
        range.

    Examples
    --------
    >>> from skcsflow.serving import watch
    >>> watch("tiles.skops", "camera", "results", on_result=print)  # doctest: +SKIP
    """
    folder, output = as_path(folder, "folder").resolve(), as_path(output, "output").resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder folder={str(folder)!r}.")
    if folder != output and folder.is_relative_to(output):
        raise ValueError(
            f"folder={str(folder)!r} lies in output={str(output)!r}, whose pictures would be inspected. "
            "Choose another one."
        )
    if recursive and output.is_relative_to(folder):
        raise ValueError(
            f"output={str(output)!r} lies in the folder that is watched with all its folders. Choose another one."
        )
    if isinstance(settle, bool) or not isinstance(settle, int | float) or not 0 <= settle < math.inf:
        raise ValueError(f"settle must be a number of seconds, 0 or more, got {settle!r}.")
    if isinstance(min_area, bool) or not isinstance(min_area, int) or min_area < 1:
        raise ValueError(f"min_area must be an int of at least 1, got {min_area!r}.")
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"output={str(output)!r} is a file. Name a folder.")
    ready = make_ready(detector, "detector")
    output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / ".results.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"output={str(output)!r} is written to by another watch. Choose another folder, or end that one."
        ) from None
    stop = threading.Event() if stop is None else stop
    try:
        with _Results(output) as results, _signals_set(stop):
            watcher = _Watcher(
                ready,
                folder,
                results,
                recursive=recursive,
                settle=float(settle),
                overlays=output / "overlays" if overlays else None,
                masks=output / "masks" if masks else None,
                min_area=min_area,
                on_result=on_result,
                stop=stop,
            )
            watcher.run()
            return results.n_added
    finally:
        lock.release()


class _Results:
    """The file of results: what is done, and one line more for each image.

    Parameters
    ----------
    output : Path
        Its folder.
    """

    def __init__(self, output: Path) -> None:
        self.path = output / _RESULTS
        self.done: set[tuple[str, _State]] = set()
        self.n_added = 0
        self._file = self.path.open("a+b")
        try:
            self._file.truncate(self._read())
        except BaseException:
            self._file.close()
            raise

    def _read(self) -> int:
        """Take note of what is done, and give where the last whole line ends."""
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, start=1):
            is_ours = line.startswith(_BEGINNING[: len(line)])
            if is_ours and not line.endswith(b"\n"):
                break  # a process has ended in the middle of it
            try:
                entry = json.loads(line if is_ours else b"")
                self.done.add((entry["file"], _State(entry["size"], entry["mtime_ns"])))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"The file {str(self.path)!r} has a line {number} that a watch hasn't written. Move the file away."
                ) from error
            end += len(line)
        return end

    def add(self, entry: dict[str, Any]) -> None:
        """Append a line, and have it on the disk before this returns."""
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done.add((entry["file"], _State(entry["size"], entry["mtime_ns"])))
        self.n_added += 1

    def __enter__(self) -> "_Results":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _Watcher:
    """Follows a folder."""

    def __init__(
        self,
        detector: CSFlowDetector,
        folder: Path,
        results: _Results,
        *,
        recursive: bool,
        settle: float,
        overlays: Path | None,
        masks: Path | None,
        min_area: int,
        on_result: Callable[[dict[str, Any]], None] | None,
        stop: threading.Event,
    ) -> None:
        self.detector = detector
        self.folder = folder
        self.results = results
        self.recursive = recursive
        self.settle = settle
        self.overlays = overlays
        self.masks = masks
        self.min_area = min_area
        self.on_result = on_result
        self.stop = stop
        self._pending: dict[Path, _Pending] = {}

    def run(self) -> None:
        """Inspect until the event is set."""
        changes = watchfiles.watch(
            self.folder,
            watch_filter=None,
            debounce=50,
            step=20,
            # Files come to rest without a change that would tell so.
            rust_timeout=max(50, min(1000, round(1000 * self.settle / 4))),
            yield_on_timeout=True,
            stop_event=self.stop,
            recursive=self.recursive,
            raise_interrupt=True,
        )
        scanned = -math.inf
        while not self.stop.is_set():
            if monotonic() - scanned >= _SECONDS_PER_SCAN:
                for path in walk_files(self.folder, EXTENSIONS, recursive=self.recursive):
                    self._note(path)
                scanned = monotonic()
            while not self.stop.is_set() and (chosen := self._take_ready()):
                self._inspect(chosen)
            for _, name in next(changes, ()):
                self._note(Path(name))

    def _note(self, path: Path) -> None:
        """Have a file in mind, if it is an image that isn't done."""
        parts = path.relative_to(self.folder).parts
        if path.suffix.lower() not in EXTENSIONS or any(part.startswith(".") for part in parts):
            return
        if path in self._pending or (state := _state_of(path)) is None:
            return
        if (self._name(path), state) not in self.results.done:
            self._pending[path] = _Pending(state)

    def _take_ready(self) -> dict[Path, tuple[_State, bytes]]:
        """Read files that have come to rest, as many as are inspected together."""
        chosen: dict[Path, tuple[_State, bytes]] = {}
        n_bytes = 0
        for path, pending in list(self._pending.items()):
            if len(chosen) == _TOGETHER or n_bytes > _BYTES_TOGETHER:
                break
            state = _state_of(path)
            if state is None or (self._name(path), state) in self.results.done:
                del self._pending[path]
            elif state != pending.state:
                self._pending[path] = _Pending(state)
            elif monotonic() - pending.since >= self.settle * (_SECOND_LOOK if pending.has_failed else 1):
                try:
                    content = path.read_bytes()
                except FileNotFoundError:
                    continue
                except OSError as error:  # a lock or a right that may yet be given
                    if self._is_worth_a_second_look(pending):
                        continue
                    self._record(
                        path, state, Unreadable(f"The file could not be read: {error.strerror}."), b""
                    )
                    continue
                if _state_of(path) == state:  # else it has changed while it was read
                    chosen[path] = state, content
                    n_bytes += len(content)
        return chosen

    def _is_worth_a_second_look(self, pending: _Pending) -> bool:
        is_first, pending.has_failed = not pending.has_failed, True
        return is_first

    def _inspect(self, chosen: dict[Path, tuple[_State, bytes]]) -> None:
        contents = [content for _, content in chosen.values()]
        with closing(inspect_each(self.detector, contents)) as found_each:
            for (path, (state, content)), found in zip(chosen.items(), found_each, strict=True):
                if isinstance(found, Unreadable) and self._is_worth_a_second_look(self._pending[path]):
                    continue
                self._record(path, state, found, content)
                if self.stop.is_set():
                    return  # the others are done after a restart

    def _record(self, path: Path, state: _State, found: Inspection | Unreadable, content: bytes) -> None:
        name = self._name(path)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {"file": name, **state._asdict(), "time": now}
        if isinstance(found, Unreadable):
            entry["error"] = str(found)
        else:
            entry |= self._describe(found)
            # Before the line: what has a line has its pictures.
            if self.masks is not None:
                save_mask(found, self.masks / f"{name}.png")
            if self.overlays is not None:
                save_overlay(self.detector, content, found, self.overlays / f"{name}.png")
        self.results.add(entry)
        self._pending.pop(path, None)
        if self.on_result is not None:
            self.on_result(entry)

    def _describe(self, found: Inspection) -> dict[str, Any]:
        return {
            "score": found.score,
            "label": found.verdict,
            "threshold": float(self.detector.offset_),
            "p_value": None if math.isnan(found.p_value) else found.p_value,
            "regions": [r._asdict() for r in found.regions if r.area >= self.min_area],
        }

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def _state_of(path: Path) -> _State | None:
    """None where there is no such file (any more)."""
    with suppress(OSError):
        if path.is_file():
            found = path.stat()
            return _State(found.st_size, found.st_mtime_ns)
    return None


@contextmanager
def _signals_set(stop: threading.Event) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM set an event, the second time do what they did before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}

    def handle(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for signal_number in (signal.SIGINT, signal.SIGTERM):
        before[signal_number] = signal.signal(signal_number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
