"""Training steps recorded as a CUDA graph; all of it needs a GPU."""

import numpy as np
import pytest
import torch
from conftest import TINY
from test_training import PARAMS, make_features, make_flow, weights

from skcsflow import CSFlowDetector, _cuda_graph
from skcsflow._cuda_graph import GraphedStep
from skcsflow._training import FlowTrainer

pytestmark = pytest.mark.gpu


def train(**changes):
    flow = make_flow().to("cuda")
    trainer = FlowTrainer(**{**PARAMS, **changes})
    trainer.train(flow, [f.to("cuda") for f in make_features(42)])
    return trainer, flow


@pytest.mark.parametrize("lr_schedule", ["constant", "one_cycle"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_recorded_steps_train_as_steps_that_are_not_do_bit_for_bit(monkeypatch, lr_schedule, precision):
    # 42 images in batches of 4: the last batch of each epoch is smaller, and isn't recorded.
    recorded, flow = train(lr_schedule=lr_schedule, precision=precision)
    monkeypatch.setattr(_cuda_graph, "N_WARM_UP", 10**9)
    plain, expected = train(lr_schedule=lr_schedule, precision=precision)
    assert torch.equal(weights(flow), weights(expected))
    for name in ("loss", "grad_norm", "learning_rate"):
        np.testing.assert_array_equal(recorded.history[name], plain.history[name])


def test_a_step_that_waits_for_the_gpu_is_not_recorded_but_taken():
    total = torch.zeros((), device="cuda")

    def step(batch):
        total.add_(batch[0].sum().item())  # waits
        return (total.clone(),)

    graphed = GraphedStep(step)
    batch = [torch.ones(2, device="cuda")]
    with pytest.warns(UserWarning, match="could not be recorded"):
        results = [graphed(batch)[0].item() for _ in range(6)]
    assert results == [2, 4, 6, 8, 10, 12]


def test_no_step_inside_an_epoch_waits_for_the_gpu():
    flow = make_flow().to("cuda")
    trainer = FlowTrainer(**PARAMS)
    optimizer = trainer._optimizer(flow, torch.device("cuda"))
    batch = [f.to("cuda")[:4] for f in make_features()]
    flow.train()
    trainer._train_step(flow, optimizer, batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer._train_step(flow, optimizer, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_detector_on_a_gpu_learns_what_it_learns_on_the_cpu(grey_images):
    on_gpu = CSFlowDetector(**TINY, device="cuda").fit(grey_images).score_samples(grey_images)
    on_cpu = CSFlowDetector(**TINY, device="cpu").fit(grey_images).score_samples(grey_images)
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-2)
