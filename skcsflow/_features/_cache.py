"""Feature maps kept on disk, each image's once for all processes."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from sklearn.utils.validation import check_memory

from skcsflow._checks import as_path, warn
from skcsflow._whole_files import writing_whole

__all__ = ["CachedFeatures", "FeatureCache", "FeatureCacheInfo", "feature_cache_info", "open_cache"]

_N_LOCKS = 4096
_CHECKSUM_SIZE = 16
_FILE = (
    "output.pkl"  # no pickle, but the name by which joblib sees in `reduce_size` when an entry was last used
)


class CachedFeatures(NamedTuple):
    """What is kept of one image.

    Attributes
    ----------
    frames : list of lists of ndarrays of shape (channels, H_s, W_s)
        Feature maps of each frame, one per scale.
    size : tuple of int (H, W)
        Size that the image came in.
    """

    frames: list[list[NDArray[Any]]]
    size: tuple[int, int]


class FeatureCacheInfo(NamedTuple):
    """What a cache holds.

    Attributes
    ----------
    n_images : int
        Number of entries: images, counted once for each backbone, set of weights, input
        size, precision, engine, and whatever else changes a bit, that they were seen with.
    n_bytes : int
        Their size on disk.
    """

    n_images: int
    n_bytes: int


class FeatureCache:
    """Entries that are computed once however many processes ask.

    Each is a file that is written whole or not at all, also by a writer that is killed, and begins with a checksum. A
    lock around each computation keeps two processes from computing the same entry; the operating system releases a
    killed process's. In a folder that can't be written to, what is there is read, without locks.

    Parameters
    ----------
    memory : joblib.Memory
        In its folder entries lie where its `reduce_size` and `clear` find them. Anything else with such a method
        `cache`, as scikit-learn allows, keeps them in its own way, without locks.

    Attributes
    ----------
    folder : Path or None
        The memory's `location`, which has room for temporary files too; None where there is no folder that can be
        written to.
    """

    def __init__(self, memory: Any) -> None:
        self.folder: Path | None = None
        self._name = f"memory={getattr(memory, 'location', memory)!r}"
        self._damaged: set[str] = set()
        self._not_kept: dict[str, OSError] = {}
        self._entries = _entries_of(memory)
        if self._entries is None:
            self._call = memory.cache(_content, ignore=["compute"])
            return
        folder = Path(memory.location)
        try:
            (folder / "skcsflow-locks").mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "skcsflow-locks" / "first.lock"):
                self.folder = folder
        except OSError:
            if not self._entries.is_dir():
                raise

    def get(self, key: str) -> CachedFeatures | None:
        """Look an entry up; None where there is none, and where it is damaged, which drops it."""
        try:
            content = self._load(key)
            return None if content is None else _unpack(content)
        except (OSError, TypeError, ValueError):
            self._damaged.add(key)
            if self._entries is not None:
                with suppress(OSError):
                    _file_of(self._entries, key).unlink()
            return None

    def get_or_compute(
        self, keys: Sequence[str], compute: Callable[[list[int]], list[CachedFeatures]]
    ) -> list[CachedFeatures]:
        """Look entries up, and compute and keep those that are missing.

        Parameters
        ----------
        keys : sequence of str
            Keys, 32 hexadecimal digits each.
        compute : callable
            Takes positions in `keys`, gives their entries.

        Returns
        -------
        list of CachedFeatures
            The entry of each key.
        """
        with ExitStack() as held:
            if self.folder is not None:
                # Always in the same order, so that no two processes wait for each other.
                for n in sorted({int(key[:8], 16) % _N_LOCKS for key in keys}):
                    held.enter_context(FileLock(self.folder / "skcsflow-locks" / f"{n:02x}.lock"))
            found = {key: self.get(key) for key in keys}
            missing = {key: i for i, key in enumerate(keys) if found[key] is None}
            if missing:
                for key, new in zip(missing, compute(list(missing.values())), strict=True):
                    self._keep(key, _pack(new))
                    found[key] = new
        return [entry for key in keys if (entry := found[key]) is not None]

    def warn(self) -> None:
        """Warn once of all entries that were damaged, and once of all that could not be kept."""
        if self._damaged:
            n = len(self._damaged)
            warn(
                f"The feature cache {self._name} had {n} damaged {'entry' if n == 1 else 'entries'}. The features of "
                "these images were computed anew."
            )
        if self._not_kept:
            error = next(iter(self._not_kept.values()))
            warn(
                f"The features of {len(self._not_kept)} images could not be kept in {self._name}: {error.strerror}."
            )

    def _load(self, key: str) -> Any:
        try:
            if self._entries is None:
                return self._call(key, compute=_nothing)
            return _file_of(self._entries, key).read_bytes()
        except (FileNotFoundError, _NoEntryError):
            return None

    def _keep(self, key: str, content: bytes) -> None:
        if self._entries is None:
            self._call(key, compute=lambda: content)
            return
        path = _file_of(self._entries, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with writing_whole(path) as unfinished:
                unfinished.write_bytes(content)
        except OSError as error:
            self._not_kept[key] = error


def open_cache(memory: Any) -> FeatureCache | None:
    """Open the cache that the parameter ``memory`` stands for.

    Parameters
    ----------
    memory : None, str, path or object with the interface of joblib.Memory
        As in scikit-learn's Pipeline.

    Returns
    -------
    FeatureCache or None
        None where nothing is to be kept: for None, and for ``joblib.Memory(None)``.

    Raises
    ------
    ValueError
        Where `memory` is none of these, or a file.
    OSError
        Where its folder can't be written to, and holds no features yet.
    """
    try:
        memory = _as_memory(memory)
        return None if getattr(memory, "location", "") is None else FeatureCache(memory)
    except OSError as error:
        location = getattr(memory, "location", memory)
        raise OSError(f"memory={location!r} can't be written to: {error}") from error


def feature_cache_info(memory: Any) -> FeatureCacheInfo:
    """Tell how many images' features a cache holds, and how large it is.

    To bound it, ``joblib.Memory(folder).reduce_size(bytes_limit="5G")`` removes the entries
    that were not used for longest, and ``joblib.Memory(folder).clear()`` removes all.

    Parameters
    ----------
    memory : str, path or joblib.Memory
        What `CSFlowDetector` was given as `memory`: a folder, or a Memory in one.

    Returns
    -------
    FeatureCacheInfo
        `n_images` and `n_bytes`.

    Raises
    ------
    ValueError
        Where `memory` is neither a folder nor a Memory in one.

    Examples
    --------
    >>> import tempfile
    >>> from skcsflow import CSFlowDetector, feature_cache_info
    >>> from skcsflow.datasets import make_defects
    >>> images = make_defects(n_normal=6, n_defective=0, random_state=0).images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     detector = CSFlowDetector(memory=folder, input_size=64, n_epochs=1)
    ...     scores = detector.fit(images[:4]).score_samples(images)
    ...     info = feature_cache_info(folder)
    >>> info.n_images
    6
    >>> info.n_bytes > 20_000
    True
    """
    is_folder = isinstance(memory, (str, os.PathLike))
    entries = _entries_of(_as_memory(memory) if is_folder else memory)
    if entries is None:
        raise ValueError(f"memory must be a folder or a joblib.Memory in a folder, got {memory!r}.")
    sizes = [path.stat().st_size for path in entries.glob(f"*/{_FILE}")]
    return FeatureCacheInfo(len(sizes), sum(sizes))


def _as_memory(memory: Any) -> Any:
    if not isinstance(memory, str | os.PathLike):
        return check_memory(memory)
    folder = str(as_path(memory, "memory"))
    if os.path.isfile(folder):
        raise ValueError(
            f"memory={folder!r} is a file. Pass the path of a folder, which is made where it lacks."
        )
    return check_memory(folder)


def _entries_of(memory: Any) -> Path | None:
    """The folder in which entries are kept; None where a memory isn't one in a folder."""
    if not isinstance(memory, joblib.Memory) or memory.location is None or memory.backend != "local":
        return None
    return Path(memory.location, "joblib", "skcsflow", "features")  # where a Memory of a str keeps all


def _file_of(entries: Path, key: str) -> Path:
    return entries / key / _FILE


def _pack(entry: CachedFeatures) -> bytes:
    file = BytesIO(bytes(_CHECKSUM_SIZE))
    file.seek(_CHECKSUM_SIZE)
    for array in (np.array([*entry.size, len(entry.frames)]), *(m for maps in entry.frames for m in maps)):
        np.save(file, array, allow_pickle=False)
    content = file.getbuffer()
    content[:_CHECKSUM_SIZE] = _checksum(content)
    return bytes(content)


def _unpack(content: bytes) -> CachedFeatures:
    if content[:_CHECKSUM_SIZE] != _checksum(memoryview(content)):
        raise ValueError("the checksum is another one")
    file = BytesIO(content)
    file.seek(_CHECKSUM_SIZE)
    height, width, n_frames = np.load(file, allow_pickle=False).tolist()
    maps = []
    while file.tell() < len(content):
        maps.append(np.load(file, allow_pickle=False))
    n_scales = len(maps) // n_frames
    return CachedFeatures([maps[i : i + n_scales] for i in range(0, len(maps), n_scales)], (height, width))


def _checksum(content: memoryview) -> bytes:
    return blake2b(content[_CHECKSUM_SIZE:], digest_size=_CHECKSUM_SIZE).digest()


class _NoEntryError(Exception):
    pass


def _content(key: str, compute: Callable[[], bytes]) -> bytes:
    # What other memories call. They may forget what they kept for a function whose source has changed.
    return compute()


def _nothing() -> bytes:
    raise _NoEntryError
