"""Fitted detectors <-> files."""

import os
import shutil
from pathlib import Path
from typing import Any

import joblib

from skcsflow._checks import as_path, check_regular_file
from skcsflow._detector import CSFlowDetector
from skcsflow._grouped import GroupedDetector
from skcsflow._whole_files import writing_whole

__all__ = ["ENDINGS", "load", "load_single", "save"]

_TRUSTED = {"skcsflow.CSFlowDetector", "skcsflow.GroupedDetector"}
_SKOPS = ".skops"
ENDINGS = (_SKOPS, ".joblib", ".pkl", ".pickle")
"""Of the files that detectors are saved in."""


def save(detector: CSFlowDetector | GroupedDetector, path: str | os.PathLike[str]) -> None:
    """Save a detector to a file.

    Parameters
    ----------
    detector : CSFlowDetector or GroupedDetector
        The detector, or the detectors.
    path : str or path-like
        The file. By its ending it is written by skops (``.skops``) or by joblib (``.joblib``, ``.pkl`` or
        ``.pickle``). A file that is there is replaced, once the new one is whole.

    Raises
    ------
    TypeError
        Where `detector` is something else, or `path` is no path.
    ValueError
        Where the ending is another one.
    OSError
        Where the file can't be written.

    See Also
    --------
    load : The way back.

    Examples
    --------
    >>> import tempfile
    >>> import skcsflow
    >>> from skcsflow.datasets import make_defects
    >>> images = make_defects(n_normal=12, n_defective=0, random_state=0).images
    >>> detector = skcsflow.CSFlowDetector(input_size=64, n_epochs=1, random_state=0).fit(images)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skcsflow.save(detector, f"{folder}/detector.skops")
    ...     loaded = skcsflow.load(f"{folder}/detector.skops")
    >>> bool((loaded.score_samples(images) == detector.score_samples(images)).all())
    True
    """
    if not isinstance(detector, CSFlowDetector | GroupedDetector):
        raise TypeError(
            f"detector must be a CSFlowDetector or a GroupedDetector, got {type(detector).__name__}."
        )
    path = as_path(path, "path").resolve()  # what a link points to is replaced, and not the link
    ending = _ending(path)
    with writing_whole(path) as unfinished:
        if ending == _SKOPS:
            import skops.io  # takes a second, which not everybody needs

            skops.io.dump(detector, unfinished)
        else:
            joblib.dump(detector, unfinished)
        if path.exists():
            shutil.copymode(path, unfinished)


def load(path: str | os.PathLike[str]) -> CSFlowDetector | GroupedDetector:
    """Load a detector from a file.

    A ``.skops`` file can't run anything: only plain values, arrays, estimators of scikit-learn, and detectors are built
    from it. Files of joblib and pickle can run anything: load your own alone.

    Parameters
    ----------
    path : str or path-like
        A file that :func:`save`, `skops.io.dump`, `joblib.dump` or `pickle.dump` has written, with the ending
        ``.skops``, ``.joblib``, ``.pkl`` or ``.pickle``.

    Returns
    -------
    CSFlowDetector or GroupedDetector
        What was saved.

    Raises
    ------
    OSError
        Where the file can't be read.
    TypeError
        Where `path` is no path.
    ValueError
        Where the ending is another one, or it is no file, damaged, or holds anything else.

    See Also
    --------
    save : Writes the file.

    Examples
    --------
    >>> import skcsflow
    >>> skcsflow.load("detector.onnx")
    Traceback (most recent call last):
    ...
    ValueError: The file 'detector.onnx' of a detector must end in .skops, .joblib, .pkl or .pickle.
    """
    path = as_path(path, "path")
    ending = _ending(path)
    check_regular_file(path, f"The file {str(path)!r}")
    with path.open("rb"):  # the libraries' own messages name neither the file nor the trouble
        pass
    try:
        loaded = _load_skops(path) if ending == _SKOPS else joblib.load(path)
    except (
        Exception
    ) as error:  # of a damaged file of all kinds: memory for what it says, a seek before its beginning
        reason = f"{str(error).strip() or type(error).__name__}".rstrip(".") + "."
        raise ValueError(
            f"The file {str(path)!r} can't be loaded: {reason} It may be damaged, or another program's."
        ) from error
    if not isinstance(loaded, CSFlowDetector | GroupedDetector):
        raise ValueError(
            f"The file {str(path)!r} holds a {type(loaded).__name__}, not a CSFlowDetector or a GroupedDetector."
        )
    found: CSFlowDetector | GroupedDetector = loaded
    return found


def load_single(path: str | os.PathLike[str]) -> CSFlowDetector:
    """Load a file of one detector, see :func:`load`; one of several is an error."""
    loaded = load(path)
    if isinstance(loaded, GroupedDetector):
        raise ValueError(
            f"The file {str(path)!r} holds a GroupedDetector, but one detector is wanted here. Save one of its "
            "detectors_ to a file of its own."
        )
    return loaded


def _load_skops(path: Path) -> Any:
    import skops.io

    unknown = set(skops.io.get_untrusted_types(file=path)) - _TRUSTED
    if unknown:
        raise ValueError(
            f"It has what no CSFlowDetector has, and isn't trusted: {', '.join(sorted(unknown))}."
        )
    return skops.io.load(path, trusted=sorted(_TRUSTED))


def _ending(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(
            f"The file {str(path)!r} of a detector must end in .skops, .joblib, .pkl or .pickle."
        )
    return ending
