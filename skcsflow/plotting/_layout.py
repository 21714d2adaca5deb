"""Layout of a display of images, in inches, so that no texts overlap."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np

__all__ = ["Layout", "fit_text", "plan_layout"]

_MARGIN = 0.15
_GAP = 0.1  # between panels
_TARGET_WIDTH = 9.0  # of a figure
_MIN_WIDTH, _MAX_WIDTH, _MAX_HEIGHT = 1.15, 3.2, 3.2  # of a panel
_BAR = (0.2, 0.16, 0.8)  # distance and width of the colour bar, and width of its labels
_BAR_HEIGHT = 4.0
_LEGEND_HEIGHT = 0.35
_MIN_TEXT_SIZE = 6.0  # in points


@dataclass(frozen=True)
class Layout:
    """A grid of panels, each with a title above, a colour bar to the right and a legend below."""

    n: int
    panels_per_image: int  # 1, or 2 if each image is shown without its map too
    n_columns: int
    n_rows: int
    is_stacked: bool  # whether the two panels of an image are one above the other
    width: float  # of a panel
    height: float  # of a panel
    title: float  # height
    legend: float  # height

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the figure."""
        width = 2 * _MARGIN + self.n_columns * (self.width + _GAP) + sum(_BAR)
        return max(width, 3.6), _MARGIN + self._top_of_row(self.n_rows) + self.legend

    def panels(self) -> list[list[tuple[float, float, float, float]]]:
        """Positions of the panels of each image: left, bottom, width and height, as fractions of the figure."""
        positions = []
        for i in range(self.n):
            if self.panels_per_image == 1:
                cells = [divmod(i, self.n_columns)]
            else:
                cells = [(0, i), (1, i)] if self.is_stacked else [(i, 0), (i, 1)]
            positions.append([self._position(*cell) for cell in cells])
        return positions

    def bar(self) -> tuple[float, float, float, float]:
        """Position of the colour bar, as fractions of the figure."""
        width, height = self.size
        rows = self._top_of_row(self.n_rows) - self.title - _GAP
        tall = min(rows, _BAR_HEIGHT)
        bottom = self.legend + _MARGIN / 2 + _GAP + (rows - tall) / 2
        left = _MARGIN + self.n_columns * (self.width + _GAP) + _BAR[0] - _GAP
        return left / width, bottom / height, _BAR[1] / width, tall / height

    def _position(self, row: int, column: int) -> tuple[float, float, float, float]:
        width, height = self.size
        left = _MARGIN + column * (self.width + _GAP)
        top = height - _MARGIN / 2 - self._top_of_row(row) - (0.0 if self.is_stacked and row else self.title)
        return left / width, (top - self.height) / height, self.width / width, self.height / height

    def _top_of_row(self, row: int) -> float:
        """Distance from the first row to another; if panels are stacked, only the first row has titles."""
        n_titles = min(row, 1) if self.is_stacked else row
        return row * (self.height + _GAP) + n_titles * self.title


def plan_layout(
    n: int,
    aspect: float,
    *,
    show_images: bool,
    n_columns: int,
    n_lines: int,
    text_size: float,
    has_legend: bool,
) -> Layout:
    """Choose the layout of a figure.

    Parameters
    ----------
    n : int
        Number of images.
    aspect : float
        Width of a typical image, divided by its height.
    show_images : bool
        Whether each image is shown without its map too.
    n_columns : int
        The largest number of columns.
    n_lines : int
        Number of lines of a title.
    text_size : float
        Size of the text in points.
    has_legend : bool
        Whether there is a legend.

    Returns
    -------
    Layout
        The layout. An image and its overlay are one above the other, unless there is only one image or
        images are wide. Overlays without images fill a grid that is about as wide as a page.
    """
    aspect = min(max(aspect, 0.25), 6.0)
    is_stacked = show_images and (n == 1) == (aspect > 1.4)
    if show_images:
        n_across = n if is_stacked else 2
        n_rows = 2 if is_stacked else n
    else:
        n_across = min(n_columns, n, max(1, round(sqrt(1.3 * n / aspect))))
        n_rows = ceil(n / n_across)
        n_across = ceil(n / n_rows)  # fills the last row as far as possible
    max_width = _MAX_WIDTH if aspect < 2 else 1.5 * _MAX_WIDTH
    width = min(max(_TARGET_WIDTH / n_across, _MIN_WIDTH), max_width)
    width = max(min(width, _MAX_HEIGHT * aspect), _MIN_WIDTH)
    title = n_lines * text_size * 1.25 / 72 + 0.08 if n_lines else 0.0
    return Layout(
        n=n,
        panels_per_image=2 if show_images else 1,
        n_columns=n_across,
        n_rows=n_rows,
        is_stacked=is_stacked,
        width=width,
        height=min(width / aspect, _MAX_HEIGHT),
        title=title,
        legend=_LEGEND_HEIGHT if has_legend else 0.0,
    )


def fit_text(titles: Sequence[Sequence[str]], width: float, size: float) -> tuple[list[str], float]:
    """Shrink titles, or else shorten them, so that they fit into a width.

    Parameters
    ----------
    titles : sequence of sequences of str
        Lines of each title.
    width : float
        The width in inches.
    size : float
        Size of the text in points if it fits.

    Returns
    -------
    titles : list of str
        The titles. Lines that don't fit at the smallest size are shortened.
    size : float
        One size for all of them.
    """
    available = 72 * width
    longest = max((_text_width(line, size) for lines in titles for line in lines), default=0.0)
    if longest > available:
        size = max(_MIN_TEXT_SIZE, float(np.floor(10 * size * available / longest)) / 10)
    return ["\n".join(_shorten(line, available, size) for line in lines) for lines in titles], size


def _shorten(line: str, available: float, size: float) -> str:
    if _text_width(line, size) <= available:
        return line
    n_kept = bisect_right(range(1, len(line)), available, key=lambda n: _text_width(line[:n] + "…", size))
    return line[: max(1, n_kept)].rstrip() + "…"


def _text_width(text: str, size: float) -> float:
    """Width of a text in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    measured: Any = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return float(measured[0])
