"""Image data for anomaly detection: real cells, folders of images, synthetic defects."""

from skcsflow.datasets._elpv import load_elpv
from skcsflow.datasets._folder import load_image_folder, read_mask
from skcsflow.datasets._synthetic import DEFECTS, SURFACES, make_defects

__all__ = ["DEFECTS", "SURFACES", "load_elpv", "load_image_folder", "make_defects", "read_mask"]
