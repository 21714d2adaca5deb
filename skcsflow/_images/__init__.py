"""Any images that a user has -> checked tensors. The one place where image files are read."""

from skcsflow._images._collection import DIGEST_SIZE, ImageCollection, check_images
from skcsflow._images._containers import EXTENSIONS, as_sequence, list_images, visible_entries, walk_files
from skcsflow._images._framing import LARGEST_SIDE, SMALLEST_TILE, Framing
from skcsflow._images._masks import mask_files, read_mask_file
from skcsflow._images._reader import (
    MAX_PIXELS,
    content_size,
    image_size,
    load_file,
    read_image,
    read_pil,
)
from skcsflow._images._rows import check_rows, is_row_matrix, resolve_image_shape
from skcsflow._images._standardize import standardize

__all__ = [
    "DIGEST_SIZE",
    "EXTENSIONS",
    "LARGEST_SIDE",
    "MAX_PIXELS",
    "SMALLEST_TILE",
    "Framing",
    "ImageCollection",
    "as_sequence",
    "check_images",
    "check_rows",
    "content_size",
    "image_size",
    "is_row_matrix",
    "list_images",
    "load_file",
    "mask_files",
    "read_image",
    "read_mask_file",
    "read_pil",
    "resolve_image_shape",
    "standardize",
    "visible_entries",
    "walk_files",
]
