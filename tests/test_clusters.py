"""Fits and scores on a cluster of Dask: a scheduler and two workers, each a process of its own; and kills."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from conftest import FAST
from PIL import Image
from sklearn.model_selection import GridSearchCV

from skcsflow import CSFlowDetector, GroupedDetector, save
from skcsflow.datasets import list_images

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    images = np.random.RandomState(0).randint(0, 256, size=(40, 48, 40), dtype=np.uint8)
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{k:02}.png")
    return folder


@contextmanager
def cluster(tmp_path):
    """A client of a new cluster, and its workers' processes."""
    distributed = pytest.importorskip("distributed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    file = tmp_path / "scheduler.json"
    options = {
        "env": environment,
        "cwd": tmp_path,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    start = [sys.executable, "-m", "distributed.cli"]
    shared = ["--scheduler-file", str(file)]
    scheduler = subprocess.Popen(
        [
            *start[:2],
            f"{start[2]}.dask_scheduler",
            *shared,
            "--port",
            "0",
            "--dashboard-address",
            "127.0.0.1:0",
        ],
        **options,
    )
    workers = [
        subprocess.Popen(
            [
                *start[:2],
                f"{start[2]}.dask_worker",
                *shared,
                "--nthreads",
                "1",
                "--no-dashboard",
                "--no-nanny",
            ],
            **options,
        )
        for _ in range(2)
    ]
    try:
        for _ in range(300):
            if file.exists() and file.stat().st_size:
                break
            time.sleep(0.1)
        with distributed.Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, timeout=60)
            yield client, workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def test_searches_and_groups_have_the_bits_of_local_ones(folder, tmp_path):
    files = list_images(folder)
    table = pd.DataFrame({"group": ["nut", "bolt"] * 20, "image": files})
    detector = CSFlowDetector(**FAST, n_jobs=1)
    with cluster(tmp_path), joblib.parallel_config("dask"):
        search = GridSearchCV(detector, {"clamp": [2.0, 3.0], "learning_rate": [1e-3, 1e-2]}, cv=2).fit(files)
        grouped = GroupedDetector(detector).fit(table).calibrate(table, cv=2, fpr=0.1)
        scores = grouped.score_samples(table)
    local = GridSearchCV(detector, search.param_grid, cv=2).fit(files)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], local.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(search.decision_function(files), local.decision_function(files))
    grouped_here = GroupedDetector(detector).fit(table).calibrate(table, cv=2, fpr=0.1)
    np.testing.assert_array_equal(scores, grouped_here.score_samples(table))
    np.testing.assert_array_equal(grouped.p_values(table), grouped_here.p_values(table))


def score(files, detector):
    time.sleep(0.3)  # so that there is work left when a worker is killed
    return detector.score_samples(list(files)).tolist()


def test_a_worker_that_is_killed_costs_no_score(folder, tmp_path):
    bag = pytest.importorskip("dask.bag")
    files = list_images(folder)
    detector = CSFlowDetector(**FAST, n_jobs=1).fit(files)
    with cluster(tmp_path) as (client, workers):
        sent = client.scatter(detector, broadcast=True)
        lazy = bag.from_sequence(files, npartitions=20).map_partitions(score, detector=sent)
        future = client.compute(lazy)
        while not any(client.processing().values()):
            time.sleep(0.05)
        time.sleep(1)
        workers[0].send_signal(signal.SIGKILL)
        scores = future.result(timeout=120)
        assert len(client.scheduler_info()["workers"]) == 1
    np.testing.assert_array_equal(scores, detector.score_samples(files))


def test_scores_in_parquet_go_on_after_a_kill(folder, tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "images").symlink_to(folder)
    save(CSFlowDetector(**FAST).fit(list_images(folder)), tmp_path / "detector.skops")
    command = [sys.executable, ROOT / "docs" / "integrations" / "with_parquet.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment)
    scores = tmp_path / "scores"
    while not list(scores.glob("*.parquet")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    written = {path: path.stat().st_mtime_ns for path in scores.glob("*.parquet")}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert len(list(scores.glob("*.parquet"))) == 5 > len(written)
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())
