"""What clusters and several processes give, beside one process of this machine: largest difference, and time.

    pip install distributed "ray[data]" pyspark
    PYTHONPATH=. python -m benchmarks.parity [--engine ENGINE ...] [--n-images 40] [--n-epochs 5] [--input-size 128]

Each engine has two workers of one core, torchrun also one and four processes. Starting a cluster isn't counted, but
its first import of torch is. Spark needs Java, and has no backend of joblib. Packages that are missing are told.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import joblib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks._report import print_table, with_earlier, write
from skcsflow import CSFlowDetector, GroupedDetector, load, save
from skcsflow.datasets import list_images, make_defects

Score: TypeAlias = Callable[[Sequence[str]], list[float]]
MapParts: TypeAlias = Callable[[Score, list[list[str]]], list[list[float]]]


def detector(args: argparse.Namespace) -> CSFlowDetector:
    """What is fitted."""
    return CSFlowDetector(input_size=args.input_size, n_epochs=args.n_epochs, random_state=0, n_jobs=1)


def scorer(path: str) -> Score:
    """A function that a cluster can send to its workers; each loads the detector for itself."""

    def score(files: Sequence[str]) -> list[float]:
        scores: list[float] = load(path).score_samples(list(files)).tolist()
        return scores

    return score


@contextmanager
def with_joblib() -> Iterator[tuple[str | None, MapParts]]:
    """Processes of joblib on this machine."""
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        yield "loky", lambda f, parts: joblib.Parallel()(joblib.delayed(f)(p) for p in parts)


@contextmanager
def with_dask() -> Iterator[tuple[str | None, MapParts]]:
    """A scheduler of Dask and two workers, each a process."""
    import dask.bag
    from distributed import Client

    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        yield "dask", lambda f, parts: dask.bag.from_sequence(parts, npartitions=len(parts)).map(f).compute()


@contextmanager
def with_ray() -> Iterator[tuple[str | None, MapParts]]:
    """Two workers of Ray."""
    import ray
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    register_ray()
    ray.data.DataContext.get_current().enable_progress_bars = False

    def map_parts(f: Score, parts: list[list[str]]) -> list[list[float]]:
        table = ray.data.from_items([{"k": k, "files": part} for k, part in enumerate(parts)])
        found = table.map(lambda row: {"k": row["k"], "scores": f(list(row["files"]))}).take_all()
        return [list(row["scores"]) for row in sorted(found, key=lambda row: row["k"])]

    try:
        yield "ray", map_parts
    finally:
        ray.shutdown()


@contextmanager
def with_spark() -> Iterator[tuple[str | None, MapParts]]:
    """Two workers of Spark."""
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # of its workers; else the first python3 of PATH
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        yield (
            None,
            lambda f, parts: spark.sparkContext.parallelize(parts, len(parts)).map(f).collect(),
        )
    finally:
        spark.stop()


ENGINES = {
    "joblib": (with_joblib, "joblib"),
    "dask": (with_dask, "distributed"),
    "ray": (with_ray, "ray"),
    "spark": (with_spark, "pyspark"),
}
N_PROCESSES = {"torchrun, 1": 1, "torchrun, 2": 2, "torchrun, 4": 4}


def compare(found: NDArray[np.float64], expected: NDArray[np.float64]) -> dict[str, Any]:
    """Whether all bits are the same, and the largest difference relative to the scores' spread."""
    return {
        "same bits": bool((found == expected).all()),
        "difference": float(np.abs(found - expected).max() / expected.std()),
    }


def on_cluster(
    name: str, args: argparse.Namespace, table: dict[str, list[str]], expected: dict[str, Any]
) -> dict[str, Any]:
    """A GroupedDetector fitted and calibrated by an engine's backend of joblib, and scores by its own means."""
    files = table["image"]
    found = {}
    with ENGINES[name][0]() as (backend, map_parts):
        parts = [files[k::4] for k in range(4)]
        start = perf_counter()
        by_part = map_parts(scorer(expected["path"]), parts)
        scores = np.empty(len(files))
        for k, some in enumerate(by_part):
            scores[k::4] = some
        found["scores"] = {"seconds": perf_counter() - start, **compare(scores, expected["scores"])}
        if backend is not None:
            with joblib.parallel_config(backend, n_jobs=2):
                start = perf_counter()
                grouped = GroupedDetector(detector(args)).fit(table).calibrate(table, cv=2, fpr=0.2)
                seconds = perf_counter() - start
            found["fits"] = {
                "seconds": seconds,
                **compare(grouped.score_samples(table), expected["grouped"].score_samples(table)),
            }
    return found


FIT = """
import sys
import torch.distributed as dist
from skcsflow import load, save
from skcsflow.datasets import list_images
from time import perf_counter

dist.init_process_group("gloo")
detector = load(sys.argv[1]).set_params(distributed=True)
start = perf_counter()
detector.fit(list_images(sys.argv[2]))
if dist.get_rank() == 0:
    print("SECONDS", perf_counter() - start)
    save(detector.set_params(distributed=False), sys.argv[3])
dist.destroy_process_group()
"""


def by_torchrun(n: int, folder: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """One detector fitted by so many processes; the time is that of `fit`."""
    (folder / "fit.py").write_text(FIT)
    result = folder / f"of_{n}.skops"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(n), "--standalone"]
    arguments = [str(folder / "fit.py"), expected["path"], str(folder / "images"), str(result)]
    ran = subprocess.run(
        [*command, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    seconds = float(ran.stdout.split("SECONDS")[1].split()[0])
    scores = load(result).score_samples(list_images(folder / "images"))
    return {"fits": {"seconds": seconds, **compare(scores, expected["scores"])}}


def main() -> None:
    """Run, print a table and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*ENGINES, *N_PROCESSES]
    parser.add_argument("--engine", nargs="+", default=names, choices=names)
    parser.add_argument("--n-images", type=int, default=40)
    parser.add_argument("--n-epochs", type=int, default=5)
    parser.add_argument("--input-size", type=int, default=128)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        images = make_defects(
            surface="fabric", n_normal=args.n_images, n_defective=0, size=args.input_size, random_state=900
        ).images
        for k, image in enumerate(images):
            Image.fromarray(image).save(folder / "images" / f"{k:03}.png")
        files = [str(path) for path in list_images(folder / "images")]
        table = {"group": ["left", "right"] * (len(files) // 2), "image": files}

        start = perf_counter()
        fitted = detector(args).fit(files)
        fit_seconds = perf_counter() - start
        path = str(folder / "detector.skops")
        save(fitted, path)
        start = perf_counter()
        scores = fitted.score_samples(files)
        score_seconds = perf_counter() - start
        start = perf_counter()
        grouped = GroupedDetector(detector(args), n_jobs=1).fit(table).calibrate(table, cv=2, fpr=0.2)
        grouped_seconds = perf_counter() - start
        expected = {"path": path, "scores": scores, "grouped": grouped}
        results["one process"] = {
            "scores": {"seconds": score_seconds},
            "fits": {"seconds": grouped_seconds},
            "one fit": {"seconds": fit_seconds},
        }
        for engine in args.engine:
            if engine in N_PROCESSES:
                results[engine] = by_torchrun(N_PROCESSES[engine], folder, expected)
            elif importlib.util.find_spec(ENGINES[engine][1]) is None:
                print(f"{engine}: the package {ENGINES[engine][1]} is not installed")
                continue
            else:
                results[engine] = on_cluster(engine, args, table, expected)
            print(engine, results[engine], flush=True)
    header = ["engine", "what", "seconds", "same bits", "largest difference / standard deviation"]
    print_table(
        header,
        [
            [
                engine,
                what,
                r["seconds"],
                r.get("same bits", ""),
                f"{r['difference']:.1e}" if "difference" in r else "",
            ]
            for engine, found in results.items()
            for what, r in found.items()
        ],
    )
    arguments = {key: value for key, value in vars(args).items() if key != "engine"}
    asked = [(engine, what) for engine, found in results.items() for what in found]
    write("parity", {"arguments": arguments, "results": with_earlier("parity", arguments, results, asked)})


if __name__ == "__main__":
    main()
