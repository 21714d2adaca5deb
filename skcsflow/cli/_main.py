"""Arguments in, exit code out: what all commands share."""

import argparse
import json
import math
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from skcsflow._version import __version__
from skcsflow.cli._deploy import DEPLOY_COMMANDS
from skcsflow.cli._detect import DETECT_COMMANDS
from skcsflow.cli._evaluate import EVALUATE_COMMANDS
from skcsflow.cli._shared import Command, Outcome

__all__ = ["main"]

_EXIT_CODES = """\
exit codes:
  0    done
  1    an error, which one line on standard error explains
  2    wrong arguments
  3    done, but not all is well: images can't be read, a file doesn't agree, --fail-on-anomaly
  130  interrupted by Ctrl-C, and 143 by SIGTERM; serve and watch end with 0 then
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, default=None
        Its name and arguments; None takes those of the process.

    Returns
    -------
    int
        The exit code: 0 if it is done, 1 after an error, 3 if it is done but not all is well, 130 after Ctrl-C.

    Raises
    ------
    SystemExit
        With 2 after wrong arguments, and with 0 after ``--help`` and ``--version``.

    Examples
    --------
    >>> from skcsflow.cli import main
    >>> main(["info", "--json"])  # doctest: +ELLIPSIS
    {"skcsflow": "...
    0
    """
    args = _parser().parse_args(argv)
    args.verbose = 0 if args.quiet or args.json else 1
    try:
        with warnings.catch_warnings(), _ending_cleanly():
            warnings.filterwarnings(
                "default", category=UserWarning
            )  # ours; a library's own are not for users
            warnings.showwarning = _show_warning
            outcome = args.run(args)
            _print(outcome, args.json)
            return 0 if outcome.is_well else 3
    except KeyboardInterrupt:
        print("skcsflow: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT  # the custom of shells
    except BrokenPipeError:  # who reads the output has had enough; nothing is left to be flushed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        print(f"skcsflow: error: {_one_line(error)}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skcsflow",
        description="Find defects in images, having seen good ones alone.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"skcsflow {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (*DETECT_COMMANDS, *EVALUATE_COMMANDS, *DEPLOY_COMMANDS):
        _add_command(commands, command)
    return parser


def _add_command(commands: Any, command: Command) -> None:
    parser = commands.add_parser(
        command.name,
        help=command.help,
        description=f"{command.help[0].upper()}{command.help[1:]}.",
        epilog="\n".join(["examples:", *(f"  skcsflow {line}" for line in command.examples)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and no progress")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    parser.add_argument("--debug", action="store_true", help="after an error, show where it was raised")
    parser.set_defaults(run=command.run)


def _print(outcome: Outcome, as_json: bool) -> None:
    text = json.dumps(_finite(outcome.result)) if as_json and outcome.result else outcome.text
    if text:
        print(text, flush=True)


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: None in place of them."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    is_expected = isinstance(error, ValueError | TypeError | OSError | ImportError)
    return text if is_expected and text else f"{type(error).__name__}: {text}"


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"skcsflow: warning: {' '.join(str(message).split())}", file=sys.stderr)


@contextmanager
def _ending_cleanly() -> Iterator[None]:
    """End by an exception on SIGTERM, as on Ctrl-C, so that unfinished files go."""

    def end(number: int, frame: FrameType | None) -> None:
        print("skcsflow: ended by SIGTERM", file=sys.stderr)
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
