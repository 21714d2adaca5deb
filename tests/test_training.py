"""The trainer alone: steps, parts, clipping, schedules, history, divergence."""

import math

import numpy as np
import pytest
import torch

from skcsflow._checkpoints import Checkpoint
from skcsflow._compute._device import has_fast_bfloat16
from skcsflow._features._storage import gather_features
from skcsflow._training import LR_SCHEDULES, FlowTrainer, initialize_whitening
from skcsflow.nn import CrossScaleFlow, CSFlowLoss

CPU = torch.device("cpu")
PARAMS = {
    "n_epochs": 3,
    "batch_size": 4,
    "learning_rate": 1e-2,
    "lr_schedule": "constant",
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "precision": "float32",
    "seed": 0,
}


def with_rows(features):
    """Features, and all rows of them."""
    return features, np.arange(len(features[0]))


def make_flow(whiten=False):
    generator = torch.Generator().manual_seed(0)
    return CrossScaleFlow(
        6, n_coupling_blocks=1, cross_conv_hidden_channels=8, whiten=whiten, generator=generator
    )


def make_features(n=10):
    generator = torch.Generator().manual_seed(1)
    return [0.3 * torch.randn(n, 6, s, s, generator=generator) for s in (4, 2, 1)]


def train(features=None, **changes):
    trainer, flow = FlowTrainer(**{**PARAMS, **changes}), make_flow()
    assert trainer.train(flow, *with_rows(make_features() if features is None else features)) is not None
    return trainer, flow


def weights(flow):
    return torch.cat([p.detach().flatten() for p in flow.parameters()])


@pytest.mark.parametrize("lr_schedule", LR_SCHEDULES)
def test_train_lowers_the_loss_and_ends_in_eval_mode(lr_schedule):
    trainer, flow = train(lr_schedule=lr_schedule, n_epochs=8)
    loss = trainer.history["loss"]
    assert loss[-1] < loss[0]
    assert not flow.training
    assert all(p.grad is None for p in flow.parameters())


def test_train_of_one_step_has_the_loss_of_the_flow_as_given():
    # One step only: its loss is taken before it.
    trainer, _ = train(n_epochs=1, batch_size=16)
    expected = CSFlowLoss()(*make_flow()(make_features()))
    assert trainer.history["loss"] == [pytest.approx(expected.item(), rel=1e-6)]


def test_train_epoch_loss_weighs_every_image_alike():
    trainer, _ = train(n_epochs=1, batch_size=4, learning_rate=1e-12)  # 4 + 4 + 2 images
    expected = CSFlowLoss()(*make_flow()(make_features()))
    assert trainer.history["loss"][0] == pytest.approx(expected.item(), rel=1e-5)


def test_train_of_one_step_is_a_step_of_adam():
    _, flow = train(n_epochs=1, batch_size=16, weight_decay=0.1, max_grad_norm=None)
    expected = make_flow()
    optimizer = torch.optim.Adam(expected.parameters(), lr=1e-2, eps=1e-4, weight_decay=0.1)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    CSFlowLoss()(*expected([f[order] for f in make_features()])).backward()
    optimizer.step()
    torch.testing.assert_close(weights(flow), weights(expected), rtol=0, atol=1e-6)
    assert not torch.equal(weights(flow), weights(make_flow()))


@pytest.mark.parametrize("n", [7, 8, 21])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_train_step_in_parts_has_the_gradient_of_the_whole_batch(n, noise):
    trainer = FlowTrainer(**{**PARAMS, "precision": "float64", "max_grad_norm": None}, noise=noise)
    features = [f.double() for f in make_features(n)]
    flow = make_flow(whiten=True).double()
    flow.initialize_whitening([features])
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(0.7)
    drawn = trainer._draw_noise(features, torch.Generator().manual_seed(0))
    whitened, _ = flow.whiten(features)
    if noise:
        whitened = [w + d for w, d in zip(whitened, drawn, strict=True)]
    whole = CSFlowLoss()(*flow.couple(whitened))
    parameters = list(flow.parameters())
    expected = torch.autograd.grad(whole, parameters)
    optimizer = torch.optim.SGD(parameters, lr=0.0)
    loss, norm = trainer._train_step(flow, optimizer, features, drawn, map)
    torch.testing.assert_close(loss, whole.detach(), rtol=1e-12, atol=0)
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(norm, torch.cat([g.flatten() for g in expected]).norm(), rtol=1e-9, atol=0)


def test_train_in_smaller_parts_where_the_memory_is_full_learns_the_same(monkeypatch):
    _, expected = train()
    original = FlowTrainer._gradient

    def gradient(self, flow, inputs, weight=1.0):
        if len(inputs[0]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, flow, inputs, weight)

    monkeypatch.setattr(FlowTrainer, "_gradient", gradient)
    with pytest.warns(UserWarning, match=r"batch_size=4 images are summed up over parts of 1"):
        _, flow = train()
    torch.testing.assert_close(weights(flow), weights(expected), rtol=1e-3, atol=1e-5)


def test_initialize_whitening_gives_the_same_bits_whatever_torchs_number_of_threads():
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(4, 192, s, s, generator=generator) for s in (4, 2, 1)]
    threads = torch.get_num_threads()
    found = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            flow = CrossScaleFlow(192, n_coupling_blocks=1, cross_conv_hidden_channels=2, whiten=True)
            initialize_whitening(flow, *with_rows(features))
            found.append(torch.stack([scale.weight for scale in flow.whitening.scales]))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[1], found[0])
    assert torch.equal(found[2], found[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch_size", "precision"), [(1, "float32"), (3, "float32"), (8, "bfloat16"), (20, "float32")]
)
def test_train_on_any_number_of_threads_gives_the_same_bits(batch_size, precision):
    before = torch.get_num_threads()
    settings = {"batch_size": batch_size, "precision": precision, "noise": 0.5, "n_epochs": 2}
    results = [train(make_features(37), n_threads=n, **settings) for n in (1, 2, 5)]
    assert torch.get_num_threads() == before
    for trainer, flow in results[1:]:
        assert torch.equal(weights(flow), weights(results[0][1]))
        for name in ("loss", "grad_norm"):
            assert trainer.history[name] == results[0][0].history[name]


@pytest.mark.parametrize("limit", [1e-3, 1e-5])
def test_train_with_max_grad_norm_cuts_gradients_down_to_it(limit, monkeypatch):
    norms = []
    step = torch.optim.Adam.step

    def measured(self):
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(math.sqrt(sum(g.square().sum().item() for g in gradients)))
        step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", measured)
    train(max_grad_norm=limit, n_epochs=1)
    assert norms == [pytest.approx(limit, rel=1e-2)] * 3
    norms.clear()
    trainer, _ = train(max_grad_norm=None, n_epochs=1)
    assert trainer.history["grad_norm"][0] > 10 * limit
    assert min(norms) > 10 * limit


def test_train_history_has_the_grad_norm_before_clipping():
    limited, _ = train(max_grad_norm=1e-4, n_epochs=1, batch_size=16)
    free, _ = train(max_grad_norm=None, n_epochs=1, batch_size=16)
    assert limited.history["grad_norm"] == free.history["grad_norm"]


@pytest.mark.slow
def test_train_rate_is_constant_or_rises_and_falls_in_one_cycle():
    trainer, _ = train(n_epochs=10)
    assert trainer.history["learning_rate"] == [1e-2] * 10
    trainer, _ = train(n_epochs=10, lr_schedule="one_cycle")
    rates = np.array(trainer.history["learning_rate"])
    top = rates.argmax()
    assert 0 < top < 5
    assert rates[top] == pytest.approx(1e-2, rel=0.05)
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()
    assert rates[-1] < 1e-5


@pytest.mark.parametrize("n_epochs", [1, 2])
@pytest.mark.parametrize("lr_schedule", LR_SCHEDULES)
def test_train_of_few_steps_moves_the_weights(lr_schedule, n_epochs):
    _, flow = train(n_epochs=n_epochs, batch_size=16, lr_schedule=lr_schedule)
    assert (weights(flow) - weights(make_flow())).abs().max() > 1e-5


@pytest.mark.parametrize("n", [1, 3])
def test_train_with_batches_larger_than_the_images_works(n):
    trainer, _ = train(make_features(n), batch_size=100)
    assert np.isfinite(trainer.history["loss"]).all()


def test_train_history_has_one_number_per_epoch():
    trainer, _ = train(n_epochs=4)
    assert {name: len(values) for name, values in trainer.history.items()} == {
        "loss": 4, "grad_norm": 4, "learning_rate": 4, "seconds": 4,
    }  # fmt: skip


@pytest.mark.slow
def test_train_seed_decides_the_order_and_global_state_does_not():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = weights(train(seed=5)[1])
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(weights(train(seed=5)[1]), first)
    assert not torch.equal(weights(train(seed=6)[1]), first)


def test_train_leaves_features_and_whitening_alone():
    features = make_features()
    flow = make_flow(whiten=True)
    flow.initialize_whitening([features])
    before = [t.clone() for t in (*features, *flow.whitening.buffers())]
    FlowTrainer(**PARAMS).train(flow, *with_rows(features))
    after = (*features, *flow.whitening.buffers())
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_train_whitens_features_first():
    features = make_features()
    flow = make_flow(whiten=True)
    flow.initialize_whitening([features])
    trainer = FlowTrainer(**PARAMS)
    trainer.train(flow, *with_rows(features))
    expected, _ = train(flow.whiten(features)[0])
    assert trainer.history["loss"] == pytest.approx(expected.history["loss"], rel=1e-4)


def test_train_on_mapped_files_gives_the_same_bits(tmp_path):
    features = [f.contiguous(memory_format=torch.channels_last) for f in make_features(70)]
    in_memory, expected = train(features, batch_size=20, n_epochs=2)
    items = zip(*features, strict=True)
    with gather_features(items, 70, CPU, tmp_path) as mapped:
        from_files, flow = train(mapped, batch_size=20, n_epochs=2)
    assert torch.equal(weights(flow), weights(expected))
    assert from_files.history["loss"] == in_memory.history["loss"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_train_on_features_that_are_not_finite_raises(value):
    features = make_features()
    features[1][3, 2] = value
    with pytest.raises(ValueError, match=r"The loss is (nan|inf) before the first step"):
        train(features)


@pytest.mark.slow
def test_train_whose_loss_is_no_number_in_every_step_raises():
    # The probe takes every second image of these: this one it doesn't see.
    features = make_features(70)
    features[1][3, 2] = float("nan")
    with pytest.raises(ValueError, match=r"Training diverged: loss .* in epoch 1, .*learning_rate=0\.01 or"):
        train(features)


@pytest.mark.parametrize("learning_rate", [1e15, 1e30])
def test_train_with_far_too_high_a_rate_raises(learning_rate):
    with pytest.raises(ValueError, match=r"Training diverged: .*learning_rate=.*max_grad_norm=None"):
        train(learning_rate=learning_rate, max_grad_norm=None, n_epochs=10)


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 2.0},
        {"learning_rate": 0.5, "n_epochs": 1, "batch_size": 2},
        {"learning_rate": 0.5, "n_epochs": 2, "batch_size": 2},
        {
            "learning_rate": 100.0,
            "n_epochs": 1,
            "batch_size": 16,
        },  # its only step, whose loss is taken before it
        pytest.param(
            {"learning_rate": 1.0, "n_epochs": 20, "lr_schedule": "one_cycle"}, marks=pytest.mark.slow
        ),
    ],
)
def test_train_that_blows_up_goes_on_from_good_weights_with_a_lower_rate(changes):
    changes = {"max_grad_norm": None, **changes}
    trainer, flow = train(**changes)
    assert trainer.n_setbacks >= 1
    assert trainer.history["learning_rate"][-1] < changes["learning_rate"] / 4.9
    loss = CSFlowLoss()(*flow(make_features())).item()
    assert loss <= CSFlowLoss()(*make_flow()(make_features())).item() + 1
    assert len(trainer.history["loss"]) == changes.get("n_epochs", PARAMS["n_epochs"])


def test_train_that_goes_well_has_no_setbacks():
    trainer, _ = train(n_epochs=8)
    assert trainer.n_setbacks == 0


def test_train_on_a_single_image_unlike_all_others_has_no_setbacks():
    # The probe doesn't see it, and the mean loss of its batch is far above what the flow had before.
    features = make_features(70)
    for f in features:
        f[3] *= 100
    trainer, _ = train(features, n_epochs=2)
    assert max(trainer.history["loss"]) > 2
    assert trainer.n_setbacks == 0


class Interrupted(BaseException):
    pass


class CutShort(Checkpoint):
    """Saves after every round, and then stops the training after so many."""

    is_due = True

    def __init__(self, *args, n_rounds=10**9):
        super().__init__(*args)
        self.n_rounds = n_rounds

    def save(self, state):
        super().save(state)
        self.n_rounds -= 1
        if self.n_rounds == 0:
            raise Interrupted


@pytest.mark.parametrize(
    "changes",
    [
        {"lr_schedule": "one_cycle", "noise": 0.3},
        pytest.param({"n_epochs": 2, "batch_size": 1}, marks=pytest.mark.slow),  # an epoch has two rounds
        pytest.param({"learning_rate": 2.0, "max_grad_norm": None}, marks=pytest.mark.slow),  # has setbacks
        pytest.param({"precision": "float64"}, marks=pytest.mark.slow),
    ],
)
def test_train_that_was_cut_short_anywhere_ends_with_the_same_bits(tmp_path, changes):
    changes = {**PARAMS, **changes}
    features = [f.to(torch.float64 if "precision" in changes else f.dtype) for f in make_features(36)]
    expected, flow = FlowTrainer(**changes), make_flow().to(features[0].dtype)
    gain = expected.train(flow, *with_rows(features))
    for n_rounds in (1, 2):
        folder = tmp_path / str(n_rounds)
        folder.mkdir()
        for k in range(100):  # resumed, and stopped again, until it is done
            trainer, again = FlowTrainer(**changes), make_flow().to(features[0].dtype)
            checkpoint = CutShort(folder, {}, 0, n_rounds=n_rounds)
            assert (checkpoint.saved is None) == (k == 0)
            try:
                gain_again = trainer.train(again, *with_rows(features), checkpoint)
            except Interrupted:
                continue
            break
        assert k >= 1
        assert torch.equal(weights(again), weights(flow))
        assert gain_again == gain
        for name in ("loss", "grad_norm", "learning_rate"):
            assert trainer.history[name] == expected.history[name]
        assert trainer.n_setbacks == expected.n_setbacks


@pytest.mark.parametrize("n", [63, 65, 200])
def test_train_probe_is_the_loss_of_evenly_spread_images(n):
    features = make_features(n)
    every = -(-n // 64)
    expected = CSFlowLoss()(*make_flow()([f[::every] for f in features]))
    loss = FlowTrainer(**PARAMS)._probe(make_flow(), *with_rows(features), map)
    assert loss == pytest.approx(expected.item(), rel=1e-6)


def test_train_on_images_of_very_different_loss_does_not_raise():
    # The mean of an epoch is far above the loss of its first step, and nothing blew up.
    order = torch.randperm(10, generator=torch.Generator().manual_seed(PARAMS["seed"]))
    features = make_features()
    for f in features:
        f[order[5:]] *= 30
    trainer, _ = train(features, n_epochs=1, batch_size=5, learning_rate=1e-4)
    assert trainer.history["loss"][0] > 10


def test_train_in_bfloat16_is_near_float32():
    expected, _ = train(n_epochs=6, batch_size=16)
    trainer, flow = train(n_epochs=6, batch_size=16, precision="bfloat16")
    assert trainer.history["loss"] == pytest.approx(expected.history["loss"], abs=0.02)
    assert all(p.dtype == torch.float32 for p in flow.parameters())


@pytest.mark.slow
def test_train_in_bfloat16_is_float32_where_that_is_faster(monkeypatch):
    expected = weights(train()[1])
    assert torch.equal(weights(train(precision="bfloat16")[1]), expected) != has_fast_bfloat16(CPU)
    monkeypatch.setattr("skcsflow._training.has_fast_bfloat16", lambda device: False)
    assert torch.equal(weights(train(precision="bfloat16")[1]), expected)


def test_train_verbose_shows_epochs_and_loss(capfd):
    train(verbose=0)
    assert capfd.readouterr() == ("", "")
    train(verbose=1)
    assert "3/3" in capfd.readouterr().err


def test_train_with_noise_repeats_bits_and_differs_from_without():
    first, second = (weights(train(noise=0.5)[1]) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, weights(train()[1]))


def test_noise_has_its_standard_deviation_at_every_scale_and_no_mean():
    trainer = FlowTrainer(**PARAMS, noise=0.5)
    batch = [torch.full((100, 6, s, s), 3.0, dtype=torch.float64) for s in (8, 4)]
    for drawn, m in zip(trainer._draw_noise(batch, torch.Generator().manual_seed(0)), batch, strict=True):
        assert drawn.dtype == torch.float64
        assert drawn.shape == m.shape
        assert drawn.mean().item() == pytest.approx(0, abs=0.02)
        assert drawn.std().item() == pytest.approx(0.5, rel=0.02)


def test_noise_is_added_after_whitening():
    trainer, flow = FlowTrainer(**PARAMS), make_flow(whiten=True)
    features = [100 * f for f in make_features()]
    flow.initialize_whitening([features])
    noise = [torch.full_like(f, 0.5) for f in features]
    whitened, _ = flow.whiten(features)
    expected = CSFlowLoss()(*flow.couple([w + n for w, n in zip(whitened, noise, strict=True)]))
    torch.testing.assert_close(trainer._loss(flow, features, noise), expected)


@pytest.mark.slow
def test_train_with_noise_sharpens_less_around_few_images():
    features = make_features(n=8)
    log_dets = []
    for noise in (0.0, 0.5):
        _, flow = train(features, noise=noise, n_epochs=25, batch_size=8)
        log_dets.append(flow(features)[1].mean().item())
    assert log_dets[1] < log_dets[0]


def test_recorded_steps_are_dropped_where_training_fails():
    trainer = FlowTrainer(**PARAMS)
    trainer._recorded[4] = object()
    with (
        pytest.raises(KeyboardInterrupt),
        trainer._part_computing(torch.device("cuda")),
    ):  # needs no GPU itself
        raise KeyboardInterrupt
    assert trainer._recorded == {}
