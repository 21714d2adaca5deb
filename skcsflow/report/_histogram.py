"""Scores -> a histogram whose threshold can be moved."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bar", "Histogram", "histogram"]

_N_BINS = 40
_STEPS_PER_BIN = 5
_FAR_OUT = 3.0  # interquartile ranges beyond the quartiles, as in ScoreHistogramDisplay


class Bar(NamedTuple):
    """A bar, in per cent of the histogram's width and height, from the left and from above."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


class Histogram(NamedTuple):
    """A histogram of scores, ready to draw.

    Attributes
    ----------
    bars : list of Bar
        Its bars, one upon another where there are labels.
    ticks : list of tuple (position, label)
        The marks of its axis, positions in per cent of its width.
    highest : int
        Number of images in the highest bar.
    step : float
        By how much the score differs between neighbouring positions of the threshold.
    first, last : int
        The histogram reaches from `first` to `last` steps beyond the detector's own threshold.
    n_below, n_above : int
        Images with scores beyond these, which the outermost bars count too.
    """

    bars: list[Bar]
    ticks: list[tuple[float, str]]
    highest: int
    step: float
    first: int
    last: int
    n_below: int
    n_above: int


def histogram(scores: NDArray[np.float64], defect: NDArray[np.bool_] | None, threshold: float) -> Histogram:
    """Make a histogram, with the threshold as an edge of a bar.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Scores; NaN are left out.
    defect : ndarray of shape (n,), bool, or None
        Which images are defective. None: it isn't known.
    threshold : float
        The detector's threshold.

    Returns
    -------
    Histogram
        The histogram. It reaches three interquartile ranges beyond the quartiles at most, or to the threshold.
    """
    readable = ~np.isnan(scores)
    known = scores[readable] if readable.any() else np.array([threshold])
    quartiles = np.percentile(known, [25, 75])
    reach = _FAR_OUT * float(quartiles[1] - quartiles[0]) or math.inf
    low = min(threshold, max(float(known.min()), float(quartiles[0]) - reach))
    high = max(threshold, min(float(known.max()), float(quartiles[1]) + reach))
    step = (high - low) / (_N_BINS * _STEPS_PER_BIN) or max(abs(threshold), 1.0) / 1000
    # Whole bars, and one more at either end, so that the threshold can be moved past the outermost images.
    first_bin = math.floor((low - threshold) / (step * _STEPS_PER_BIN)) - 1
    last_bin = math.ceil((high - threshold) / (step * _STEPS_PER_BIN)) + 1
    edges = threshold + step * _STEPS_PER_BIN * np.arange(first_bin, last_bin + 1)
    inside = known.clip(edges[0], np.nextafter(edges[-1], -np.inf))
    groups = {"image": np.ones(len(known), dtype=bool)}
    if defect is not None:
        is_defect = defect[readable] if readable.any() else np.zeros(1, dtype=bool)
        groups = {"good": ~is_defect, "defect": is_defect}
    if not readable.any():
        groups = {}
    # The right edge belongs to the bin: scores equal to the threshold are not flagged, and lie right of it.
    bins = np.searchsorted(edges, inside, side="right") - 1
    n_bins = len(edges) - 1
    counts = {kind: np.bincount(bins[mask], minlength=n_bins) for kind, mask in groups.items()}
    highest = int(np.sum(list(counts.values()), axis=0).max()) if counts else 0
    bars = []
    for i in range(n_bins):
        below = 0
        for kind, number in counts.items():
            if n := int(number[i]):
                top = below + n
                bars.append(
                    Bar(
                        x=_percent(i / n_bins),
                        y=_percent(1 - top / highest),
                        width=_percent(1 / n_bins),
                        height=_percent(n / highest),
                        kind=kind,
                        title=f"{n} {_name(kind, n)} from {edges[i]:.3g} to {edges[i + 1]:.3g}",
                    )
                )
                below = top
    return Histogram(
        bars=bars,
        ticks=_ticks(float(edges[0]), float(edges[-1])),
        highest=highest,
        step=step,
        first=first_bin * _STEPS_PER_BIN,
        last=last_bin * _STEPS_PER_BIN,
        n_below=int((known < edges[0]).sum()),
        n_above=int((known >= edges[-1]).sum()),
    )


def _percent(share: float) -> float:
    return round(100 * share, 4)


def _name(kind: str, n: int) -> str:
    name = {"image": "image", "good": "good image", "defect": "defect"}[kind]
    return name if n == 1 else f"{name}s"


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round numbers between two, four to ten of them."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= max(k for k in (1, 2, 5) if (high - low) / (k * step) >= 4)
    decimals = max(0, -math.floor(math.log10(step)))
    numbers = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [(_percent((k * step - low) / (high - low)), f"{k * step:.{decimals}f}") for k in numbers]
