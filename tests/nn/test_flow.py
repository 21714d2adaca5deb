"""The flow's maths, proven in float64 with gains that aren't 0."""

import numpy as np
import pytest
import torch
from sklearn.covariance import oas

from skcsflow.nn import CrossScaleFlow, CrossScaleSubnet, CSFlowLoss, ScaleWhitening
from skcsflow.nn._coupling import _sum_per_sample
from skcsflow.nn._whitening import oas_shrinkage

SIZES = {
    "10/5/3": [(10, 10), (5, 5), (3, 3)],
    "19/10/5": [(19, 19), (10, 10), (5, 5)],
    "1/1/1": [(1, 1), (1, 1), (1, 1)],
    "not square": [(8, 3), (4, 2), (2, 1)],
    "rounded down": [(9, 9), (4, 4), (2, 2)],
    "one scale": [(5, 4)],
    "two scales": [(5, 4), (3, 2)],
    "five scales": [(20, 13), (10, 7), (5, 4), (3, 2), (2, 1)],
}
UNEQUAL = [5, 8, 7, 2, 12]
"""Channels of as many scales as there are."""


def of_scales(channels, sizes):
    return channels[: len(sizes)] if isinstance(channels, list) else [channels] * len(sizes)


def make_features(channels, sizes, batch_size=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch_size, c, *size, generator=generator).double()
        for c, size in zip(of_scales(channels, sizes), sizes, strict=True)
    ]


def make_flow(channels, *, whiten=False, seed=1, **params):
    """A small flow in float64 with random gains and, if asked, whitening set from random data."""
    generator = torch.Generator().manual_seed(seed)
    params = {"n_coupling_blocks": 2, "cross_conv_hidden_channels": 6, **params}
    flow = CrossScaleFlow(channels, whiten=whiten, generator=generator, **params).double()
    with torch.no_grad():
        for block in flow.blocks:
            for subnet in (block.subnet1, block.subnet2):
                subnet.gamma.uniform_(0.5, 2, generator=generator)
    if whiten:
        mixing = [torch.randn(c, c, generator=generator).double() for c in flow.channels]
        data = make_features(list(flow.channels), [(4, 4)] * flow.n_scales, batch_size=9, seed=seed)
        mixed = [torch.einsum("ij,bjhw->bihw", m, x) + 3 for m, x in zip(mixing, data, strict=True)]
        flow.initialize_whitening([mixed])
    return flow


def relative_error(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(
    ("sizes", "channels", "whiten", "shared_permutations"),
    [
        ([(4, 3), (2, 2), (1, 1)], 4, False, True),
        ([(4, 3), (2, 2), (1, 1)], 5, True, False),
        ([(1, 1), (1, 1), (1, 1)], 5, True, True),
        ([(1, 1), (1, 1), (1, 1)], 4, False, False),
        ([(5, 2), (3, 1), (2, 1)], 5, False, False),
        ([(5, 2), (3, 1), (2, 1)], 4, True, True),
        ([(5, 2), (3, 1), (2, 1)], UNEQUAL, True, False),
        ([(5, 2), (3, 1), (2, 1), (1, 1), (1, 1)], UNEQUAL, False, True),
        ([(5, 2)], UNEQUAL, True, True),
    ],
)
def test_flow_log_det_is_that_of_autograds_jacobian(sizes, channels, whiten, shared_permutations):
    channels = of_scales(channels, sizes)
    flow = make_flow(channels, whiten=whiten, shared_permutations=shared_permutations)
    features = make_features(channels, sizes)
    n_dims = [c * h * w for c, (h, w) in zip(channels, sizes, strict=True)]
    _, log_det = flow(features)

    def forward(flat):
        parts = zip(flat.split(n_dims), channels, sizes, strict=True)
        z, _ = flow([part.reshape(1, c, *size) for part, c, size in parts])
        return torch.cat([m.flatten() for m in z])

    for sample in range(2):
        flat = torch.cat([x[sample].flatten() for x in features])
        _, expected = torch.linalg.slogdet(torch.autograd.functional.jacobian(forward, flat))
        assert abs(log_det[sample] - expected) <= 1e-9 * abs(expected)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(
    ("channels", "whiten"), [(6, True), (7, True), (7, False), (UNEQUAL, True), (UNEQUAL, False)]
)
def test_flow_inverse_of_forward_is_identity(sizes, channels, whiten):
    channels = of_scales(channels, sizes)
    hidden = [6, 3, 4, 5, 7][: len(sizes)]
    flow = make_flow(channels, whiten=whiten, cross_conv_hidden_channels=hidden)
    features = make_features(channels, sizes, batch_size=3)
    z, log_det = flow(features)
    assert [m.shape for m in z] == [x.shape for x in features]
    assert log_det.shape == (3,)
    assert max(relative_error(m, x) for m, x in zip(z, features, strict=True)) > 0.1  # not the identity
    restored, inverse_log_det = flow.inverse(z)
    for x, r in zip(features, restored, strict=True):
        assert relative_error(r, x) < 1e-9
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=1e-9, atol=0)


def test_flow_log_det_depends_on_its_own_sample_alone():
    flow = make_flow(6, whiten=True)
    features = make_features(6, SIZES["10/5/3"], batch_size=4)
    _, together = flow(features)
    alone = torch.cat([flow([x[b : b + 1] for x in features])[1] for b in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=0)
    assert together.unique().numel() == 4


def loss_and_gradients(flow, features):
    flow.zero_grad()
    loss = CSFlowLoss()(*flow(features))
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in flow.parameters()]


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("scales", ["10/5/3", "five scales"])
def test_loss_of_a_duplicated_batch_is_the_same_and_so_is_its_gradient(scales, whiten):
    channels = of_scales(UNEQUAL, SIZES[scales])
    flow = make_flow(channels, whiten=whiten)
    features = make_features(channels, SIZES[scales])
    loss, gradients = loss_and_gradients(flow, features)
    doubled_loss, doubled_gradients = loss_and_gradients(flow, [torch.cat([x, x]) for x in features])
    torch.testing.assert_close(doubled_loss, loss, rtol=1e-12, atol=0)
    for doubled, gradient in zip(doubled_gradients, gradients, strict=True):
        torch.testing.assert_close(doubled, gradient, rtol=1e-9, atol=1e-15)


def test_loss_is_the_mean_of_the_losses_of_single_samples():
    flow = make_flow(6)
    z, log_det = flow(make_features(6, SIZES["10/5/3"], batch_size=3))
    alone = [CSFlowLoss()([m[b : b + 1] for m in z], log_det[b : b + 1]) for b in range(3)]
    torch.testing.assert_close(CSFlowLoss()(z, log_det), torch.stack(alone).mean(), rtol=1e-12, atol=0)
    energies = sum(m.square().sum() for m in z) / 2
    n_dims = sum(m[0].numel() for m in z)
    torch.testing.assert_close(
        torch.stack(alone).sum(), (energies - log_det.sum()) / n_dims, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("scales", ["10/5/3", "five scales"])
def test_loss_has_a_gradient_for_every_parameter(scales):
    channels = of_scales(UNEQUAL, SIZES[scales])
    flow = make_flow(channels)
    _, gradients = loss_and_gradients(flow, make_features(channels, SIZES[scales]))
    for (name, _), gradient in zip(flow.named_parameters(), gradients, strict=True):
        assert gradient.abs().max() > 0, name


def test_flow_without_training_is_the_identity_but_for_permutations():
    flow = CrossScaleFlow(6, cross_conv_hidden_channels=4)
    features = [x.float() for x in make_features(6, SIZES["10/5/3"])]
    z, log_det = flow(features)
    assert (log_det == 0).all()
    for m, x in zip(z, features, strict=True):
        assert torch.equal(m.sort(dim=1).values, x.sort(dim=1).values)


def test_flow_generator_decides_weights_and_global_state_is_left_alone():
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    flows = [
        CrossScaleFlow(4, cross_conv_hidden_channels=4, generator=torch.Generator().manual_seed(s))
        for s in (5, 5, 6)
    ]
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [flow.blocks[0].subnet1.expand[0].weight for flow in flows]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def anomalib_state_dict(n_blocks=3):
    """A flow, and its weights under the names that they have in anomalib's model."""
    flow = CrossScaleFlow(6, n_coupling_blocks=n_blocks, cross_conv_hidden_channels=4)
    state_dict = {}
    for k, block in enumerate(flow.blocks):
        for i, subnet in enumerate((block.subnet1, block.subnet2), start=1):
            prefix = f"graph.module_list.{2 * k + 1}.cross_convolution{i}"
            state_dict |= {f"{prefix}.gamma{s}": gain[None] for s, gain in enumerate(subnet.gamma.detach())}
            for ours, theirs in {
                "expand": ("conv_scale0_0", "conv_scale1_0", "conv_scale2_0"),
                "project": ("conv_scale0_1", "conv_scale1_1", "conv_scale2_1"),
                "up": ("up_conv10", "up_conv21"),
                "down": ("down_conv01", "down_conv12"),
            }.items():
                for conv, name in zip(getattr(subnet, ours), theirs, strict=True):
                    state_dict |= {f"{prefix}.{name}.{n}": t for n, t in conv.state_dict().items()}
    return flow, state_dict


def test_from_anomalib_restores_weights_and_leaves_global_random_state():
    expected, state_dict = anomalib_state_dict()
    before = torch.get_rng_state()
    flow = CrossScaleFlow.from_anomalib(state_dict)
    assert torch.equal(torch.get_rng_state(), before)
    assert flow.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(t, expected.state_dict()[name]) for name, t in flow.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_from_anomalib_keeps_type_and_clamp(dtype):
    _, state_dict = anomalib_state_dict()
    state_dict = {name: t.to(dtype) for name, t in state_dict.items()}
    for clamp, options in [(3.0, {}), (1.5, {"clamp": 1.5})]:
        flow = CrossScaleFlow.from_anomalib(state_dict, **options)
        assert {block.clamp for block in flow.blocks} == {clamp}
        assert {t.dtype for t in flow.parameters()} == {dtype}


@pytest.mark.parametrize("missing", [1, 3, 5])
def test_from_anomalib_missing_block_raises(missing):
    _, state_dict = anomalib_state_dict()
    partial = {key: t for key, t in state_dict.items() if f"module_list.{missing}." not in key}
    with pytest.raises(ValueError, match="state_dict does not hold the weights of anomalib's CsFlowModel"):
        CrossScaleFlow.from_anomalib(partial)


@pytest.mark.parametrize("name", ["foo.weight", "gamma_x", "conv_scale0_0.foo"])
def test_from_anomalib_unknown_weight_raises(name):
    _, state_dict = anomalib_state_dict()
    state_dict[f"graph.module_list.1.cross_convolution1.{name}"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"(?s)does not hold the weights of anomalib's.*(foo|gamma_x)"):
        CrossScaleFlow.from_anomalib(state_dict)


@pytest.mark.parametrize("shared", [False, True])
def test_flow_permutations_are_those_of_numpys_generator_of_the_block(shared):
    channels = [9, 9, 5]
    flow = CrossScaleFlow(
        channels, cross_conv_hidden_channels=1, n_coupling_blocks=3, shared_permutations=shared
    )
    for k in range(3):
        rng = np.random.default_rng(k)
        expected = [rng.permutation(c) for c in channels]
        if shared:
            expected = [np.random.default_rng(k).permutation(c) for c in channels]
            np.testing.assert_array_equal(expected[0], expected[1])
        for i in range(3):
            np.testing.assert_array_equal(flow.permutations[i][k], expected[i])
    assert {"permutations_0", "permutations_1", "permutations_2"} <= flow.state_dict().keys()


def test_flow_of_the_paper_has_275_million_parameters(monkeypatch):
    monkeypatch.setattr(CrossScaleSubnet, "reset_parameters", lambda subnet, generator: None)  # takes seconds
    flow = CrossScaleFlow(304)
    assert round(sum(p.numel() for p in flow.parameters()) / 1e6) == 275
    assert [block.subnet1.expand[0].kernel_size for block in flow.blocks] == [(3, 3)] * 3 + [(5, 5)]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"channels": 1}, "channels must be at least 2, got 1"),
        ({"channels": [4, 1]}, r"channels must be at least 2, got \[4, 1\]"),
        ({"channels": []}, r"channels must be at least 2, got \[\]"),
        ({"n_scales": 0}, "channels must be"),
        ({"cross_conv_hidden_channels": [2, 2]}, r"one for each of 3 scales, got \[2, 2\]"),
        ({"n_coupling_blocks": 0}, "n_coupling_blocks must be at least 1, got 0"),
        ({"cross_conv_hidden_channels": 0}, "cross_conv_hidden_channels must be at least 1, got 0"),
        ({"clamp": 0.0}, r"clamp must be positive, got 0\.0"),
        ({"clamp": float("nan")}, "clamp must be positive, got nan"),
        ({"kernel_sizes": [3, 4]}, r"odd positive numbers, one per coupling block, got \[3, 4\]"),
        ({"kernel_sizes": [3]}, r"kernel_sizes must be 2 odd .* got \[3\]"),
    ],
)
def test_flow_bad_parameter_raises(params, message):
    with pytest.raises(ValueError, match=message):
        CrossScaleFlow(**{"channels": 4, "n_coupling_blocks": 2, "cross_conv_hidden_channels": 2, **params})


@pytest.mark.parametrize(
    "params", [{"n_coupling_blocks": 1}, {"clamp": 0.01}, {"kernel_sizes": [1, 1]}, {"n_scales": 1}], ids=str
)
def test_flow_smallest_parameters_are_taken(params):
    flow = CrossScaleFlow(
        **{"channels": 2, "n_coupling_blocks": 2, "cross_conv_hidden_channels": 1, **params}
    )
    features = make_features(2, [(4, 4), (2, 2), (1, 1)][: flow.n_scales])
    z, log_det = flow.double()(features)
    assert [m.shape for m in z] == [m.shape for m in features]
    assert (log_det == 0).all()


def test_flow_by_default_is_the_papers():
    flow = CrossScaleFlow(2)
    assert flow.n_scales == 3
    assert len(flow.blocks) == 4
    for block, kernel_size in zip(flow.blocks, [3, 3, 3, 5], strict=True):
        assert block.clamp == 3
        assert block.subnet1.expand[0].weight.shape == (1024, 1, kernel_size, kernel_size)
    for permutation in flow.permutations[1:]:
        torch.testing.assert_close(permutation, flow.permutations[0])
    assert flow.whitening is None


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 4, 4, 4), (2, 4, 2, 2)], "at 3 scales, got 2"),
        ([(2, 5, 4, 4), (2, 4, 2, 2), (2, 4, 1, 1)], r"got \(2, 5, 4, 4\) at scale 0"),
        ([(2, 4, 4, 4), (3, 4, 2, 2), (2, 4, 1, 1)], r"got \(3, 4, 2, 2\) at scale 1"),
        ([(4, 4, 4), (4, 2, 2), (4, 1, 1)], r"got \(4, 4, 4\) at scale 0"),
    ],
)
def test_flow_bad_features_raise(shapes, message):
    flow = CrossScaleFlow(4, cross_conv_hidden_channels=2)
    with pytest.raises(ValueError, match=message):
        flow([torch.zeros(shape) for shape in shapes])


def test_whitening_of_its_data_has_mean_0_and_identity_covariance():
    whitening = ScaleWhitening([5] * 3).double()
    mixing = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)).double()
    data = [
        1000 + torch.einsum("ij,bjhw->bihw", mixing, x)
        for x in make_features(5, SIZES["10/5/3"], batch_size=40)
    ]
    whitening.initialize([[x[:15] for x in data], [x[15:] for x in data]], shrinkage=0.0)
    whitened, _ = whitening(data)
    for x in whitened:
        columns = x.movedim(1, 0).flatten(1)
        torch.testing.assert_close(columns.mean(dim=1), torch.zeros(5).double(), rtol=0, atol=1e-9)
        torch.testing.assert_close(
            columns @ columns.T / columns.shape[1], torch.eye(5).double(), rtol=0, atol=1e-9
        )


@pytest.mark.parametrize("n", [2, 10, 1000])
def test_whitening_shrinks_as_scikit_learns_oas(n):
    data = np.random.RandomState(0).normal(size=(n, 6)) @ np.diag([1, 2, 3, 4, 5, 6]) + 7
    _, expected = oas(data)
    covariance = torch.from_numpy(np.cov(data.T, bias=True))
    assert oas_shrinkage(covariance, n) == pytest.approx(expected, rel=1e-9)
    # One position an image: whitening by the shrunk covariance.
    whitening = ScaleWhitening([6]).double()
    whitening.initialize([[torch.from_numpy(data)[:, :, None, None]]])
    weight = torch.linalg.inv(whitening.scales[0].inverse_weight @ whitening.scales[0].inverse_weight)
    torch.testing.assert_close(torch.linalg.inv(weight), torch.from_numpy(oas(data)[0]), rtol=1e-6, atol=1e-9)


def test_whitening_counts_images_and_not_positions():
    generator = torch.Generator().manual_seed(0)
    data = [torch.randn(8, 5, 6, 6, generator=generator).double() * torch.arange(1.0, 6)[:, None, None]]
    by_images, by_positions, plain = (ScaleWhitening([5]).double() for _ in range(3))
    by_images.initialize([[data[0][:3]], [data[0][3:]]])
    columns = data[0].movedim(1, 0).flatten(1)
    by_positions.initialize([[columns.T[:, :, None, None]]])
    covariance = torch.from_numpy(np.cov(columns.numpy(), bias=True))
    plain.initialize([data], shrinkage=oas_shrinkage(covariance, 8))
    torch.testing.assert_close(by_images.scales[0].weight, plain.scales[0].weight)
    assert (by_images.scales[0].weight - by_positions.scales[0].weight).abs().max() > 0.01


@pytest.mark.parametrize("value", [0.0, 3.5])
def test_whitening_of_constant_features_stays_finite(value):
    whitening = ScaleWhitening([4] * 3)
    whitening.initialize([[torch.full((3, 4, 2, 2), value)] * 3])
    whitened, log_det = whitening([torch.full((1, 4, 2, 2), value)] * 3)
    assert all((x == 0).all() for x in whitened)
    assert (log_det == 0).all()


def test_whitening_of_fewer_positions_than_channels_stays_invertible():
    whitening = ScaleWhitening([8] * 3).double()
    features = make_features(8, SIZES["1/1/1"], batch_size=3)
    whitening.initialize([features])
    restored, _ = whitening.inverse(whitening(features)[0])
    for x, r in zip(features, restored, strict=True):
        torch.testing.assert_close(r, x, rtol=1e-9, atol=1e-9)


def test_flow_sets_its_whitening_with_the_shrinkage_that_is_given():
    data = make_features(4, [(4, 4)], batch_size=9)
    flows = [CrossScaleFlow([4], whiten=True, cross_conv_hidden_channels=2).double() for _ in range(3)]
    for flow, shrinkage in zip(flows, (None, 0.0, 0.5), strict=True):
        flow.initialize_whitening([data], shrinkage=shrinkage)
        expected = ScaleWhitening([4]).double()
        expected.initialize([data], shrinkage=shrinkage)
        torch.testing.assert_close(flow.whitening([*data])[0], expected([*data])[0])
    found = [flow.whitening([*data])[0][0] for flow in flows]
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[1], found[2])
    with pytest.raises(ValueError, match=r"^This flow has no whitening layer; build it with whiten=True\.$"):
        CrossScaleFlow([4], cross_conv_hidden_channels=2).initialize_whitening([data])


def test_whitening_of_bad_data_raises():
    with pytest.raises(ValueError, match="at least one batch"):
        ScaleWhitening([4] * 3).initialize([])
    with pytest.raises(ValueError, match="scale 0 hold NaN or infinity"):
        ScaleWhitening([4] * 3).initialize([[torch.full((1, 4, 2, 2), float("nan"))] * 3])
    with pytest.raises(ValueError, match="whiten=True"):
        CrossScaleFlow(4, cross_conv_hidden_channels=2).initialize_whitening([])


def test_loss_with_log_det_of_another_shape_raises():
    with pytest.raises(ValueError, match=r"shape \(2,\), got shape \(\)"):
        CSFlowLoss()([torch.zeros(2, 3, 1, 1)], torch.tensor(0.0))


def test_loss_of_known_values_is_that_of_the_formula():
    z = [torch.full((2, 3, 2, 2), 2.0), torch.full((2, 3, 1, 1), 1.0)]
    loss = CSFlowLoss()(z, torch.tensor([1.0, 4.0]))
    expected = np.mean([((12 * 4 + 3) / 2 - 1) / 15, ((12 * 4 + 3) / 2 - 4) / 15])
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_log_det_of_large_maps_has_the_same_bits_on_any_number_of_threads(memory_format):
    # A full sum of so many values would be split among threads.
    before = torch.get_num_threads()
    try:
        for seed in range(8):
            generator = torch.Generator().manual_seed(seed)
            maps = [torch.randn(1, 64, 48, 48, generator=generator).contiguous(memory_format=memory_format)]
            sums = []
            for n_threads in (1, 2, 3):
                torch.set_num_threads(n_threads)
                sums.append(_sum_per_sample(maps).item())
            assert len(set(sums)) == 1
    finally:
        torch.set_num_threads(before)
