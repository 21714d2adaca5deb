"""anomalib's CS-Flow as an oracle for latent maps, maps, scores and log-determinants."""

import pytest
import torch

from skcsflow.nn import AnomalyMapGenerator, CrossScaleFlow, anomaly_score

torch_model = pytest.importorskip("anomalib.models.image.csflow.torch_model")

pytestmark = pytest.mark.filterwarnings("ignore")  # anomalib and its dependencies warn of their own


@pytest.fixture(scope="module")
def peer():
    """anomalib's flow with random weights and gains, under the names that its CsFlowModel has."""
    torch.manual_seed(0)
    flow = torch_model.CrossScaleFlow((3, 256, 256), 4, 3.0, 16)
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if "gamma" in name:
                parameter.uniform_(0.2, 0.8)
    return flow.eval()


@pytest.fixture(scope="module")
def features():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3, 304, n, n, generator=generator) for n in (8, 4, 2)]


def state_dict(peer, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in peer.state_dict().items()}


def assert_close(actual, expected):
    assert ((actual - expected).abs().max() / expected.abs().max()).item() < 1e-5


@pytest.mark.parametrize("prefix", ["", "graph.", "model.graph."])
def test_from_anomalib_latent_maps_and_log_det_agree(peer, features, prefix):
    flow = CrossScaleFlow.from_anomalib({**state_dict(peer, prefix), "other.weight": torch.zeros(1)})
    with torch.no_grad():
        expected_z, expected_log_det = peer(features)
        z, log_det = flow(features)
    for actual, expected in zip(z, expected_z, strict=True):
        assert_close(actual, expected)
    assert log_det.unique().numel() == 3
    # Its log-determinants are summed over the batch and given to every sample: the fault that we don't share.
    assert expected_log_det.unique().numel() == 1
    assert_close(log_det.sum(), expected_log_det[0])


@pytest.mark.parametrize("mode", ["all", "max"])
def test_from_anomalib_maps_and_scores_agree(peer, features, mode):
    flow = CrossScaleFlow.from_anomalib(state_dict(peer, "graph."))
    with torch.no_grad():
        expected_z, _ = peer(features)
        z, _ = flow(features)
    expected_map = torch_model.AnomalyMapGenerator((3, 256, 256), torch_model.AnomalyMapMode(mode))(
        expected_z
    )
    expected_score = torch_model.CsFlowModel._compute_anomaly_scores(expected_z)
    assert_close(AnomalyMapGenerator((3, 256, 256), mode)(z), expected_map)
    assert_close(anomaly_score(z).float(), expected_score)


def test_from_anomalib_of_whole_model_agrees():
    torch.manual_seed(0)
    model = torch_model.CsFlowModel.__new__(torch_model.CsFlowModel)
    torch.nn.Module.__init__(model)
    model.graph = torch_model.CrossScaleFlow((3, 64, 64), 2, 1.5, 4)
    flow = CrossScaleFlow.from_anomalib(model.state_dict(), clamp=1.5)
    assert len(flow.blocks) == 2
    assert flow.blocks[1].clamp == 1.5
    assert flow.channels == (304,) * 3


def test_from_anomalib_foreign_or_partial_state_dict_raises(peer):
    with pytest.raises(ValueError, match="no key contains 'module_list"):
        CrossScaleFlow.from_anomalib({"conv.weight": torch.zeros(1)})
    partial = {k: v for k, v in state_dict(peer, "graph.").items() if "up_conv10.bias" not in k}
    with pytest.raises(ValueError, match=r"(?s)does not hold the weights.*up\.0\.bias"):
        CrossScaleFlow.from_anomalib(partial)
