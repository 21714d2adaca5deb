"""What only a GPU can show; collected everywhere, and skipped where there is none.

Random weights throughout, so that nothing but the package itself and torch, NumPy, scikit-learn and pytest is needed.
"""

import copy
import gc
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import BY_DEFAULT, TINY
from sklearn.model_selection import GridSearchCV

from skcsflow import CSFlowDetector, _training
from skcsflow._compute import RecordedFunction, Runner, cuda_kernels, resolve_device
from skcsflow._features import _storage, gather_features
from skcsflow._training import FlowTrainer

pytestmark = [
    pytest.mark.gpu,
    # Some versions of torch say so once in a process, wherever TF32 is set in the way that all versions know.
    pytest.mark.filterwarnings("ignore:Please use the new API settings"),
]

PARAMS = {**TINY, "device": "cuda", "precision": "float32"}
LARGER = {
    "backbone": "tf_efficientnet_lite0",
    "input_size": 128,
    "cross_conv_hidden_channels": 64,
    "n_coupling_blocks": 4,
}
"""Channels that tensor cores like, so that TF32 is used where it may be."""
PRECISIONS = ["float32", "tf32", "bfloat16"]
CUDA = torch.device("cuda")


def fit(images, **changes):
    return CSFlowDetector(**{**PARAMS, **changes}).fit(images)


def loaded_on(detector, device):
    """The detector as a file made of it gives it on a device."""
    return pickle.loads(pickle.dumps(copy.copy(detector).set_params(device=device)))


def in_precision(detector, precision):
    """A copy of a float32 detector, with the same weights, that computes in another precision."""
    other = loaded_on(detector, "cuda")
    if precision == "float64":
        other.model_.double()
    other.precision_ = precision
    return other


def state(detector):
    """All numbers that a fit leaves, as arrays."""
    arrays = {name: t.cpu().numpy() for name, t in detector.model_.state_dict().items()}
    history = {name: v for name, v in detector.history_.items() if name != "seconds"}
    return {**arrays, **history, "offset": detector.offset_, "map_threshold": detector.map_threshold_}


def recorded_networks(detector):
    """What the detector has recorded so far."""
    made = [prepared.value for prepared in detector._runner._prepared.values()]
    return [value for value in made if isinstance(value, RecordedFunction)]


def assert_same_bits(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def settings():
    """All that is set for the whole process or for this thread, and could be changed in passing."""
    cudnn = torch.backends.cudnn
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "cudnn's benchmark limit": cudnn.benchmark_limit,
        "matmul": torch.get_float32_matmul_precision(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "dtype": torch.get_default_dtype(),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": (torch.is_autocast_enabled("cuda"), torch.is_autocast_enabled("cpu")),
        "random": torch.get_rng_state().tolist(),
        "CUDA's random": torch.cuda.get_rng_state().tolist(),
    }


@pytest.fixture(scope="module")
def images():
    """70 grey images with structure, more than go through the GPU together at this size."""
    rng = np.random.RandomState(0)
    rows, columns = np.mgrid[:48, :40]
    phase = rng.uniform(0, 6, size=(70, 1, 1))
    waves = np.sin(rows / 3 + phase) * np.cos(columns / 4 + phase)
    return np.clip(128 + 60 * waves + rng.normal(0, 8, size=waves.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def fitted(images):
    """One detector for each precision; tests must not change them."""
    return {precision: fit(images[:40], precision=precision) for precision in PRECISIONS}


@pytest.fixture(scope="module")
def larger(images):
    """A float32 detector with a larger network; tests must not change it."""
    return fit(images[:24], **LARGER)


@pytest.fixture
def unusual_settings():
    """A user's settings that are none of torch's defaults, nor what the package needs."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = True, False, True
    yield
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = before


# Beside the CPU


def test_device_cuda_is_taken_by_default(images):
    assert resolve_device("auto").type == "cuda"
    assert resolve_device("cuda") == CUDA
    assert resolve_device("cuda:0") == torch.device("cuda:0")
    detector = fit(images[:8], device="auto", precision="auto")
    assert detector.device_.type == "cuda"
    assert {p.device.type for p in detector.model_.parameters()} == {"cuda"}
    has_tf32 = torch.cuda.get_device_capability() >= (8, 0)
    assert detector.precision_ == ("tf32" if has_tf32 else "float32")


@pytest.mark.parametrize("whiten", [True, False])
def test_scores_and_maps_agree_with_the_cpus(images, whiten):
    detector = fit(images[:40], whiten=whiten)
    on_cpu = loaded_on(detector, "cpu")
    assert on_cpu.device_.type == "cpu"
    np.testing.assert_allclose(detector.score_samples(images), on_cpu.score_samples(images), rtol=1e-4)
    np.testing.assert_allclose(detector.transform(images), on_cpu.transform(images), rtol=1e-3, atol=1e-4)
    assert detector.score(images) == pytest.approx(on_cpu.score(images), rel=1e-4)


@pytest.mark.parametrize("whiten", [True, False])
def test_fit_learns_what_it_learns_on_the_cpu(images, whiten):
    # Without noise: on each device it is drawn by the device's own generator.
    on_gpu, on_cpu = (
        fit(images[:40], whiten=whiten, feature_noise=0.0, device=device) for device in ("cuda", "cpu")
    )
    np.testing.assert_allclose(on_gpu.score_samples(images), on_cpu.score_samples(images), rtol=1e-2)
    np.testing.assert_allclose(on_gpu.history_["loss"], on_cpu.history_["loss"], rtol=1e-2, atol=1e-3)


def test_lower_precisions_give_nearly_the_same(images, larger):
    expected = larger.score_samples(images)
    for precision, tolerance in (("float64", 1e-4), ("tf32", 1e-2), ("bfloat16", 1e-1)):
        scores = in_precision(larger, precision).score_samples(images)
        np.testing.assert_allclose(scores, expected, rtol=tolerance, err_msg=precision)


def test_float32_is_ieee_and_not_tf32(images, larger, unusual_settings):
    exact = in_precision(larger, "float64")
    for measure in ("score_samples", "transform"):
        expected = getattr(exact, measure)(images)
        errors = {
            precision: np.abs(getattr(in_precision(larger, precision), measure)(images) - expected).max()
            for precision in ("float32", "tf32")
        }
        assert 0 < 4 * errors["float32"] < errors["tf32"], (measure, errors)


def test_float32_stays_ieee_where_the_user_allows_tf32_in_products(images, larger):
    expected = larger.score_samples(images)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        scores = loaded_on(larger, "cuda").score_samples(images)
        state_then = state(fit(images[:24], **LARGER))
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_array_equal(scores, expected)
    assert_same_bits(state_then, state(larger))


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="older than these settings")
@pytest.mark.parametrize("setting", ["ieee", "tf32"])
@pytest.mark.parametrize("of", ["everything", "convolutions"])
@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_torchs_newer_settings_of_precision_change_nothing_and_stay(images, larger, precision, of, setting):
    detector = in_precision(larger, precision)
    expected = detector.score_samples(images)
    everything, conv = torch.backends, torch.backends.cudnn.conv
    owner = everything if of == "everything" else conv
    before = everything.fp32_precision, conv.fp32_precision
    conv.fp32_precision = "none"  # it follows the setting of everything
    owner.fp32_precision = setting
    try:
        np.testing.assert_array_equal(detector.score_samples(images), expected)
        for later in (setting, "tf32", "ieee"):  # and still follows it
            owner.fp32_precision = later
            assert conv.fp32_precision == later
    finally:
        everything.fp32_precision, conv.fp32_precision = before


# The same bits


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bits_repeat_from_fit_to_fit_and_from_call_to_call(images, fitted, precision):
    first, second = fitted[precision], fit(images[:40], precision=precision)
    assert_same_bits(state(first), state(second))
    scores, maps = first.score_samples(images), first.transform(images)
    for detector in (first, second, loaded_on(first, "cuda")):
        np.testing.assert_array_equal(detector.score_samples(images), scores)
        np.testing.assert_array_equal(detector.transform(images), maps)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bits_of_the_larger_network_repeat(images, precision):
    first, second = (fit(images[:40], **LARGER, precision=precision) for _ in range(2))
    assert_same_bits(state(first), state(second))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_do_not_depend_on_the_others_or_their_number(images, fitted, precision):
    detector = fitted[precision]
    scores, maps = detector.score_samples(images), detector.transform(images)
    for n in (1, 7, 69):
        np.testing.assert_array_equal(detector.score_samples(images[:n]), scores[:n])
        np.testing.assert_array_equal(detector.transform(images[-n:]), maps[-n:])
    order = np.random.RandomState(0).permutation(len(images))
    np.testing.assert_array_equal(detector.score_samples(images[order]), scores[order])
    alone = [detector.score_samples(image[None])[0] for image in images[60:]]
    np.testing.assert_array_equal(alone, scores[60:])


@pytest.mark.parametrize("mode", ["mean", "fused"])
def test_training_images_are_scored_by_fit_as_later(images, mode):
    detector = fit(images[:19], contamination=0.5, score_mode=mode)
    assert detector.offset_ == np.median(detector.score_samples(images[:19]))


def test_defaults_agree_with_the_cpu(images):
    detector = fit(images[:40], **BY_DEFAULT)
    on_cpu = loaded_on(detector, "cpu")
    np.testing.assert_allclose(detector.score_samples(images), on_cpu.score_samples(images), atol=1e-3)
    np.testing.assert_allclose(detector.transform(images), on_cpu.transform(images), atol=1e-2)
    np.testing.assert_array_equal(detector.predict(images[40:]), on_cpu.predict(images[40:]))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_images_of_mixed_sizes_and_types_are_scored_as_alone(images, fitted, precision):
    detector = fitted[precision]
    rng = np.random.RandomState(0)
    mixed = [
        images[0],
        images[1, :30],
        rng.randint(256, size=(64, 64, 3)).astype(np.uint8),
        rng.randint(2**16, size=(90, 20)).astype(np.uint16),
        images[2] / np.float32(255),
        images[3],
    ]
    together = detector.score_samples(mixed)
    np.testing.assert_array_equal([detector.score_samples([image])[0] for image in mixed], together)
    maps = list(detector.iter_maps(mixed))
    assert [m.shape for m in maps] == [image.shape[:2] for image in mixed]


def test_mapped_features_and_kept_ones_give_the_same_bits(images, fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(_storage, "_fits", lambda device, n_bytes: False)
    rows_taken = []
    take = _storage.MappedMaps.__getitem__
    monkeypatch.setattr(
        _storage.MappedMaps, "__getitem__", lambda maps, rows: rows_taken.append(rows) or take(maps, rows)
    )
    for _ in range(2):  # extracted, and then found in the folder
        detector = fit(images[:40], memory=tmp_path)
        assert_same_bits(state(detector), state(fitted["float32"]))
        scores = detector.score_samples(images)
        np.testing.assert_array_equal(scores, fitted["float32"].score_samples(images))
    assert rows_taken


def test_rows_of_a_mapped_file_are_those_of_a_tensor(tmp_path, monkeypatch):
    monkeypatch.setattr(_storage, "_fits", lambda device, n_bytes: False)
    generator = torch.Generator().manual_seed(0)
    items = [
        [torch.randn(6, n, m, generator=generator).to(CUDA) for n, m in ((4, 3), (2, 2), (1, 1))]
        for _ in range(7)
    ]
    with (
        gather_features(iter(items), 7, CUDA) as expected,
        gather_features(iter(items), 7, CUDA, tmp_path) as features,
    ):
        for e, f in zip(expected, features, strict=True):
            for rows in (0, 6, slice(2, 5), torch.tensor([3, 0, 6])):
                assert f[rows].device.type == "cuda"
                assert torch.equal(f[rows], e[rows])
                assert f[rows].stride() == e[rows].stride()


def test_runner_reads_in_order_and_computes_at_most_a_batch(fitted):
    runner = Runner(fitted["float32"].model_, fitted["float32"].device_, "float32")
    size, lengths = runner._batch_size, []

    def compute(items):
        lengths.append(len(items))
        return [2 * item for item in items]

    results = runner.map(lambda i: i, compute, 2 * size + 6, n_threads=3)
    assert list(results) == [2 * i for i in range(2 * size + 6)]
    assert sorted(lengths) == [6, size, size]


# Recorded CUDA graphs


@pytest.fixture
def recorded_steps(monkeypatch):
    """All steps of training that are recorded meanwhile."""
    made = []

    class Kept(RecordedFunction):
        def __init__(self, *args):
            made.append(self)
            super().__init__(*args)

    monkeypatch.setattr(_training, "RecordedFunction", Kept)
    return made


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("precision", ["float32", "tf32", "float64"])
def test_recorded_steps_of_training_give_the_bits_of_steps_themselves(
    images, precision, whiten, recorded_steps, monkeypatch
):
    params = {**LARGER, "precision": precision, "whiten": whiten, "batch_size": 8, "n_epochs": 3}
    recorded = fit(images[:22], **params)
    assert len(recorded_steps) == 2  # the last batch of an epoch is smaller
    assert all(step._graph is not None for step in recorded_steps)
    monkeypatch.setattr(_training, "RECORDED_BYTES", 0)
    plain = fit(images[:22], **params)
    assert len(recorded_steps) == 2
    assert_same_bits(state(recorded), state(plain))


def test_fits_and_first_scores_in_other_precisions_do_not_wait_for_each_other_for_ever(images, fitted):
    def score(precision):
        return loaded_on(fitted[precision], "cuda").score_samples(images)

    with ThreadPoolExecutor(3) as pool:
        fits = [pool.submit(fit, images[:40], precision="tf32") for _ in range(6)]
        scores = [pool.submit(score, precision) for precision in PRECISIONS * 2]
        for fitting in fits:
            assert_same_bits(state(fitting.result(timeout=60)), state(fitted["tf32"]))
        for precision, scoring in zip(PRECISIONS * 2, scores, strict=True):
            expected = fitted[precision].score_samples(images)
            np.testing.assert_array_equal(scoring.result(timeout=60), expected)


@pytest.mark.parametrize("precision", [*PRECISIONS, "float64"])
def test_replays_give_the_bits_of_the_function_itself(images, fitted, precision):
    detector = in_precision(fitted["float32"], precision)
    runner = detector._current_runner()
    batch = [torch.rand(runner._batch_size, 3, 64, 64, device="cuda", dtype=detector.model_.dtype)]
    for function, network in (
        (runner._extract, detector.model_.feature_extractor),
        (runner._score, detector.model_.flow),
    ):
        with torch.inference_mode():
            recorded = runner._run_recorded(function, network, batch)
            with cuda_kernels(CUDA, precision):
                expected = function(batch)
        assert len(recorded) == len(expected) > 2
        for a, b in zip(recorded, expected, strict=True):
            assert torch.equal(a, b)
        batch = expected[:-1]
    assert len(runner._prepared) == 2
    assert all(prepared.value._graph is not None for prepared in runner._prepared.values())


def test_replays_read_statistics_that_changed(images):
    detector = fit(images[:12], score_mode="fused", map_mode="fused", n_epochs=1)
    detector.score_samples(images)
    recorded = recorded_networks(detector)
    assert len(recorded) == 2
    assert all(p._graph is not None for p in recorded)
    before = loaded_on(detector, "cuda").score_samples(images)
    np.testing.assert_array_equal(detector.score_samples(images), before)
    detector.model_.statistics.image_log_mean += 1
    after = detector.score_samples(images)
    assert (after > before).all()
    np.testing.assert_array_equal(loaded_on(detector, "cuda").score_samples(images), after)


def test_weights_that_changed_are_used(images, fitted):
    detector = loaded_on(fitted["float32"], "cuda")
    before = detector.score_samples(images[:5])
    detector.partial_fit(images[:16])
    after = detector.score_samples(images[:5])
    np.testing.assert_array_equal(loaded_on(detector, "cuda").score_samples(images[:5]), after)
    assert (after != before).all()
    state = {name: t.clone() for name, t in detector.model_.state_dict().items()}
    detector.model_.load_state_dict(fitted["float32"].model_.state_dict())  # in place
    np.testing.assert_array_equal(detector.score_samples(images[:5]), before)
    detector.model_.load_state_dict(state, assign=True)  # other memory
    np.testing.assert_array_equal(detector.score_samples(images[:5]), after)


def test_a_backbone_that_waits_for_the_gpu_is_run_without_a_graph(images, fitted):
    detector = loaded_on(fitted["float32"], "cuda")
    backbone = detector.model_.feature_extractor.backbone
    backbone.register_forward_hook(
        lambda module, args, output: None if output[0].sum().item() > 0 else output
    )
    np.testing.assert_array_equal(detector.score_samples(images), fitted["float32"].score_samples(images))
    assert any(recorded._graph is None for recorded in recorded_networks(detector))
    # Random numbers can be drawn after a recording that failed.
    assert torch.randn(1, device="cuda").isfinite()


def test_detectors_record_at_once(images, fitted):
    names = [*PRECISIONS, *PRECISIONS]
    detectors = [loaded_on(fitted[name], "cuda") for name in names]
    with ThreadPoolExecutor(len(names)) as pool:
        found = list(pool.map(lambda detector: detector.score_samples(images), detectors))
    for name, scores in zip(names, found, strict=True):
        np.testing.assert_array_equal(scores, fitted[name].score_samples(images))


# What is not to be changed, waited for or kept


def test_nothing_global_is_changed(images, unusual_settings):
    before = settings()
    detector = fit(images[:12])
    assert settings() == before
    detector.partial_fit(images[:12])
    detector.score_samples(images)
    detector.transform(images)
    assert settings() == before
    for _ in detector.iter_maps(images):
        assert settings() == before  # between two results too
        break
    with pytest.raises(ValueError, match="NaN"):
        detector.score_samples(np.full((3, 32, 32), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="diverged"):
        fit(images[:12], learning_rate=1e30, max_grad_norm=None, n_epochs=5)
    assert settings() == before


@pytest.mark.parametrize("others", ["float32", "tf32"])
def test_threads_that_score_at_once_disturb_neither_each_other_nor_the_settings(
    images, fitted, unusual_settings, others
):
    detectors = [fitted["float32"], fitted[others]]
    expected = [detector.score_samples(images) for detector in detectors]
    before = settings()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            found = list(pool.map(lambda detector: detector.score_samples(images), detectors))
            np.testing.assert_array_equal(found, expected)
    assert settings() == before


def test_one_detector_is_used_by_two_threads(images, fitted):
    detector = fitted["float32"]
    expected = detector.score_samples(images)
    with ThreadPoolExecutor(2) as pool:
        for scores in pool.map(lambda _: detector.score_samples(images), range(6)):
            np.testing.assert_array_equal(scores, expected)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("lr_schedule", ["one_cycle", "constant"])
def test_no_step_of_an_epoch_waits_for_the_gpu(images, monkeypatch, recorded_steps, precision, lr_schedule):
    take_step, train_epoch = FlowTrainer._train_step, FlowTrainer._train_epoch
    left = []

    def train_epoch_counted(self, flow, features, order, *args):
        left.append(-(-len(order) // self.batch_size))
        train_epoch(self, flow, features, order, *args)

    def take_step_without_waiting(self, *args):
        # Up to the last step, what comes between steps must not wait either: rows, noise, rates.
        torch.cuda.set_sync_debug_mode("error")
        result = take_step(self, *args)
        left[-1] -= 1
        if left[-1] == 0:
            torch.cuda.set_sync_debug_mode("default")
        return result

    monkeypatch.setattr(FlowTrainer, "_train_epoch", train_epoch_counted)
    monkeypatch.setattr(FlowTrainer, "_train_step", take_step_without_waiting)
    try:
        # The last batch is smaller.
        fit(images[:42], precision=precision, lr_schedule=lr_schedule, n_epochs=2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # A step that waits isn't recorded, and says nothing.
    assert all(step._graph is not None for step in recorded_steps)
    assert left == [0, 0]


def test_search_leaves_nothing_on_the_gpu(images):
    def search():
        GridSearchCV(CSFlowDetector(**PARAMS), {"clamp": [2.0, 3.0]}, cv=2, refit=False).fit(images[:20])
        gc.collect()

    search()  # what torch keeps for itself, and matrices that are kept on purpose
    before = torch.cuda.memory_allocated()
    search()
    assert torch.cuda.memory_allocated() == before


# From machine to machine


@pytest.mark.parametrize("way", [lambda d: pickle.loads(pickle.dumps(d)), copy.deepcopy])
def test_a_loaded_detector_is_on_the_gpu(images, fitted, way):
    detector = fitted["float32"]
    loaded = way(detector)
    assert detector.device_.type == loaded.device_.type == "cuda"
    assert {t.device.type for t in loaded.model_.state_dict().values()} == {"cuda"}
    np.testing.assert_array_equal(loaded.score_samples(images), detector.score_samples(images))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_detector_of_a_gpu_works_where_there_is_none(images, fitted, monkeypatch, precision):
    detector = fitted[precision]
    expected, data = detector.score_samples(images), pickle.dumps(detector)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    loaded = pickle.loads(data)
    assert loaded.device_.type == "cpu"
    assert loaded.precision_ == {"tf32": "float32"}.get(precision, precision)
    tolerance = {"float32": 1e-4, "tf32": 1e-2, "bfloat16": 1e-1}[precision]
    np.testing.assert_allclose(loaded.score_samples(images), expected, rtol=tolerance)
    loaded.set_params(device="cpu", precision="float32").partial_fit(images[:8])
    assert loaded.device_.type == "cpu"


# A GPU that is full


@pytest.fixture
def little_memory():
    """Leave this process so little of the GPU's memory that no whole batch of large images fits."""
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 250e6) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_batches_are_halved_where_the_memory_is_full_and_scores_stay(images, request):
    detector = fit(images[:12], input_size=256, backbone="tf_efficientnet_lite0", n_epochs=1)
    expected = detector.score_samples(images)
    loaded = loaded_on(detector, "cuda")
    del detector
    request.getfixturevalue("little_memory")
    with pytest.warns(UserWarning, match=r"doesn't hold \d+ images at a time"):
        found = loaded.score_samples(images)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(loaded.score_samples(images[:3]), found[:3])
