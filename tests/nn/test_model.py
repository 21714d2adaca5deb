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
    ScoreMode,
    anomaly_score,
    log_likelihood,
)


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
    with pytest.raises(ValueError, match="mode must be 'all' or 'max', got 'mean'"):
        AnomalyMapGenerator((3, 4, 4), "mean")


def test_anomaly_score_sums_in_float64():
    z = [torch.full((1, 1, 1024, 1024), 1e-4), torch.full((1, 1, 1, 1), 1e4)]
    expected = (1024**2 * z[0][0, 0, 0, 0].double() ** 2 + 1e8) / (2 * (1024**2 + 1))
    assert anomaly_score(z).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("sizes", "n_highest"), [([(8, 8), (4, 4), (2, 2)], 17), ([(1, 3), (1, 2), (1, 1)], 2)]
)
def test_anomaly_score_top_is_the_mean_over_the_highest_fifth_of_positions(sizes, n_highest):
    generator = torch.Generator().manual_seed(0)
    z = [torch.randn(2, 6, *size, generator=generator) for size in sizes]
    energies = [
        sorted(e for m in z for e in m[k].double().square().mean(dim=0).flatten() / 2) for k in range(2)
    ]
    expected = torch.stack([torch.stack(e[-n_highest:]).mean() for e in energies])
    torch.testing.assert_close(anomaly_score(z, "top"), expected, rtol=1e-12, atol=0)
    assert anomaly_score(z, "top").dtype == torch.float64


def test_anomaly_score_of_unknown_mode_raises():
    with pytest.raises(ValueError, match="mode must be 'mean' or 'top', got 'max'"):
        anomaly_score([torch.zeros(1, 2, 1, 1)], "max")
    with pytest.raises(ValueError, match="score_mode must be 'mean' or 'top', got 'max'"):
        CSFlowModel(64, backbone="test_efficientnet", weights=None, score_mode="max")


def test_model_with_score_mode_top_gives_those_scores():
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model = CSFlowModel(
        64, cross_conv_hidden_channels=8, backbone="test_efficientnet", weights=None, score_mode="top"
    )
    z, _ = model.train()(images)
    assert torch.equal(model.eval()(images).pred_score, anomaly_score(z, "top"))
