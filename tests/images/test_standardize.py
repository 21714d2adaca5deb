"""Decoded images from 0 to 1, of one size and type."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skcsflow._images import _standardize, standardize

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


LAYOUTS = {
    "channels first": lambda image: image,
    "channels last": lambda image: image.movedim(0, -1).contiguous().movedim(-1, 0),
    "three of four": lambda image: (
        torch.cat([image, image[:1]]).movedim(0, -1).contiguous().movedim(-1, 0)[:3]
    ),
    "grey": lambda image: image[:1].expand(3, -1, -1),
    "one channel": lambda image: image[:1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "uint16", "int32", "float16", "bfloat16", "float32", "float64"]
)
def test_standardize_in_bands_gives_the_bits_of_one_resize(monkeypatch, dtype, layout):
    dtype = getattr(torch, dtype)
    top = (
        1 if dtype.is_floating_point else 1.99 if dtype == torch.bool else min(torch.iinfo(dtype).max, 60000)
    )
    generator = torch.Generator().manual_seed(0)
    for shape in [(97, 83), (40, 200), (200, 40), (1, 300), (300, 1)]:
        values = torch.rand(3, *shape, generator=generator, dtype=torch.float64) * top
        image = LAYOUTS[layout](values.int().to(dtype) if top > 1 else values.to(dtype))
        # Smaller and larger in either dimension, and of the same width, height or both.
        for size in [(32, 32), (150, 20), (20, 150), (256, 256), (97, 20), (32, 83), (97, 83)]:
            monkeypatch.setattr(_standardize, "BAND_PIXELS", 2**40)
            expected = standardize([image], size, torch.float64, CPU)
            for n_pixels in (50, 1000):  # less than a row, and some rows
                monkeypatch.setattr(_standardize, "BAND_PIXELS", n_pixels)
                found = standardize([image], size, torch.float64, CPU)
                assert found.shape == expected.shape
                assert found.numpy().tobytes() == expected.numpy().tobytes(), (shape, size, n_pixels)


def test_standardize_of_several_large_images_gives_each_as_alone(monkeypatch):
    monkeypatch.setattr(_standardize, "BAND_PIXELS", 500)
    images = list(torch.randint(0, 256, (3, 3, 40, 30), dtype=torch.uint8))
    together = standardize(images, (16, 32), torch.float32, CPU, (10, 200))
    alone = [standardize([image], (16, 32), torch.float32, CPU, (10, 200))[0] for image in images]
    assert torch.equal(together, torch.stack(alone))


@pytest.mark.parametrize("n_pixels", [50, 2**18], ids=["in bands", "whole"])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int64", "float32", "float64"])
def test_standardize_with_a_value_range_makes_low_0_and_high_1(monkeypatch, dtype, n_pixels):
    monkeypatch.setattr(_standardize, "BAND_PIXELS", n_pixels)
    array = np.array([[0, 1, 30, 90]] * 20).astype(dtype)
    image = standardize([torch.from_numpy(array)[None]], array.shape, torch.float64, CPU, (-1, 3))
    np.testing.assert_allclose(image[0, 0], (array.astype(float) + 1) / 4, rtol=1e-6)
