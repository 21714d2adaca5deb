"""Winograd's convolutions are convolutions."""

import pytest
import torch
from torch.nn import functional as F

from skcsflow.nn import CrossScaleFlow, CSFlowLoss, _convolution
from skcsflow.nn._winograd import winograd_conv2d


def draw(kernel_size, size, batch=3, n_in=4, n_out=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(kernel_size)
    shapes = ((batch, n_in, *size), (n_out, n_in, kernel_size, kernel_size), (n_out,))
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def result_and_gradients(function, x, weight, bias):
    y = function(x, weight, bias)
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return [y, *torch.autograd.grad(y, (x, weight, bias), direction.to(y.dtype))]


def direct(x, weight, bias):
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (6, 3), (2, 2), (1, 1), (1, 9)], ids=str)
def test_winograd_is_the_convolution_and_its_gradients(kernel_size, size):
    arguments = draw(kernel_size, size)
    for actual, expected in zip(
        result_and_gradients(winograd_conv2d, *arguments),
        result_and_gradients(direct, *arguments),
        strict=True,
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_winograd_in_chunks_is_the_same(kernel_size, monkeypatch):
    arguments = draw(kernel_size, (6, 5), batch=5)
    whole = result_and_gradients(winograd_conv2d, *arguments)
    monkeypatch.setattr("skcsflow.nn._winograd._CHUNK_BYTES", 1)
    for actual, expected in zip(result_and_gradients(winograd_conv2d, *arguments), whole, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_winograd_takes_any_memory_format(memory_format):
    x, weight, bias = draw(3, (6, 6))
    formatted = (
        x.detach().contiguous(memory_format=memory_format),
        weight.contiguous(memory_format=memory_format),
    )
    torch.testing.assert_close(winograd_conv2d(*formatted, bias), direct(x, weight, bias))


@pytest.mark.parametrize(("kernel_size", "bound"), [(3, 4e-6), (5, 2e-5)])
def test_winograd_in_float32_errs_little_against_float64(kernel_size, bound):
    # Bounds on the largest error over the largest value; a direct convolution's are up to 4e-6 on such maps.
    arguments = draw(kernel_size, (8, 8), batch=2, n_in=256, n_out=64)
    expected = result_and_gradients(direct, *arguments)
    in_float32 = [t.detach().float().requires_grad_() for t in arguments]
    for actual, reference in zip(result_and_gradients(winograd_conv2d, *in_float32), expected, strict=True):
        assert (actual - reference).abs().max() < bound * reference.abs().max()


@pytest.fixture
def everywhere(monkeypatch):
    """Winograd's way for all convolutions of stride 1, and a count of how many took it."""
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return winograd_conv2d(*arguments)

    monkeypatch.setattr(_convolution, "_WIDE", 0)
    monkeypatch.setattr(_convolution, "winograd_conv2d", counted)
    return calls


def make_flow(dtype=torch.float64):
    flow = CrossScaleFlow(
        5, n_coupling_blocks=2, cross_conv_hidden_channels=6, generator=torch.Generator().manual_seed(0)
    )
    for block in flow.blocks:
        torch.nn.init.constant_(block.subnet1.gamma, 0.7)
        torch.nn.init.constant_(block.subnet2.gamma, -0.4)
    return flow.to(dtype)


def test_flow_in_training_is_the_flow_in_evaluation_and_its_inverse_undoes_it(everywhere):
    flow = make_flow()
    generator = torch.Generator().manual_seed(1)
    x = [torch.randn(2, 5, n, n + 1, generator=generator, dtype=torch.float64) for n in (7, 4, 2)]
    z, log_det = flow.train()(x)
    # 2 blocks of 2 subnets, each with expand (3), project (3) and up (2); down has stride 2.
    assert len(everywhere) == 2 * 2 * 8
    inverted, inverse_log_det = flow.inverse(z)
    n_calls = len(everywhere)
    expected_z, expected_log_det = flow.eval()(x)
    assert len(everywhere) == n_calls
    torch.testing.assert_close([*z, log_det], [*expected_z, expected_log_det], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close([*inverted, inverse_log_det], [*x, -log_det], rtol=1e-9, atol=1e-9)


def test_log_det_in_training_is_that_of_autograds_jacobian(everywhere):
    flow = make_flow().train()
    shapes = [(5, 3, 2), (5, 2, 1), (5, 1, 1)]
    sizes = [torch.Size(s).numel() for s in shapes]
    flat = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def flattened(v):
        z, _ = flow([part.view(1, *s) for part, s in zip(v.split(sizes), shapes, strict=True)])
        return torch.cat([m.flatten() for m in z])

    jacobian = torch.autograd.functional.jacobian(flattened, flat)
    _, log_det = flow([part.view(1, *s) for part, s in zip(flat.split(sizes), shapes, strict=True)])
    assert everywhere
    torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian)[1], rtol=1e-9, atol=1e-9)


def test_gradients_of_the_loss_are_those_of_direct_convolutions(everywhere):
    x = [
        torch.randn(3, 5, n, n, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        for n in (6, 3, 2)
    ]
    gradients = []
    for mode in (True, False):
        flow = make_flow().train(mode)
        CSFlowLoss()(*flow(x)).backward()
        gradients.append([p.grad for p in flow.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def test_wide_subnets_take_winograds_way_and_narrow_ones_do_not(monkeypatch):
    taken = []
    monkeypatch.setattr(
        _convolution, "winograd_conv2d", lambda x, w, b: taken.append(w.shape) or winograd_conv2d(x, w, b)
    )
    x = [torch.zeros(1, 192, n, n) for n in (4, 2, 1)]
    for hidden, expected in ((64, 0), (1024, 16)):
        flow = CrossScaleFlow(192, n_coupling_blocks=1, cross_conv_hidden_channels=hidden).train()
        taken.clear()
        with torch.no_grad():
            flow(x)
        assert len(taken) == expected
