"""Synthetic surfaces with defects and exact masks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Integral

import numpy as np
from numpy.random import RandomState
from scipy import ndimage
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval

from skcsflow._checks import as_random_state, check_size, validate_params
from skcsflow._regions import label_regions
from skcsflow.datasets._canvas import Array, Canvas, Scene, light
from skcsflow.datasets._flaws import FLAWS, Surface
from skcsflow.datasets._objects import blister, bottle_cap, circuit, tiles
from skcsflow.datasets._textures import brushed_metal, fabric, granite, wood

_SURFACES: dict[str, Surface] = {
    "fabric": fabric,
    "brushed_metal": brushed_metal,
    "wood": wood,
    "granite": granite,
    "tiles": tiles,
    "circuit": circuit,
    "bottle_cap": bottle_cap,
    "blister": blister,
}
SURFACES: tuple[str, ...] = tuple(_SURFACES)
DEFECTS: tuple[str, ...] = tuple(FLAWS)

_MIN_SIDE = 64
# Objects fill the shorter side. In longer images, a single part would be too small to be a defect.
_MAX_ASPECT = 4
# A pixel is defective if a colour channel changes by more than this, of a full range of 1.
_MASK_THRESHOLD = 0.03
# Regions of a defect that are smaller than this fraction of the image are left out.
_MIN_REGION = 0.0005
_MIN_AREA, _MAX_AREA = 0.002, 0.15
_GOOD_CONTRAST = 0.12
_TRIES_FOR_CONTRAST, _MAX_TRIES = 8, 200

_DESCR = """\
Synthetic surfaces with defects
-------------------------------

{n_normal} normal and {n_defective} defective images of {height} x {width} pixels, drawn by
skcsflow.datasets.make_defects. Every image has its own position, orientation, scale, pattern, illumination
and noise. Masks are exact: where its mask is False, a defective image is identical to the same image without
the defect.

:Surfaces: {surfaces}
:Defects: {defects}
:Target: +1 normal, -1 defective
"""


@dataclass(frozen=True)
class Sample:
    """One image, the same image without its defect, and the mask of the pixels in which they differ."""

    image: Array
    clean: Array
    mask: Array


@validate_params(
    {
        "n_normal": [Interval(Integral, 0, None, closed="left")],
        "n_defective": [Interval(Integral, 0, None, closed="left")],
        "surface": [str, "array-like"],
        "defect": [str, "array-like"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_defects(
    n_normal: int = 100,
    n_defective: int = 50,
    *,
    surface: str | Sequence[str] = "fabric",
    defect: str | Sequence[str] = "all",
    size: int | tuple[int, int] = (128, 128),
    random_state: int | RandomState | None = None,
) -> Bunch:
    """Draw synthetic surfaces, some of them with a defect, and the exact masks of the defects.

    Position, orientation, scale, pattern, illumination and noise differ from image to image. Defects can
    therefore not be found by comparing pixels with a mean image, but by comparing textures and parts.

    Parameters
    ----------
    n_normal : int, default=100
        Number of normal images.
    n_defective : int, default=50
        Number of defective images.
    surface : str or sequence of str, default="fabric"
        One of :data:`SURFACES`, several of them, or "all". The textures are "fabric", "brushed_metal", "wood"
        and "granite", the objects built of parts "tiles", "circuit", "bottle_cap" and "blister".
    defect : str or sequence of str, default="all"
        One of :data:`DEFECTS`, several of them, or "all":

        - "scratch": a thin bent line with a light and a dark flank;
        - "crack": a jagged line with branches;
        - "spot": a translucent stain;
        - "missing_part": a missing part; on textures, a missing yarn or a broken-out piece;
        - "swap": parts exchanged or replaced by others; on textures, two patches exchanged and rotated;
        - "blend": a faded-in patch of another surface.
    size : int or pair of ints (H, W), default=(128, 128)
        Height and width of the images in pixels, each at least 64, and one at most four times the other. An
        int stands for both.
    random_state : int, RandomState instance or None, default=None
        An int gives the same images in each call. None gives other images in each call, and doesn't use
        NumPy's global random state, unlike elsewhere in scikit-learn.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        images, data : ndarray of shape (n_normal + n_defective, height, width, 3), dtype uint8
            The images, RGB: first the normal ones, then the defective ones. Both names hold the same array.
        target, y : ndarray of shape (n_normal + n_defective,), dtype int64
            +1 for normal images, -1 for defective ones. Both names hold the same array.
        masks : ndarray of shape (n_normal + n_defective, height, width), dtype bool
            True where the defect changed the image: where a colour channel differs, before sensor noise, from
            the same image without the defect by more than 3 % of the full range. Elsewhere the two images are
            identical. A defect covers 0.2 % to 15 % of its image.
        defect : ndarray of shape (n_normal + n_defective,), dtype str
            The kind of defect, "good" for normal images.
        surface : ndarray of shape (n_normal + n_defective,), dtype str
            The surface.
        target_names : dict of int to str
            The meaning of the two labels.
        DESCR : str
            A description of the data.

    Raises
    ------
    ValueError
        If a parameter is out of range, or `surface` or `defect` names something unknown.

    Notes
    -----
    Surfaces and defects are used in turn: normal image i shows surface ``i % n_surfaces``, defective image i
    shows surface ``i % n_surfaces`` with defect ``(i // n_surfaces) % n_defects``. Each image has its own random
    state. With an integer `random_state`, the first normal images therefore don't depend on the number of
    images.

    Examples
    --------
    >>> from skcsflow.datasets import make_defects
    >>> data = make_defects(4, 2, surface="tiles", defect=["scratch", "swap"], random_state=0)
    >>> data.images.shape, data.images.dtype, data.y.tolist()
    ((6, 128, 128, 3), dtype('uint8'), [1, 1, 1, 1, -1, -1])
    >>> data.defect.tolist()
    ['good', 'good', 'good', 'good', 'scratch', 'swap']
    >>> data.masks.any(axis=(1, 2)).tolist()
    [False, False, False, False, True, True]
    """
    surfaces = _check_names("surface", surface, SURFACES)
    defects = _check_names("defect", defect, DEFECTS)
    height, width = check_size(size, "size", least=_MIN_SIDE)
    if max(height, width) > _MAX_ASPECT * min(height, width):
        raise ValueError(f"One side of size must be at most {_MAX_ASPECT} times the other, got {size!r}.")
    canvas = Canvas(height, width)
    if n_normal + n_defective == 0:
        raise ValueError("n_normal and n_defective must not both be 0, got n_normal=0 and n_defective=0.")

    n_images = n_normal + n_defective
    images = np.empty((n_images, canvas.height, canvas.width, 3), dtype=np.uint8)
    masks = np.zeros((n_images, canvas.height, canvas.width), dtype=bool)
    plan = list(_plan(n_normal, n_defective, surfaces, defects))
    rng = as_random_state(random_state)
    seeds = rng.randint(0, 2**31 - 1, size=n_images)
    for k, (seed, (surface_name, defect_name)) in enumerate(zip(seeds, plan, strict=True)):
        sample = draw_sample(RandomState(seed), canvas, surface_name, defect_name)
        images[k], masks[k] = sample.image, sample.mask

    target = np.repeat(np.array([1, -1], dtype=np.int64), [n_normal, n_defective])
    return Bunch(
        data=images,
        images=images,
        target=target,
        y=target,
        masks=masks,
        defect=np.array([defect_name or "good" for _, defect_name in plan]),
        surface=np.array([surface_name for surface_name, _ in plan]),
        target_names={1: "normal", -1: "defective"},
        DESCR=_DESCR.format(
            n_normal=n_normal,
            n_defective=n_defective,
            height=canvas.height,
            width=canvas.width,
            surfaces=", ".join(surfaces),
            defects=", ".join(defects),
        ),
    )


def draw_sample(rng: RandomState, canvas: Canvas, surface: str, defect: str | None) -> Sample:
    """Draw one image of a surface, with a defect, or without one if it is None."""
    scene = _SURFACES[surface](rng, canvas)
    lighting = light(rng, canvas)
    blur = rng.uniform(0.3, 0.55)
    clean = _photograph(scene.albedo, lighting, blur)
    defective, mask = clean, np.zeros(clean.shape[:2], dtype=bool)
    if defect is not None:
        defective, mask = _draw_defect(
            rng, canvas, surface, defect, scene, lambda albedo: _photograph(albedo, lighting, blur)
        )
    sensor_noise = rng.uniform(0.008, 0.016) * rng.standard_normal(clean.shape)
    return Sample(_to_bytes(defective + sensor_noise), _to_bytes(clean + sensor_noise), mask)


def _draw_defect(
    rng: RandomState,
    canvas: Canvas,
    surface: str,
    defect: str,
    scene: Scene,
    photograph: Callable[[Array], Array],
) -> tuple[Array, Array]:
    """Draw a defect several times, until its size and contrast are good or there were enough tries; return the best."""
    clean = photograph(scene.albedo)
    others = [name for name in SURFACES if name != surface]
    best: tuple[Array, Array] | None = None
    best_contrast = 0.0
    for attempt in range(_MAX_TRIES):
        other = _SURFACES[others[rng.randint(len(others))]]
        defective = photograph(FLAWS[defect](rng, canvas, scene, other))
        change = np.abs(defective - clean).max(axis=2)
        mask = _drop_small_regions(change > _MASK_THRESHOLD)
        if _MIN_AREA <= mask.mean() <= _MAX_AREA:
            contrast = float(change[mask].mean())
            if contrast > best_contrast:
                best, best_contrast = (np.where(mask[..., None], defective, clean), mask), contrast
        if best is not None and (best_contrast >= _GOOD_CONTRAST or attempt >= _TRIES_FOR_CONTRAST):
            return best
    raise RuntimeError(
        f"No {defect} of the right size on {surface} in {_MAX_TRIES} tries."
    )  # pragma: no cover


def _photograph(albedo: Array, lighting: Array, blur: float) -> Array:
    """Light a surface, and blur it as a lens does."""
    return np.clip(ndimage.gaussian_filter(albedo * lighting, (blur, blur, 0)), 0, 1)


def _to_bytes(image: Array) -> Array:
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _drop_small_regions(mask: Array) -> Array:
    labels, _ = label_regions(mask)
    areas = np.bincount(labels.ravel())
    is_kept = areas >= _MIN_REGION * mask.size
    is_kept[0] = False
    return is_kept[labels]


def _plan(
    n_normal: int, n_defective: int, surfaces: Sequence[str], defects: Sequence[str]
) -> Iterator[tuple[str, str | None]]:
    """Yield the surface and the defect of each image."""
    for k in range(n_normal):
        yield surfaces[k % len(surfaces)], None
    pairs = [(name, kind) for kind, name in product(defects, surfaces)]
    for k in range(n_defective):
        yield pairs[k % len(pairs)]


def _check_names(parameter: str, value: str | Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(value, str):
        names = known if value == "all" else (value,)
    else:
        names = tuple(value)
    unknown = [name for name in names if not isinstance(name, str) or name not in known]
    if unknown or not names:
        options = ", ".join(map(repr, known))
        raise ValueError(
            f"{parameter} must be 'all', one of {options}, or a non-empty sequence of those, got {value!r}."
        )
    return tuple(str(name) for name in names)
