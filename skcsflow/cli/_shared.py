"""What several commands need."""

import argparse
import ast
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skcsflow._detector import ACTING_AFTER_FIT, CSFlowDetector
from skcsflow._files import load_single
from skcsflow.datasets import list_images

__all__ = [
    "DEFAULT_FILE",
    "Command",
    "Outcome",
    "add_detector",
    "add_folder",
    "add_settings",
    "check_output",
    "images_of",
    "load_detector",
    "new_detector",
    "path_of",
    "relative_names",
]

DEFAULT_FILE = "detector.skops"


@dataclass
class Outcome:
    """What a command has found.

    Attributes
    ----------
    result : dict
        For ``--json``.
    text : str
        For people; nothing is printed where it is empty.
    is_well : bool, default=True
        False makes the exit code 3.
    """

    result: dict[str, Any]
    text: str
    is_well: bool = True


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Attributes
    ----------
    name, help : str
        Its name, and what it does.
    add_arguments : callable
        Adds its arguments to its parser.
    run : callable
        Takes the parsed arguments and gives the outcome.
    examples : list of str
        Lines that show how it is called.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Outcome]
    examples: list[str] = field(default_factory=list)


def add_folder(parser: argparse.ArgumentParser, what: str, name: str = "folder") -> None:
    """Add the argument of a folder of images, and ``--recursive``."""
    parser.add_argument(name, metavar=name.upper(), type=path_of, help=what)
    parser.add_argument("-r", "--recursive", action="store_true", help="take the folders in it too")


def add_detector(parser: argparse.ArgumentParser) -> None:
    """Add ``--detector``, and what it may be set to for this call."""
    parser.add_argument(
        "-d",
        "--detector",
        type=path_of,
        default=Path(DEFAULT_FILE),
        metavar="FILE",
        help="the fitted detector, .skops or .joblib (default: %(default)s)",
    )


def add_settings(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--set NAME=VALUE``."""
    parser.add_argument(
        "--set",
        dest="settings",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"a parameter of CSFlowDetector {what}; may be given several times",
    )


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if name not in CSFlowDetector().get_params():
        raise argparse.ArgumentTypeError(f"{name!r} is no parameter of CSFlowDetector")
    if not equals:
        raise argparse.ArgumentTypeError(f"{name} needs a value: {name}=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError) as error:
        if value.startswith(("(", "[", "{", "'", '"')):
            raise argparse.ArgumentTypeError(f"the value of {text!r} isn't complete") from error
        return name, value  # a string without quotes


def check_output(path: Path, endings: Sequence[str]) -> None:
    """Fail before the work, and not after it, where the file can't be written."""
    if path.suffix.lower() not in endings:
        raise ValueError(f"--output must end in {' or '.join(endings)}, got {str(path)!r}.")
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"No such folder, for --output: {str(folder)!r}.")
    if path.is_dir():
        raise IsADirectoryError(f"--output is a folder: {str(path)!r}. Name a file.")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"The folder {str(folder)!r}, for --output, can't be written to.")


def new_detector(args: argparse.Namespace) -> CSFlowDetector:
    """A detector with the parameters of ``--set``. It shows progress unless that isn't wanted."""
    return CSFlowDetector(**{"random_state": 0, **dict(args.settings), "verbose": args.verbose})


def load_detector(args: argparse.Namespace, **params: Any) -> CSFlowDetector:
    """Load ``--detector``, with these parameters and those of ``--set``. It shows progress unless that isn't wanted."""
    if not args.detector.exists():
        raise FileNotFoundError(
            f"There is no file {str(args.detector)!r} in {os.getcwd()}. Name the detector's file by --detector, or "
            "make one by 'skcsflow fit'."
        )
    settings = dict(getattr(args, "settings", []))
    for name in settings.keys() - set(ACTING_AFTER_FIT):
        raise ValueError(
            f"--set {name}: it acts in fit alone. Here these may be set: {', '.join(ACTING_AFTER_FIT)}."
        )
    return load_single(args.detector).set_params(**{**params, **settings, "verbose": args.verbose})


def path_of(text: str) -> Path:
    """A path of the command line, in which ``~`` is the home folder also where the shell leaves it."""
    return Path(text).expanduser()


def images_of(args: argparse.Namespace, folder: Path) -> list[str]:
    """List a folder's images."""
    if folder.is_file():
        raise NotADirectoryError(f"{str(folder)!r} is a file. Name the folder that it is in.")
    try:
        return list_images(folder, recursive=args.recursive)
    except ValueError as error:
        if args.recursive or not any(entry.is_dir() for entry in folder.iterdir()):
            raise
        raise ValueError(f"{error} Give --recursive to take the folders in it too.") from error


def relative_names(files: list[str], folder: Path) -> list[str]:
    """Names of files for people: paths below the folder, with slashes; bytes that aren't Unicode are spelt out."""
    names = [Path(file).relative_to(folder).as_posix() for file in files]
    return [os.fsencode(name).decode("utf-8", "backslashreplace") for name in names]
