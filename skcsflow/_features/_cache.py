"""Feature maps kept on disk, each image's once for all processes."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import joblib
from filelock import FileLock
from numpy.typing import NDArray
from sklearn.utils.validation import check_memory

__all__ = ["CachedFeatures", "FeatureCache", "FeatureCacheInfo", "feature_cache_info", "open_cache"]

_N_LOCKS = 4096


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
    """Entries in a :class:`joblib.Memory`, computed once however many processes ask.

    joblib writes entries under a temporary name and renames them, so that no reader
    ever sees half of one, a killed writer's included. It doesn't keep two processes
    from computing the same entry; a lock around each computation does, and the
    operating system releases a killed process's.

    Parameters
    ----------
    memory : joblib.Memory
        Where to keep entries; or anything with such a method `cache`, as scikit-learn
        allows. Without a folder `location` there are no locks.

    Attributes
    ----------
    folder : Path or None
        The memory's `location`, which has room for temporary files too; None where it
        isn't a folder.
    """

    def __init__(self, memory: Any) -> None:
        # joblib would report every look-up as a call; the fit's own `verbose` tells enough.
        options = {"verbose": 0} if isinstance(memory, joblib.Memory) else {}
        self._entry = memory.cache(_entry, ignore=["compute"], **options)
        location = getattr(memory, "location", None)
        self.folder = Path(location) if isinstance(location, (str, os.PathLike)) else None
        self._locks = None if self.folder is None else self.folder / "skcsflow-locks"
        if self._locks is not None:
            self._locks.mkdir(parents=True, exist_ok=True)
            # joblib's first use of a folder writes a file that it compares later: one process at a time.
            with FileLock(self._locks / "first.lock"):
                self.get(uuid4().hex)

    def get(self, key: str) -> CachedFeatures | None:
        """Look an entry up; None where there is none."""
        try:
            return self._entry(key, compute=_nothing)
        except _NoEntryError:
            return None

    def get_or_compute(
        self, keys: Sequence[str], compute: Callable[[list[int]], list[CachedFeatures]]
    ) -> list[CachedFeatures]:
        """Look entries up, and compute and keep those that are missing.

        Parameters
        ----------
        keys : sequence of str
            Keys, hexadecimal.
        compute : callable
            Takes positions in `keys`, gives their entries.

        Returns
        -------
        list of CachedFeatures
            The entry of each key.
        """
        found: dict[str, CachedFeatures | None] = {}
        with ExitStack() as held:
            if self._locks is not None:
                # Always in the same order, so that no two processes wait for each other.
                for n in sorted({int(key[:8], 16) % _N_LOCKS for key in keys}):
                    held.enter_context(FileLock(self._locks / f"{n:02x}.lock"))
            found.update((key, self.get(key)) for key in keys)
            missing = {key: i for i, key in enumerate(keys) if found[key] is None}
            if missing:
                for key, new in zip(missing, compute(list(missing.values())), strict=True):
                    found[key] = self._entry(key, compute=lambda new=new: new)
        return [entry for key in keys if (entry := found[key]) is not None]


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
        Where its folder can't be written to.
    """
    memory = _as_memory(memory)
    location = getattr(memory, "location", "")
    if location is None:
        return None
    try:
        return FeatureCache(memory)
    except OSError as error:
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
    backend = getattr(_as_memory(memory) if is_folder else memory, "store_backend", None)
    if backend is None:
        raise ValueError(f"memory must be a folder or a joblib.Memory in a folder, got {memory!r}.")
    names = {"skcsflow", _entry.__name__}
    items = [item for item in backend.get_items() if names <= set(Path(item.path).parts)]
    items = [
        item for item in items if (Path(item.path) / "output.pkl").exists()
    ]  # a killed writer leaves none
    return FeatureCacheInfo(len(items), sum(item.size for item in items))


def _as_memory(memory: Any) -> Any:
    if not isinstance(memory, str | os.PathLike):
        return check_memory(memory)
    folder = os.path.expanduser(memory)
    if os.path.isfile(folder):
        raise ValueError(
            f"memory={folder!r} is a file. Pass the path of a folder, which is made where it lacks."
        )
    return check_memory(folder)


class _NoEntryError(Exception):
    pass


def _entry(key: str, compute: Callable[[], CachedFeatures]) -> CachedFeatures:
    # joblib forgets what it kept for a function whose source has changed: leave this one alone.
    return compute()


def _nothing() -> CachedFeatures:
    raise _NoEntryError
