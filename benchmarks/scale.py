"""Time and memory of a fit on 250 to 16,000 image files, with and without `memory`.

    python -m benchmarks.scale [--sizes 250 1000 4000 16000] [--input-size 128] [--n-coupling-blocks 1]

The images are functional ELPV cells at half their size, each shifted and given noise by a seed of its own, so that no two
are alike. Every fit runs in a fresh process, for one epoch. The flow is small (one block of 16 hidden channels) and
images are resized to 128 px, for the largest sizes to take minutes and not hours; default parameters cost several
times as much per image.

Peak RSS is the system's own record of the process. Anonymous memory is the part of it that no file stands behind; it
is sampled every 10 ms. "More" is what either grew by from just before the fit: the interpreter, torch and the images'
paths are not in it. Pages of `memory`'s files that the system caches belong to no process, and are in none of these.
"""

import argparse
import os
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks._report import print_table, write
from skcsflow import CSFlowDetector, feature_cache_info
from skcsflow.datasets import load_elpv

MB = 1e6


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


def memory_of_process() -> dict[str, float]:
    """The system's record of this process: current, anonymous and peak resident bytes."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    found = {
        words[0].rstrip(":"): 1024.0 * int(words[1]) for words in lines if words[0].startswith(("Vm", "Rss"))
    }
    return {"rss": found["VmRSS"], "anonymous": found["RssAnon"], "peak_rss": found["VmHWM"]}


class AnonymousPeak(threading.Thread):
    """Samples this process's anonymous memory until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0
        self.stopped = threading.Event()

    def run(self) -> None:
        """Sample."""
        while not self.stopped.wait(0.01):
            self.peak = max(self.peak, memory_of_process()["anonymous"])


def run(folder: Path, n_images: int, memory: str | None, params: dict[str, Any]) -> dict[str, Any]:
    """Fit in this process and measure."""
    detector = CSFlowDetector(**params, memory=memory, n_epochs=1, random_state=0)
    paths = [path_of(folder, i) for i in range(n_images)]
    before = memory_of_process()
    sampler = AnonymousPeak()
    sampler.start()
    start = perf_counter()
    detector.fit(paths)
    seconds = perf_counter() - start
    sampler.stopped.set()
    sampler.join()
    peak_rss = memory_of_process()["peak_rss"]
    return {
        "n_images": n_images,
        "fit_seconds": seconds,
        "ms_per_image": 1e3 * seconds / n_images,
        "training_seconds": float(detector.history_["seconds"].sum()),
        "peak_rss_mb": peak_rss / MB,
        "peak_anonymous_mb": sampler.peak / MB,
        "more_rss_mb": (peak_rss - before["rss"]) / MB,
        "more_anonymous_mb": (sampler.peak - before["anonymous"]) / MB,
        "cache_mb": 0.0 if memory is None else feature_cache_info(memory).n_bytes / MB,
        "offset": detector.offset_,
    }


def main() -> None:
    """Run, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[250, 1000, 4000, 16000])
    parser.add_argument("--input-size", type=int, default=128)
    parser.add_argument("--n-coupling-blocks", type=int, default=1)
    parser.add_argument("--hidden-channels", type=int, default=16)
    args = parser.parse_args()
    params = {
        "input_size": args.input_size,
        "n_coupling_blocks": args.n_coupling_blocks,
        "cross_conv_hidden_channels": args.hidden_channels,
    }
    cores = len(os.sched_getaffinity(0))
    print(f"{params}, one epoch; {cores} core(s), {torch.get_num_threads()} torch thread(s)", flush=True)
    results: dict[str, list[dict[str, Any]]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), max(args.sizes))
        for n_images in args.sizes:
            for name, found in results.items():
                with tempfile.TemporaryDirectory() as cache:
                    memory = cache if name == "with" else None
                    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                        found.append(fresh.submit(run, Path(folder), n_images, memory, params).result())
                print(name, found[-1], flush=True)
    rows = []
    for name, found in results.items():
        for r in found:
            for key in ("ms_per_image", "peak_rss_mb", "peak_anonymous_mb"):
                r[f"{key}_ratio"] = r[key] / found[0][key]
            r["same_offset"] = r["offset"] == results["without"][found.index(r)]["offset"]
            columns = ("n_images", "fit_seconds", "ms_per_image", "ms_per_image_ratio")
            columns += ("peak_rss_mb", "peak_rss_mb_ratio", "more_rss_mb")
            columns += ("peak_anonymous_mb", "peak_anonymous_mb_ratio", "more_anonymous_mb", "same_offset")
            rows.append([name, *(r[c] for c in columns)])
    print_table(["memory", *(c.replace("_", " ") for c in columns)], rows)
    write("scale", {"params": {**params, "n_epochs": 1}, "cores_used": cores, "results": results})


if __name__ == "__main__":
    main()
