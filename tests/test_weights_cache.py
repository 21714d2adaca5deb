"""What is made of a network's weights lives as long as they do."""

import gc
import weakref

import pytest
import torch
from torch import nn

from skcsflow._weights_cache import WeightsCache


class Counting:
    def __init__(self):
        self.n_made = 0

    def __call__(self):
        self.n_made += 1
        return self.n_made


@pytest.fixture
def network():
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def test_it_is_made_once_for_a_key(network):
    cache, make = WeightsCache(), Counting()
    assert [cache.get_or_make(network, key, make) for key in "aabba"] == [1, 1, 2, 2, 1]


def change_in_place(network):
    with torch.no_grad():
        network[0].weight.add_(1)


def change_a_buffer(network):
    network[1].running_mean.add_(1)


def replace(network):
    network[0].weight = nn.Parameter(torch.ones(2, 2))


@pytest.mark.parametrize("change", [change_in_place, change_a_buffer, replace])
def test_weights_that_change_leave_nothing_behind(network, change):
    cache, make = WeightsCache(), Counting()
    for key in "ab":
        cache.get_or_make(network, key, make)
    change(network)
    assert cache.get_or_make(network, "a", make) == 3
    assert cache.get_or_make(network, "b", make) == 4  # made again, not kept


def test_weights_that_are_replaced_in_turn_are_not_taken_for_each_other(network):
    cache, make = WeightsCache(), Counting()
    for k in range(20):  # each may be given the memory of the one before
        network.load_state_dict({n: t.clone() for n, t in network.state_dict().items()}, assign=True)
        assert cache.get_or_make(network, "a", make) == k + 1


def test_a_network_is_freed_with_what_was_made_of_it():
    cache, network = WeightsCache(), nn.Linear(2, 2)
    made = weakref.ref(cache.get_or_make(network, "a", lambda: nn.Linear(1, 1)))
    of_network = weakref.ref(network)
    del network
    gc.collect()
    assert of_network() is None
    assert made() is None


def test_weights_of_inference_mode_have_no_version():
    with torch.inference_mode():
        network = nn.Linear(2, 2)
    cache, make = WeightsCache(), Counting()
    assert [cache.get_or_make(network, "a", make) for _ in range(2)] == [1, 1]


def test_networks_are_apart(network):
    cache, make = WeightsCache(), Counting()
    assert cache.get_or_make(network, "a", make) == 1
    assert cache.get_or_make(nn.Linear(1, 1), "a", make) == 2
