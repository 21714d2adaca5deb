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
_MAX_STACKED = 6  # images in a row, if each is above its overlay
_BAR = (0.2, 0.16, 0.8)  # distance and width of the colour bar, and width of its labels
_BAR_HEIGHT = 4.0
_LEGEND_HEIGHT = 0.35
_MIN_TEXT_SIZE = 6.0  # in points


@dataclass(frozen=True)
class Layout:
    """A grid of images, each with a title above its panels, a colour bar to the right and a legend below."""

    n: int
    panels_per_image: int  # 1, or 2 if each image is shown without its map too
    n_columns: int  # of images
    n_rows: int  # of images
    is_stacked: bool  # whether the two panels of an image are one above the other
    width: float  # of a panel
    height: float  # of a panel
    title: float  # height
    legend: float  # height

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the figure."""
        columns, rows = self.n_columns * self._cell[0], self.n_rows * self._cell[1]
        return max(2 * _MARGIN + columns + sum(_BAR), 3.6), _MARGIN + rows + self.legend

    def panels(self) -> list[list[tuple[float, float, float, float]]]:
        """Positions of the panels of each image: left, bottom, width and height, as fractions of the figure."""
        width, height = self.size
        step = (0.0, self.height + _GAP) if self.is_stacked else (self.width + _GAP, 0.0)
        positions = []
        for i in range(self.n):
            row, column = divmod(i, self.n_columns)
            left = _MARGIN + column * self._cell[0]
            bottom = height - _MARGIN / 2 - row * self._cell[1] - self.title - self.height
            positions.append(
                [
                    (
                        (left + k * step[0]) / width,
                        (bottom - k * step[1]) / height,
                        self.width / width,
                        self.height / height,
                    )
                    for k in range(self.panels_per_image)
                ]
            )
        return positions

    def bar(self) -> tuple[float, float, float, float]:
        """Position of the colour bar, as fractions of the figure."""
        width, height = self.size
        rows = self.n_rows * self._cell[1] - self.title - _GAP
        tall = min(rows, _BAR_HEIGHT)
        bottom = self.legend + _MARGIN / 2 + _GAP + (rows - tall) / 2
        left = _MARGIN + self.n_columns * self._cell[0] + _BAR[0] - _GAP
        return left / width, bottom / height, _BAR[1] / width, tall / height

    @property
    def _cell(self) -> tuple[float, float]:
        """Width and height of an image's panels, with its title and the gaps to the next image."""
        n_below = self.panels_per_image if self.is_stacked else 1
        n_beside = 1 if self.is_stacked else self.panels_per_image
        return n_beside * (self.width + _GAP), n_below * (self.height + _GAP) + self.title


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
        The largest number of images in a row.
    n_lines : int
        Number of lines of a title.
    text_size : float
        Size of the text in points.
    has_legend : bool
        Whether there is a legend.

    Returns
    -------
    Layout
        The layout, about as wide as a page. An image and its overlay are one above the other, with up to six
        images in a row, unless there is only one image or images are wide. The two are beside each other then, with
        one image in a row, or two if there are more than six.
    """
    aspect = min(max(aspect, 0.25), 6.0)
    is_stacked = show_images and (n == 1) == (aspect > 1.4)
    if is_stacked:
        n_across = _MAX_STACKED
    elif show_images:
        n_across = 1 if n <= _MAX_STACKED else 2
    else:
        n_across = max(1, round(sqrt(1.3 * n / aspect)))
    n_rows = ceil(n / min(n_across, n_columns, n))
    n_across = ceil(n / n_rows)  # fills the last row as far as possible
    max_width = _MAX_WIDTH if aspect < 2 else 1.5 * _MAX_WIDTH
    n_panels = 2 * n_across if show_images and not is_stacked else n_across
    width = min(max(_TARGET_WIDTH / n_panels, _MIN_WIDTH), max_width)
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
        The titles. Lines that don't fit at the smallest size are shortened in their middle, because names of
        files differ at the end, and verdicts stand there.
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
    kept = range(1, len(line))
    return _cut(line, bisect_right(kept, available, key=lambda n: _text_width(_cut(line, n), size)))


def _cut(line: str, n_kept: int) -> str:
    """Replace the middle of a line, so that n characters of it are left."""
    n_last = n_kept // 2
    return f"{line[: n_kept - n_last].rstrip()}…{line[len(line) - n_last :].lstrip()}"


def _text_width(text: str, size: float) -> float:
    """Width of a text in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    measured: Any = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return float(measured[0])
