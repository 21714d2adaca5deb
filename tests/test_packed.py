"""Networks with weights that are ready compute the same as those without."""

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch
from conftest import TINY
from torch import nn

from skcsflow import CSFlowDetector
from skcsflow._device import autocast
from skcsflow._packed import _PackedConv2d, packed
from skcsflow.nn import CrossScaleFlow, MultiScaleFeatureExtractor

CPU = torch.device("cpu")
CAN_PACK = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")
packs = pytest.mark.skipif(not CAN_PACK, reason="needs oneDNN on x86")


def make_flow(dtype=torch.float32):
    flow = CrossScaleFlow(7, cross_conv_hidden_channels=12, generator=torch.Generator().manual_seed(0)).eval()
    for block in flow.blocks:
        for subnet in (block.subnet1, block.subnet2):
            nn.init.constant_(subnet.gamma, 0.5)
    return flow.to(dtype)


def make_features(size=9, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    sizes = (size, -(-size // 2), -(-size // 4))
    maps = [torch.randn(1, 7, n, n, generator=generator, dtype=torch.float64).to(dtype) for n in sizes]
    return [m.contiguous(memory_format=torch.channels_last) for m in maps]


def has_packed(network):
    return any(isinstance(m, _PackedConv2d) for m in network.modules())


@torch.inference_mode()
def run(network, features, precision="float32"):
    with autocast(CPU, precision):
        return network(features)


@packs
@pytest.mark.parametrize("size", [1, 4, 9])
def test_it_is_as_near_to_float64_as_the_network_itself(size):
    flow, features = make_flow(), make_features(size)
    assert has_packed(packed(flow, "float32"))
    exact, exact_log_det = run(make_flow(torch.float64), make_features(size, torch.float64))
    z, log_det = run(packed(flow, "float32"), features)
    plain, plain_log_det = run(flow, features)
    for i in range(3):
        error = (z[i] - exact[i]).abs().max()
        assert error < max(2 * (plain[i] - exact[i]).abs().max(), 1e-6 * exact[i].abs().max())
    assert (log_det - exact_log_det).abs() < max(2 * (plain_log_det - exact_log_det).abs(), 1e-5)


@packs
def test_sizes_take_turns():
    flow = make_flow()
    small, large = make_features(4), make_features(9)
    of_small, of_large = (run(packed(make_flow(), "float32"), f)[0] for f in (small, large))
    for features, expected in ((small, of_small), (large, of_large), (small, of_small)):
        for z, e in zip(run(packed(flow, "float32"), features)[0], expected, strict=True):
            assert torch.equal(z, e)


def test_bfloat16_is_what_autocast_makes_of_it():
    flow, features = make_flow(), make_features()
    z, log_det = run(packed(flow, "bfloat16"), features, "bfloat16")
    expected, expected_log_det = run(flow, features, "bfloat16")
    if has_packed(packed(flow, "bfloat16")):
        tolerance = {"rtol": 0.02, "atol": 0.02}  # other kernels
    else:
        tolerance = {"rtol": 0, "atol": 0}
    torch.testing.assert_close(z, expected, **tolerance)
    torch.testing.assert_close(log_det, expected_log_det, **tolerance)
    assert all(p.dtype == torch.float32 for p in flow.parameters())


def test_float64_is_the_network_itself():
    flow = make_flow(torch.float64)
    assert packed(flow, "float64") is flow


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("backbone", ["test_efficientnet", "resnet18", "davit_tiny", "nf_resnet26"])
def test_an_extractor_gives_the_same_features(backbone, precision):
    extractor = MultiScaleFeatureExtractor(backbone, weights=None)
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last)
    tolerance = 1e-5 if precision == "float32" else 0.05
    if backbone == "resnet18" and precision == "float32" and CAN_PACK:
        assert has_packed(packed(extractor, precision))
    for f, expected in zip(
        run(packed(extractor, precision), images, precision),
        run(extractor, images, precision),
        strict=True,
    ):
        assert (f - expected).abs().max() <= tolerance * expected.abs().max()


def test_new_weights_are_seen():
    flow, features = make_flow(), make_features()
    before = run(packed(flow, "float32"), features)[1]
    with torch.no_grad():
        flow.blocks[0].subnet1.expand[0].weight.mul_(2)
    after = run(packed(flow, "float32"), features)[1]
    torch.testing.assert_close(after, run(flow, features)[1])
    assert not torch.equal(after, before)


@packs
def test_maps_smaller_than_the_kernel_are_refused_as_torch_refuses_them():
    network = nn.Sequential(nn.Conv2d(1, 1, 3)).eval()
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        run(packed(network, "float32"), torch.zeros(1, 1, 2, 2))


def test_a_copy_and_a_double_are_seen_for_what_they_are():
    flow, features = make_flow(), make_features()
    expected = run(packed(flow, "float32"), features)[1]
    other = copy.deepcopy(flow)
    assert torch.equal(run(packed(other, "float32"), features)[1], expected)
    double = [f.double() for f in features]
    torch.testing.assert_close(
        run(packed(other.double(), "float32"), double)[1], expected.double(), rtol=1e-4, atol=1e-4
    )


@packs
def test_a_wide_flow_scores_a_row_alike_whatever_stands_beside_it():
    X = np.random.default_rng(0).integers(0, 256, size=(7, 64, 64), dtype=np.uint8)
    detector = CSFlowDetector(**{**TINY, "cross_conv_hidden_channels": 128}).fit(X)
    assert has_packed(packed(detector.model_.flow, "float32"))
    scores = detector.score_samples(X)
    np.testing.assert_array_equal(detector.score_samples(X[::-1])[::-1], scores)
    np.testing.assert_array_equal(np.concatenate([detector.score_samples(x[None]) for x in X]), scores)


def test_a_detector_loaded_in_inference_mode_scores_out_of_it():
    X = np.random.default_rng(0).integers(0, 256, size=(6, 64, 64), dtype=np.uint8)
    detector = CSFlowDetector(**TINY).fit(X)
    saved = pickle.dumps(detector)
    with torch.inference_mode():
        loaded = pickle.loads(saved)
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))


def test_it_is_made_once():
    flow = make_flow()
    assert packed(flow, "float32") is packed(flow, "float32")
    assert packed(flow, "float32") is not packed(flow, "bfloat16")


def test_the_network_stays_as_it_was_and_is_freed():
    flow = make_flow()
    state = copy.deepcopy(flow.state_dict())
    run(packed(flow, "float32"), make_features())
    assert not has_packed(flow)
    assert flow.state_dict().keys() == state.keys()
    assert all(torch.equal(v, state[k]) for k, v in flow.state_dict().items())
    conv = weakref.ref(packed(flow, "float32").blocks[0].subnet1.expand[0])
    alive = weakref.ref(flow)
    del flow
    gc.collect()
    assert alive() is None
    assert conv() is None


def test_threads_that_start_together_get_the_same_bits():
    flow, features = make_flow(), make_features()
    expected = run(packed(make_flow(), "float32"), features)[0]

    together = Barrier(8)

    def score(i):
        if i < 8:
            together.wait()
        return run(packed(flow, "float32"), features)[0]

    n_threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(8, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            results = list(pool.map(score, range(32)))
    finally:  # in a thread, it also sets what threads born later start with
        torch.set_num_threads(n_threads)
    for z in results:
        for i in range(3):
            torch.testing.assert_close(z[i], expected[i], rtol=1e-5, atol=1e-6)
            assert torch.equal(z[i], results[0][i])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_convolutions_that_do_something_beside_are_left_alone(precision):
    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    class Padded(nn.Conv2d):
        def _conv_forward(self, x, weight, bias):
            return super()._conv_forward(x + 1, weight, bias)

    class Scaled(nn.Conv2d):
        def __init__(self, *args):
            super().__init__(*args)
            self.gain = nn.Parameter(torch.full((4, 1, 1, 1), 0.1))

        def forward(self, x):
            return self._conv_forward(x, self.weight / 3 * self.gain, self.bias)

    hooked = nn.Conv2d(4, 4, 3)
    hooked.register_forward_hook(lambda module, args, output: output + 1)
    network = nn.Sequential(
        Doubled(3, 4, 3),
        Padded(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same"),
        Scaled(4, 4, 3),
        hooked,
        nn.Conv2d(4, 4, 3, groups=2),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
        nn.Conv2d(4, 5, 1),
    ).eval()
    x = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert not has_packed(packed(network, precision))
    found, expected = run(packed(network, precision), x, precision), run(network, x, precision)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_detector_that_has_scored_is_saved_as_one_that_has_not():
    X = np.random.default_rng(0).integers(0, 256, size=(6, 64, 64), dtype=np.uint8)
    detector = CSFlowDetector(**TINY).fit(X)
    expected = detector.score_samples(X)
    loaded = pickle.loads(pickle.dumps(detector))
    size = len(pickle.dumps(loaded))
    np.testing.assert_array_equal(loaded.score_samples(X), expected)
    assert len(pickle.dumps(loaded)) == size
