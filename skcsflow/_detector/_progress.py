"""Progress bars, on standard error."""

from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

from tqdm import tqdm

__all__ = ["with_progress"]

T = TypeVar("T")


def with_progress(
    items: Generator[T, None, None], n_items: int, label: str, verbose: int
) -> Generator[T, None, None]:
    """Show how many items have come, at which rate, and the time that is left.

    Parameters
    ----------
    items : generator
        The items.
    n_items : int
        How many they will be.
    label : str
        What is done with them.
    verbose : int
        Whether to show anything. A single item is never shown.

    Yields
    ------
    object
        The items.
    """
    with closing(items):
        if not verbose or n_items == 1:
            yield from items
            return
        with tqdm(total=n_items, desc=label, unit="image") as bar:
            for item in items:
                bar.update()
                yield item
