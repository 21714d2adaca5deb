"""Short runs of what `python -m benchmarks.fuzz` does for hours: the same cases every time."""

import os

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from states import Detectors
from targets import TARGETS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals"),
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),  # of hypothesis, for itself
]

SAME = {
    "derandomize": True,
    "database": None,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
}
EXAMPLES = {"images": 15, "anything": 25, "labels": 20, "parameters": 40, "numbers": 200, "files": 8, "models": 3,
            "service": 10}  # fmt: skip


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_target_has_a_number_of_examples():
    assert EXAMPLES.keys() == TARGETS.keys()


@pytest.mark.parametrize("name", TARGETS)
def test_target(name):
    settings(**SAME, max_examples=EXAMPLES[name])(TARGETS[name]())()


def run_states(n_sequences, n_calls):
    options = {**SAME, "phases": [Phase.generate]}  # to find the shortest order of calls takes minutes
    options |= {"max_examples": n_sequences, "stateful_step_count": n_calls}
    run_state_machine_as_test(Detectors, settings=settings(**options))


def test_any_order_of_calls():
    run_states(5, 12)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_target_with_more_examples(name):
    settings(**SAME, max_examples=5 * EXAMPLES[name])(TARGETS[name]())()


@pytest.mark.slow
def test_any_order_of_many_calls():
    run_states(8, 20)
