"""The whole torch model, and maps and scores from latent maps."""

import re

import numpy as np
import pytest
import torch

from skcsflow.nn import (
    AnomalyMapGenerator,
    AnomalyMapMode,
    CSFlowLoss,
    CSFlowModel,
    EnergyStatistics,
    ScoreMode,
    anomaly_score,
    log_likelihood,
)
from skcsflow.nn._energies import _log_softplus, _or_one


@pytest.fixture
def model():
    return CSFlowModel((96, 64), 4, backbone="test_efficientnet", weights=None)


def make_latent(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 4, n, n, generator=generator) for n in (4, 2, 1)]


def test_model_in_training_mode_gives_latent_maps_and_log_det(model):
    z, log_det = model.train()(torch.rand(2, 3, 96, 64))
    assert [tuple(m.shape) for m in z] == [(2, 64, 3, 2), (2, 64, 2, 1), (2, 64, 1, 1)]
    assert log_det.shape == (2,)
    CSFlowLoss()(z, log_det).backward()
    assert all(p.grad is not None for p in model.flow.parameters())
    assert all(p.grad is None for p in model.feature_extractor.parameters())


def test_model_in_evaluation_mode_gives_maps_and_scores(model):
    output = model.eval()(torch.rand(2, 3, 96, 64))
    assert output.anomaly_map.shape == (2, 1, 96, 64)
    assert output.pred_score.shape == (2,)
    anomaly_map, pred_score = output
    assert anomaly_map is output.anomaly_map
    assert pred_score is output.pred_score


def test_model_scores_are_means_of_half_squares(model):
    images = torch.rand(2, 3, 96, 64)
    z, _ = model.train()(images)
    flat = torch.cat([m.flatten(1) for m in z], dim=1).double()
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images).pred_score, (flat**2 / 2).mean(dim=1))


@pytest.mark.parametrize("num_channels", [1, 12])
def test_model_of_other_channel_counts_gives_maps(num_channels):
    model = CSFlowModel(64, 4, num_channels=num_channels, backbone="test_efficientnet", weights=None).eval()
    assert model(torch.rand(1, num_channels, 64, 64)).anomaly_map.shape == (1, 1, 64, 64)


def test_model_tells_its_size_mode_device_and_type(model):
    assert (model.input_size, model.score_mode) == ((96, 64), ScoreMode.MEAN)
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    assert model.double().dtype == torch.float64


def test_model_scale_maps_are_mean_squares_over_channels(model):
    z = make_latent()
    for scale_map, m in zip(model.scale_maps(z), z, strict=True):
        torch.testing.assert_close(scale_map, (m**2).mean(dim=1, keepdim=True))


def test_model_rebuilt_from_config_takes_state_dict(model):
    twin = CSFlowModel(**{**model.config, "weights": None}, seed=5)
    twin.load_state_dict(model.state_dict())
    images = torch.rand(1, 3, 96, 64)
    assert torch.equal(twin.eval()(images).pred_score, model.eval()(images).pred_score)


@pytest.mark.parametrize("input_size", [0, (64, -1), (64,), (64, 64, 3), 64.0, "64", None, (64, None)])
def test_model_with_bad_input_size_raises(input_size):
    with pytest.raises(ValueError, match=rf"input_size must be .*, got {re.escape(repr(input_size))}\."):
        CSFlowModel(input_size, 4, backbone="test_efficientnet", weights=None)


@pytest.mark.parametrize("input_size", [np.int64(1), (np.int32(40), 64), np.array([40, 64])])
def test_model_with_input_size_of_any_integers_keeps_ints(input_size):
    model = CSFlowModel(input_size, 4, backbone="test_efficientnet", weights=None)
    size = model.config["input_size"]
    assert [type(n) for n in size] == [int, int]
    assert model.eval()(torch.rand(1, 3, *size)).anomaly_map.shape[2:] == size


def test_log_likelihood_is_that_of_a_normal_distribution():
    z, log_det = make_latent(), torch.tensor([3.0, -40.0])
    flat = torch.cat([m.flatten(1) for m in z], dim=1).double()
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(flat).sum(dim=1) + log_det
    assert log_likelihood(z, log_det).dtype == torch.float64
    torch.testing.assert_close(log_likelihood(z, log_det), expected / flat.shape[1], rtol=1e-12, atol=0)


def test_map_all_is_product_of_upsampled_scales():
    z = make_latent()
    maps = AnomalyMapGenerator((3, 4, 4))(z)
    expected = (z[0] ** 2).mean(dim=1, keepdim=True)
    for m in z[1:]:
        expected = expected * torch.nn.functional.interpolate(
            (m**2).mean(dim=1, keepdim=True), size=(4, 4), mode="bilinear"
        )
    torch.testing.assert_close(maps, expected)


def test_map_max_is_largest_scale_alone():
    z = make_latent()
    maps = AnomalyMapGenerator((3, 4, 4), AnomalyMapMode.MAX)(z)
    torch.testing.assert_close(maps, (z[0] ** 2).mean(dim=1, keepdim=True))
    assert torch.equal(maps, AnomalyMapGenerator((3, 4, 4), "max")(z))


def test_map_of_local_anomaly_peaks_there():
    z = [torch.zeros(1, 4, 8, 8), torch.ones(1, 4, 4, 4), torch.ones(1, 4, 2, 2)]
    z[0][..., 2, 5] = 3
    anomaly_map = AnomalyMapGenerator((3, 256, 256))(z)[0, 0]
    row, column = divmod(anomaly_map.argmax().item(), 256)
    assert (row // 32, column // 32) == (2, 5)


def test_map_of_unknown_mode_raises():
    with pytest.raises(ValueError, match="mode must be 'all' or 'max' or 'fused', got 'mean'"):
        AnomalyMapGenerator((3, 4, 4), "mean")


def test_anomaly_score_sums_in_float64():
    z = [torch.full((1, 1, 1024, 1024), 1e-4), torch.full((1, 1, 1, 1), 1e4)]
    expected = (1024**2 * z[0][0, 0, 0, 0].double() ** 2 + 1e8) / (2 * (1024**2 + 1))
    assert anomaly_score(z).item() == pytest.approx(expected.item(), rel=1e-12)


def random_energies(n, sizes=((20, 15), (10, 8), (5, 4)), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [[(3 * torch.randn(size, generator=generator)).exp() for size in sizes] for _ in range(n)]


def as_batch(images):
    return [torch.stack(maps)[:, None] for maps in zip(*images, strict=True)]


def logs_of_images(images):
    """The definition, in NumPy: logarithms of the mean of the highest hundredth, rounded up, and of the coarsest."""
    counts = [int(np.ceil(0.01 * m.numel())) for m in images[0]]
    means = []
    for maps in images:
        flat = [np.sort(m.numpy().astype(float), axis=None) for m in maps]
        means.append([*(f[-k:].mean() for f, k in zip(flat, counts, strict=True)), flat[-1].mean()])
    return np.log(means)


def test_fused_score_is_that_of_the_definition():
    normal, images = random_energies(12), random_energies(5, seed=1)
    statistics = EnergyStatistics(3).double()
    statistics.initialize(normal)
    logs = logs_of_images(normal)
    standardised = (logs_of_images(images) - logs.mean(axis=0)) / logs.std(axis=0, ddof=1)
    expected = np.log(np.log1p(np.exp(standardised)).sum(axis=1))
    scores = statistics.score(as_batch(images))
    assert scores.dtype == torch.float64
    np.testing.assert_allclose(scores, expected, rtol=1e-9)


def smoothed(maps):
    """Weights 1/6, 2/3 and 1/6 along both axes; beyond the edge lies the edge's value."""
    axis = torch.tensor([1.0, 4.0, 1.0]) / 6
    padded = torch.nn.functional.pad(maps, (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.conv2d(padded, torch.outer(axis, axis)[None, None])


def upsampled(maps, size):
    return torch.nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def test_fused_map_is_the_smoothed_sum_of_the_two_largest_scales_standardised_logarithms():
    normal, images = random_energies(12), random_energies(5, seed=1)
    statistics = EnergyStatistics(3)
    statistics.initialize(normal)
    maps = AnomalyMapGenerator((3, 40, 30), "fused", statistics).fuse(as_batch(images), (40, 30))
    values = []
    for i in range(2):
        logs = np.log([maps[i].numpy() for maps in normal])
        values.append((as_batch(images)[i].log() - logs.mean()) / logs.std())
    expected = upsampled(smoothed(values[0] + upsampled(values[1], (20, 15))), (40, 30))
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_scales", [1, 2, 4])
def test_fused_scores_and_maps_of_any_number_of_scales_are_finite(n_scales):
    sizes = [(-(-9 // 2**i), -(-6 // 2**i)) for i in range(n_scales)]
    statistics = EnergyStatistics(n_scales)
    statistics.initialize(random_energies(3, sizes))
    images = as_batch(random_energies(4, sizes, seed=1))
    assert statistics.score(images).isfinite().all()
    assert AnomalyMapGenerator((3, 9, 6), "fused", statistics).fuse(images, (9, 6)).isfinite().all()


def test_fused_map_without_statistics_is_of_plain_logarithms():
    images = as_batch(random_energies(2))
    maps = AnomalyMapGenerator((3, 20, 15), "fused").fuse(images, (20, 15))
    expected = smoothed(images[0].log() + upsampled(images[1].log(), (20, 15)))
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ratio", [1.001, 3.0, 1e4])
@pytest.mark.parametrize("mode", ["fused", "max", "all"])
def test_half_level_is_the_map_of_half_the_excess_energy(mode, ratio):
    statistics = EnergyStatistics(3).double()
    statistics.initialize(random_energies(12))
    generator = AnomalyMapGenerator((3, 4, 4), mode, statistics)
    normal = [torch.full((1, 1, 2, 2), mean, dtype=torch.float64).exp() for mean in statistics.mean.tolist()]
    peak, expected = (
        generator.fuse([r * m for m in normal], (4, 4))[0, 0, 0, 0].item() for r in (ratio, (1 + ratio) / 2)
    )
    assert generator.half_level(peak) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_half_level_of_a_peak_not_above_normal_images_is_below_everything():
    for mode, normal in (("fused", 0.0), ("max", 1.0), ("all", 1.0)):
        generator = AnomalyMapGenerator((3, 4, 4), mode)
        for peak in (normal, normal - 0.5, -1e30):
            assert generator.half_level(peak) == -np.inf


def test_half_level_of_a_very_high_peak_is_finite_and_lower():
    for mode in ("fused", "max", "all"):
        assert 0 < AnomalyMapGenerator((3, 4, 4), mode).half_level(1e30) <= 1e30


@pytest.mark.parametrize("energy", [0.0, 1.0])
@pytest.mark.parametrize("n", [1, 4])
def test_statistics_of_images_that_are_all_alike_give_finite_scores(n, energy):
    sizes = [(4, 4), (2, 2)]
    statistics = EnergyStatistics(2)
    statistics.initialize([[torch.full(size, energy) for size in sizes]] * n)
    images = [torch.full((2, 1, *size), 0.5) for size in sizes]
    assert statistics.score(images).isfinite().all()
    assert all(m.isfinite().all() for m in statistics.standardize(images))


def test_scores_rise_with_energies_everywhere():
    statistics = EnergyStatistics(1).double()  # with which the energy's logarithm is t
    for t in (-30, 0, 20, 40):
        energies = torch.linspace(t - 1e-6, t + 1e-6, 5, dtype=torch.float64).exp()
        scores = statistics.score([energies[:, None, None, None].expand(-1, 1, 4, 4)])
        assert (scores.diff() > 0).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1)])
def test_fused_map_of_constant_energies_is_constant(size):
    maps = [torch.full((1, 1, *size), 2.0), torch.full((1, 1, 1, 1), 3.0)]
    fused = AnomalyMapGenerator((3, 8, 9), "fused").fuse(maps, (8, 9))
    torch.testing.assert_close(fused, torch.full((1, 1, 8, 9), 6.0).log())


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_scores_of_energies_far_from_those_of_normal_images_are_finite_and_in_order(factor):
    normal = random_energies(1)
    statistics = EnergyStatistics(3).double()
    statistics.initialize([[m * (1 + 1e-6 * k) for m in maps] for maps in normal for k in range(4)])
    far, farther = ([m[None, None] * f for m in normal[0]] for f in (factor, factor**1.1))
    scores = torch.cat([statistics.score(far), statistics.score(farther)])
    assert scores.isfinite().all()
    assert (scores.diff() > 0).item() == (factor > 1)


def test_log_softplus_is_that_of_numpy_in_float64():
    t = np.concatenate([np.linspace(-40, 40, 801), np.linspace(-6.5, -5.5, 101)])
    found = _log_softplus(torch.from_numpy(t)).numpy()
    np.testing.assert_allclose(found, np.log(np.logaddexp(0, t)), rtol=2e-15, atol=1e-15)


def test_standard_deviations_of_values_that_are_all_alike_count_as_one():
    found = _or_one(torch.tensor([0.0, 1e-3, 0.5, 2.0]))
    assert found.tolist() == pytest.approx([1.0, 1e-3, 0.5, 2.0])


def test_statistics_of_no_image_raise():
    with pytest.raises(ValueError, match="at least one image"):
        EnergyStatistics(2).initialize([])


def test_model_of_unknown_score_mode_raises():
    with pytest.raises(ValueError, match="score_mode must be 'mean' or 'fused', got 'max'"):
        CSFlowModel(64, backbone="test_efficientnet", weights=None, score_mode="max")


def test_model_with_score_mode_fused_gives_those_scores_and_maps():
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model = CSFlowModel(
        64,
        cross_conv_hidden_channels=8,
        backbone="test_efficientnet",
        weights=None,
        strides=(8, 16, 32, 64),
        score_mode="fused",
        map_mode="fused",
    )
    z, _ = model.train()(images)
    maps = [[m[0] for m in of_image] for of_image in zip(*model.scale_maps(z), strict=True)]
    model.statistics.initialize(maps)
    output = model.eval()(images)
    assert torch.equal(output.pred_score, model.statistics.score(model.scale_maps(z)))
    assert torch.equal(output.anomaly_map, model.anomaly_map_generator(z))
    copied = CSFlowModel(**model.config).eval()
    copied.load_state_dict(model.state_dict())
    assert torch.equal(copied(images).pred_score, output.pred_score)


@pytest.mark.slow
def test_torch_export_saves_and_loads_the_model(tmp_path):
    model = CSFlowModel((64, 64), 8, 1, backbone="test_efficientnet", weights=None).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.export.save(torch.export.export(model, (images,)), tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    with torch.no_grad():
        for found, expected in zip(loaded(images), model(images), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", list(AnomalyMapMode))
def test_half_levels_are_those_of_single_peaks(mode):
    statistics = EnergyStatistics(3)
    draw = torch.Generator().manual_seed(0)
    statistics.initialize([[torch.rand(n, n, generator=draw) for n in (8, 4, 2)] for _ in range(5)])
    generator = AnomalyMapGenerator((3, 64, 64), mode, statistics)
    peaks = torch.tensor([-3.0, 0.0, 1e-6, 0.01, 0.2, 0.9, 3.0, 50.0, 1e4], dtype=torch.float64)
    expected = torch.tensor([generator.half_level(p) for p in peaks.tolist()], dtype=torch.float64)
    torch.testing.assert_close(generator.half_levels(peaks), expected, rtol=1e-12, atol=0)
    assert expected.isfinite().any()
    assert expected.isinf().any()
