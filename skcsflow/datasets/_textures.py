"""Synthetic surfaces without parts: woven fabric, brushed metal, wood, granite."""

import numpy as np
from numpy.random import RandomState
from scipy.spatial import cKDTree

from skcsflow.datasets._canvas import Array, Canvas, Scene, crater, jitter, mix, noise, octaves


def fabric(rng: RandomState, canvas: Canvas) -> Scene:
    """Twill weave of two yarns; a missing part is a piece of yarn."""
    turn, zoom = rng.uniform(-0.2, 0.2), rng.uniform(0.88, 1.15)
    v, u = canvas.grid(turn=turn, zoom=zoom, shift=tuple(rng.uniform(-0.5, 0.5, 2)))
    period = 1 / 13
    across = u / period + 0.22 * noise(rng, v, u, 0.25)
    along = v / period + 0.22 * noise(rng, v, u, 0.25)
    column, row = np.floor(across), np.floor(along)
    x, y = across - column - 0.5, along - row - 0.5

    warp_color, weft_color = jitter(rng, (0.26, 0.34, 0.52), 0.015), jitter(rng, (0.62, 0.62, 0.58), 0.015)
    fibre_warp = 0.10 * noise(rng, v, u, (0.05, 0.008)) + 0.06 * noise(rng, v, u, (0.6, period))
    fibre_weft = 0.10 * noise(rng, v, u, (0.008, 0.05)) + 0.06 * noise(rng, v, u, (period, 0.6))
    half = 0.44
    round_warp = np.sqrt(np.clip(1 - (x / half) ** 2, 0, 1))
    round_weft = np.sqrt(np.clip(1 - (y / half) ** 2, 0, 1))
    warp = (
        warp_color * ((0.45 + 0.6 * round_warp * (0.75 + 0.25 * np.cos(np.pi * y))) + fibre_warp)[..., None]
    )
    weft = (
        weft_color * ((0.45 + 0.6 * round_weft * (0.75 + 0.25 * np.cos(np.pi * x))) + fibre_weft)[..., None]
    )
    backing = np.broadcast_to(jitter(rng, (0.07, 0.07, 0.08), 0.01), warp.shape)

    edge = canvas.pixel / period / zoom
    has_warp = np.clip((half - np.abs(x)) / edge + 0.5, 0, 1)
    has_weft = np.clip((half - np.abs(y)) / edge + 0.5, 0, 1)
    warp_on_top = np.mod(column + row, 4) < 2

    def weave(has_warp: Array, has_weft: Array) -> Array:
        warp_over = mix(mix(backing, weft, has_weft), warp, has_warp)
        weft_over = mix(mix(backing, warp, has_warp), weft, has_weft)
        return np.clip(np.where(warp_on_top[..., None], warp_over, weft_over), 0, 1)

    def remove(rng: RandomState) -> Array:
        index, position = (column, v) if rng.uniform() < 0.5 else (row, u)
        middle = index[canvas.height // 3 : -canvas.height // 3, canvas.width // 3 : -canvas.width // 3]
        yarn = index == rng.choice(np.unique(middle))
        center = rng.uniform(-0.2, 0.2) + position.mean()
        gone = yarn & (np.abs(position - center) < rng.uniform(0.15, 0.35))
        if index is column:
            return weave(np.where(gone, 0.0, has_warp), has_weft)
        return weave(has_warp, np.where(gone, 0.0, has_weft))

    albedo = weave(has_warp, has_weft)
    return _texture(canvas, albedo, remove=remove)


def brushed_metal(rng: RandomState, canvas: Canvas) -> Scene:
    """Steel with fine streaks and broad reflections; a missing part is a pit."""
    v, u = canvas.grid(turn=rng.uniform(-0.3, 0.3), shift=tuple(rng.uniform(-0.5, 0.5, 2)))
    streaks = 0.075 * noise(rng, v, u, (0.008, 0.5)) + 0.05 * noise(rng, v, u, (0.016, 0.9))
    fine = 0.035 * noise(rng, v, u, (0.008, 0.09))
    reflections = 0.12 * noise(rng, v, u, (0.3, 1.5)) + 0.05 * noise(rng, v, u, (0.1, 1.5))
    grey = np.clip(0.56 + streaks + fine + reflections, 0.08, 0.98)
    albedo = np.clip(grey[..., None] * jitter(rng, (0.97, 0.99, 1.0), 0.01), 0, 1)
    return _texture(canvas, albedo)


def wood(rng: RandomState, canvas: Canvas) -> Scene:
    """Planed softwood with growth rings along the board and pin knots; a missing part is a torn-out splinter."""
    v, u = canvas.grid(
        turn=rng.uniform(-0.15, 0.15), zoom=rng.uniform(0.85, 1.2), shift=tuple(rng.uniform(-0.5, 0.5, 2))
    )
    bend = 0.09 * noise(rng, v, u, (0.5, 0.9)) + 0.02 * noise(rng, v, u, (0.15, 0.5))
    knots = np.zeros_like(v)
    for _ in range(rng.randint(0, 5)):
        row, column = rng.randint(canvas.height), rng.randint(canvas.width)
        away = np.hypot(1.3 * (v - v[row, column]), 0.7 * (u - u[row, column])) / rng.uniform(0.013, 0.024)
        knots = np.maximum(knots, np.clip(2.2 - 1.6 * away, 0, 1))
        # The grain runs around a knot.
        bend = bend + 0.02 * np.sign(v - v[row, column]) * np.exp(-((away / 3) ** 2))
    rings = np.mod((v + bend) / rng.uniform(0.065, 0.085) + rng.uniform(), 1.0)
    late = np.clip(rings, 0, 1) ** 3 * np.clip((1 - rings) / 0.12, 0, 1)
    late = late * np.clip(0.8 + 0.25 * noise(rng, v, u, (0.08, 0.6)), 0.2, 1.2)
    fibres = 0.06 * noise(rng, v, u, (0.008, 0.12)) + 0.05 * noise(rng, v, u, (0.02, 0.4))
    pores = np.clip(noise(rng, v, u, (0.008, 0.05)) - 1.5, 0, 1)
    tone = np.clip(late * 0.8 + 0.3 * pores + 0.95 * knots, 0, 1)
    light_wood, dark_wood = jitter(rng, (0.80, 0.62, 0.42)), jitter(rng, (0.26, 0.14, 0.07))
    albedo = mix(np.broadcast_to(light_wood, (*v.shape, 3)), dark_wood, tone)
    albedo = np.clip(
        albedo * rng.uniform(0.65, 1.05) * (1 + fibres + 0.07 * noise(rng, v, u, 0.5))[..., None], 0, 1
    )
    return _texture(canvas, albedo)


def granite(rng: RandomState, canvas: Canvas) -> Scene:
    """Polished granite with grains of quartz, feldspar and mica; a missing part is a broken-out chip."""
    v, u = canvas.grid(turn=rng.uniform(0, 2 * np.pi), zoom=rng.uniform(0.88, 1.15))
    warped_v = v + 0.006 * noise(rng, v, u, 0.02)
    warped_u = u + 0.006 * noise(rng, v, u, 0.02)
    low, high = (v.min(), u.min()), (v.max(), u.max())
    area = (high[0] - low[0]) * (high[1] - low[1])
    seeds = rng.uniform(low, high, (int(2200 * area), 2))
    _, grain = cKDTree(seeds).query(np.stack([warped_v, warped_u], axis=-1))
    minerals = np.array([(0.80, 0.77, 0.73), (0.60, 0.58, 0.57), (0.76, 0.60, 0.53), (0.16, 0.15, 0.16)])
    kind = rng.choice(4, len(seeds), p=[0.36, 0.28, 0.20, 0.16])
    color = minerals[kind] * (1 + 0.09 * rng.standard_normal((len(seeds), 1)))
    speckle = 1 + 0.04 * noise(rng, v, u, 0.009) + 0.05 * octaves(rng, v, u, 0.3)
    return _texture(canvas, np.clip(color[grain] * speckle[..., None], 0, 1), magnify=2.4)


def _texture(canvas: Canvas, albedo: Array, *, magnify: float = 1.0, remove=None) -> Scene:  # type: ignore[no-untyped-def]
    body = np.ones(albedo.shape[:2], dtype=bool)

    def break_out(rng: RandomState) -> Array:
        return crater(rng, albedo, canvas, body, rng.uniform(0.045, 0.085))

    def swap(rng: RandomState) -> Array:
        return exchange_patches(rng, canvas, albedo, magnify)

    return Scene(albedo, body, remove or break_out, swap)


def exchange_patches(rng: RandomState, canvas: Canvas, albedo: Array, magnify: float = 1.0) -> Array:
    """Exchange two square patches, each rotated by a quarter turn and magnified."""
    short = min(canvas.height, canvas.width)
    side = round(rng.uniform(0.17, 0.24) * short)
    while True:
        tops = rng.randint(0, canvas.height - side + 1, 2)
        lefts = rng.randint(0, canvas.width - side + 1, 2)
        if max(abs(tops[0] - tops[1]), abs(lefts[0] - lefts[1])) > side:
            break
    squares = [np.s_[top : top + side, left : left + side] for top, left in zip(tops, lefts, strict=True)]
    patches = [np.rot90(albedo[square]) for square in squares]
    index = ((np.arange(side) - side / 2) / magnify + side / 2).astype(int)
    patches = [patch[np.ix_(index, index)] for patch in patches]
    swapped = albedo.copy()
    for square, patch in zip(squares, reversed(patches), strict=True):
        swapped[square] = patch
    return swapped
