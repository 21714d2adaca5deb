"""Images inspected together, where one that can't be read doesn't spoil the others."""

import re
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import cast

from skcsflow._detector import CSFlowDetector, Inspection

__all__ = ["Unreadable", "inspect_each"]


class Unreadable(Exception):
    """An image that a detector can't take; its message is a sentence that says why."""


def inspect_each(
    detector: CSFlowDetector, contents: Sequence[bytes]
) -> Generator[Inspection | Unreadable, None, None]:
    """Inspect the contents of image files together.

    Parameters
    ----------
    detector : CSFlowDetector
        A detector whose `on_error` is "raise".
    contents : sequence of bytes
        The whole content of each file.

    Yields
    ------
    Inspection or Unreadable
        Of each in turn, the bits of ``detector.inspect``, or why it can't be read.
    """
    n_done = 0
    if len(contents) > 1:
        together = cast("Generator[Inspection, None, None]", detector.inspect(list(contents)))
        with closing(together):
            while n_done < len(contents):
                try:
                    found = next(together)
                except (TypeError, ValueError):
                    break  # one of those that remain; which one shows when each is alone
                n_done += 1
                yield found
    for content in contents[n_done:]:
        try:
            (found,) = detector.inspect([content])
        except (TypeError, ValueError) as error:
            yield Unreadable(_sentence(str(error)))
        else:
            yield found


def _sentence(message: str) -> str:
    """A detector's message, which calls the image X[0]."""
    message = re.sub(r"\s+", " ", message.replace("X[0]", "the image")).strip().removesuffix(".")
    return f"{message[:1].upper()}{message[1:]}."
