"""Where the panels of a display of images go, in inches, so that no text can overlap another."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np

__all__ = ["Layout", "fit_text", "plan_layout"]

_SIDE = 0.15  # margin
_GAP = 0.1  # between panels
_TARGET_WIDTH = 9.0
_NARROWEST, _WIDEST, _TALLEST = 1.15, 3.2, 3.2  # panels
_BAR = (0.2, 0.16, 0.8)  # the colour bar's distance and width, and room for its labels
_BAR_HEIGHT = 4.0
_LEGEND = 0.35
_SMALLEST_TEXT = 6.0


@dataclass(frozen=True)
class Layout:
    """A grid of panels, each with a title above, a colour bar to the right and a legend below."""

    n: int
    panels_each: int  # 1, or 2 where each image is shown without its map too
    n_columns: int
    n_rows: int
    stacked: bool  # whether an image's two panels stand above each other
    width: float  # of a panel
    height: float
    title: float  # height of a title
    legend: float

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the figure."""
        width = 2 * _SIDE + self.n_columns * (self.width + _GAP) + sum(_BAR)
        return max(width, 3.6), _SIDE + self._top_of_row(self.n_rows) + self.legend

    def panels(self) -> list[list[tuple[float, float, float, float]]]:
        """Place of each image's panels: left, bottom, width and height, as shares of the figure."""
        places = []
        for i in range(self.n):
            if self.panels_each == 1:
                cells = [divmod(i, self.n_columns)]
            else:
                cells = [(0, i), (1, i)] if self.stacked else [(i, 0), (i, 1)]
            places.append([self._place(*cell) for cell in cells])
        return places

    def bar(self) -> tuple[float, float, float, float]:
        """Place of the colour bar, as shares of the figure."""
        width, height = self.size
        rows = self._top_of_row(self.n_rows) - self.title - _GAP
        tall = min(rows, _BAR_HEIGHT)
        bottom = self.legend + _SIDE / 2 + _GAP + (rows - tall) / 2
        left = _SIDE + self.n_columns * (self.width + _GAP) + _BAR[0] - _GAP
        return left / width, bottom / height, _BAR[1] / width, tall / height

    def _place(self, row: int, column: int) -> tuple[float, float, float, float]:
        width, height = self.size
        left = _SIDE + column * (self.width + _GAP)
        top = height - _SIDE / 2 - self._top_of_row(row) - (0.0 if self.stacked and row else self.title)
        return left / width, (top - self.height) / height, self.width / width, self.height / height

    def _top_of_row(self, row: int) -> float:
        """Distance of a row of panels and titles from the first one; panels below their own image have no title."""
        n_titles = min(row, 1) if self.stacked else row
        return row * (self.height + _GAP) + n_titles * self.title


def plan_layout(
    n: int, aspect: float, *, show_images: bool, n_columns: int, n_lines: int, text: float, legend: bool
) -> Layout:
    """Plan where panels go.

    Parameters
    ----------
    n : int
        Number of images.
    aspect : float
        Width of a usual image, divided by its height.
    show_images : bool
        Whether each image is shown without its map too.
    n_columns : int
        The most columns.
    n_lines : int
        Lines of a title.
    text : float
        Size of the text in points.
    legend : bool
        Whether there is a legend.

    Returns
    -------
    Layout
        The layout. An image and its overlay stand above each other, unless there is one image alone or
        images are wide. Overlays alone fill a grid about as wide as a page.
    """
    aspect = min(max(aspect, 0.25), 6.0)
    stacked = show_images and (n == 1) == (aspect > 1.4)
    if show_images:
        across = n if stacked else 2
        rows = 2 if stacked else n
    else:
        across = min(n_columns, n, max(1, round(sqrt(1.3 * n / aspect))))
        rows = ceil(n / across)
        across = ceil(n / rows)  # evens out the last row
    width = min(max(_TARGET_WIDTH / across, _NARROWEST), _WIDEST if aspect < 2 else 1.5 * _WIDEST)
    width = max(min(width, _TALLEST * aspect), _NARROWEST)
    title = n_lines * text * 1.25 / 72 + 0.08 if n_lines else 0.0
    return Layout(
        n=n,
        panels_each=2 if show_images else 1,
        n_columns=across,
        n_rows=rows,
        stacked=stacked,
        width=width,
        height=min(width / aspect, _TALLEST),
        title=title,
        legend=_LEGEND if legend else 0.0,
    )


def fit_text(titles: Sequence[Sequence[str]], width: float, size: float) -> tuple[list[str], float]:
    """Make titles fit into a width.

    Parameters
    ----------
    titles : sequence of sequences of str
        Lines of each title.
    width : float
        The width in inches.
    size : float
        Size of the text in points, where it fits.

    Returns
    -------
    titles : list of str
        The titles. Lines that would not fit at the smallest size are cut off.
    size : float
        One size for all of them.
    """
    room = 72 * width
    longest = max((_text_width(line, size) for lines in titles for line in lines), default=0.0)
    if longest > room:
        size = max(_SMALLEST_TEXT, float(np.floor(10 * size * room / longest)) / 10)
    return ["\n".join(_cut(line, room, size) for line in lines) for lines in titles], size


def _cut(line: str, room: float, size: float) -> str:
    if _text_width(line, size) <= room:
        return line
    kept = bisect_right(range(1, len(line)), room, key=lambda n: _text_width(line[:n] + "…", size))
    return line[: max(1, kept)].rstrip() + "…"


def _text_width(text: str, size: float) -> float:
    """Width of a text in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    measured: Any = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return float(measured[0])
