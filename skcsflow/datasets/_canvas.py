"""Drawing tools for synthetic surfaces and defects: coordinates, noise, shapes, colours, light.

Lengths are in units of the shorter side of the image, so that a scene looks the same at every size. Colours are
RGB floats from 0 to 1. Coverages are floats from 0 to 1, with edges one pixel wide.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from scipy import ndimage

Array = np.ndarray
Color = tuple[float, float, float]


@dataclass(frozen=True)
class Canvas:
    """The pixel grid: height and width in pixels."""

    height: int
    width: int

    @property
    def pixel(self) -> float:
        """Size of one pixel."""
        return 1.0 / min(self.height, self.width)

    def grid(self, *, turn: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0, 0)) -> tuple:
        """Coordinates ``(v, u)`` of each pixel in a frame that is shifted, turned (in radians) and zoomed."""
        rows, columns = np.mgrid[: self.height, : self.width].astype(np.float64)
        y = (rows - (self.height - 1) / 2) * self.pixel - shift[0]
        x = (columns - (self.width - 1) / 2) * self.pixel - shift[1]
        cosine, sine = np.cos(turn) / zoom, np.sin(turn) / zoom
        return y * cosine - x * sine, y * sine + x * cosine

    def cover(self, distance: Array, softness: float = 0.0) -> Array:
        """Coverage of a shape, given the signed distance to it, which is negative inside."""
        edge = self.pixel + softness
        return np.clip(0.5 - distance / edge, 0.0, 1.0)


@dataclass(frozen=True)
class Scene:
    """A clean surface, and the two kinds of defect that depend on its structure.

    Parameters
    ----------
    albedo : ndarray of shape (height, width, 3)
        The clean surface without lighting.
    body : ndarray of shape (height, width), dtype bool
        True on the product, False on the background. Scratches and stains stay on the product.
    remove, swap : callable
        Take a random state, and return the surface with a part missing, or with parts exchanged.
    """

    albedo: Array
    body: Array
    remove: Callable[[RandomState], Array]
    swap: Callable[[RandomState], Array]


def noise(rng: RandomState, v: Array, u: Array, cell: float | tuple[float, float]) -> Array:
    """Smooth random field; its nodes are `cell` apart along v and u, and have unit variance."""
    cells = np.broadcast_to(np.asarray(cell, dtype=float), (2,))
    positions, shape = [], []
    for axis, step in zip((v, u), cells, strict=True):
        low, high = axis.min() / step, axis.max() / step
        positions.append(axis / step - low + 2 + rng.uniform())
        shape.append(int(np.ceil(high - low)) + 6)
    nodes = rng.standard_normal(shape)
    # Cubic interpolation is slow, and makes no visible difference for cells of a pixel or two.
    return ndimage.map_coordinates(nodes, positions, order=1 if cells.min() < 0.022 else 3, mode="mirror")


def octaves(rng: RandomState, v: Array, u: Array, cell: float, n: int = 3) -> Array:
    """Sum of smooth fields, each with half the cell size and 0.6 times the weight of the one before."""
    weights = 0.6 ** np.arange(n)
    total = sum(weight * noise(rng, v, u, cell / 2**k) for k, weight in enumerate(weights))
    return np.asarray(total / np.sqrt(np.sum(weights**2)))


def mix(below: Array, above: Array | Color, coverage: Array) -> Array:
    """Lay `above` over `below` with the given coverage."""
    return below + (np.asarray(above) - below) * coverage[..., None]


def disc(v: Array, u: Array, center: tuple[float, float], radius: float) -> Array:
    """Signed distance to a disc."""
    return np.hypot(v - center[0], u - center[1]) - radius


def box(v: Array, u: Array, half: tuple[float, float], corner: float = 0.0) -> Array:
    """Signed distance to a box around the origin, with rounded corners."""
    dv, du = np.abs(v) - (half[0] - corner), np.abs(u) - (half[1] - corner)
    outside = np.hypot(np.maximum(dv, 0), np.maximum(du, 0))
    return outside + np.minimum(np.maximum(dv, du), 0) - corner


def turned(v: Array, u: Array, angle: float) -> tuple[Array, Array]:
    """Coordinates in a frame turned by `angle`."""
    return v * np.cos(angle) - u * np.sin(angle), v * np.sin(angle) + u * np.cos(angle)


def jitter(rng: RandomState, color: Color, amount: float = 0.02) -> Array:
    """Change a colour slightly, at random."""
    return np.clip(np.asarray(color) + amount * rng.standard_normal(3), 0.0, 1.0)


def light(rng: RandomState, canvas: Canvas) -> Array:
    """Random illumination (height, width, 3): brightness, gradient, a soft bright area and a tint."""
    v, u = canvas.grid()
    reach = max(canvas.height, canvas.width) * canvas.pixel
    angle = rng.uniform(0, 2 * np.pi)
    gradient = (v * np.sin(angle) + u * np.cos(angle)) / reach
    center = rng.uniform(-0.6, 0.6, 2) * reach
    glow = np.exp(-((v - center[0]) ** 2 + (u - center[1]) ** 2) / (2 * rng.uniform(0.25, 0.5) ** 2))
    brightness = rng.uniform(0.72, 1.0) * (1 + rng.uniform(0.1, 0.5) * gradient + rng.uniform(0, 0.3) * glow)
    return brightness[..., None] * (1 + 0.025 * rng.standard_normal(3))


def crater(rng: RandomState, albedo: Array, canvas: Canvas, body: Array, radius: float) -> Array:
    """Draw a hole in a surface: a rough dark pit with one side of the rim in shadow and one in light."""
    v, u = canvas.grid()
    center = spot_on(rng, canvas, body, radius)
    shape = blob(rng, v - center[0], u - center[1], radius, roughness=0.22)
    angle = rng.uniform(0, 2 * np.pi)
    slope = ((v - center[0]) * np.sin(angle) + (u - center[1]) * np.cos(angle)) / radius
    floor = np.clip(0.30 + 0.07 * noise(rng, v, u, 0.03) + 0.14 * slope, 0.05, 0.7)
    pit = albedo.mean(axis=(0, 1)) * floor[..., None]
    broken = mix(albedo, pit, canvas.cover(shape))
    rim = canvas.cover(np.abs(shape) - 0.006, 0.006) * np.clip(slope, 0, 1)
    return mix(broken, np.minimum(albedo.mean(axis=(0, 1)) * 1.9, 1.0), 0.8 * rim)


def blob(rng: RandomState, v: Array, u: Array, radius: float, roughness: float = 0.15) -> Array:
    """Approximate signed distance to an uneven ellipse around the origin."""
    v, u = turned(v, u, rng.uniform(0, np.pi))
    ratio = rng.uniform(0.65, 1.0)
    angle = np.arctan2(v, u)
    edge = np.ones_like(v)
    for k in range(2, 7):
        edge += roughness / (k - 1) * rng.standard_normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    return np.hypot(v / ratio, u * ratio) - radius * np.clip(edge, 0.45, 1.6)


def spot_on(rng: RandomState, canvas: Canvas, body: Array, margin: float) -> tuple[float, float]:
    """Choose a random position on the body, if possible at least `margin` from its edge and the image's."""
    away_from_edge = np.zeros_like(body)
    edge = int(min(margin, 0.3) / canvas.pixel)
    inner = (slice(edge, canvas.height - edge), slice(edge, canvas.width - edge))
    away_from_edge[inner] = body[inner]
    depth = ndimage.distance_transform_edt(np.pad(body, 1, mode="edge"))[1:-1, 1:-1] * canvas.pixel
    for candidates in (
        away_from_edge & (depth >= margin),
        away_from_edge & (depth >= margin / 2),
        away_from_edge,
        body,
    ):
        rows, columns = np.nonzero(candidates)
        if len(rows):
            break
    k = rng.randint(len(rows))
    v, u = canvas.grid()
    return float(v[rows[k], columns[k]]), float(u[rows[k], columns[k]])
