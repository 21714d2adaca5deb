"""Image data for anomaly detection: real cells, folders of images, synthetic defects."""

from skcsflow._images import list_images
from skcsflow.datasets._elpv import load_elpv
from skcsflow.datasets._folder import load_image_folder, read_mask
from skcsflow.datasets._synthetic import DEFECTS, SURFACES, make_defects

__all__ = [
    "DEFECTS",
    "SURFACES",
    "list_images",
    "load_elpv",
    "load_image_folder",
    "make_defects",
    "read_mask",
]
