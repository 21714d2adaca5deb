"""A network on many items: results in order, that depend on nothing else."""

import threading

import pytest
import torch

from skcsflow._batches import CUDA_BATCH_SIZE, apply_to_batch, map_items

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


def test_map_items_batches_hold_one_item_on_the_cpu():
    sizes = []
    list(map_items(read, lambda items: sizes.append(len(items)) or items, 5, CPU, 2))
    assert sizes == [1] * 5


def test_map_items_runs_n_jobs_threads_of_one_core_each():
    meeting = threading.Barrier(3, timeout=30)  # breaks unless three items are under way at once
    threads = []

    def meet(items):
        threads.append(torch.get_num_threads())
        meeting.wait()
        return items

    list(map_items(read, meet, 6, CPU, 3))
    assert threads == [1] * 6


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


def doubled_with_sizes(items, device, size=None):
    sizes = []

    def function(batch):
        assert all(t.device.type == device.type for t in batch)
        sizes.append([len(t) for t in batch])
        return [2 * t for t in batch]

    results = apply_to_batch(function, items, device, size)
    return [number.item() for _, number in results], sizes


@pytest.mark.parametrize("n_items", [1, 2, 3])
def test_apply_to_batch_fills_the_batch_up(n_items):
    numbers, sizes = doubled_with_sizes([read(i) for i in range(n_items)], CPU, 3)
    assert numbers == [2 * i for i in range(n_items)]
    assert sizes == [[3, 3]]


def test_apply_to_batch_on_the_cpu_holds_one_item():
    assert doubled_with_sizes([read(5)], CPU) == ([10], [[1, 1]])


def test_apply_to_batch_of_too_many_raises():
    with pytest.raises(ValueError, match="at most 1"):
        doubled_with_sizes([read(0), read(1)], CPU)


@pytest.mark.gpu
def test_map_items_on_a_gpu_fills_batches_and_gives_the_same_results():
    cuda = torch.device("cuda")
    lengths = []

    def compute(items):
        lengths.append(len(items))
        numbers, sizes = doubled_with_sizes(items, cuda)
        assert sizes == [[CUDA_BATCH_SIZE] * 2]
        return numbers

    assert list(map_items(read, compute, 20, cuda, 2)) == [2 * i for i in range(20)]
    assert lengths == [16, 4]
