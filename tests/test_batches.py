"""A network on many items: results in order, that depend on nothing else."""

import copy
import threading

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image
from torch import nn

from skcsflow import CSFlowDetector, _batches, _features, feature_cache_info
from skcsflow._batches import (
    CUDA_BATCH_SIZE,
    Batching,
    apply_in_batches,
    apply_on_cores,
    map_items,
    map_on_cores,
    resolve_batching,
)
from skcsflow.datasets import load_elpv

CPU = torch.device("cpu")


def read(i):
    return [torch.full((3,), float(i)), torch.tensor(i)]


def double(items):
    return [[2 * t for t in item] for item in items]


@pytest.mark.parametrize("n_jobs", [1, 2, 5, -1, -100, None])
@pytest.mark.parametrize("n_items", [0, 1, 23])
def test_map_items_gives_results_in_order(n_items, n_jobs):
    results = list(map_items(read, double, n_items, CPU, n_jobs))
    assert len(results) == n_items
    for i, (vector, number) in enumerate(results):
        assert torch.equal(vector, torch.full((3,), 2.0 * i))
        assert number.item() == 2 * i


@pytest.mark.parametrize(("size", "expected"), [(1, [1] * 5), (2, [1, 2, 2]), (5, [5]), (9, [5])])
def test_map_items_batches_hold_size_items(size, expected):
    sizes = []
    numbers = map_items(read, lambda items: sizes.append(len(items)) or items, 5, CPU, 2, size)
    assert [n.item() for _, n in numbers] == [0, 1, 2, 3, 4]
    assert sorted(sizes) == expected


def test_map_items_runs_n_jobs_threads_of_one_core_each():
    meeting = threading.Barrier(3, timeout=30)  # breaks unless three items are under way at once
    threads = []

    def meet(items):
        threads.append(torch.get_num_threads())
        meeting.wait()
        return items

    list(map_items(read, meet, 6, CPU, 3))
    assert threads == [1] * 6


def test_map_on_cores_keeps_to_one_core_whatever_others_set_before_its_threads_first_compute():
    may_compute = threading.Event()

    def count(item):
        if item > 0:
            may_compute.wait(timeout=30)
        return item and torch.get_num_threads()

    before = torch.get_num_threads()
    results = map_on_cores(count, range(4), 2)
    try:
        assert next(results) == 0
        torch.set_num_threads(3)  # what torch gives threads that have not computed yet
        may_compute.set()
        assert list(results) == [1, 1, 1]
    finally:
        torch.set_num_threads(before)


def test_map_on_cores_leaves_threads_that_are_born_meanwhile_their_cores():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        meeting = threading.Barrier(2, timeout=30)  # of both threads, which have begun then
        results = map_on_cores(lambda item: (meeting.wait(), item)[1], range(4), 2)
        next(results)
        born_meanwhile = []
        thread = threading.Thread(target=lambda: born_meanwhile.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert born_meanwhile == [3]
        assert list(results) == [1, 2, 3]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("end", ["done", "failed", "given up"])
def test_map_items_leaves_torchs_threads_as_they_were(n_threads, end):
    def fail(items):
        if end == "failed" and items[0][1].item() == 3:
            raise ValueError("item 3")
        return items

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads)
        results = map_items(read, fail, 9, CPU, 2)
        if end == "given up":
            next(results)
            results.close()
        elif end == "failed":
            with pytest.raises(ValueError, match="item 3"):
                list(results)
        else:
            list(results)
        assert torch.get_num_threads() == n_threads
        born_later = []
        thread = threading.Thread(target=lambda: born_later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert born_later == [n_threads]
    finally:
        torch.set_num_threads(before)


def test_map_items_first_failing_item_is_the_one_raised():
    def fail(i):
        if i >= 4:
            raise ValueError(f"item {i}")
        return read(i)

    for _ in range(5):
        with pytest.raises(ValueError, match="item 4"):
            list(map_items(fail, double, 20, CPU, 4))


def test_map_items_reads_no_further_ahead_than_it_must():
    reads = []
    results = map_items(lambda i: reads.append(i) or read(i), double, 100, CPU, 2)
    next(results)
    results.close()
    assert len(reads) <= 6


def test_map_items_needs_no_gradients():
    weight = torch.ones(3, requires_grad=True)
    (result,) = map_items(read, lambda items: [items[0][0] * weight], 1, CPU, 1)
    assert not result.requires_grad


# Fixed batches: always of one size


def doubled_with_sizes(items, device, size=CUDA_BATCH_SIZE):
    sizes = []

    def function(batch):
        assert all(t.device.type == device.type for t in batch)
        sizes.append([len(t) for t in batch])
        return [2 * t for t in batch]

    results = apply_in_batches(function, items, Batching(size, True), device, nn.Identity(), ())
    return [number.item() for _, number in results], sizes


@pytest.mark.parametrize("n_items", [1, 2, 3])
def test_fixed_batches_are_filled_up(n_items):
    numbers, sizes = doubled_with_sizes([read(i) for i in range(n_items)], CPU, 3)
    assert numbers == [2 * i for i in range(n_items)]
    assert sizes == [[3, 3]]


@pytest.mark.parametrize("is_fixed", [True, False])
def test_apply_in_batches_of_too_many_raises(is_fixed):
    with pytest.raises(ValueError, match="at most 1 items here, got 2"):
        apply_in_batches(list, [read(0), read(1)], Batching(1, is_fixed), CPU, nn.Identity(), ())


# Groups: together only where each item has the bits that it has alone


class Recorder(nn.Module):
    """Notes the batches that it is given; the results of those of `wrong_size` are off by one bit."""

    def __init__(self, wrong_size=None, wrong_row=0):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.wrong_size = wrong_size
        self.wrong_row = wrong_row
        self.batches = []

    @torch.no_grad()
    def compute(self, batch):
        (vectors,) = batch
        self.batches.append(vectors)
        scores = (vectors * self.weight).double().sum(dim=1)
        if len(vectors) == self.wrong_size:
            scores[self.wrong_row] = torch.nextafter(scores[self.wrong_row], torch.tensor(torch.inf).double())
        return [scores, vectors]


def group(n_items):
    return [[torch.full((3,), i / 7)] for i in range(n_items)]


def apply_to_group(function, items, size, network, kernels=("torch",)):
    return apply_in_batches(function, items, Batching(size, False), CPU, network, kernels)


def test_a_group_that_changes_no_bit_goes_together():
    network = Recorder()
    results = apply_to_group(network.compute, group(4), 4, network)
    assert [len(batch) for batch in network.batches] == [4, 1, 1, 1, 1, 4]
    for (score, vector), (expected,) in zip(results, group(4), strict=True):
        assert torch.equal(vector, expected)
        assert score == expected.double().sum()


@pytest.mark.parametrize("wrong_row", range(4))
def test_a_group_that_changes_one_bit_of_one_item_goes_one_by_one(wrong_row):
    network = Recorder(4, wrong_row)
    results = apply_to_group(network.compute, group(4), 4, network)
    assert [len(batch) for batch in network.batches[-4:]] == [1, 1, 1, 1]
    assert [score.item() for score, _ in results] == [x.double().sum().item() for (x,) in group(4)]
    del network.batches[:]
    apply_to_group(network.compute, group(4), 4, network)
    assert [len(batch) for batch in network.batches] == [1, 1, 1, 1]  # tried once


def test_a_group_is_tried_again_for_other_kernels_shapes_and_weights():
    network = Recorder()

    def n_batches(items, kernels):
        del network.batches[:]
        apply_to_group(network.compute, items, len(items), network, kernels)
        return len(network.batches)

    assert n_batches(group(2), ("torch", "float32")) == 4
    assert n_batches(group(2), ("torch", "float32")) == 1
    assert n_batches(group(2), ("openvino", "float32")) == 4
    assert n_batches(group(3), ("torch", "float32")) == 5
    assert n_batches([[x.double()] for (x,) in group(2)], ("torch", "float32")) == 4
    with torch.no_grad():
        network.weight.add_(1)
    assert n_batches(group(2), ("torch", "float32")) == 4


def test_a_group_is_tried_with_noise_whatever_the_items_are():
    network = Recorder()
    apply_to_group(network.compute, [[torch.zeros(3)]] * 4, 4, network)
    tried = network.batches[0]
    assert len(tried.unique()) == tried.numel()
    other = Recorder()
    apply_to_group(other.compute, group(4), 4, other)
    assert torch.equal(other.batches[0], tried)


def test_a_group_that_overflows_in_the_trial_goes_one_by_one():
    network = Recorder()
    apply_to_group(lambda batch: [network.compute(batch)[1] * torch.inf], group(4), 4, network)
    assert [len(batch) for batch in network.batches[-4:]] == [1] * 4


def test_map_items_gives_all_items_before_one_that_cannot_be_read():
    def fail(i):
        if i == 6:
            raise ValueError("item 6")
        return read(i)

    results = map_items(fail, double, 10, CPU, 2, 4)
    assert [next(results)[1].item() for _ in range(6)] == [0, 2, 4, 6, 8, 10]
    with pytest.raises(ValueError, match="item 6"):
        next(results)


def test_groups_with_features_kept_for_some_and_images_that_repeat(tmp_path, fitted, grey_images):
    X = grey_images[[*range(40), 3, 3, 3, 3, 7, 8, 39, 39]]
    expected = fitted.score_samples(X)
    detector = copy.copy(fitted).set_params(n_jobs=2, memory=tmp_path)
    np.testing.assert_array_equal(detector.score_samples(grey_images[5:12]), expected[5:12])
    np.testing.assert_array_equal(detector.score_samples(X), expected)
    np.testing.assert_array_equal(detector.score_samples(X[::-1]), expected[::-1])


@pytest.mark.parametrize("n_items", [1, 3])
def test_a_group_that_is_not_full_goes_one_by_one(n_items):
    network = Recorder()
    assert len(apply_to_group(network.compute, group(n_items), 4, network, ("torch",))) == n_items
    assert [len(batch) for batch in network.batches] == [1] * n_items


@pytest.mark.parametrize("is_same", [True, False])
def test_apply_on_cores_takes_several_where_that_changes_no_bit(is_same):
    network = Recorder()
    threads = []

    def compute(batch):
        threads.append(torch.get_num_threads())
        score, vectors = network.compute(batch)
        return [score if is_same or threads[-1] == 1 else score * (1 + 2**-52), vectors]

    before = torch.get_num_threads()
    trial = [1] * 4 + [3] * 4
    for expected in ([*trial, 3 if is_same else 1], [3 if is_same else 1]):
        score, vector = apply_on_cores(compute, [torch.full((3,), 0.1)], 3, network, ("torch",))
        assert threads == expected
        assert score == torch.full((3,), 0.1).double().sum()
        assert torch.equal(vector, torch.full((3,), 0.1))
        del threads[:]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("n_items", "image_size", "n_jobs", "expected"),
    [
        (1, (256, 256), 2, 1),
        (31, (256, 256), 2, 1),
        (32, (256, 256), 2, 4),
        (32, (32, 32), 2, 4),
        (32, (256, 256), 3, 1),
        (32, (257, 256), 2, 3),
        (10_000, (768, 768), 2, 1),
        (16, (512, 256), 2, 2),
    ],
)
def test_groups_are_for_many_small_images(n_items, image_size, n_jobs, expected):
    for precision in ("float32", "float64"):
        for is_wide in (True, False):
            batching = resolve_batching(n_items, image_size, CPU, precision, n_jobs, is_wide=is_wide)
            assert batching == (expected, False)


@pytest.mark.parametrize(
    ("image_size", "expected"),
    [((32, 32), 4), ((256, 256), 4), ((257, 256), 3), ((512, 256), 2), ((768, 768), 1)],
)
def test_batches_in_bfloat16_are_fixed_whatever_the_number_of_images(monkeypatch, image_size, expected):
    monkeypatch.setattr(_batches, "has_fast_bfloat16", lambda device: True)
    for n_items in (1, 2, 10_000):
        for n_jobs in (1, 7):
            wide = resolve_batching(n_items, image_size, CPU, "bfloat16", n_jobs, is_wide=True)
            narrow = resolve_batching(n_items, image_size, CPU, "bfloat16", n_jobs, is_wide=False)
            assert wide == (expected, True)
            assert narrow == (1, True)
    monkeypatch.setattr(_batches, "has_fast_bfloat16", lambda device: False)
    slow = resolve_batching(1, image_size, CPU, "bfloat16", 1, is_wide=True)
    assert slow == (1, True)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_batches_on_a_gpu_are_fixed(precision):
    batching = resolve_batching(1, (768, 768), torch.device("cuda"), precision, 2, is_wide=False)
    assert batching == (CUDA_BATCH_SIZE, True)


def test_a_lone_image_has_all_cores_in_a_wide_flow_and_the_same_bits(monkeypatch, fitted, grey_images):
    expected = fitted.score_samples(grey_images[:2])
    monkeypatch.setattr(_features, "_WIDE_FLOW_BYTES", 1)
    monkeypatch.setattr(_batches.joblib, "cpu_count", lambda: 3)
    used = []
    on_cores = _batches.apply_on_cores
    monkeypatch.setattr(
        _features, "apply_on_cores", lambda f, item, n, *how: used.append(n) or on_cores(f, item, n, *how)
    )
    detector = copy.copy(fitted).set_params(n_jobs=4)  # more than there are cores
    singly = [detector.score_samples(x[None])[0] for x in grey_images[:2]]
    assert used == [3, 3]
    np.testing.assert_array_equal(singly, expected)


@pytest.mark.parametrize(("hidden", "size"), [(16, 64), (16, 96), (200, 40)])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_groups_of_real_images_are_tried_and_change_no_bit(monkeypatch, grey_images, hidden, size, precision):
    params = {**TINY, "cross_conv_hidden_channels": hidden, "input_size": size, "n_jobs": 2}
    detector = CSFlowDetector(**params, precision=precision).fit(grey_images)
    sizes = []
    together = _batches._together
    monkeypatch.setattr(
        _batches, "_together", lambda f, items: sizes.append(len(items)) or together(f, items)
    )
    scores, maps = detector.score_samples(grey_images), detector.transform(grey_images)
    assert 4 in sizes
    del sizes[:]
    np.testing.assert_array_equal(detector.score_samples(grey_images[:31]), scores[:31])
    np.testing.assert_array_equal(detector.transform(grey_images[9:]), maps[9:])
    assert set(sizes) == {1}


@pytest.fixture
def wide_in_bfloat16(monkeypatch):
    """All flows count as wide, and bfloat16 as fast; gives the sizes of batches so far."""
    monkeypatch.setattr(_features, "_WIDE_FLOW_BYTES", 1)
    monkeypatch.setattr(_batches, "has_fast_bfloat16", lambda device: True)
    sizes = []
    together = _batches._together
    monkeypatch.setattr(
        _batches, "_together", lambda f, items: sizes.append(len(items)) or together(f, items)
    )
    return sizes


def assert_same_bits_in_every_place(detector, images):
    scores, maps = detector.score_samples(images), detector.transform(images)
    for shift in (1, 2, 3):
        np.testing.assert_array_equal(
            detector.score_samples(np.roll(images, shift, 0)), np.roll(scores, shift)
        )
        np.testing.assert_array_equal(detector.transform(np.roll(images, shift, 0)), np.roll(maps, shift, 0))
    for i in range(3):
        assert detector.score_samples(images[i : i + 1]) == scores[i]


@pytest.mark.parametrize("size", [64, 65, 96])
def test_batches_of_a_wide_flow_in_bfloat16_give_each_image_the_same_bits(
    wide_in_bfloat16, grey_images, size
):
    params = {**TINY, "cross_conv_hidden_channels": 64, "input_size": size, "n_jobs": 2}
    detector = CSFlowDetector(**params, precision="bfloat16").fit(grey_images[:8])
    assert_same_bits_in_every_place(detector, grey_images)
    assert set(wide_in_bfloat16) == {4}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("size", [256, (200, 250)])
def test_batches_of_a_really_wide_flow_in_bfloat16_give_each_image_the_same_bits(engine, size):
    if engine == "openvino":
        pytest.importorskip("openvino")
    images = load_elpv().images[:40]
    params = {"cross_conv_hidden_channels": 1024, "input_size": size, "n_epochs": 1, "random_state": 0}
    detector = CSFlowDetector(**params, engine=engine, precision="bfloat16").fit(images[:8])
    assert_same_bits_in_every_place(detector, images)


def test_fixed_batches_with_features_kept_for_some_and_a_file_that_cannot_be_read(
    wide_in_bfloat16, tmp_path, grey_images
):
    params = {**TINY, "precision": "bfloat16", "n_jobs": 2}
    detector = CSFlowDetector(**params).fit(grey_images[:8])
    X = grey_images[[*range(10), 3, 3, 3, 7, 8]]
    expected = detector.score_samples(X)
    detector.set_params(memory=tmp_path)
    np.testing.assert_array_equal(detector.score_samples(X[5:8]), expected[5:8])
    np.testing.assert_array_equal(detector.score_samples(X), expected)
    np.testing.assert_array_equal(detector.score_samples(X[::-1]), expected[::-1])
    paths = [tmp_path / f"{i}.png" for i in range(7)]
    for path, image in zip(paths, grey_images, strict=False):
        Image.fromarray(image).save(path)
    paths[5].write_bytes(b"no image")
    maps = detector.iter_maps(paths)
    for _ in range(5):
        next(maps)
    with pytest.raises(ValueError, match=r"5\.png"):
        next(maps)


def test_features_are_kept_by_the_size_of_their_batch(monkeypatch, tmp_path, grey_images):
    monkeypatch.setattr(_batches, "has_fast_bfloat16", lambda device: True)
    params = {**TINY, "precision": "bfloat16", "n_epochs": 1}
    narrow = CSFlowDetector(**params).fit(grey_images[:8])
    expected = narrow.score_samples(grey_images)
    wide = CSFlowDetector(**params, memory=tmp_path).fit(grey_images[:8])
    wide_bytes = sum(p.nbytes for p in wide.model_.flow.parameters())
    monkeypatch.setattr(_features, "_WIDE_FLOW_BYTES", wide_bytes)
    wide.score_samples(grey_images)
    monkeypatch.setattr(_features, "_WIDE_FLOW_BYTES", wide_bytes + 1)
    narrow.set_params(memory=tmp_path)
    np.testing.assert_array_equal(narrow.score_samples(grey_images), expected)
    assert feature_cache_info(tmp_path).n_images == 2 * len(grey_images)


@pytest.mark.gpu
def test_map_items_on_a_gpu_fills_batches_and_gives_the_same_results():
    cuda = torch.device("cuda")
    lengths = []

    def compute(items):
        lengths.append(len(items))
        numbers, sizes = doubled_with_sizes(items, cuda)
        assert sizes == [[CUDA_BATCH_SIZE] * 2]
        return numbers

    assert list(map_items(read, compute, 20, cuda, 2, CUDA_BATCH_SIZE)) == [2 * i for i in range(20)]
    assert lengths == [16, 4]
