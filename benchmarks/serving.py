"""The service under load: images per second, and how long an answer takes, over loopback.

    python -m benchmarks.serving [--n-requests 600] [--connections 1 8 32] [--n-detectors 8]

The default detector is fitted on ELPV cells, saved by skops and served by `skcsflow.serving.serve` in a process of its
own. The client is httpx in this process, one thread and one kept connection for each of the connections; each thread
posts the PNG file of a cell (300 x 300 pixels, grey) and waits for the answer. Client and service share the cores. Each
answer's score must be the very number that `score_samples` gives, and each request must be answered: what was lost or
differs is counted.

"alone" and "together" are the same detector without a service: `inspect` of one image after the other, and of all in
one call.

The memory of several detectors is that of a fresh process after loading (resident, from the system's record), by the
service's own way, in which they share their backbone, and one by one.
"""

import argparse
import gc
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

import httpx
import numpy as np
import skops.io
from PIL import Image

from benchmarks._data import elpv_split
from benchmarks._report import print_table, write
from skcsflow import CSFlowDetector, load
from skcsflow.serving._detectors import Detectors

COLUMNS = ("images_per_second", "p50_ms", "p99_ms", "images_per_batch", "lost", "other_bits")


def encode(image: np.ndarray) -> bytes:
    """An image as the content of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def start(path: Path) -> tuple[subprocess.Popen[str], str]:
    """Start the service; gives its process and address."""
    code = f"from skcsflow.serving import serve; serve({{'cells': {str(path)!r}}}, port=0)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://[\d.]+:\d+", line):
            return process, found.group()
    raise RuntimeError("The service did not start.")


def batches(http: httpx.Client) -> tuple[float, float]:
    """Number of batches, and of images in them, that the service has had."""
    text = http.get("/metrics").text
    count, total = (
        float(re.search(rf"^skcsflow_batch_size_{name} (.+)$", text, re.M).group(1))  # type: ignore[union-attr]
        for name in ("count", "sum")
    )
    return count, total


def load_test(
    address: str, contents: list[bytes], scores: np.ndarray, n: int, connections: int
) -> dict[str, Any]:
    """Post `n` images over so many connections."""
    clients = [httpx.Client(base_url=address, timeout=120, trust_env=False) for _ in range(connections)]
    seconds, lost, others = [], 0, 0
    headers = {"Content-Type": "image/png"}

    def run(thread: int) -> list[tuple[float, bool, bool]]:
        found = []
        for k in range(thread, n, connections):
            start = perf_counter()
            try:
                answer = clients[thread].post(
                    "/inspect", content=contents[k % len(contents)], headers=headers
                )
            except httpx.HTTPError:
                found.append((0.0, False, False))
                continue
            is_same = answer.status_code == 200 and answer.json()["score"] == scores[k % len(contents)]
            found.append((perf_counter() - start, answer.status_code == 200, is_same))
        return found

    before = batches(clients[0])
    with ThreadPoolExecutor(connections) as threads:
        start = perf_counter()
        runs = list(threads.map(run, range(connections)))
        took = perf_counter() - start
    n_batches, n_images = (b - a for a, b in zip(before, batches(clients[0]), strict=True))
    for client in clients:
        client.close()
    for second, is_answered, is_same in (request for of_thread in runs for request in of_thread):
        if is_answered:
            seconds.append(second)
            others += not is_same
        else:
            lost += 1
    percentiles = quantiles(seconds, n=100, method="inclusive")
    return {
        "images_per_second": len(seconds) / took,
        "p50_ms": 1e3 * percentiles[49],
        "p99_ms": 1e3 * percentiles[98],
        "images_per_batch": n_images / n_batches,
        "lost": lost,
        "other_bits": others,
    }


def without_service(detector: CSFlowDetector, contents: list[bytes], *, together: bool) -> dict[str, Any]:
    """Inspect in this process."""
    calls = [contents] if together else [[content] for content in contents]
    seconds = []
    for call in calls:
        start = perf_counter()
        for _ in detector.inspect(call):
            pass
        seconds.append(perf_counter() - start)
    result: dict[str, Any] = {"images_per_second": len(contents) / sum(seconds)}
    if not together:
        percentiles = quantiles(seconds, n=100, method="inclusive")
        result |= {"p50_ms": 1e3 * percentiles[49], "p99_ms": 1e3 * percentiles[98]}
    return result


def resident_memory() -> int:
    """Bytes that this process has in memory."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return next(1024 * int(words[1]) for words in lines if words[0] == "VmRSS:")


def memory_of(paths: list[Path], *, shared: bool) -> float:
    """Megabytes more that detectors take in this process, less those of the first, by which all is imported."""
    keep: list[Any] = [Detectors({"first": paths[0]}) if shared else load(paths[0])]
    gc.collect()
    before = resident_memory()
    keep.append(
        Detectors({f"d{k}": path for k, path in enumerate(paths)}) if shared else list(map(load, paths))
    )
    gc.collect()
    return (resident_memory() - before) / 1e6


def in_fresh_process(function: Callable[..., float], *args: Any, **options: Any) -> float:
    """Call a function in a process that has done nothing before."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *args, **options).result()


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-requests", type=int, default=600)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--n-detectors", type=int, default=8)
    parser.add_argument("--n-epochs", type=int, help="of the fit, for a trial run")
    arguments = parser.parse_args()
    split = elpv_split(0)
    contents = [encode(cell) for cell in split.test[:200]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.skops"
        fitted = CSFlowDetector(random_state=0, n_epochs=arguments.n_epochs or "auto").fit(split.train)
        skops.io.dump(fitted, path)
        detector = load(path)
        scores = detector.score_samples(contents)
        results = {
            "without a service, alone": without_service(detector, contents, together=False),
            "without a service, together": without_service(detector, contents, together=True),
        }
        process, address = start(path)
        try:
            load_test(address, contents, scores, 64, 8)  # what is done once
            for connections in arguments.connections:
                name = f"{connections} connection{'s' if connections > 1 else ''}"
                results[name] = load_test(address, contents, scores, arguments.n_requests, connections)
        finally:
            process.terminate()
            status = process.wait(60)
        copies = [Path(shutil.copy(path, Path(folder) / f"{k}.skops")) for k in range(arguments.n_detectors)]
        memory = {
            "n_detectors": len(copies),
            "shared_mb": in_fresh_process(memory_of, copies, shared=True),
            "apart_mb": in_fresh_process(memory_of, copies, shared=False),
            "file_mb": os.path.getsize(path) / 1e6,
        }
    rows = [[name, *(result.get(column, "") for column in COLUMNS)] for name, result in results.items()]
    print_table(["", *COLUMNS], rows)
    print(f"exit status of the service: {status}; memory: {memory}")
    write(
        "serving", {"arguments": vars(arguments), "results": results, "exit_status": status, "memory": memory}
    )


if __name__ == "__main__":
    main()
