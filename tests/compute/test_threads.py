"""Threads of one core each, which leave every other thread's number of cores alone."""

import threading
import time
from contextlib import suppress

import pytest
import torch

from skcsflow._compute import CoreThreads, map_on_cores, on_new_thread, one_core, resolve_n_threads


def threads_of_a_new_thread():
    """What torch.get_num_threads() is in a thread that is born now."""
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("n_items", [0, 1, 23])
def test_map_on_cores_gives_results_in_order(n_items, n_threads):
    assert list(map_on_cores(lambda i: i * i, range(n_items), n_threads)) == [i * i for i in range(n_items)]


def test_map_on_cores_runs_n_threads_of_one_core_each(two_threads):
    meeting = threading.Barrier(3, timeout=30)  # breaks unless three items are under way at once

    def meet(_):
        meeting.wait()
        return torch.get_num_threads()

    assert list(map_on_cores(meet, range(6), 3)) == [1] * 6


def test_map_on_cores_needs_no_gradients():
    weight = torch.ones(2, requires_grad=True)
    (result,) = map_on_cores(lambda _: 2 * weight, [0], 1)
    assert result.is_inference()


def test_map_on_cores_looks_no_further_ahead_than_it_must():
    taken = []
    items = (taken.append(i) or i for i in range(100))
    results = map_on_cores(lambda i: i, items, 2)
    next(results)
    assert len(taken) == 5  # four under way, and one in the place of the first
    results.close()


def test_map_on_cores_first_failing_item_is_the_one_raised():
    def fail(i):
        time.sleep(0.05 if i == 3 else 0)
        if i >= 3:
            raise KeyError(i)
        return i

    results = map_on_cores(fail, range(10), 4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="3"):
        next(results)


@pytest.mark.parametrize("end", ["done", "failed", "given up"])
def test_threads_end_and_cores_of_others_stay(two_threads, end):
    before = threading.active_count()
    results = map_on_cores(lambda i: 1 / (10 - i), range(10 if end == "done" else 30), 3)
    if end == "done":
        list(results)
    elif end == "failed":
        with pytest.raises(ZeroDivisionError):
            list(results)
    else:
        next(results)
        results.close()
    assert threading.active_count() == before
    assert torch.get_num_threads() == 2
    assert threads_of_a_new_thread() == 2


def test_cores_of_threads_born_meanwhile_stay(two_threads):
    with CoreThreads(2) as threads:
        results = threads.map(lambda i: torch.rand(50, 50) @ torch.rand(50, 50), range(20))
        for _ in results:
            assert threads_of_a_new_thread() == 2
            assert torch.get_num_threads() == 2


def test_threads_keep_to_one_core_whatever_others_set_before_they_first_compute(two_threads):
    with CoreThreads(1) as threads:
        torch.set_num_threads(2)
        (found,) = threads.map(lambda _: (torch.rand(9, 9) @ torch.rand(9, 9), torch.get_num_threads()), [0])
    assert found[1] == 1


def test_one_core_holds_for_this_thread_alone_and_ends(two_threads):
    with suppress(KeyError), one_core():
        assert torch.get_num_threads() == 1
        assert threads_of_a_new_thread() == 2
        raise KeyError
    assert torch.get_num_threads() == 2


def test_on_new_thread_has_one_core_and_no_mode_of_the_caller():
    with torch.inference_mode(), torch.no_grad():
        found = on_new_thread(
            lambda: (torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        )
    assert found == (1, True, False)


def test_resolve_n_threads(two_threads, monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    found = [resolve_n_threads(n) for n in (None, 1, 5, -1, -2, -100)]
    assert found == [2, 1, 5, 8, 7, 1]
