"""A coupling block and its subnet beside the paper's formulas, written out scale by scale."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skcsflow.nn import CrossScaleCoupling, CrossScaleFlow, CrossScaleSubnet, EnergyStatistics
from skcsflow.nn._coupling import soft_clamp

SIZES = {
    "rounded up": [(10, 7), (5, 4), (3, 2)],
    "rounded down": [(9, 7), (4, 3), (2, 1)],
}


def make_subnet(in_channels, out_channels, kernel_size=3):
    generator = torch.Generator().manual_seed(0)
    subnet = CrossScaleSubnet(in_channels, out_channels, [6, 5, 4], kernel_size)
    subnet.reset_parameters(generator)
    with torch.no_grad():
        subnet.gamma.uniform_(0.5, 2, generator=generator)
    return subnet.double()


def make_maps(channels, sizes):
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(2, c, *size, generator=generator).double()
        for c, size in zip(channels, sizes, strict=True)
    ]


@pytest.mark.parametrize("clamp", [0.5, 1.9, 3.0])
def test_soft_clamp_is_equation_6(clamp):
    s = np.linspace(-20, 20, 101)
    expected = 0.636 * clamp * np.arctan(s / clamp)
    np.testing.assert_allclose(soft_clamp(torch.from_numpy(s), clamp), expected, rtol=1e-12)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_subnet_is_that_of_figure_4(sizes):
    subnet = make_subnet([2, 3, 4], [4, 6, 8])
    x = make_maps([2, 3, 4], sizes)

    def conv(layer, maps, stride=1):
        return F.conv2d(maps, layer.weight, layer.bias, stride=stride, padding=1)

    def fit(maps, size):
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)

    h = [torch.where(y > 0, y, 0.1 * y) for y in (conv(subnet.expand[i], x[i]) for i in range(3))]
    expected = [
        conv(subnet.project[0], h[0]) + conv(subnet.up[0], fit(h[1], sizes[0])),
        conv(subnet.project[1], h[1])
        + conv(subnet.up[1], fit(h[2], sizes[1]))
        + fit(conv(subnet.down[0], h[0], stride=2), sizes[1]),
        conv(subnet.project[2], h[2]) + fit(conv(subnet.down[1], h[1], stride=2), sizes[2]),
    ]
    for i, actual in enumerate(subnet(x)):
        torch.testing.assert_close(actual, subnet.gamma[i] * expected[i], rtol=1e-10, atol=1e-10)


def test_coupling_is_that_of_figure_3():
    channels, sizes = [5, 4], [(4, 3), (2, 2)]  # 5 are split into 2 and 3
    coupling = CrossScaleCoupling(channels, [6, 6], 3, 1.5).double()
    generator = torch.Generator().manual_seed(0)
    for subnet in (coupling.subnet1, coupling.subnet2):
        subnet.reset_parameters(generator)
        torch.nn.init.uniform_(subnet.gamma, 0.5, 2, generator=generator)
    x = make_maps(channels, sizes)
    x1, x2 = [m[:, : m.shape[1] // 2] for m in x], [m[:, m.shape[1] // 2 :] for m in x]
    log_det = torch.zeros(2).double()
    y1, y2 = [], []
    for m, r in zip(x1, coupling.subnet2(x2), strict=True):
        a = soft_clamp(r[:, : m.shape[1]], 1.5)
        y1.append(a.exp() * m + r[:, m.shape[1] :])
        log_det += a.sum(dim=(1, 2, 3))
    for m, r in zip(x2, coupling.subnet1(y1), strict=True):
        a = soft_clamp(r[:, : m.shape[1]], 1.5)
        y2.append(a.exp() * m + r[:, m.shape[1] :])
        log_det += a.sum(dim=(1, 2, 3))
    y, actual = coupling(x)
    torch.testing.assert_close(actual, log_det, rtol=1e-10, atol=1e-10)
    for maps, first, second in zip(y, y1, y2, strict=True):
        torch.testing.assert_close(maps, torch.cat([first, second], dim=1), rtol=1e-10, atol=1e-10)


def test_transform_stays_in_full_precision_under_autocast():
    coupling = CrossScaleCoupling([4], [6], 3, 1.5)
    for subnet in (coupling.subnet1, coupling.subnet2):
        subnet.reset_parameters(torch.Generator().manual_seed(0))
        torch.nn.init.ones_(subnet.gamma)
    x = [m.float() for m in make_maps([4], [(4, 4)])]
    with torch.autocast("cpu", torch.bfloat16):
        y, log_det = coupling(x)
        back, _ = coupling.inverse(y)
    assert y[0].dtype == log_det.dtype == torch.float32
    torch.testing.assert_close(back[0], x[0], rtol=1e-5, atol=1e-5)


def test_weights_are_float32_whatever_torchs_default_is():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        modules = [CrossScaleFlow(4, cross_conv_hidden_channels=2, whiten=True), EnergyStatistics(3)]
    finally:
        torch.set_default_dtype(before)
    for module in modules:
        types = {name: t.dtype for name, t in module.state_dict().items() if t.is_floating_point()}
        assert set(types.values()) == {torch.float32}, types
