"""A fitted model on many images: results in order, and none depends on the other images."""

import copy
import threading
import time

import numpy as np
import pytest
import torch
from conftest import TINY

from skcsflow import CSFlowDetector
from skcsflow._compute import Runner
from skcsflow._compute import _runner as runner_module
from skcsflow.nn import CSFlowModel

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return CSFlowModel(64, 8, 2, backbone="test_efficientnet", weights=None).eval()


@pytest.fixture
def runner(model):
    return Runner(model, CPU, "float32")


def random_images(n, size=(3, 64, 64)):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(256, size, generator=generator, dtype=torch.uint8) for _ in range(n)]


def bits(results):
    return [[t.numpy().tobytes() for t in result] for result in results]


def scores_of(runner, images, n_threads=2):
    def compute(batch):
        return runner.scores([maps[:-1] for maps in runner.features(runner.standardize(batch))])

    return list(runner.map(images.__getitem__, compute, len(images), n_threads))


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n_items", [0, 1, 4, 23, 70])
def test_map_gives_results_in_order(runner, n_items, n_threads):
    results = runner.map(lambda i: i, lambda items: [2 * i for i in items], n_items, n_threads)
    assert list(results) == [2 * i for i in range(n_items)]


@pytest.mark.parametrize(
    ("n_items", "n_threads", "expected"), [(16, 1, 4), (15, 1, 1), (32, 2, 4), (31, 2, 1), (1, 1, 1)]
)
def test_map_groups_images_where_each_thread_gets_enough(runner, n_items, n_threads, expected):
    sizes = []
    list(runner.map(lambda i: i, lambda items: sizes.append(len(items)) or items, n_items, n_threads))
    assert set(sizes) == {expected}


@pytest.mark.parametrize(
    ("engine", "precision", "size"),
    [
        ("openvino", "float32", 64),
        ("torch", "bfloat16", 64),
        ("torch", "float64", 64),
        ("torch", "float32", 260),
    ],
)
def test_map_groups_no_large_images_none_in_other_precisions_and_none_by_openvino_for_wide_flows(
    monkeypatch, model, engine, precision, size
):
    monkeypatch.setattr(runner_module, "WIDE_FLOW_BYTES", 1000)
    other = CSFlowModel(size, 8, 2, backbone="test_efficientnet", weights=None) if size != 64 else model
    sizes = []
    runner = Runner(other, CPU, precision, engine)
    list(runner.map(lambda i: i, lambda items: sizes.append(len(items)) or items, 16, 1))
    assert set(sizes) == {1}


def test_results_are_the_same_bits_alone_together_and_among_others(runner):
    images = random_images(35)
    expected = bits(scores_of(runner, images))
    order = np.random.RandomState(0).permutation(len(images))
    shuffled = bits(scores_of(runner, [images[i] for i in order], n_threads=1))
    assert shuffled == [expected[i] for i in order]
    assert [bits(scores_of(runner, [image]))[0] for image in images[:5]] == expected[:5]


def test_a_group_is_computed_together_only_where_a_trial_changes_no_bit(runner):
    items = [[torch.full((3,), float(i))] for i in range(4)]
    sizes = []

    def same(batch):
        sizes.append(len(batch[0]))
        return [2 * batch[0]]

    def differs(batch):
        sizes.append(len(batch[0]))
        return [2 * batch[0] + (1e-7 if len(batch[0]) > 1 else 0)]

    for function, expected in ((same, [4]), (differs, [1, 1, 1, 1])):
        runner._apply(function, runner.model.flow, items)  # tries
        sizes.clear()
        results = runner._apply(function, runner.model.flow, items)
        assert sizes == expected
        assert [r.tolist() for (r,) in results] == [[2.0 * i] * 3 for i in range(4)]


def test_a_group_whose_trial_overflows_is_computed_one_by_one(runner):
    items = [[torch.zeros(3)] for _ in range(4)]
    sizes = []

    def overflow(batch):
        sizes.append(len(batch[0]))
        return [batch[0] * float("inf")]

    runner._apply(overflow, runner.model.flow, items)
    sizes.clear()
    runner._apply(overflow, runner.model.flow, items)
    assert sizes == [1, 1, 1, 1]


def test_features_tell_which_are_not_finite(runner):
    good = torch.full((3, 64, 64), 0.5)
    results = runner.features([good, torch.full((3, 64, 64), 1e38)])
    assert [bool(result[-1]) for result in results] == [True, False]


def test_an_image_alone_has_the_same_bits_on_several_cores(model):
    model, images, threads = copy.deepcopy(model), random_images(1), []

    def note_thread(*_):
        threads.append(threading.get_ident())
        time.sleep(0.05)  # or one thread might be done with all passes before another has begun

    model.feature_extractor.backbone.register_forward_hook(note_thread)
    runner = Runner(model, CPU, "float32")
    images = runner.standardize(images)
    expected = bits(runner.map(images.__getitem__, runner.features, 1, n_threads=1))
    assert len(threads) == 3
    assert len(set(threads)) == 1
    found = bits(
        runner.map(images.__getitem__, lambda batch: runner.features(batch, n_cores=3), 1, n_threads=3)
    )
    assert len(set(threads[3:])) > 1
    assert found == expected


def test_map_reads_slow_images_for_a_gpu_in_several_threads_and_in_order(model, monkeypatch):
    runner, threads = Runner(model, torch.device("cuda"), "float32"), set()  # map itself needs no GPU

    def read(i):
        threads.add(threading.get_ident())
        time.sleep(0.001)
        return i

    def read_all(n_threads):
        threads.clear()
        n_images = 2 * runner._batch_size + 1
        results = runner.map(read, lambda items: [2 * i for i in items], n_images, n_threads)
        assert list(results) == [2 * i for i in range(n_images)]
        return len(threads)

    monkeypatch.setattr(runner_module, "SLOW_SECONDS", 10)
    assert read_all(n_threads=1) == 1
    assert read_all(n_threads=2) <= 2
    monkeypatch.setattr(runner_module, "SLOW_SECONDS", 0)
    assert read_all(n_threads=1) == 1
    assert read_all(n_threads=8) > 3  # those that compute, which are three, and others


def test_refresh_forgets_what_was_made_of_weights_that_have_changed(model):
    model = copy.deepcopy(model)
    runner, made = Runner(model, CPU, "float32"), []

    def prepared():
        runner.refresh()
        return runner._prepare("key", model.flow, lambda: made.append(0) or len(made))

    assert [prepared(), prepared()] == [1, 1]
    model.feature_extractor.mean.add_(1)  # not the flow's
    assert prepared() == 1
    with torch.no_grad():
        model.flow.blocks[0].subnet1.gamma.add_(1)
    assert [prepared(), prepared()] == [2, 2]
    state = {name: t.clone() for name, t in model.flow.state_dict().items()}
    model.flow.load_state_dict(state, assign=True)
    assert [prepared(), prepared()] == [3, 3]
    model.flow = copy.deepcopy(model.flow)
    assert [prepared(), prepared()] == [4, 4]
    fingerprint = runner.fingerprint
    model.feature_extractor.mean.add_(1)
    runner.refresh()
    assert runner.fingerprint != fingerprint


def test_scoring_of_others_goes_on_while_one_is_prepared(model):
    busy, other = Runner(model, CPU, "float32"), Runner(model, CPU, "float32")
    images = random_images(1)
    with busy._preparing:  # as while a network is compiled
        done = []
        thread = threading.Thread(target=lambda: done.append(scores_of(other, images)))
        thread.start()
        thread.join(timeout=30)
        assert done


def test_runner_is_kept_by_the_detector_and_never_pickled(grey_images):
    detector = CSFlowDetector(**TINY).fit(grey_images[:4])
    kept = detector._current_runner()
    detector.score_samples(grey_images[:2])
    assert detector._current_runner() is kept
    assert "_runner" not in detector.__getstate__()
    detector.set_params(engine="openvino")
    assert detector._current_runner() is not kept


def test_backbone_is_hashed_once_for_all_calls_with_memory(grey_images, tmp_path, monkeypatch):
    detector = CSFlowDetector(**TINY, memory=tmp_path).fit(grey_images[:4])
    monkeypatch.setattr(
        type(detector.model_.feature_extractor), "fingerprint", lambda self: pytest.fail("hashed again")
    )
    detector.score_samples(grey_images[:2])
    detector.score_samples(grey_images[:2])


def test_gpu_batches_are_limited_by_pixels_and_number():
    sizes = {}
    for size in (32, 256, 768, (2000, 3000)):
        model = CSFlowModel(size, 8, 1, backbone="test_efficientnet", weights=None)
        sizes[size] = Runner(model, CPU, "float32")._batch_size
    assert sizes == {32: runner_module.GPU_BATCH_SIZE, 256: 24, 768: 2, (2000, 3000): 1}


def test_batches_that_do_not_fit_into_the_memory_are_halved(model):
    runner = Runner(model, torch.device("cpu"), "float32")
    tried = []

    def run(batch):
        tried.append(len(batch[0]))
        if len(batch[0]) > 9:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [batch[0] * 2]

    items = [[torch.tensor(float(k))] for k in range(24)]
    expected = runner._batch_size
    with pytest.warns(
        UserWarning, match=r"doesn't hold \d+ images at a time\. From now on \d+ are"
    ) as warned:
        results = runner._apply_within_memory(run, items)
    assert [float(r[0]) for r in results] == [2.0 * k for k in range(24)]
    assert runner._batch_size <= 9
    assert len(warned) == runner._n_halvings
    assert runner._batch_size == max(1, expected >> runner._n_halvings)
    tried.clear()
    runner._apply_within_memory(run, items)
    assert max(tried) == runner._batch_size  # further calls begin with it


def test_an_image_that_alone_does_not_fit_into_the_memory_raises(model):
    runner = Runner(model, torch.device("cpu"), "float32")
    runner._n_halvings = 20

    def run(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        runner._apply_within_memory(run, [[torch.zeros(1)]])
    assert runner._n_halvings == 20


def test_a_batch_is_halved_once_by_threads_that_fail_together(model):
    runner = Runner(model, torch.device("cpu"), "float32")
    size = runner._batch_size
    with pytest.warns(UserWarning, match="at a time"):
        runner._halve(size)
    runner._halve(size)
    assert runner._n_halvings == 1
