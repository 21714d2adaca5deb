"""Trainings that were cut short <-> files."""

import os
import time
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch

from skcsflow._checks import as_path, warn
from skcsflow._digests import digest_of
from skcsflow._whole_files import writing_whole

__all__ = ["Checkpoint", "check_folder"]

SAVING_SHARE = 0.05
"""Share of the time of a training that goes into saving its state, at most."""


def check_folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder for checkpoints where it lacks, and see that it can be written to.

    Parameters
    ----------
    path : str or path-like
        The parameter `checkpoint`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OSError
        Where it can't be made or written to.
    """
    folder = as_path(path, "checkpoint")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"checkpoint={str(path)!r} must be a folder that can be written to: {error}") from error
    return folder


class Checkpoint:
    """The file that a training goes on from after it was cut short.

    Parameters
    ----------
    folder : Path
        Where the file is.
    key : dict
        All that the training depends on. Other trainings have other files.
    seed : int
        Seed of the training's order.
    is_writer : bool, default=True
        Whether to save: of several processes, one does.

    Attributes
    ----------
    saved : dict or None
        The state that was saved last, on the CPU. None where nothing was, or, with a warning, where it is damaged.
    seed : int
        That of the training that was cut short, or else as given.
    """

    def __init__(self, folder: Path, key: dict[str, Any], seed: int, is_writer: bool = True) -> None:
        self.path = folder / f"{digest_of(key)}.pt"
        self.seed = seed
        self.saved: dict[str, Any] | None = None
        self._is_writer = is_writer
        self._next_save = 0.0
        if self.path.exists():
            self._load()

    def _load(self) -> None:
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)  # which can't run anything
            is_whole = content.pop("digest") == digest_of(content)
        except MemoryError:
            raise
        except Exception:  # torch has no error of its own for damaged files
            is_whole = False
        if is_whole:
            self.seed, self.saved = content["seed"], content["state"]
            return
        warn(f"The checkpoint {str(self.path)!r} is damaged. The training begins anew.")

    @property
    def is_due(self) -> bool:
        """Whether so much time has passed that saving doesn't slow the training down; never where another saves."""
        return self._is_writer and time.monotonic() >= self._next_save

    def save(self, state: dict[str, Any]) -> None:
        """Save a state in the place of the one before; a warning where that can't be.

        Parameters
        ----------
        state : dict
            Of plain values, lists, dicts and tensors.
        """
        start = time.monotonic()
        try:
            with writing_whole(self.path) as unfinished:
                content = {"seed": self.seed, "state": state}
                torch.save({**content, "digest": digest_of(content)}, unfinished)
        except (OSError, RuntimeError) as error:  # torch's, where a disk is full
            warn(
                f"The state of the training can't be saved in checkpoint={str(self.path.parent)!r}: {error}. The "
                "training goes on, and can't be resumed from here."
            )
        end = time.monotonic()
        self._next_save = end + (end - start) / SAVING_SHARE

    def remove(self) -> None:
        """Remove what was saved, as the training is done."""
        if self._is_writer:
            self.path.unlink(missing_ok=True)
