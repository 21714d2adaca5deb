"""A detector that several processes fit together, each test by torchrun and gloo."""

import os
import pickle
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import FAST

from skcsflow import CSFlowDetector

pytestmark = pytest.mark.slow

FIT = """
import os, pickle, sys, warnings
import torch.distributed as dist
dist.init_process_group("gloo")
rank = dist.get_rank()
detector, X, options = pickle.load(open(sys.argv[1], "rb"))
try:
    exec(options.get("before", ""))
    detector.set_params(distributed=True).fit(X)
except Exception as error:
    with open(f"{sys.argv[1]}.error{rank}", "w") as file:
        file.write(f"{type(error).__name__}: {error}")
    if options.get("raises"):
        sys.exit(3)
else:
    with open(f"{sys.argv[1]}.{rank}", "wb") as file:
        pickle.dump((detector, detector.score_samples(X)), file)
dist.destroy_process_group()
"""


def start(tmp_path, n, detector, X, **options):
    (tmp_path / "fit.py").write_text(FIT)
    (tmp_path / "given").write_bytes(pickle.dumps((detector, X, options)))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(n),
        "--master-port",
        free_port(),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, str(tmp_path / "fit.py"), str(tmp_path / "given")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def fit(tmp_path, n, detector, X, **options):
    process = start(tmp_path, n, detector, X, **options)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    return [pickle.loads((tmp_path / f"given.{rank}").read_bytes()) for rank in range(n)]


PARAMS = {
    **FAST,
    "n_epochs": 4,
    "contamination": "auto",
    "score_mode": "fused",
    "map_mode": "fused",
    "batch_size": 6,
}


@pytest.fixture
def images():
    return np.random.RandomState(0).randint(0, 256, size=(23, 48, 40), dtype=np.uint8)


@pytest.mark.parametrize(
    ("n", "params"),
    [(2, {}), (4, {}), (4, {"batch_size": 3, "precision": "float64"})],
    ids=["2", "4", "float64"],
)
def test_processes_fit_the_same_detector_as_one(images, tmp_path, n, params):
    detector = CSFlowDetector(**{**PARAMS, **params})
    alone = CSFlowDetector(**{**PARAMS, **params}).fit(images)
    fitted = fit(tmp_path, n, detector, images)
    tolerance = 1e-9 if params else 1e-4
    for one, scores in fitted:
        assert (scores == fitted[0][1]).all()  # the same bits in all processes
        np.testing.assert_allclose(scores, alone.score_samples(images), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(one.history_["loss"], alone.history_["loss"], rtol=tolerance)
        assert one.offset_ == pytest.approx(alone.offset_, rel=tolerance, abs=tolerance)
        assert (one._trained_images == alone._trained_images).all()
        assert one._trained_values == alone._trained_values


def test_without_a_seed_processes_draw_the_same(images, tmp_path):
    fitted = fit(tmp_path, 2, CSFlowDetector(**{**PARAMS, "random_state": None}), images)
    assert (fitted[0][1] == fitted[1][1]).all()


def test_a_training_that_lost_a_process_ends_clearly_and_goes_on(images, tmp_path):
    detector = CSFlowDetector(**{**PARAMS, "n_epochs": 40, "checkpoint": str(tmp_path / "checkpoints")})
    expected = fit(tmp_path, 2, detector, images)[0][1]
    kills_itself = """
if rank == 1:
    import signal, skcsflow._training as training
    step, n = training.FlowTrainer._train_round, [0]
    def killed(*args):
        n[0] += 1
        if n[0] == 12: os.kill(os.getpid(), signal.SIGKILL)
        return step(*args)
    training.FlowTrainer._train_round = killed
"""
    process = start(tmp_path, 2, detector, images, before=kills_itself, raises=True)
    process.communicate(timeout=300)
    assert process.returncode != 0
    error = tmp_path / "given.error0"
    if error.exists():  # torchrun may end it before it has seen the loss
        assert "lost touch: another one ended" in error.read_text()
    assert list((tmp_path / "checkpoints").glob("*.pt"))
    fitted = fit(tmp_path, 2, detector, images)
    assert (fitted[0][1] == expected).all()
    assert not list((tmp_path / "checkpoints").glob("*.pt"))


def test_an_image_that_one_process_cannot_read_ends_all(images, tmp_path):
    X = list(images)
    X[5] = np.full((48, 40), np.nan)
    process = start(tmp_path, 2, CSFlowDetector(**PARAMS), X)
    process.communicate(timeout=300)
    assert (
        (tmp_path / "given.error1")
        .read_text()
        .startswith("ValueError: Input X contains NaN or infinity: X[5]")
    )
    assert (
        (tmp_path / "given.error0")
        .read_text()
        .startswith("RuntimeError: Process 1 of the training failed: Input X")
    )


def test_other_parameters_or_images_in_one_process_are_refused(images, tmp_path):
    before = """
from sklearn.base import clone
refusals = []
for params, images in [
    ({"contamination": 0.01}, X),
    ({"checkpoint": "checkpoints"}, X),
    ({}, X[::-1].copy()),
]:
    one = clone(detector).set_params(distributed=True, **(params if rank else {}))
    try:
        one.fit(images if rank else X)
    except ValueError as error:
        refusals.append(str(error))
raise RuntimeError(chr(10).join(refusals))
"""
    process = start(tmp_path, 2, CSFlowDetector(**PARAMS), images, before=before)
    process.communicate(timeout=300)
    for rank in (0, 1):
        told = (tmp_path / f"given.error{rank}").read_text().removeprefix("RuntimeError: ").splitlines()
        assert len(told) == 3
        for line, what in zip(
            told, ("contamination is ", "checkpoint is None is ", "the images, in their order"), strict=True
        ):
            assert line.startswith(
                "All processes must call fit with the same parameters and images, but " + what
            )


def test_without_a_group_it_says_so(images):
    with pytest.raises(ValueError, match="distributed=True needs the processes of torchrun"):
        CSFlowDetector(**PARAMS, distributed=True).fit(images)
