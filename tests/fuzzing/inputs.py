"""Strategies of what users might pass as images, labels, numbers and parameters."""

import io
import tempfile
from collections import deque
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st
from PIL import Image

NAN, INF = float("nan"), float("inf")
MODES = (
    "1",
    "L",
    "P",
    "RGB",
    "RGBA",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "LA",
    "PA",
    "RGBX",
    "RGBa",
    "La",
    "I;16",
)
IMAGE_TYPES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "?")
ODD_TYPES = ("c8", "c16", "O", "U3", "S3", "M8[s]", "m8[s]", "V2", "g")


# Images whose score is known


@st.composite
def image_arrays(draw):
    """A few images of one shape, in one type."""
    n, height = draw(st.integers(1, 3)), draw(st.integers(1, 40))
    width = draw(st.sampled_from([1, 2, 3, 4, 5, 8, 17, 20, 33, 200]))
    channels = draw(st.sampled_from([(), (), (1,), (3,), (4,)]))
    dtype = np.dtype(draw(st.sampled_from(IMAGE_TYPES)))
    rng = np.random.RandomState(draw(st.integers(0, 99)))
    shape = (n, height, width, *channels)
    if dtype.kind == "f":
        return rng.uniform(0, 1, shape).astype(dtype)
    if dtype.kind == "b":
        return rng.uniform(0, 1, shape) > 0.5
    return (rng.uniform(0, 1, shape) * np.iinfo(dtype).max).astype(dtype)


def as_tensors(images):
    has_channels = images.ndim == 4
    images = images if images.dtype.kind != "u" or images.itemsize == 1 else None
    if images is None:
        return None
    tensors = torch.tensor(np.ascontiguousarray(images))
    return tensors.movedim(-1, 1) if has_channels else tensors[:, None]


def as_pictures(images):
    fits = images.dtype == np.uint8 and images.shape[-1] != 1
    return [Image.fromarray(image) for image in images] if fits else None


def as_contents(images):
    pictures = as_pictures(images)
    if pictures is None:
        return None
    buffers = [io.BytesIO() for _ in pictures]
    for picture, buffer in zip(pictures, buffers, strict=True):
        picture.save(buffer, "PNG")
    return [buffer.getvalue() for buffer in buffers]


def as_files(images):
    contents = as_contents(images)
    if contents is None:
        return None
    paths = [scratch() / f"{k}.png" for k in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return [str(path) for path in paths]


def as_npy(images):
    paths = [scratch() / f"{k}.npy" for k in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        np.save(path, image)
    return paths


@cache
def scratch():
    folder = tempfile.TemporaryDirectory(prefix="fuzz")
    FOLDERS.append(folder)  # removed at the end of the process
    return Path(folder.name)


FOLDERS = []


def as_objects(images):
    objects = np.empty(len(images), object)
    for k, image in enumerate(images):
        objects[k] = image
    return objects


def with_files(make):
    def frame(images):
        files = make(images)
        return None if files is None else pd.DataFrame({"path": files})

    return frame


FORMS = {
    "as it is": lambda images: images,
    "columns first": np.asfortranarray,
    "other bytes": lambda images: images.astype(images.dtype.newbyteorder("S")),
    "rows backwards": lambda images: images[:, ::-1].copy()[:, ::-1],
    "columns backwards": lambda images: images[:, :, ::-1].copy()[:, :, ::-1],
    "images backwards": lambda images: images[::-1].copy()[::-1],
    "with gaps": lambda images: np.repeat(np.repeat(images, 2, 1), 3, 2)[:, ::2, ::3],
    "read-only": lambda images: np.frombuffer(images.tobytes(), images.dtype).reshape(images.shape),
    "masked nowhere": lambda images: np.ma.array(images),
    "list": list,
    "tuple": tuple,
    "list of columns first": lambda images: [np.asfortranarray(image) for image in images],
    "mixed layouts": lambda images: [np.asfortranarray(im) if k % 2 else im for k, im in enumerate(images)],
    "objects": as_objects,
    "series": lambda images: pd.Series(list(images), index=range(5, 5 + len(images))),
    "tensor": as_tensors,
    "tensor, channels last": lambda images: (
        None if (t := as_tensors(images)) is None else t.contiguous(memory_format=torch.channels_last)
    ),
    "tensors": lambda images: None if (t := as_tensors(images)) is None else list(t),
    "tensor with gradient": lambda images: (
        None if (t := as_tensors(images)) is None or not t.is_floating_point() else t.requires_grad_()
    ),
    "pictures": as_pictures,
    "contents": as_contents,
    "files": as_files,
    "series of files": lambda images: None if (f := as_files(images)) is None else pd.Series(f),
    "frame of files": with_files(as_files),
    "arrays in files": as_npy,
}


# Anything at all

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from([2**31, 2**63, -(2**63), 10**30]),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=4),
    st.sampled_from(
        ["", ".", "/", "\0", "a\0b", "*.png", "~", "good", "\udcff", "memory://a/b.png", "/dev/null"]
    ),
    st.binary(max_size=6),
    st.sampled_from(
        [
            np.float32(1),
            np.int8(3),
            np.bool_(True),
            np.nan,
            np.datetime64("2020-01-01"),
            pd.NA,
            Fraction(1, 3),
        ]
    ),
    st.just(object()),
    st.just(int),
)


@st.composite
def odd_arrays(draw):
    shape = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, 9]), max_size=5)))
    dtype = np.dtype(draw(st.sampled_from((*IMAGE_TYPES, *ODD_TYPES))))
    array = np.zeros(shape, dtype)
    if dtype.kind in "fc" and array.size:
        array.flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from([NAN, INF, -INF, 0.5, -9]))
    if dtype.kind == "O" and array.size:
        array.flat[0] = draw(SCALARS)
    if draw(st.integers(0, 9)) == 0:
        return np.ma.array(array, mask=np.arange(array.size).reshape(shape) % 2 == 0)
    return array


@st.composite
def pictures(draw):
    size = draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
    return Image.new(draw(st.sampled_from(MODES)), size)


@st.composite
def odd_tensors(draw):
    shape = tuple(draw(st.lists(st.sampled_from([0, 1, 3, 8]), max_size=5)))
    dtypes = [
        torch.uint8,
        torch.bool,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float64,
        torch.complex64,
    ]
    return torch.zeros(shape, dtype=draw(st.sampled_from(dtypes)))


LEAVES = st.one_of(SCALARS, odd_arrays(), pictures(), odd_tensors())
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.lists(inner, max_size=3).map(deque),
        st.dictionaries(st.text(max_size=2), inner, max_size=2),
        st.lists(inner, max_size=3).map(iter),
        st.lists(SCALARS, max_size=3).map(lambda items: pd.Series(items, dtype=object)),
    ),
    max_leaves=5,
)

# Labels

LABELS = st.one_of(
    st.lists(st.sampled_from([1, -1]), max_size=5),
    st.lists(st.sampled_from([0, 1]), max_size=5),
    st.lists(
        st.sampled_from([0, 1, -1, 2, 0.5, NAN, None, True, "good", "normal", "bad", "Good", 1j]), max_size=5
    ),
    st.lists(st.booleans(), max_size=5).map(np.array),
    st.lists(st.sampled_from(["good", "normal", "crack"]), max_size=5),
    st.lists(st.sampled_from(["good", "crack", None]), max_size=5).map(pd.Series),
    st.lists(st.sampled_from(["good", "crack"]), max_size=5).map(lambda y: pd.Series(y, dtype="category")),
    st.lists(st.sampled_from([1, -1, None]), max_size=5).map(lambda y: pd.Series(y, dtype="Int64")),
    st.lists(st.sampled_from([1, -1]), max_size=5).map(lambda y: np.array(y, ">i2").reshape(-1, 1)),
    st.lists(st.sampled_from([0, 1]), max_size=5).map(lambda y: torch.tensor(y, dtype=torch.uint8)),
    ANYTHING,
)

# Parameters

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2, 3, 5, 32, 64, 0.0, 0.1, 0.5, 1.0, 1e-30, NAN, INF, -INF]),
    st.sampled_from([np.int64(3), np.float32(0.1), np.bool_(True), np.int64(32)]),
    st.sampled_from(
        ["auto", "nan", "raise", "mean", "fused", "max", "float32", "float64", "torch", "cpu", "constant", ""]
    ),
    st.text(max_size=4).filter(lambda text: not text.strip("./~")),
    st.lists(st.sampled_from([0, 1, 3, 8, 16, 32, 64, NAN, "a", None, 2.5]), max_size=4),
    st.tuples(st.sampled_from([0, 32, 33, 64]), st.sampled_from([32, 40, 255])),
    st.sampled_from([np.array([32, 32]), np.array([8, 16, 32]), np.ones((24, 20)), np.eye(3)]),
    st.sampled_from([b"a", {}, 1j, object()]),
)
