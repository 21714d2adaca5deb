"""The flow's convolutions are torch's, without the products that come to nothing."""

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


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
@pytest.mark.parametrize("height", range(1, 9))
def test_outputs_and_gradients_are_those_of_the_whole_kernel(height, kernel_size, stride):
    conv, x = make(height, 9 - height, kernel_size, stride)
    expected = F.conv2d(x, conv.weight, conv.bias, stride, kernel_size // 2)
    y = conv(x)
    torch.testing.assert_close(y, expected)
    direction = torch.randn_like(y)
    inputs = (x, conv.weight, conv.bias)
    torch.testing.assert_close(
        torch.autograd.grad(y, inputs, direction), torch.autograd.grad(expected, inputs, direction)
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
def test_places_that_only_meet_padding_are_cut_off(size, kernel_size, stride, cropped):
    weight = torch.zeros(4, 3, kernel_size, kernel_size)
    padding = (kernel_size // 2,) * 2
    kept, _ = crop_kernel(weight, size, (stride, stride), padding)
    assert kept.shape == (4, 3, *cropped)


@pytest.mark.parametrize(("kernel_size", "size"), [(3, (4, 4)), (5, (5, 6))])
def test_whole_kernels_are_themselves(kernel_size, size):
    weight = torch.zeros(4, 3, kernel_size, kernel_size)
    assert crop_kernel(weight, size, (1, 1), (kernel_size // 2,) * 2)[0] is weight


@pytest.mark.parametrize(("size", "kernel_size", "stride", "padding"), [(1, 1, 5, 2), (0, 4, 1, 2)])
def test_kernels_that_cannot_be_cut_are_whole(size, kernel_size, stride, padding):
    weight = torch.zeros(4, 3, kernel_size, kernel_size)
    kept, same = crop_kernel(weight, (size, size), (stride, stride), (padding, padding))
    assert kept is weight
    assert same == [padding, padding]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 1), (1, 3), (2, 2), (3, 3)])
def test_gradients_in_bfloat16_are_near_those_in_float64(size, kernel_size, stride, memory_format):
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
