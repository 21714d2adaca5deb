"""Photographed surfaces, with defects drawn on them: what scikit-image ships, cut into small pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from skcsflow.datasets._canvas import Canvas, Scene, blob, spot_on
from skcsflow.datasets._flaws import FLAWS

PHOTOS = ("brick", "gravel", "grass")
DEFECTS = ("scratch", "crack", "spot", "turned", "blurred")
LEARNT_PART = 0.56
"""Share of a photograph's width, from the left, that training pictures are cut from; the others come from the rest."""

_LEAST_CHANGE = 0.03
_TRIES = 12


class Pictures(NamedTuple):
    """Pictures of one photograph: uint8 of shape (n, size, size), and masks of the defective ones, bool."""

    train: NDArray[np.uint8]
    good: NDArray[np.uint8]
    defective: NDArray[np.uint8]
    masks: NDArray[np.bool_]


def cut_pictures(name: str, n_train: int, n_good: int, n_defective: int, size: int, seed: int) -> Pictures:
    """Cut pictures out of a photograph, and draw a defect on each of the defective ones."""
    import skimage

    photo = np.asarray(Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png").convert("L"))
    rng = RandomState(seed)
    boundary = int(LEARNT_PART * photo.shape[1])
    train = [_to_bytes(rng, _cut(rng, photo[:, :boundary], size)) for _ in range(n_train)]
    good = [_to_bytes(rng, _cut(rng, photo[:, boundary:], size)) for _ in range(n_good)]
    drawn = [
        _with_defect(rng, photo[:, boundary:], size, DEFECTS[k % len(DEFECTS)]) for k in range(n_defective)
    ]
    return Pictures(
        np.array(train),
        np.array(good),
        np.array([_to_bytes(rng, image) for image, _ in drawn]),
        np.array([mask for _, mask in drawn]),
    )


def _cut(rng: RandomState, photo: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    """A random square, flipped at random; from 0 to 1."""
    side = rng.randint(128, 193)
    top, left = (rng.randint(n - side + 1) for n in photo.shape)
    square = photo[top : top + side, left : left + side][:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    resized = Image.fromarray(np.ascontiguousarray(square)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(resized) / 255


def _to_bytes(rng: RandomState, image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """As a camera gives it: another exposure each time, and noise."""
    noise = rng.uniform(0.004, 0.01) * rng.standard_normal(image.shape)
    return np.round(255 * np.clip(rng.uniform(0.93, 1.07) * image + noise, 0, 1)).astype(np.uint8)


def _with_defect(
    rng: RandomState, photo: NDArray[np.uint8], size: int, kind: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A picture with a defect that can be seen, and its mask: the plainest of some tries."""
    best: tuple[float, NDArray[np.float64], NDArray[np.bool_]] | None = None
    for _ in range(_TRIES):
        image = _cut(rng, photo, size)
        defective = np.clip(_drawing(rng, image, photo, kind)(), 0, 1)
        change = np.abs(defective - image)
        mask = change > _LEAST_CHANGE
        if kind in ("turned", "blurred"):  # these differ here and there, and are a patch nevertheless
            mask = ndimage.binary_fill_holes(ndimage.binary_closing(mask, iterations=4))
            mask = ndimage.binary_opening(mask, iterations=2)
        if 0.002 <= mask.mean() <= 0.15:
            contrast = float(change[mask].mean())
            if best is None or contrast > best[0]:
                best = contrast, np.where(mask, defective, image), mask
    if best is None:
        raise RuntimeError(f"no {kind} of a fitting size in {_TRIES} tries")
    return best[1:]


def _drawing(
    rng: RandomState, image: NDArray[np.float64], photo: NDArray[np.uint8], kind: str
) -> Callable[[], NDArray[np.float64]]:
    size = len(image)
    canvas = Canvas(size, size)
    body = np.ones((size, size), dtype=bool)
    if kind in FLAWS:
        scene = Scene(np.repeat(image[..., None], 3, axis=2), body, None, None)
        return lambda: FLAWS[kind](rng, canvas, scene, None).mean(axis=2)

    def patch() -> NDArray[np.float64]:
        radius = rng.uniform(0.06, 0.13)
        row, column = spot_on(rng, canvas, body, radius)
        v, u = canvas.grid()
        cover = canvas.cover(blob(rng, v - row, u - column, radius, roughness=0.08) + 0.01, 0.03)
        if kind == "turned":
            other = np.rot90(_cut(rng, photo, size))
        else:
            other = ndimage.gaussian_filter(image, rng.uniform(2.5, 5) * size / 256)
        return image + (other - image) * cover

    return patch
