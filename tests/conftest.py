"""Fixtures shared by all tests."""

import io
import multiprocessing
import os
from contextlib import suppress
from pathlib import Path

# One core for each process: what takes several in these small tests waits longer than it computes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import joblib
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import make_blobs

from skcsflow import CSFlowDetector

TINY = {
    "backbone": "test_efficientnet",
    "weights": None,
    "input_size": 64,
    "cross_conv_hidden_channels": 8,
    "strides": (32, 64),
    "n_coupling_blocks": 1,
    "n_epochs": 1,
    "contamination": 0.01,
    "score_mode": "mean",
    "map_mode": "max",
    "random_state": 0,
}
"""Parameters of a detector that fits in a second, and trains on all images that it is given."""

BY_DEFAULT = {"strides": (8, 16, 32, 64), "contamination": "auto", "score_mode": "fused", "map_mode": "fused"}
"""What of it is otherwise by default."""

FAST = {**TINY, "input_size": 32}
"""The same for what is not about the flow: a fifth of a second."""

PROCESSES = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
"""Each process is a new one. Where processes can be forked, packages are imported once: that takes seconds."""
PROCESSES.set_forkserver_preload(["skcsflow.serving", "skcsflow.datasets", "skops.io"])


def open_files(folder):
    """Files in a folder that this process holds open, deleted ones too; only Linux can tell."""
    descriptors = Path("/proc/self/fd")
    links = []
    for d in os.listdir(descriptors) if descriptors.exists() else []:
        with suppress(FileNotFoundError):  # the descriptor that listed the others
            links.append(os.readlink(descriptors / d))
    return [link for link in links if link.startswith(str(folder))]


def pytest_collection_modifyitems(items):
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def tiny_params():
    return dict(TINY)


@pytest.fixture(scope="session")
def many_images():
    """40 textured grey images, uint8 of shape (40, 48, 40)."""
    rng = np.random.RandomState(0)
    rows, columns = np.mgrid[:48, :40]
    phase = rng.uniform(0, 6, size=(40, 1, 1))
    waves = np.sin(rows / 3 + phase) * np.cos(columns / 4 + phase)
    return np.clip(128 + 60 * waves + rng.normal(0, 8, size=waves.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def grey_images(many_images):
    """The first 24 of them: enough for most tests, and quicker."""
    return many_images[:24]


@pytest.fixture(scope="session")
def inspected(many_images):
    """30 images, the last ten with a square that is brighter and brighter, and their labels."""
    images = many_images[:30].astype(int)
    images[20:, 10:20, 10:20] += np.geomspace(2, 60, 10).astype(int)[:, None, None]
    return images.clip(0, 255).astype(np.uint8), np.repeat([1, -1], [20, 10])


@pytest.fixture(scope="session")
def blobs():
    X, _ = make_blobs(n_samples=60, n_features=16, centers=1, random_state=0)
    return X


@pytest.fixture(scope="session")
def fitted(grey_images):
    """A detector fitted on `grey_images`; tests must not change it."""
    return CSFlowDetector(**TINY).fit(grey_images)


@pytest.fixture
def fitted_copy(fitted):
    """A detector like `fitted`, whose attributes a test may change; the model is the same object."""
    detector = CSFlowDetector()
    vars(detector).update(vars(fitted))
    return detector


# Of tests/serving


@pytest.fixture(scope="session")
def calibrated(many_images):
    """A calibrated detector that finds regions; tests must not change it."""
    detector = CSFlowDetector(**TINY).fit(many_images[:20])
    return detector.calibrate(many_images[20:], fpr=0.1)


@pytest.fixture(scope="session")
def other(grey_images):
    """Another detector with the same backbone and other scores."""
    return CSFlowDetector(**{**TINY, "n_epochs": 3}).fit(grey_images[:10])


@pytest.fixture(scope="session")
def detector_files(calibrated, other, tmp_path_factory):
    """A file of skops and one of joblib."""
    skops_io = pytest.importorskip("skops.io")
    folder = tmp_path_factory.mktemp("detectors")
    skops_io.dump(calibrated, folder / "calibrated.skops")
    joblib.dump(other, folder / "other.joblib")
    return {"calibrated": folder / "calibrated.skops", "other": folder / "other.joblib"}


@pytest.fixture(scope="session")
def file_contents(grey_images):
    """Contents of image files of many kinds, by name."""
    colour = np.random.RandomState(1).randint(0, 255, (60, 70, 3), np.uint8)
    images = {
        "grey.png": grey_images[0],
        "defect.png": np.where(np.arange(48)[:, None] > 30, 255 - grey_images[1], grey_images[1]),
        "colour.png": colour,
        "alpha.png": np.dstack([colour, colour[..., :1]]),
        "narrow.png": grey_images[2][:, :3],
        "16.png": grey_images[4].astype(np.uint16) * 257,
        "large.jpeg": np.kron(colour, np.ones((12, 12, 1), np.uint8)),  # read at reduced size
        "page.tiff": grey_images[3],
        "a.webp": colour,
        "a.npy": grey_images[5],
    }
    contents = {}
    for name, array in images.items():
        buffer = io.BytesIO()
        if name.endswith("npy"):
            np.save(buffer, array)
        else:
            Image.fromarray(array).save(buffer, name.partition(".")[2])
        contents[name] = buffer.getvalue()
    return contents
