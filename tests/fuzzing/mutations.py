"""Whole files of many formats, and files that were damaged."""

import io
import pickle
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
from hypothesis import strategies as st
from PIL import Image
from properties import PIXELS, detector

from skcsflow import save

COLOUR = np.dstack([PIXELS[0], PIXELS[1], PIXELS[2]])


@cache
def image_files():
    """Contents of image files by a name."""
    grey, colour = Image.fromarray(PIXELS[0]), Image.fromarray(COLOUR)
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = {
        "grey.png": (grey, "PNG", {}),
        "colour.png": (colour, "PNG", {}),
        "palette.png": (colour.quantize(16), "PNG", {}),
        "bits.png": (grey.convert("1"), "PNG", {}),
        "16.png": (Image.fromarray(PIXELS[0].astype(np.uint16) * 257), "PNG", {}),
        "grey.jpg": (grey, "JPEG", {}),
        "colour.jpg": (colour, "JPEG", {"exif": exif}),
        "progressive.jpg": (colour, "JPEG", {"progressive": True}),
        "raw.tif": (grey, "TIFF", {}),
        "lzw.tif": (colour, "TIFF", {"compression": "tiff_lzw"}),
        "deflate.tif": (grey, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "colour.bmp": (colour, "BMP", {}),
        "lossy.webp": (colour, "WEBP", {}),
        "lossless.webp": (colour, "WEBP", {"lossless": True}),
        "colour.ppm": (colour, "PPM", {}),
        "grey.pgm": (grey, "PPM", {}),
        "colour.jp2": (colour, "JPEG2000", {}),
    }
    contents = {}
    for name, (picture, kind, options) in pictures.items():
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        contents[name] = buffer.getvalue()
    for name, array in {"grey.npy": PIXELS[0], "float.npy": COLOUR / 255}.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        contents[name] = buffer.getvalue()
    return contents


@cache
def model_files():
    """Contents of files of the detector by their endings."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {
            ending: Path(folder, f"detector.{ending}") for ending in ("skops", "joblib", "pkl", "pickle")
        }
        save(detector(), paths["skops"])
        joblib.dump(detector(), paths["joblib"])
        joblib.dump(detector(), paths["pkl"], compress=1)
        paths["pickle"].write_bytes(pickle.dumps(detector()))
        return {ending: path.read_bytes() for ending, path in paths.items()}


POSITIONS = st.one_of(
    st.integers(0, 63).map(lambda k: ("byte", k)),  # headers
    st.integers(1, 64).map(lambda k: ("end", k)),
    st.floats(0, 1, exclude_max=True).map(lambda share: ("share", share)),
)
NUMBERS = st.sampled_from([0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1])
CHANGES = st.one_of(
    st.tuples(st.just("flip"), POSITIONS, st.integers(1, 255)),
    st.tuples(st.just("number"), POSITIONS, st.tuples(NUMBERS, st.sampled_from([1, 2, 4]), st.booleans())),
    st.tuples(st.just("cut"), POSITIONS, st.none()),
    st.tuples(st.just("insert"), POSITIONS, st.binary(min_size=1, max_size=16)),
    st.tuples(st.just("delete"), POSITIONS, st.integers(1, 64)),
    st.tuples(st.just("repeat"), POSITIONS, st.integers(1, 64)),
    st.tuples(st.just("zero"), POSITIONS, st.integers(1, 256)),
)


def place(position, n):
    kind, value = position
    k = {"byte": value, "end": n - value, "share": int(value * n)}[kind]
    return min(max(k, 0), n)


def change(content, kind, position, value):
    """The content with one thing changed."""
    k = place(position, len(content))
    before, after = content[:k], content[k:]
    if kind == "flip":
        return before + bytes(b ^ value for b in after[:1]) + after[1:]
    if kind == "number":
        number, size, is_little = value
        digits = (number % 2 ** (8 * size)).to_bytes(size, "little" if is_little else "big")
        return before + digits + after[size:]
    if kind == "cut":
        return before
    if kind == "insert":
        return before + value + after
    if kind == "delete":
        return before + after[value:]
    if kind == "repeat":
        return before + after[:value] + after
    return before + bytes(min(value, len(after))) + after[value:]


class Damaged(NamedTuple):
    """One of some files, and what is done to it; short, as hypothesis prints it."""

    name: str
    changes: list[tuple[Any, ...]]
    ends_as: tuple[str, Any] | None

    def content(self, files):
        content = files()[self.name]
        if self.ends_as is not None:  # another file from here on
            name, position = self.ends_as
            other = files()[name]
            content = content[: place(position, len(content))] + other[place(position, len(other)) :]
        for kind, position, value in self.changes:
            content = change(content, kind, position, value)
        return content


def damaged(files):
    names = st.sampled_from(sorted(files()))
    ends = st.one_of(*[st.none()] * 7, st.tuples(names, POSITIONS))
    return st.builds(Damaged, names, st.lists(CHANGES, min_size=1, max_size=4), ends)
