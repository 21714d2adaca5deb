"""Defects of synthetic surfaces."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.random import RandomState

from skcsflow.datasets._canvas import Array, Canvas, Scene, blob, mix, noise, spot_on

Surface = Callable[[RandomState, Canvas], Scene]


def scratch(rng: RandomState, canvas: Canvas, scene: Scene, _other: Surface) -> Array:
    """Draw a bent line, thinner towards its ends, with a light and a dark flank."""
    length = rng.uniform(0.3, 0.75)
    start = np.array(spot_on(rng, canvas, scene.body, 0.08))
    angle = rng.uniform(0, 2 * np.pi)
    # Away from the nearer edges of the image, so that the line stays inside.
    if np.dot(start, (np.sin(angle), np.cos(angle))) > 0:
        angle += np.pi
    t = np.linspace(0, 1, 80)
    bearing = angle + rng.uniform(-0.7, 0.7) * t + rng.uniform(-0.1, 0.1) * np.sin(2 * np.pi * t)
    steps = length / len(t) * np.stack([np.sin(bearing), np.cos(bearing)], axis=1)
    path = start + np.cumsum(steps, axis=0)
    distance, nearest, side = _to_path(canvas, path)

    width = rng.uniform(0.007, 0.012) * np.clip(4 * t * (1 - t), 0.05, 1)[nearest] ** 0.5
    line = canvas.cover(distance - width) * scene.body
    flank = canvas.cover(distance - 2 * width) * scene.body * np.clip(side, 0, 1)
    grey = scene.albedo[scene.body].mean(axis=1)
    # Bright if there are dark grains or joints, among which a dark line would be invisible.
    bright = grey.mean() < rng.uniform(0.35, 0.65) or np.quantile(grey, 0.1) < 0.25
    color = np.full(3, rng.uniform(0.85, 1.0)) if bright else scene.albedo.mean(axis=(0, 1)) * 0.25
    shaded = mix(scene.albedo, scene.albedo * (0.5 if bright else 1.5), 0.6 * flank)
    return np.clip(mix(shaded, color, rng.uniform(0.75, 0.95) * line), 0, 1)


def crack(rng: RandomState, canvas: Canvas, scene: Scene, _other: Surface) -> Array:
    """Draw a jagged dark line with branches."""
    t = np.linspace(0, 1, 60)
    start = np.array(spot_on(rng, canvas, scene.body, 0.1))
    angle = rng.uniform(0, 2 * np.pi)
    if np.dot(start, (np.sin(angle), np.cos(angle))) > 0:
        angle += np.pi
    cover = np.zeros((canvas.height, canvas.width))
    pending = [(start, angle, rng.uniform(0.3, 0.55), 0.0095)]
    for depth in range(2):
        branches = []
        for origin, bearing, length, width in pending:
            turns = np.repeat(rng.normal(0, 0.5, 12), 5) + np.cumsum(rng.normal(0, 0.05, 60))
            steps = length / 60 * np.stack([np.sin(bearing + turns), np.cos(bearing + turns)], axis=1)
            path = origin + np.cumsum(steps, axis=0)
            distance, nearest, _ = _to_path(canvas, path)
            line = canvas.cover(distance - width * (1 - 0.7 * t[nearest]))
            cover = np.maximum(cover, line)
            for at in rng.randint(12, 45, 3 - depth):
                sway = bearing + rng.choice([-1, 1]) * rng.uniform(0.5, 1.1)
                branches.append((path[at], sway, 0.35 * length, 0.7 * width))
        pending = branches
    gap = np.minimum(scene.albedo * 0.2, 0.12)
    return np.clip(mix(scene.albedo, gap, 0.95 * cover * scene.body), 0, 1)


def spot(rng: RandomState, canvas: Canvas, scene: Scene, _other: Surface) -> Array:
    """Draw a translucent stain with an uneven edge: oil, rust, ink or paint."""
    v, u = canvas.grid()
    stained = scene.albedo
    center = np.array(spot_on(rng, canvas, scene.body, 0.08))
    oil, rust, ink, paint = (0.30, 0.24, 0.12), (0.48, 0.20, 0.07), (0.06, 0.07, 0.16), (0.93, 0.92, 0.88)
    dark = scene.albedo[scene.body].mean() < 0.35
    color = np.array([rust, paint][rng.randint(2)] if dark else [oil, rust, ink][rng.randint(3)])
    n_drops = rng.randint(1, 4)
    radius = rng.uniform(0.045, 0.085)
    for k in range(n_drops):
        shape = blob(rng, v - center[0], u - center[1], radius, roughness=0.14)
        rim = 1 + 0.25 * np.exp(-((shape / 0.012) ** 2))
        density = rng.uniform(0.6, 0.8) * rim * (1 + 0.12 * noise(rng, v, u, 0.03))
        density = np.clip(density * canvas.cover(shape, 0.015), 0, 0.95) * scene.body
        stained = mix(stained, color * (0.6 + 0.6 * stained.mean(axis=2, keepdims=True)), density)
        angle = rng.uniform(0, 2 * np.pi)
        center = center + radius * rng.uniform(1.3, 2.0) * np.array([np.sin(angle), np.cos(angle)])
        radius *= rng.uniform(0.3, 0.5) if k == 0 else 0.8
    return np.clip(stained, 0, 1)


def missing_part(rng: RandomState, _canvas: Canvas, scene: Scene, _other: Surface) -> Array:
    """Remove a part, or break a piece out."""
    return scene.remove(rng)


def swap(rng: RandomState, _canvas: Canvas, scene: Scene, _other: Surface) -> Array:
    """Exchange two parts or patches, or replace a part by one of another kind."""
    return scene.swap(rng)


def blend(rng: RandomState, canvas: Canvas, scene: Scene, other: Surface) -> Array:
    """Fade in a patch of another surface."""
    v, u = canvas.grid()
    radius = rng.uniform(0.09, 0.15)
    center = spot_on(rng, canvas, scene.body, radius)
    foreign = other(rng, canvas).albedo
    shape = blob(rng, v - center[0], u - center[1], radius, roughness=0.08)
    cover = canvas.cover(shape + 0.02, 0.05)
    cover = cover * cover * (3 - 2 * cover) * scene.body
    return mix(scene.albedo, foreign, rng.uniform(0.65, 0.9) * cover)


def _to_path(canvas: Canvas, path: Array) -> tuple[Array, Array, Array]:
    """Distance of each pixel to a path, index of the nearest segment, and signed distance to its line in pixels.

    Pixels further away than any line is wide keep an infinite distance.
    """
    v, u = canvas.grid()
    distance = np.full(v.shape, np.inf)
    nearest = np.zeros(v.shape, dtype=int)
    side = np.zeros(v.shape)
    margin = 0.03 + canvas.pixel
    for k, (start, end) in enumerate(pairwise(path)):
        low, high = np.minimum(start, end) - margin, np.maximum(start, end) + margin
        first = np.clip(np.floor((low - (v[0, 0], u[0, 0])) / canvas.pixel).astype(int), 0, None)
        last = np.clip(np.ceil((high - (v[0, 0], u[0, 0])) / canvas.pixel).astype(int), 0, None)
        near = np.s_[first[0] : last[0] + 1, first[1] : last[1] + 1]
        along = end - start
        to_v, to_u = v[near] - start[0], u[near] - start[1]
        share = np.clip((to_v * along[0] + to_u * along[1]) / np.dot(along, along), 0, 1)
        here = np.hypot(to_v - share * along[0], to_u - share * along[1])
        closer = here < distance[near]
        distance[near][closer] = here[closer]
        nearest[near][closer] = k
        across = (along[0] * to_u - along[1] * to_v) / np.linalg.norm(along) / canvas.pixel
        side[near][closer] = across[closer]
    return distance, nearest, side


FLAWS: dict[str, Callable[[RandomState, Canvas, Scene, Surface], Array]] = {
    "scratch": scratch,
    "crack": crack,
    "spot": spot,
    "missing_part": missing_part,
    "swap": swap,
    "blend": blend,
}
