"""Solar cells in electroluminescence images (ELPV)."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skcsflow._images import read_image

_CELL_TYPES = ("mono", "poly")

_DESCR = """\
ELPV: solar cells in electroluminescence images
------------------------------------------------

2,624 grey images of 300 x 300 pixels, each one cell cut from one of 44 photovoltaic modules and corrected for
lens distortion and perspective. Each is annotated with the probability of a defect (0, 1/3, 2/3 or 1) and
with the kind of its module, monocrystalline or polycrystalline.

:Number of images: 2,624 (1,074 monocrystalline, 1,550 polycrystalline)
:Target: +1 functional (probability 0), -1 defective (any other probability)
:Source: https://github.com/zae-bayern/elpv-dataset, read from the PyPI package `elpv-dataset`
:Licence: CC BY-NC-SA 4.0 (not for commercial use; this covers the images, not skcsflow)

Please cite:

- Buerhop-Lutz, C.; Deitsch, S.; Maier, A.; Gallwitz, F.; Berger, S.; Doll, B.; Hauch, J.; Camus, C.; Brabec,
  C. J. A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence Imagery.
  European PV Solar Energy Conference and Exhibition (EU PVSEC), 2018.
  DOI 10.4229/35thEUPVSEC20182018-5CV.3.15
- Deitsch, S.; Buerhop-Lutz, C.; Sovetkin, E.; Steland, A.; Maier, A.; Gallwitz, F.; Riess, C. Segmentation of
  photovoltaic module cells in uncalibrated electroluminescence images. Machine Vision and Applications 32(4),
  2021. DOI 10.1007/s00138-021-01191-9
- Deitsch, S.; Christlein, V.; Berger, S.; Buerhop-Lutz, C.; Maier, A.; Gallwitz, F.; Riess, C. Automatic
  classification of defective photovoltaic module cells in electroluminescence images. Solar Energy 185,
  455-468, 2019. DOI 10.1016/j.solener.2019.02.067
"""


def load_elpv(*, subset: str | None = None, return_X_y: bool = False) -> Any:
    """Load the ELPV solar cells: functional and defective, monocrystalline and polycrystalline.

    The images come from the PyPI package ``elpv-dataset``, which ``pip install "skcsflow[elpv]"`` brings.
    Nothing is downloaded. The licence of the images, CC BY-NC-SA 4.0, forbids commercial use.

    Parameters
    ----------
    subset : {"mono", "poly"} or None, default=None
        Load the cells of monocrystalline or of polycrystalline modules only. None loads all.
    return_X_y : bool, default=False
        If True, return ``(images, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        images, data : ndarray of shape (n_images, 300, 300), dtype uint8
            The grey images. Both names hold the same array.
        target, y : ndarray of shape (n_images,), dtype int64
            +1 if the cell is functional (``probability == 0``), -1 otherwise. Both names hold the same array.
        probability : ndarray of shape (n_images,), dtype float64
            The annotated probability of a defect: 0, 1/3, 2/3 or 1.
        cell_type : ndarray of shape (n_images,), dtype str
            "mono" or "poly".
        target_names : dict of int to str
            The meaning of the two labels.
        filenames : ndarray of shape (n_images,), dtype str
            Names of the image files inside the package, such as "cell0001.png".
        DESCR : str
            Description, source, licence and citations.

    (images, target) : tuple of ndarray
        If `return_X_y` is True.

    Raises
    ------
    ValueError
        If `subset` is neither None, "mono" nor "poly".
    ImportError
        If the package ``elpv-dataset`` is not installed.

    Examples
    --------
    >>> from skcsflow.datasets import load_elpv
    >>> cells = load_elpv(subset="mono")
    >>> cells.images.shape
    (1074, 300, 300)
    >>> int((cells.target == 1).sum())
    588
    """
    if subset is not None and (not isinstance(subset, str) or subset not in _CELL_TYPES):
        raise ValueError(f"subset must be 'mono', 'poly' or None, got {subset!r}.")
    try:
        import elpv_dataset
    except ImportError as error:
        raise ImportError(
            "load_elpv needs the package elpv-dataset, which holds the images. Install it with "
            'pip install "skcsflow[elpv]".'
        ) from error

    folder = Path(elpv_dataset.__file__).parent / "data"
    lines = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if line.strip()]
    rows = [row for row in rows if subset in (None, row[2])]

    images = np.empty((len(rows), 300, 300), dtype=np.uint8)
    for image, (name, _, _) in zip(images, rows, strict=True):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(
                f"The image {name!r} of {str(folder / 'labels.csv')!r} lies outside of its folder."
            )
        image[...] = read_image(folder / name, f"The image {name!r}")
    # The file rounds 1/3 and 2/3 to a few decimals.
    probability = np.rint([3 * float(row[1]) for row in rows]) / 3
    target = np.where(probability == 0, 1, -1).astype(np.int64)
    if return_X_y:
        return images, target
    return Bunch(
        data=images,
        images=images,
        target=target,
        y=target,
        probability=probability,
        cell_type=np.array([row[2] for row in rows]),
        target_names={1: "functional", -1: "defective"},
        filenames=np.array([row[0].rsplit("/", 1)[-1] for row in rows]),
        DESCR=_DESCR,
    )
