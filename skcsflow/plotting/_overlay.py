"""What is laid over an image: the colours of its map, outlines, and the words above it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skcsflow.plotting._images import fit_mask

__all__ = ["beyond", "line_style", "outline", "shared_norm", "title_lines"]


def shared_norm(
    maps: Sequence[NDArray[Any]], map_threshold: float | None, vmin: float | None, vmax: float | None
) -> Any:
    """Make one colour scale for all maps; see :meth:`AnomalyMapDisplay.plot`."""
    from matplotlib.colors import LogNorm, Normalize

    pixels = np.concatenate([np.ravel(m) for m in maps])
    logarithmic = pixels.min() > 0 and all(v is None or v > 0 for v in (vmin, vmax, map_threshold))
    forth, back = (np.log, np.exp) if logarithmic else (np.asarray, np.asarray)
    low, high = forth(np.percentile(pixels, [50, 99.5]))
    if map_threshold is not None and np.isfinite(map_threshold):
        threshold = forth(map_threshold)
        low = min(low, threshold - 0.3 * (high - threshold))  # even where nearly all is above it
        high = np.clip(high, threshold + (threshold - low), threshold + 1.5 * (threshold - low))
    low = float(back(low)) if vmin is None else vmin
    high = float(back(high)) if vmax is None else vmax
    if not high > low:  # maps that are the same everywhere, or one end given beyond all of them
        high = 2 * low if logarithmic else low + 1.0
    return (LogNorm if logarithmic else Normalize)(low, high)


def beyond(norm: Any, maps: Sequence[NDArray[Any]]) -> str:
    """Name the ends of a scale that maps go beyond, as a colour bar knows them."""
    below = any(np.min(m) < norm.vmin for m in maps)
    above = any(np.max(m) > norm.vmax for m in maps)
    return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get((below, above), "both")


def title_lines(
    kind: str | None, defect: bool | None, predicted: bool | None, score: float | None
) -> list[str]:
    """Lines of an image's title, from what is known: its kind, whether it is defective or called so, its score."""
    lines = []
    name = kind
    if kind is None and defect is not None:
        name = "defective" if defect else "normal"
    if predicted is None:
        outcome = None
    elif defect is None:
        outcome = "defective" if predicted else "normal"
    elif defect:
        outcome = "found" if predicted else "missed"
    else:
        outcome = "false alarm" if predicted else "passed"
    if name is not None or outcome is not None:
        lines.append(": ".join(part for part in (name, outcome) if part is not None))
    if score is not None:
        lines.append(f"score {score:.3f}".replace("-", "\N{MINUS SIGN}"))
    return lines


def line_style(colour: str, style: str, width: float) -> dict[str, Any]:
    """Style of a line that shows on dark and bright ground alike."""
    from matplotlib.patheffects import withStroke

    stroke = withStroke(linewidth=width + 1.4, foreground="black")
    return {"color": colour, "linestyle": style, "linewidth": width, "path_effects": [stroke]}


def outline(
    ax: Any, mask: NDArray[np.bool_] | None, size: tuple[int, int], colour: str, style: str, width: float
) -> Any:
    """Draw the outline of a mask, resized to `size`; gives None where nothing is marked."""
    if mask is None or not mask.any():
        return None
    height, breadth = size
    padded = np.pad(fit_mask(mask, size), 1)  # closes outlines at the image's edge
    look = line_style(colour, style, width)
    contour = ax.contour(
        np.arange(-1, breadth + 1),
        np.arange(-1, height + 1),
        padded.astype(float),
        levels=[0.5],
        colors=[look["color"]],
        linestyles=[look["linestyle"]],
        linewidths=[look["linewidth"]],
    )
    contour.set_path_effects(look["path_effects"])
    ax.set(xlim=(-0.5, breadth - 0.5), ylim=(height - 0.5, -0.5))
    return contour
