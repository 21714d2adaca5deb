"""Time and memory of a fit on 250 to 16,000 image files, with and without `memory`.

    python -m benchmarks.scale [--sizes 250 1000 4000 16000] [--backbone tf_efficientnet_lite0] [--input-size 128]

The images are functional ELPV cells at half their size, each shifted and given noise by a seed of its own, so that no
two are alike. Every fit runs in a fresh process, for one epoch. The flow is small (one block of 16 hidden channels) and
images are resized to 128 px, for the largest sizes to take minutes and not hours; default parameters cost several
times as much per image. Backbones other than the lite ones have random weights, which make no difference here.

CPU seconds are those of all the process's threads, which other work on the machine disturbs less than seconds.
Peak RSS is the system's own record of the process. Anonymous memory is the part of it that no file stands behind; it
is sampled every 10 ms. "More" is what either grew by since just before the fit: the interpreter and torch are not in
it, the model is. Pages of `memory`'s files that the system caches belong to no process, and are in none of these.
"""

import argparse
import os
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks._report import print_table, write
from skcsflow import CSFlowDetector, feature_cache_info
from skcsflow.datasets import load_elpv

MB = 1e6
COLUMNS = (
    "n_images", "fit_seconds", "cpu_seconds", "cpu_ms_per_image", "cpu_ms_per_image_ratio", "peak_rss_mb",
    "peak_rss_mb_ratio", "more_rss_mb", "peak_anonymous_mb", "peak_anonymous_mb_ratio", "more_anonymous_mb",
)  # fmt: skip


def write_images(folder: Path, n_images: int) -> None:
    """Write distinct images made of ELPV cells."""
    cells = load_elpv(subset="mono")
    cells = cells.images[cells.probability == 0][:, ::2, ::2]
    for i in range(n_images):
        rng = np.random.default_rng(i)
        image = np.roll(cells[i % len(cells)], rng.integers(-8, 9, size=2), axis=(0, 1)).astype(np.int16)
        image += rng.integers(-3, 4, size=image.shape, dtype=np.int16)
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path_of(folder, i), compress_level=1)


def path_of(folder: Path, i: int) -> Path:
    """Path of image `i`."""
    return folder / f"{i:05d}.png"


def resident_memory() -> dict[str, float]:
    """The system's record of this process: megabytes that are resident, and the most that were."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    fields = {words[0]: 1024 * int(words[1]) / MB for words in lines if words[0].startswith(("Vm", "Rss"))}
    return {"rss": fields["VmRSS:"], "peak_rss": fields["VmHWM:"], "anonymous": fields["RssAnon:"]}


class AnonymousPeak(threading.Thread):
    """Samples this process's anonymous memory until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0
        self.stopped = threading.Event()

    def run(self) -> None:
        """Sample."""
        while not self.stopped.wait(0.01):
            self.peak = max(self.peak, resident_memory()["anonymous"])


def run(folder: Path, n_images: int, memory: str | None, params: dict[str, Any]) -> dict[str, Any]:
    """Fit in this process and measure."""
    detector = CSFlowDetector(**params, memory=memory)
    paths = [path_of(folder, i) for i in range(n_images)]
    before = resident_memory()
    sampler = AnonymousPeak()
    sampler.start()
    start, cpu_start = perf_counter(), process_time()
    detector.fit(paths)
    seconds, cpu_seconds = perf_counter() - start, process_time() - cpu_start
    sampler.stopped.set()
    sampler.join()
    peak_rss = resident_memory()["peak_rss"]
    return {
        "n_images": n_images,
        "fit_seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "cpu_ms_per_image": 1e3 * cpu_seconds / n_images,
        "peak_rss_mb": peak_rss,
        "peak_anonymous_mb": sampler.peak,
        "more_rss_mb": peak_rss - before["rss"],
        "more_anonymous_mb": sampler.peak - before["anonymous"],
        "cache_mb": 0.0 if memory is None else feature_cache_info(memory).n_bytes / MB,
        "offset": detector.offset_,
    }


def main() -> None:
    """Run, and after each size write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[250, 1000, 4000, 16000])
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--input-size", type=int, default=128)
    args = parser.parse_args()
    params = {
        "backbone": args.backbone,
        "weights": "auto" if "lite" in args.backbone else None,
        "input_size": args.input_size,
        "n_coupling_blocks": 1,
        "cross_conv_hidden_channels": 16,
        "n_epochs": 1,
        "random_state": 0,
    }
    cores = len(os.sched_getaffinity(0))
    print(f"{params}; {cores} core(s), {torch.get_num_threads()} torch thread(s)", flush=True)
    results: dict[str, list[dict[str, Any]]] = {"with": [], "without": []}
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), max(args.sizes))
        for n_images in args.sizes:
            for name, found in results.items():
                with (
                    tempfile.TemporaryDirectory() as cache,
                    ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh,
                ):
                    memory = cache if name == "with" else None
                    found.append(fresh.submit(run, Path(folder), n_images, memory, params).result())
                for key in ("cpu_ms_per_image", "peak_rss_mb", "peak_anonymous_mb"):
                    found[-1][f"{key}_ratio"] = found[-1][key] / found[0][key]
                print_table(["memory", *COLUMNS], [[name, *(found[-1][c] for c in COLUMNS)]])
                write("scale", {"params": params, "cores_used": cores, "results": results})
    same = all(a["offset"] == b["offset"] for a, b in zip(*results.values(), strict=True))
    print_table(
        ["memory", *COLUMNS], [[name, *(r[c] for c in COLUMNS)] for name in results for r in results[name]]
    )
    print(f"{cores} core(s) used; same bits of offset_ with and without: {same}")


if __name__ == "__main__":
    main()
