"""Resampling by products is torch's own interpolation, with gradients that repeat."""

import pytest
import torch
from torch.nn import functional as F

from skcsflow.nn import interpolation_matrix
from skcsflow.nn._resampling import _bilinear_matrix, resample, resample_by_products

SIZES = [
    ((3, 3), (5, 5)),
    ((5, 4), (10, 7)),
    ((1, 1), (4, 3)),
    ((2, 1), (1, 5)),
    ((10, 10), (5, 5)),
    ((9, 7), (4, 3)),
    ((6, 6), (6, 6)),
]


@pytest.mark.parametrize(("before", "after"), SIZES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_resample_by_products_has_outputs_and_gradients_of_interpolate(before, after, memory_format):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 4, *before, generator=generator, dtype=torch.float64)
    maps = maps.contiguous(memory_format=memory_format).requires_grad_()
    expected = F.interpolate(maps, size=after, mode="bilinear", align_corners=False)
    resampled = resample_by_products(maps, after)
    torch.testing.assert_close(resampled, expected, rtol=1e-12, atol=1e-14)
    direction = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad(resampled, maps, direction),
        torch.autograd.grad(expected, maps, direction),
        rtol=1e-12,
        atol=1e-14,
    )


def test_resample_by_products_keeps_channels_last_and_type():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        maps = torch.rand(2, 4, 3, 3).to(dtype, memory_format=torch.channels_last)
        resampled = resample_by_products(maps, (5, 6))
        assert resampled.dtype == dtype
        assert resampled.is_contiguous(memory_format=torch.channels_last)


def test_resample_by_products_first_used_for_scoring_can_be_trained_with_later():
    _bilinear_matrix.cache_clear()
    maps = torch.rand(1, 2, 3, 3)
    with torch.inference_mode():
        resample_by_products(maps, (5, 5))
    resample_by_products(maps.requires_grad_(), (5, 5)).sum().backward()
    assert maps.grad.sum().item() == pytest.approx(2 * 5 * 5)


def test_resample_on_the_cpu_is_interpolate():
    maps = torch.rand(1, 2, 3, 4)
    expected = F.interpolate(maps, size=(5, 8), mode="bilinear", align_corners=False)
    assert torch.equal(resample(maps, (5, 8)), expected)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(
    ("before", "after"),
    [*SIZES[1:2], *SIZES[4:], ((301, 407), (64, 96)), ((37, 53), (256, 256)), ((300, 300), (256, 256))],
)
def test_interpolation_matrices_resize_as_interpolate_does(before, after, antialias):
    images = torch.rand(2, 3, *before, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = F.interpolate(images, size=after, mode="bilinear", align_corners=False, antialias=antialias)
    rows, columns = (
        interpolation_matrix(m, n, antialias=antialias) for m, n in zip(after, before, strict=True)
    )
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.double() @ images @ columns.double().T, expected, rtol=0, atol=3e-7)
    torch.testing.assert_close(rows.sum(dim=1), torch.ones(after[0]), rtol=0, atol=3e-7)
