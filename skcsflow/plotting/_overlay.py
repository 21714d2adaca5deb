"""What is drawn over and above an image: the colours of its map, outlines of masks, and the title."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skcsflow.plotting._images import resize_mask

__all__ = ["colorbar_extend", "line_style", "outline", "shared_norm", "title_lines"]


def shared_norm(
    maps: Sequence[NDArray[Any]], map_threshold: float | None, vmin: float | None, vmax: float | None
) -> Any:
    """Make one colour scale for all maps; see :meth:`AnomalyMapDisplay.plot`."""
    from matplotlib.colors import LogNorm, Normalize

    pixels = np.concatenate([np.ravel(m) for m in maps])
    is_log = pixels.min() > 0 and all(v is None or v > 0 for v in (vmin, vmax, map_threshold))
    # The ends are chosen on the scale as it is drawn: of logarithms if it is logarithmic.
    to_scale, from_scale = (np.log, np.exp) if is_log else (np.asarray, np.asarray)
    low, high = to_scale(np.percentile(pixels, [50, 99.5]))
    if map_threshold is not None and np.isfinite(map_threshold):
        threshold = to_scale(map_threshold)
        low = min(
            low, threshold - 0.3 * (high - threshold)
        )  # also if nearly all values are above the threshold
        high = np.clip(high, threshold + (threshold - low), threshold + 1.5 * (threshold - low))
    low = float(from_scale(low)) if vmin is None else vmin
    high = float(from_scale(high)) if vmax is None else vmax
    if not high > low:  # for constant maps, or if a given end lies beyond all values
        high = 2 * low if is_log else low + 1.0
    return (LogNorm if is_log else Normalize)(low, high)


def colorbar_extend(norm: Any, maps: Sequence[NDArray[Any]]) -> str:
    """Tell at which ends maps go beyond a colour scale: "neither", "min", "max" or "both"."""
    below = any(np.min(m) < norm.vmin for m in maps)
    above = any(np.max(m) > norm.vmax for m in maps)
    return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get((below, above), "both")


def title_lines(
    kind: str | None, defect: bool | None, predicted: bool | None, score: float | None
) -> list[str]:
    """Lines of an image's title.

    Parameters
    ----------
    kind : str or None
        The kind of image.
    defect, predicted : bool or None
        Whether the image is defective, and whether the detector calls it so.
    score : float or None
        Its score.

    Returns
    -------
    list of str
        One line with the kind and the outcome, and one with the score; without what is None.
    """
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
    """Style of a line that is visible on dark and on bright images."""
    from matplotlib.patheffects import withStroke

    stroke = withStroke(linewidth=width + 1.4, foreground="black")
    return {"color": colour, "linestyle": style, "linewidth": width, "path_effects": [stroke]}


def outline(
    ax: Any, mask: NDArray[np.bool_] | None, size: tuple[int, int], colour: str, style: str, line_width: float
) -> Any:
    """Draw the outline of a mask, resized to `size`. Returns None if the mask is None or empty."""
    if mask is None or not mask.any():
        return None
    height, width = size
    padded = np.pad(resize_mask(mask, size), 1)  # closes outlines at the edges of the image
    drawn = line_style(colour, style, line_width)
    contour = ax.contour(
        np.arange(-1, width + 1),
        np.arange(-1, height + 1),
        padded.astype(float),
        levels=[0.5],
        colors=[drawn["color"]],
        linestyles=[drawn["linestyle"]],
        linewidths=[drawn["linewidth"]],
    )
    contour.set_path_effects(drawn["path_effects"])
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return contour
