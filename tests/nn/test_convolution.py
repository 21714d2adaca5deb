"""The flow's convolutions are torch's, without the products that come to nothing."""

from itertools import product

import pytest
import torch
from torch.nn import functional as F

from skcsflow.nn._convolution import SubnetConv2d, crop_kernel


def make(height, width, kernel_size, stride, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    conv = SubnetConv2d(3, 4, kernel_size, stride=stride, padding=kernel_size // 2).double()
    for parameter in conv.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    conv = conv.to(dtype)
    x = torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64).to(dtype)
    return conv, x.requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_conv_of_any_geometry_has_outputs_and_gradients_of_the_whole_kernel(dtype):
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {}
    for height, kernel_size, stride in product(range(1, 9), (1, 3, 5, 7), (1, 2)):
        conv, x = make(height, 9 - height, kernel_size, stride, dtype)
        expected = F.conv2d(x, conv.weight, conv.bias, stride, kernel_size // 2)
        y = conv(x)
        message = f"{height=} {kernel_size=} {stride=}"
        torch.testing.assert_close(y, expected, msg=message, **tolerance)
        direction = torch.randn_like(y)
        inputs = (x, conv.weight, conv.bias)
        gradients = torch.autograd.grad(y, inputs, direction)
        torch.testing.assert_close(
            gradients, torch.autograd.grad(expected, inputs, direction), msg=message, **tolerance
        )


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "cropped"),
    [
        ((8, 8), 5, 1, (5, 5)),
        ((3, 2), 5, 1, (5, 3)),
        ((1, 1), 5, 1, (1, 1)),
        ((2, 1), 3, 1, (3, 1)),
        ((8, 8), 5, 2, (5, 5)),
        ((2, 4), 5, 2, (2, 5)),
        ((1, 2), 3, 2, (1, 2)),
    ],
)
def test_crop_kernel_places_that_only_meet_padding_are_cut_off(size, kernel_size, stride, cropped):
    weight = torch.zeros(4, 3, kernel_size, kernel_size)
    kept, _ = crop_kernel(weight, size, (stride, stride), (kernel_size // 2,) * 2)
    assert kept.shape == (4, 3, *cropped)


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "padding"),
    [
        ((4, 4), 3, 1, 1),
        ((5, 6), 5, 1, 2),
        ((1, 1), 1, 5, 2),  # cropped, there would be no output left
        ((0, 0), 4, 1, 2),
    ],
)
def test_crop_kernel_with_nothing_to_cut_gives_the_kernel_itself(size, kernel_size, stride, padding):
    weight = torch.zeros(4, 3, kernel_size, kernel_size)
    kept, same = crop_kernel(weight, size, (stride, stride), (padding, padding))
    assert kept is weight
    assert same == [padding, padding]


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 1), (1, 3), (2, 2), (3, 3)])
def test_conv_in_bfloat16_has_gradients_near_those_in_float64(size):
    formats = (torch.contiguous_format, torch.channels_last)
    for kernel_size, stride, memory_format in product((3, 5), (1, 2), formats):
        conv, x = make(*size, kernel_size, stride, torch.float32)
        x = x.detach().contiguous(memory_format=memory_format).requires_grad_()
        exact, exact_x = make(*size, kernel_size, stride)
        direction = torch.randn(conv(x).shape, generator=torch.Generator().manual_seed(1))
        expected = torch.autograd.grad(exact(exact_x), (exact_x, *exact.parameters()), direction.double())
        for _ in range(20):
            # What they leave in memory shows where a gradient isn't written.
            for n in range(4, 18):
                torch.full((2**n,), float("nan"), dtype=torch.bfloat16)
            with torch.autocast("cpu", torch.bfloat16):
                y = conv(x)
            gradients = torch.autograd.grad(y, (x, *conv.parameters()), direction.to(y.dtype))
            for gradient, e in zip(gradients, expected, strict=True):
                assert (gradient - e).abs().max() < 0.03 * e.abs().max()
