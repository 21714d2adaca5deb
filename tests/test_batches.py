"""A network on many items: results in order, that depend on nothing else."""

import threading

import pytest
import torch

from skcsflow._batches import CUDA_BATCH_SIZE, _map_batches, map_items

CPU = torch.device("cpu")


def read(i):
    return [torch.full((3,), float(i)), torch.tensor(i)]


def double(batch):
    return [2 * t for t in batch]


@pytest.mark.parametrize("n_jobs", [1, 2, 5, -1, -100, None])
@pytest.mark.parametrize("n_items", [0, 1, 23])
def test_map_items_gives_results_in_order(n_items, n_jobs):
    results = list(map_items(double, read, n_items, CPU, n_jobs))
    assert len(results) == n_items
    for i, (vector, number) in enumerate(results):
        assert torch.equal(vector, torch.full((3,), 2.0 * i))
        assert number.item() == 2 * i


def test_map_items_batches_hold_one_item_on_the_cpu():
    sizes = []
    list(map_items(lambda batch: sizes.append(len(batch[0])) or batch, read, 5, CPU, 2))
    assert sizes == [1] * 5


def test_map_items_runs_n_jobs_threads_of_one_core_each():
    meeting = threading.Barrier(3, timeout=30)  # breaks unless three items are under way at once
    threads = []

    def meet(batch):
        threads.append(torch.get_num_threads())
        meeting.wait()
        return batch

    list(map_items(meet, read, 6, CPU, 3))
    assert threads == [1] * 6


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("end", ["done", "failed", "given up"])
def test_map_items_leaves_torchs_threads_as_they_were(n_threads, end):
    def fail(batch):
        if end == "failed" and batch[1].item() == 3:
            raise ValueError("item 3")
        return batch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads)
        results = map_items(fail, read, 9, CPU, 2)
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
            list(map_items(double, fail, 20, CPU, 4))


def test_map_items_reads_no_further_ahead_than_it_must():
    reads = []
    results = map_items(double, lambda i: reads.append(i) or read(i), 100, CPU, 2)
    next(results)
    results.close()
    assert len(reads) <= 6


def test_map_items_needs_no_gradients():
    weight = torch.ones(3, requires_grad=True)
    ((result, _),) = map_items(lambda b: [b[0] * weight, b[1]], read, 1, CPU, 1)
    assert not result.requires_grad


def test_map_batches_all_have_one_size_the_last_being_filled_up():
    sizes = []

    def function(batch):
        sizes.append([len(t) for t in batch])
        return double(batch)

    results = list(_map_batches(function, map(read, range(7)), 3, CPU))
    assert sizes == [[3, 3]] * 3
    assert [number.item() for _, number in results] == [2 * i for i in range(7)]


@pytest.mark.gpu
def test_map_items_on_a_gpu_fills_batches_and_gives_the_same_results():
    sizes = []

    def function(batch):
        assert all(t.is_cuda for t in batch)
        sizes.append(len(batch[0]))
        return double(batch)

    results = list(map_items(function, read, 20, torch.device("cuda"), 2))
    assert sizes == [CUDA_BATCH_SIZE] * 2
    assert [number.item() for _, number in results] == [2 * i for i in range(20)]
