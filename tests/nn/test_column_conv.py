"""Convolutions whose gradients are matrix products."""

import pytest
import torch
from torch.nn import functional as F

from skcsflow.nn import CrossScaleFlow, _convolution
from skcsflow.nn._column_conv import column_conv2d, pays_in_columns
from skcsflow.nn._convolution import SubnetConv2d

CASES = [
    # inputs, outputs, kernel, size, stride, padding
    (3, 5, (3, 3), (4, 6), (1, 1), (1, 1)),
    (5, 3, (3, 3), (4, 6), (1, 1), (1, 1)),
    (5, 3, (5, 5), (7, 8), (1, 1), (2, 2)),
    (3, 5, (5, 5), (7, 8), (1, 1), (2, 2)),
    (5, 3, (5, 3), (6, 2), (1, 1), (2, 1)),
    (5, 3, (3, 3), (7, 8), (2, 2), (1, 1)),
    (3, 5, (5, 5), (8, 6), (2, 2), (2, 2)),
    (5, 3, (3, 3), (6, 6), (1, 1), (0, 1)),
    (4, 2, (1, 1), (3, 3), (1, 1), (0, 0)),
    (4, 2, (3, 1), (1, 5), (2, 1), (1, 0)),
    (3, 5, (3, 3), (5, 5), (3, 2), (1, 0)),  # the last row meets no kernel
]


def tensors(case, n=2, dtype=torch.float64):
    n_inputs, n_outputs, kernel_size, size, _, _ = case
    generator = torch.Generator().manual_seed(0)
    shapes = (n, n_inputs, *size), (n_outputs, n_inputs, *kernel_size), (n_outputs,)
    return [torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for s in shapes]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("has_bias", [True, False])
def test_output_and_gradients_are_those_of_torch_in_double_precision(case, has_bias):
    *_, stride, padding = case
    inputs = tensors(case)[: 3 if has_bias else 2]
    bias = inputs[2] if has_bias else None
    y = column_conv2d(inputs[0], inputs[1], bias, stride, padding, torch.float64)
    expected = F.conv2d(inputs[0], inputs[1], bias, stride, padding)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    weighting = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = torch.autograd.grad(y, inputs, weighting)
    for gradient, wanted in zip(found, torch.autograd.grad(expected, inputs, weighting), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_those_of_finite_differences(case):
    *_, stride, padding = case
    assert torch.autograd.gradcheck(
        lambda *inputs: column_conv2d(*inputs, stride, padding, torch.float64), tensors(case, n=1)
    )


@pytest.mark.parametrize(
    "case",
    [
        (128, 256, (3, 3), (4, 4), (1, 1), (1, 1)),
        (256, 128, (5, 5), (8, 8), (1, 1), (2, 2)),
        (256, 128, (3, 3), (8, 8), (2, 2), (1, 1)),
    ],
    ids=str,
)
def test_errors_in_bfloat16_are_like_torchs(case):
    *_, stride, padding = case
    inputs = tensors(case, 16, torch.float32)
    exact_inputs = [t.detach().double().requires_grad_() for t in inputs]
    weighting = torch.randn(
        F.conv2d(*inputs, stride, padding).shape, generator=torch.Generator().manual_seed(1)
    )
    exact = torch.autograd.grad(F.conv2d(*exact_inputs, stride, padding), exact_inputs, weighting.double())
    y = column_conv2d(*inputs, stride, padding, torch.bfloat16)
    found = torch.autograd.grad(y, inputs, weighting.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        by_torch = torch.autograd.grad(F.conv2d(*inputs, stride, padding), inputs, weighting.bfloat16())
    assert y.dtype == torch.bfloat16
    for gradient, plain, expected in zip(found, by_torch, exact, strict=True):
        assert gradient.dtype == torch.float32
        error, torchs = ((g - expected).pow(2).mean().sqrt() for g in (gradient, plain))
        assert 0 < error < 1.2 * torchs


def test_gradient_of_the_weights_alone():
    case = CASES[0]
    x, weight, _ = (t.detach() for t in tensors(case))
    weight.requires_grad_()
    for stride in ((1, 1), (2, 2)):
        y = column_conv2d(x, weight, None, stride, (1, 1), torch.float64)
        (found,) = torch.autograd.grad(y.sum(), weight)
        (expected,) = torch.autograd.grad(F.conv2d(x, weight, None, stride, 1).sum(), weight)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("n", "channels", "kernel_size", "size", "stride", "pays"),
    [
        (16, (152, 1024), 5, 8, 1, True),
        (16, (1024, 304), 3, 8, 1, True),
        (16, (1024, 304), 3, 8, 2, True),
        (16, (152, 1024), 3, 24, 1, False),  # large maps
        (16, (1024, 152), 5, 12, 1, False),
        (16, (64, 96), 3, 8, 1, False),  # narrow
    ],
)
def test_columns_are_for_small_maps_of_wide_convolutions(n, channels, kernel_size, size, stride, pays):
    x, weight = (
        torch.empty(shape, device="meta")
        for shape in ((n, channels[0], size, size), (channels[1], channels[0], kernel_size, kernel_size))
    )
    assert pays_in_columns(x, weight, (stride, stride)) == pays


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("is_autocast", [True, False])
def test_a_flows_convolutions_go_by_columns_in_training_in_bfloat16_alone(
    monkeypatch, is_training, is_autocast
):
    calls = []
    monkeypatch.setattr(_convolution, "column_conv2d", lambda *how: calls.append(how) or column_conv2d(*how))
    conv = SubnetConv2d(128, 128, 5, padding=2).train(is_training)
    x = torch.randn(4, 128, 2, 2, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        y = conv(x)
        expected = F.conv2d(x, conv.weight, conv.bias, padding=2)
    torch.testing.assert_close(y, expected, rtol=2e-2, atol=2e-2)
    assert len(calls) == (is_training and is_autocast)
    if calls:
        assert calls[0][1].shape == (128, 128, 3, 3)  # of 5 x 5, the places that meet the map


def test_double_precision_is_kept_under_autocast():
    conv = SubnetConv2d(128, 128, 3, padding=1).double().train()
    x = torch.randn(4, 128, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    torch.testing.assert_close(y, F.conv2d(x, conv.weight, conv.bias, padding=1), rtol=1e-12, atol=1e-12)


def test_a_wide_flow_has_the_gradients_of_float32_in_bfloat16(monkeypatch):
    flow = CrossScaleFlow(
        64, n_coupling_blocks=2, cross_conv_hidden_channels=512, generator=torch.Generator().manual_seed(0)
    ).train()
    for name, parameter in flow.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.constant_(parameter, 0.3)
    generator = torch.Generator().manual_seed(1)
    features = [torch.randn(8, 64, n, n, generator=generator) for n in (4, 2, 1)]
    gradients = []
    calls = []
    monkeypatch.setattr(_convolution, "column_conv2d", lambda *how: calls.append(how) or column_conv2d(*how))
    for enabled in (False, True):
        flow.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            z, log_det = flow(features)
            loss = sum((m.float() ** 2).sum() for m in z) / 2 - log_det.sum()
        loss.backward()
        gradients.append(
            torch.cat([p.grad.double().flatten() for p in flow.parameters() if p.grad is not None])
        )
    assert calls
    cosine = F.cosine_similarity(*gradients, dim=0)
    assert 0.99 < cosine < 1 - 1e-7
