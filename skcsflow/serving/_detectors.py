"""The detectors of a service by name: loaded, made ready, and swapped."""

import copy
import os
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from sklearn.utils.validation import check_is_fitted

from skcsflow._detector import CSFlowDetector, share_backbone
from skcsflow._files import load_single

__all__ = ["Detectors", "Served", "Source", "make_ready"]

Source: TypeAlias = str | os.PathLike[str] | CSFlowDetector
"""A fitted detector, or its file."""


class Served(NamedTuple):
    """A detector that is in service.

    Attributes
    ----------
    detector : CSFlowDetector
        The detector, of which nobody else has a reference.
    file : str or None
        Where it was loaded from.
    loaded : str
        When, in UTC.
    """

    detector: CSFlowDetector
    file: str | None
    loaded: str


class Detectors:
    """Detectors by name. Those whose backbones have the same weights share one backbone in memory.

    Parameters
    ----------
    sources : mapping of str to path or CSFlowDetector
        What each is: a file, or a fitted detector, which is copied.

    Raises
    ------
    OSError, TypeError, ValueError
        Where there is none, a name can't stand in an address, or a detector can't be loaded or isn't fitted.
    """

    def __init__(self, sources: Mapping[str, Source]) -> None:
        if not isinstance(sources, Mapping) or not sources:
            raise ValueError(f"detectors must be a mapping of names to files or detectors, got {sources!r}.")
        for name in sources:
            if not isinstance(name, str) or not name or not set(name) <= _IN_NAMES:
                raise ValueError(
                    f"detectors has the name {name!r}; a name is a part of an address, and consists of letters, "
                    "digits, '-', '_' and '.'."
                )
        self._sources = dict(sources)
        self._reloading = threading.Lock()
        self._served = self._load(self._sources)

    def __getitem__(self, name: str) -> Served:
        return self._served[name]

    def items(self) -> Iterable[tuple[str, Served]]:
        """Names and detectors."""
        return self._served.items()

    def names(self) -> list[str]:
        """All names."""
        return list(self._served)

    def reload(self) -> list[str]:
        """Load all that come from files again, and put them in the place of the old ones: all, or none.

        Who has a detector from before keeps it, so that work under way ends with the one that it began with.

        Returns
        -------
        list of str
            Names of those that were loaded.

        Raises
        ------
        OSError, ValueError
            Where a file can't be loaded. The old detectors stay.
        """
        with self._reloading:
            new = self._load({k: s for k, s in self._sources.items() if not isinstance(s, CSFlowDetector)})
            self._served = {**self._served, **new}  # at once: no request sees some old and some new
        return list(new)

    def _load(self, sources: Mapping[str, Source]) -> dict[str, Served]:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        # Also those that stay in service, whose backbone the new ones may share.
        backbones: dict[Any, Any] = {}
        for served in getattr(self, "_served", {}).values():
            share_backbone(served.detector.model_, backbones)
        loaded = {}
        for name, source in sources.items():
            detector = make_ready(source, f"detectors[{name!r}]")
            share_backbone(detector.model_, backbones)
            is_file = not isinstance(source, CSFlowDetector)
            loaded[name] = Served(detector, str(Path(source).resolve()) if is_file else None, now)
        return loaded


_IN_NAMES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def make_ready(source: Source, name: str) -> CSFlowDetector:
    """Load or copy a detector, and set it to what a line needs.

    What can't be read is an error of that image. Nothing is kept of images, and no progress shown.

    Parameters
    ----------
    source : path or CSFlowDetector
        A file, or a fitted detector, which stays as it is.
    name : str
        What messages call it.

    Returns
    -------
    CSFlowDetector
        The detector.

    Raises
    ------
    OSError, TypeError, ValueError
        Where it can't be loaded, is something else, or isn't fitted.
    """
    if isinstance(source, CSFlowDetector):
        detector = copy.deepcopy(source)
    elif isinstance(source, str | os.PathLike):
        detector = load_single(source)
    else:
        raise TypeError(
            f"{name} must be the path of a file or a fitted CSFlowDetector, got a {type(source).__name__}."
        )
    check_is_fitted(detector, msg=f"{name} is a %(name)s that isn't fitted. Call fit before it is served.")
    return detector.set_params(on_error="raise", memory=None, verbose=0)
