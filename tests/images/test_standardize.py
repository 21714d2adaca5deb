"""Decoded images from 0 to 1, of one size and type."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skcsflow._images import standardize

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
)
def test_standardize_integers_scales_by_the_range_of_their_type(dtype):
    dtype = np.dtype(dtype)
    top = 1 if dtype.kind == "b" else np.iinfo(dtype).max
    array = np.array([[0, top], [top // 2, top // 4]], dtype)
    image = standardize([torch.from_numpy(array)[None]], (2, 2), torch.float64, CPU)
    expected = torch.from_numpy(array.astype(np.float64) / float(top))
    torch.testing.assert_close(image[0, 0], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_standardize_floats_takes_them_as_they_are(dtype):
    image = torch.tensor([[[0, -1.5], [0.25, 300]]], dtype=dtype)
    assert torch.equal(standardize([image], (2, 2), torch.float64, CPU)[0], image.double())


def test_standardize_gives_the_type_asked_for():
    image = torch.randint(0, 256, (3, 9, 7), dtype=torch.uint8)
    for dtype in (torch.float32, torch.float64):
        assert standardize([image], (8, 8), dtype, CPU).dtype == dtype


def test_standardize_to_the_same_size_changes_nothing():
    images = torch.rand(2, 3, 9, 7)
    assert torch.equal(standardize(list(images), (9, 7), torch.float32, CPU), images)


def test_standardize_to_a_smaller_size_averages():
    checkers = torch.from_numpy((np.indices((64, 64)).sum(axis=0) % 2).astype(np.float32))[None]
    small = standardize([checkers], (8, 8), torch.float32, CPU)
    torch.testing.assert_close(small, torch.full((1, 1, 8, 8), 0.5), atol=0.02, rtol=0)


def test_standardize_images_of_several_sizes_and_types_gives_each_as_alone():
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.rand(3, 9, 7, generator=generator),
        torch.rand(3, 20, 30, generator=generator),
        (255 * torch.rand(3, 9, 7, generator=generator)).to(torch.uint8),
        torch.rand(1, 9, 7, generator=generator).expand(3, -1, -1),  # grey
    ]
    together = standardize(images, (16, 12), torch.float32, CPU)
    assert together.shape == (4, 3, 16, 12)
    for image, found in zip(images, together, strict=True):
        assert torch.equal(standardize([image], (16, 12), torch.float32, CPU)[0], found)
    expected = F.interpolate(images[0][None], size=(16, 12), mode="bilinear", antialias=True)
    torch.testing.assert_close(together[:1], expected)


@pytest.mark.parametrize("kinds", ["colour", "grey", "grey first", "colour first"])
def test_standardize_images_of_one_size_and_type_gives_each_as_alone(kinds):
    colour = list(torch.randint(0, 256, (4, 3, 40, 30), dtype=torch.uint8))
    grey = [image[:1].expand(3, -1, -1) for image in colour]
    images = {
        "colour": colour,
        "grey": grey,
        "grey first": [grey[0], colour[1], grey[2]],
        "colour first": [colour[0], grey[1]],
    }[kinds]
    together = standardize(images, (16, 32), torch.float32, CPU)
    alone = [standardize([image], (16, 32), torch.float32, CPU)[0] for image in images]
    assert torch.equal(together, torch.stack(alone))
    assert not torch.equal(alone[0], alone[1])
