"""Scores, maps and thresholds are the committed ones: none drifts from release to release without being noticed.

All is computed in float64, of images that are committed too. Processors, numbers of threads and versions of torch
differ in the order of sums: by up to 1e-13 between instruction sets, and 5e-13 between torch 2.6 and 2.14. So 1e-9
holds on all of them, and a change of the maths shows. What torch draws in float32 differs by 1e-7 between
processors, so weights are given, and there is no noise. Maps leave a detector in float32, where 2e-7 is one rounding.

Where the numbers are to change, write them anew, and say in CHANGELOG.md which and why:

    python tests/test_reference.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import timm
import torch

from skcsflow import CSFlowDetector
from skcsflow._training import FlowTrainer
from skcsflow.datasets import make_defects
from skcsflow.nn import CrossScaleFlow, CSFlowLoss

REFERENCE = Path(__file__).parent / "data" / "reference.npz"
N_TRAIN, N_HELD_OUT = 15, 6
CHANNELS, SIZES = [5, 4, 6], [(5, 3), (3, 2), (2, 1)]
MODES = [("fused", "fused"), ("mean", "max"), ("mean", "all")]


def draw(shape, seed):
    # NumPy promises never to change the numbers of RandomState.
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape))


@torch.no_grad()
def set_weights(flow):
    for seed, parameter in enumerate(flow.parameters()):
        parameter.copy_(0.3 * draw(parameter.shape, seed))


def make_flow():
    """A flow with given weights, and features for it."""
    flow = CrossScaleFlow(CHANNELS, n_coupling_blocks=2, cross_conv_hidden_channels=4, whiten=True).double()
    features = [2 + draw((12, c, *size), seed=c) for c, size in zip(CHANNELS, SIZES, strict=True)]
    flow.initialize_whitening([features])
    set_weights(flow)
    return flow, features


@torch.no_grad()
def numbers_of_the_flow():
    flow, features = make_flow()
    z, log_det = flow(features)
    restored, inverse_log_det = flow.inverse(features)  # not of z: it would give the features themselves
    return {
        "z": torch.cat([m[:2].flatten() for m in z]),
        "log_det": log_det,
        "inverse": torch.cat([m[:2].flatten() for m in restored]),
        "inverse log_det": inverse_log_det,
        "loss": CSFlowLoss()(z, log_det),
    }


def numbers_of_a_training():
    flow, features = make_flow()
    trainer = FlowTrainer(
        n_epochs=3,
        batch_size=5,
        learning_rate=1e-3,
        lr_schedule="one_cycle",
        weight_decay=1e-3,
        max_grad_norm=1.0,
        precision="float64",
        seed=0,
    )
    fall = trainer.train(flow, features, np.arange(12))
    history = {name: trainer.history[name] for name in ("loss", "grad_norm", "learning_rate")}
    weights = torch.stack([p.detach().square().sum() for p in flow.parameters()])
    return {"fall of the loss": fall, "weights": weights, **history}


def write_backbone(path):
    """Weights of a small backbone."""
    state = timm.create_model("test_efficientnet").state_dict()
    for seed, (name, t) in enumerate(state.items()):
        if t.ndim == 4:
            state[name] = (draw(t.shape, seed) * (2 / t[0].numel()) ** 0.5).float()
    torch.save(state, path)
    return {"backbone": "test_efficientnet", "weights": path}


def numbers_of_a_detector(images, score_mode, map_mode, **params):
    X = images / 255.0  # float64: of integers the features would be those of float32
    train, held_out, fresh = np.split(X, [N_TRAIN, N_TRAIN + N_HELD_OUT])
    detector = CSFlowDetector(
        input_size=X.shape[1:3],
        cross_conv_hidden_channels=8,
        n_epochs=1,
        feature_noise=0.0,
        score_mode=score_mode,
        map_mode=map_mode,
        precision="float64",
        random_state=0,
        **params,
    ).fit(train)
    set_weights(detector.model_.flow)
    detector.set_params(warm_start=True).fit(train)
    numbers = {
        "offset_ of fit": detector.offset_,
        "map_threshold_ of fit (float32)": detector.map_threshold_,
        "score_samples": detector.score_samples(fresh),
        "score": detector.score(fresh),
        "maxima of transform (float32)": detector.transform(fresh).max(axis=(1, 2)),
        **{f"history_ {name}": detector.history_[name][1:] for name in ("loss", "grad_norm")},
    }
    with torch.inference_mode():
        output = detector.model_(torch.from_numpy(np.repeat(fresh[:, None], 3, axis=1)))
    assert output.anomaly_map.dtype == torch.float64
    numbers["maxima of the model's maps"] = output.anomaly_map.amax(dim=(1, 2, 3))
    numbers["scores of the model"] = output.pred_score
    detector.calibrate(held_out, fpr=0.2)
    numbers["offset_ of calibrate"] = detector.offset_
    numbers["map_threshold_ of calibrate (float32)"] = detector.map_threshold_
    numbers["p_values"] = detector.p_values(fresh)
    return numbers


def named(group, numbers):
    return {f"{group}: {name}": np.asarray(value, np.float64) for name, value in numbers.items()}


def numbers_of_small_parts():
    return named("flow", numbers_of_the_flow()) | named("training", numbers_of_a_training())


def numbers_of_small_detectors(images, folder):
    numbers = {}
    backbone = write_backbone(Path(folder) / "backbone.pt")
    for score_mode, map_mode in MODES:
        found = numbers_of_a_detector(images, score_mode, map_mode, **backbone)
        numbers |= named(f"{score_mode} score, {map_mode} map", found)
    return numbers


def numbers_of_the_default_backbone(images):
    return named("default backbone", numbers_of_a_detector(images, "fused", "fused"))


def check(found, name_begins):
    with np.load(REFERENCE) as file:
        expected = {name: file[name] for name in file.files if name.startswith(name_begins)}
    assert found.keys() == expected.keys()
    for name, value in found.items():
        tolerance = 2e-7 if "float32" in name else 1e-9
        np.testing.assert_allclose(value, expected[name], rtol=tolerance, atol=1e-12, err_msg=name)


@pytest.fixture
def images():
    with np.load(REFERENCE) as file:
        return file["images"]


def test_numbers_of_flow_and_training_are_those_of_the_reference():
    check(numbers_of_small_parts(), ("flow: ", "training: "))


@pytest.mark.slow
def test_numbers_of_small_detectors_are_those_of_the_reference(images, tmp_path):
    check(numbers_of_small_detectors(images, tmp_path), ("fused ", "mean "))


@pytest.mark.slow
def test_numbers_of_the_default_backbone_are_those_of_the_reference(images):
    check(numbers_of_the_default_backbone(images), "default backbone: ")


if __name__ == "__main__":
    n_normal = N_TRAIN + N_HELD_OUT + 3
    images = make_defects(n_normal, 3, size=64, random_state=0).images[:, ::2, ::2, 0]
    with TemporaryDirectory() as folder:
        numbers = numbers_of_small_parts() | numbers_of_small_detectors(images, folder)
        numbers |= numbers_of_the_default_backbone(images)
    REFERENCE.parent.mkdir(exist_ok=True)
    np.savez_compressed(REFERENCE, images=images, **numbers)
