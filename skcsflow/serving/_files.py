"""Files of detectors."""

import os
from pathlib import Path

from skcsflow._detector import CSFlowDetector

__all__ = ["load"]


def load(path: str | os.PathLike[str]) -> CSFlowDetector:
    """Load a detector from a file: by skops where its name ends in ``.skops``, else by joblib.

    Raises
    ------
    OSError
        Where the file can't be read.
    ValueError
        Where it holds no detector, or a skops file holds types that this package doesn't need.
    """
    path = Path(path)
    path.open("rb").close()  # a file that isn't there is an OSError, whatever reads it
    try:
        if path.suffix.lower() == ".skops":
            import skops.io

            detector = skops.io.load(path, trusted=["skcsflow.CSFlowDetector"])
        else:
            import joblib

            detector = joblib.load(path)
    except Exception as error:  # what damaged files raise is of all kinds
        raise ValueError(f"The file {str(path)!r} can't be loaded as a detector: {error}") from error
    if not isinstance(detector, CSFlowDetector):
        raise ValueError(f"The file {str(path)!r} holds a {type(detector).__name__}, and no CSFlowDetector.")
    return detector
