"""Synthetic surfaces made of parts: tiles, circuit boards, bottle caps, blister packs.

Each surface is a function of the kinds of its parts. To remove or exchange parts, it is drawn again with other
kinds; nothing else changes.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import RandomState

from skcsflow.datasets._canvas import (
    Array,
    Canvas,
    Color,
    Scene,
    box,
    disc,
    jitter,
    mix,
    noise,
    octaves,
    turned,
)

Kinds = tuple[str | None, ...]


def _make_scene(
    draw: Callable[[Kinds], Array], kinds: Kinds, body: Array, usable: list[int], choices: Kinds = ()
) -> Scene:
    """Make a scene from a function that draws the surface, given the kinds of its parts.

    Only `usable` parts, which are well inside the image, are removed or exchanged. With `choices`, one part is
    replaced by another kind; without, two parts of different kinds are exchanged.
    """

    def changed(changes: dict[int, str | None]) -> Array:
        return draw(tuple(changes.get(k, kind) for k, kind in enumerate(kinds)))

    def remove(rng: RandomState) -> Array:
        return changed({int(rng.choice(usable)): None})

    def swap(rng: RandomState) -> Array:
        first = int(rng.choice(usable))
        if choices:
            others = [kind for kind in choices if kind != kinds[first]]
            return changed({first: others[rng.randint(len(others))]})
        partners = [k for k in usable if kinds[k] != kinds[first]]
        second = partners[rng.randint(len(partners))]
        return changed({first: kinds[second], second: kinds[first]})

    return Scene(draw(kinds), body, remove, swap)


def tiles(rng: RandomState, canvas: Canvas) -> Scene:
    """Ceramic tiles of two kinds laid as a chequerboard, with grout between them."""
    pitch = 0.215 * rng.uniform(0.9, 1.12)
    v, u = canvas.grid(turn=rng.uniform(-0.14, 0.14), shift=tuple(rng.uniform(-pitch, pitch, 2)))
    row, column = np.floor(v / pitch).astype(int), np.floor(u / pitch).astype(int)
    y, x = v - (row + 0.5) * pitch, u - (column + 0.5) * pitch
    row, column = row - row.min(), column - column.min()
    n_columns = int(column.max()) + 1
    index = row * n_columns + column
    n_tiles = int(index.max()) + 1

    half = 0.46 * pitch
    distance = box(y, x, (half, half), 0.12 * pitch)
    cover = canvas.cover(distance)
    bevel = np.clip(1 + distance / (0.09 * pitch), 0, 1)
    slope = np.where(np.abs(y) > np.abs(x), np.sign(y), np.sign(x)) * bevel
    relief = 1 - 0.16 * slope
    tone = (1 + 0.045 * rng.standard_normal(n_tiles))[index]
    marble = octaves(rng, v, u, 0.12)
    veins = np.clip(1 - np.abs(noise(rng, v, u, 0.14)) / 0.12, 0, 1)
    grout = jitter(rng, (0.42, 0.40, 0.37)) * (1 + 0.12 * noise(rng, v, u, 0.009))[..., None]
    ridges = 0.9 + 0.28 * np.sin(2 * np.pi * (v / 0.028 + 0.3 * noise(rng, v, u, 0.1)))
    bed = jitter(rng, (0.52, 0.42, 0.30)) * (ridges + 0.08 * noise(rng, v, u, 0.009))[..., None]
    shadow = np.clip(1 - np.clip(y + half, 0, None) / 0.03, 0, 1)
    bed = bed * (1 - 0.5 * shadow)[..., None]

    cream, slate = jitter(rng, (0.84, 0.79, 0.68), 0.012), jitter(rng, (0.30, 0.37, 0.43), 0.012)
    light_tile = cream * (tone * relief * (1 + 0.03 * marble))[..., None]
    light_tile = mix(light_tile, light_tile * 0.8, 0.6 * veins)
    diamond = canvas.cover(np.abs(y) + np.abs(x) - 0.17 * pitch)
    dark_tile = mix(slate * (tone * relief * (1 + 0.07 * marble))[..., None], cream * 0.9, diamond)

    def draw(kinds: Kinds) -> Array:
        is_light = np.array([kind == "light" for kind in kinds])[index]
        laid = np.array([kind is not None for kind in kinds])[index]
        tile = np.where(is_light[..., None], light_tile, dark_tile)
        return np.clip(mix(np.where(laid[..., None], grout, bed), tile, cover * laid), 0, 1)

    kinds = tuple("light" if (k // n_columns + k % n_columns) % 2 else "dark" for k in range(n_tiles))
    whole = np.bincount(index[1:-1, 1:-1].ravel(), minlength=n_tiles) * canvas.pixel**2 > 0.75 * pitch**2
    return _make_scene(draw, kinds, np.ones_like(index, dtype=bool), np.flatnonzero(whole).tolist())


# kind, position (v, u) and quarter turns of each part, in the frame of the board
_BOARD: tuple[tuple[str, float, float, int], ...] = (
    ("resistor", -0.33, -0.32, 0),
    ("resistor", -0.33, -0.16, 0),
    ("diode", -0.33, 0.00, 0),
    ("electrolytic", -0.28, 0.27, 0),
    ("chip", 0.00, -0.16, 0),
    ("capacitor", -0.08, 0.16, 1),
    ("capacitor", 0.06, 0.16, 1),
    ("resistor", -0.02, 0.32, 1),
    ("led", 0.30, -0.32, 0),
    ("diode", 0.30, -0.14, 0),
    ("capacitor", 0.30, 0.05, 0),
    ("led", 0.27, 0.27, 0),
)


def circuit(rng: RandomState, canvas: Canvas) -> Scene:
    """Printed circuit board with a fixed layout of soldered parts."""
    pose = {"turn": rng.uniform(-0.14, 0.14), "zoom": rng.uniform(0.92, 1.1)}
    v, u = canvas.grid(shift=tuple(rng.uniform(-0.06, 0.06, 2)), **pose)
    frames = []
    for _, place_v, place_u, quarters in _BOARD:
        at_v, at_u = np.add((place_v, place_u), rng.normal(0, 0.005, 2))
        frames.append(turned(v - at_v, u - at_u, quarters * np.pi / 2 + rng.normal(0, 0.04)))

    mask = jitter(rng, (0.07, 0.33, 0.20), 0.015)
    board = mask * (1 + 0.05 * noise(rng, v, u, 0.01) + 0.05 * noise(rng, v, u, 0.3))[..., None]
    for lane in (-0.22, -0.19, 0.16, 0.19, 0.22):
        bent = v - lane - 0.06 * np.clip((u - 0.08) / 0.06, 0, 1)
        board = mix(board, board * 1.45, canvas.cover(np.abs(bent) - 0.006))
    for lane in (-0.42, 0.06, 0.42):
        board = mix(board, board * 1.45, canvas.cover(np.abs(u - lane) - 0.006))
    for via in ((-0.19, 0.42), (0.16, -0.42), (0.22, 0.06), (-0.22, 0.06), (0.19, 0.42), (-0.22, -0.42)):
        board = mix(board, (0.75, 0.66, 0.40), canvas.cover(disc(v, u, via, 0.017)))
        board = mix(board, (0.05, 0.08, 0.06), canvas.cover(disc(v, u, via, 0.008)))
    solder = jitter(rng, (0.74, 0.74, 0.72), 0.01)
    for (y, x), (kind, *_) in zip(frames, _BOARD, strict=True):
        half, reach = ((0.105, 0.012), 0.0) if kind == "chip" else ((0.022, 0.014), 0.047)
        places = np.arange(-0.09, 0.1, 0.03) if kind == "chip" else np.array([-reach, reach])
        for place in places:
            pad = box(y, x - place, half, 0.006)
            board = mix(board, solder, canvas.cover(pad))

    angle = rng.uniform(0, 2 * np.pi)
    offset = 0.014 * np.array([np.sin(angle), np.cos(angle)])
    texture = 1 + 0.04 * noise(rng, v, u, 0.01)

    def draw(kinds: Kinds) -> Array:
        image = board
        for kind, (y, x) in zip(kinds, frames, strict=True):
            if kind is not None:
                image = _component(canvas, image, kind, y, x, offset)
        return np.clip(image * texture[..., None], 0, 1)

    usable = [k for k, (kind, *_) in enumerate(_BOARD) if kind != "chip"]
    return _make_scene(draw, tuple(part[0] for part in _BOARD), np.ones(v.shape, dtype=bool), usable)


def _component(canvas: Canvas, image: Array, kind: str, y: Array, x: Array, offset: Array) -> Array:
    """Draw one soldered part and its shadow around the origin of the part's own frame."""

    def lay(image: Array, distance: Array, color: Color, shade: Array | float = 1.0) -> Array:
        above = np.asarray(color) * np.broadcast_to(shade, distance.shape)[..., None]
        return mix(image, above, canvas.cover(distance))

    def outline(y: Array, x: Array) -> Array:
        if kind == "electrolytic":
            return disc(y, x, (0, 0), 0.082)
        if kind == "led":
            return disc(y, x, (0, 0), 0.046)
        halves = {"chip": (0.085, 0.115), "resistor": (0.027, 0.06), "capacitor": (0.032, 0.056)}
        return box(y, x, halves.get(kind, (0.027, 0.062)), 0.026 if kind == "diode" else 0.005)

    image = mix(image, image * 0.45, canvas.cover(outline(y - offset[0], x - offset[1]), 0.012))
    shape = outline(y, x)
    if kind == "chip":
        image = lay(image, shape, (0.13, 0.13, 0.14), 1 + 0.25 * canvas.cover(np.abs(shape) - 0.005))
        image = lay(image, disc(y, x, (0.055, -0.09), 0.011), (0.30, 0.30, 0.30))
        for line, length in ((-0.02, 0.05), (0.015, 0.035)):
            image = lay(image, box(y - line, x, (0.005, length)), (0.55, 0.55, 0.54))
    elif kind == "resistor":
        image = lay(image, shape, (0.80, 0.80, 0.78))
        image = lay(image, box(y, x, (0.027, 0.042)), (0.12, 0.12, 0.14))
        image = lay(image, box(y, x, (0.008, 0.022)), (0.70, 0.70, 0.70))
    elif kind == "capacitor":
        image = lay(image, shape, (0.80, 0.80, 0.78))
        image = lay(image, box(y, x, (0.032, 0.038)), (0.70, 0.52, 0.32), 1 - 3 * np.abs(y))
    elif kind == "diode":
        image = lay(image, shape, (0.80, 0.38, 0.16), 1.15 - (y / 0.03) ** 2 * 0.5)
        image = lay(image, np.maximum(shape, np.abs(x - 0.032) - 0.008), (0.10, 0.08, 0.08))
    elif kind == "led":
        image = lay(image, shape, (0.72, 0.10, 0.10), 0.8 + 0.5 * canvas.cover(shape + 0.012))
        image = lay(image, disc(y, x, (-0.014, -0.014), 0.012), (1.0, 0.72, 0.70))
    else:
        shading = 0.9 + 0.25 * np.sin(3 * np.arctan2(y, x))
        image = lay(
            image, shape, (0.66, 0.68, 0.70), 1.15 - canvas.cover(np.abs(shape + 0.012) - 0.005) * 0.45
        )
        image = lay(image, shape + 0.02, (0.62, 0.64, 0.67), shading)
        image = lay(image, np.maximum(shape + 0.02, x + 0.035), (0.14, 0.14, 0.16))
    return image


def bottle_cap(rng: RandomState, canvas: Canvas) -> Scene:
    """Crown cap on a conveyor belt, turned at random, with a crimped rim and a ring of alternating marks."""
    v, u = canvas.grid(
        turn=rng.uniform(0, 2 * np.pi), zoom=rng.uniform(0.9, 1.08), shift=tuple(rng.uniform(-0.05, 0.05, 2))
    )
    radius, angle = np.hypot(v, u), np.arctan2(v, u)
    n_teeth, n_marks = 21, 8
    belt = jitter(rng, (0.25, 0.26, 0.27), 0.015)
    belt = belt * (1 + 0.16 * noise(rng, v, u, 0.014) + 0.1 * octaves(rng, v, u, 0.3))[..., None]

    outline = radius - (0.395 + 0.014 * np.cos(n_teeth * angle))
    lamp = rng.uniform(0, 2 * np.pi)
    facing = np.cos(angle - lamp)
    crimp = 0.60 + 0.22 * np.sin(n_teeth * angle + 0.6) + 0.2 * facing
    metal = np.array((0.80, 0.80, 0.82)) * (crimp + 0.03 * noise(rng, v, u, 0.012))[..., None]
    top = radius - 0.325
    lacquer = jitter(rng, (0.10, 0.24, 0.46), 0.015)
    face = (
        lacquer
        * (1 + 0.05 * noise(rng, v, u, 0.01) + 0.22 * facing * np.clip(radius / 0.325, 0, 1) ** 2)[..., None]
    )
    face = mix(face, (0.92, 0.90, 0.84), canvas.cover(np.abs(radius - 0.285) - 0.008))
    face = mix(face, (0.92, 0.90, 0.84), canvas.cover(_star(v, u, 0.10, 5)))
    cap = mix(metal, metal * 0.55, canvas.cover(np.abs(top) - 0.006, 0.008))
    cap = mix(cap, face, canvas.cover(top))
    base = mix(belt, belt * 0.35, canvas.cover(outline - 0.015, 0.03))
    base = mix(base, cap, canvas.cover(outline))

    centers = 2 * np.pi * np.arange(n_marks) / n_marks
    frames = [turned(v - 0.195 * np.sin(a), u - 0.195 * np.cos(a), -a) for a in centers]

    def draw(kinds: Kinds) -> Array:
        image = base
        for kind, (y, x) in zip(kinds, frames, strict=True):
            if kind == "dot":
                image = mix(image, (0.90, 0.70, 0.22), canvas.cover(disc(y, x, (0, 0), 0.04)))
            elif kind == "bar":
                image = mix(image, (0.82, 0.20, 0.16), canvas.cover(box(y, x, (0.022, 0.058), 0.008)))
        return np.clip(image, 0, 1)

    kinds = tuple("dot" if k % 2 else "bar" for k in range(n_marks))
    scene = _make_scene(draw, kinds, outline < -0.01, list(range(n_marks)))
    tooth = canvas.cover(outline)[..., None] > 0.02

    def remove(rng: RandomState) -> Array:
        if rng.uniform() < 0.5:
            return scene.remove(rng)
        at = rng.uniform(0, 2 * np.pi)
        bite = disc(v, u, (0.42 * np.sin(at), 0.42 * np.cos(at)), rng.uniform(0.06, 0.10))
        torn = mix(scene.albedo, belt * 0.5, canvas.cover(bite))
        return np.where(tooth, np.clip(torn, 0, 1), scene.albedo)

    return Scene(scene.albedo, scene.body, remove, scene.swap)


def _star(v: Array, u: Array, radius: float, points: int) -> Array:
    """Approximate signed distance to a star."""
    sector = np.pi / points
    angle = np.abs(np.mod(np.arctan2(v, u) + sector, 2 * sector) - sector)
    return np.hypot(v, u) * (np.cos(angle) + 1.6 * np.sin(angle)) - radius


def blister(rng: RandomState, canvas: Canvas) -> Scene:
    """Blister pack: two-coloured capsules in six pockets of embossed foil."""
    v, u = canvas.grid(
        turn=rng.uniform(-0.16, 0.16), zoom=rng.uniform(0.9, 1.1), shift=tuple(rng.uniform(-0.05, 0.05, 2))
    )
    dots = np.sin(2 * np.pi * (v + u) / 0.04) * np.sin(2 * np.pi * (v - u) / 0.04)
    creases = octaves(rng, v, u, 0.2)
    foil = jitter(rng, (0.66, 0.67, 0.69), 0.01) * (1 + 0.09 * dots + 0.10 * creases)[..., None]
    lamp = rng.uniform(0, 2 * np.pi)
    amber, white = jitter(rng, (0.80, 0.36, 0.12), 0.015), jitter(rng, (0.92, 0.90, 0.85), 0.01)
    teal = jitter(rng, (0.15, 0.45, 0.50), 0.015)
    slots = []
    for place_v in (-0.22, 0.22):
        for place_u in (-0.3, 0.0, 0.3):
            at_v, at_u = v - place_v - rng.normal(0, 0.008), u - place_u - rng.normal(0, 0.008)
            slots.append((v - place_v, u - place_u, *turned(at_v, at_u, rng.normal(0, 0.07))))
    grain = 1 + 0.02 * noise(rng, v, u, 0.01)

    packed = foil
    for pocket_v, pocket_u, _, _ in slots:
        pocket = box(pocket_v, pocket_u, (0.185, 0.105), 0.1)
        side = (pocket_v * np.sin(lamp) + pocket_u * np.cos(lamp)) / 0.15
        packed = mix(packed, packed * (0.62 + 0.2 * np.clip(side, -1, 1))[..., None], canvas.cover(pocket))
        packed = mix(packed, packed * 1.5, 0.8 * canvas.cover(np.abs(pocket) - 0.005) * np.clip(side, 0, 1))

    def draw(kinds: Kinds) -> Array:
        image = packed
        for kind, (_, _, y, x) in zip(kinds, slots, strict=True):
            if kind is not None:
                image = _pill(canvas, image, kind, y, x, lamp, (amber, white, teal))
        return np.clip(image * grain[..., None], 0, 1)

    return _make_scene(
        draw,
        ("capsule",) * len(slots),
        np.ones(v.shape, dtype=bool),
        list(range(len(slots))),
        choices=("capsule", "turned capsule", "other capsule", "tablet"),
    )


def _pill(canvas: Canvas, image: Array, kind: str, y: Array, x: Array, lamp: float, colors: tuple) -> Array:
    """Draw one capsule or tablet and its shadow around the origin of its own frame."""
    amber, white, teal = colors
    half = (0.075, 0.075) if kind == "tablet" else (0.145, 0.066)
    shape = box(y, x, half, half[1] - 0.001)
    shadow = box(y - 0.014 * np.sin(lamp), x - 0.014 * np.cos(lamp), half, half[1] - 0.001)
    image = mix(image, image * 0.5, canvas.cover(shadow, 0.02))
    depth = np.clip(-shape / half[1], 0, 1)
    side = (y * np.sin(lamp) + x * np.cos(lamp)) / half[1]
    shade = 0.62 + 0.38 * np.sqrt(depth) - 0.12 * np.clip(side, -1, 1)
    first, second = {
        "capsule": (amber, white),
        "turned capsule": (white, amber),
        "other capsule": (teal, white),
        "tablet": (white, white),
    }[kind]
    color = np.where((y < 0)[..., None], first, second) * shade[..., None]
    if kind == "tablet":
        color = mix(color, color * 0.7, canvas.cover(np.abs(y) - 0.006))
    else:
        color = mix(color, color * 0.75, canvas.cover(np.abs(y) - 0.005))
        gloss = box(y, x + 0.022, (0.10, 0.009), 0.008)
        color = mix(color, np.ones(3), 0.45 * canvas.cover(gloss, 0.01))
    return mix(image, color, canvas.cover(shape))
