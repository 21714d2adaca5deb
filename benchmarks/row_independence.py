"""What it costs that no row's score depends on the others: few images per core beside batches on all cores.

    python -m benchmarks.row_independence [--n-images 1000]

On the CPU the detector computes each image on one core, alone or with three others where that changes no bit,
as many at a time as there are cores. The same network on batches of 16 over all cores is the usual way, whose
scores change in the last digits with the batch. Medians of three runs each, in turns, on the same images and
the same model; all end with scores and maps per scale.
"""

import argparse
from time import perf_counter

import numpy as np
import torch

from benchmarks._report import print_table, write
from skcsflow import CSFlowDetector
from skcsflow._images import check_images, standardize
from skcsflow.datasets import load_elpv
from skcsflow.nn import anomaly_score


@torch.inference_mode()
def by_batches(detector: CSFlowDetector, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Score as most scripts do, on all cores at once."""
    model = detector.model_
    collection = check_images(images, 3)
    scores = []
    for start in range(0, len(images), batch_size):
        rows = range(start, min(start + batch_size, len(images)))
        decoded = [collection[i] for i in rows]
        batch = standardize(decoded, model.input_size, torch.float32, torch.device("cpu"))
        z, _ = model.flow(model.feature_extractor(batch.contiguous(memory_format=torch.channels_last)))
        scores.append(anomaly_score(z))
        model.anomaly_map_generator.scale_maps(z)
    return torch.cat(scores).numpy()


def by_image(detector: CSFlowDetector, images: np.ndarray) -> np.ndarray:
    """Score as the detector does."""
    return -detector.score_samples(images)


def main() -> None:
    """Run, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-images", type=int, default=1000)
    images = load_elpv().images[: parser.parse_args().n_images]
    detector = CSFlowDetector(n_epochs=1, random_state=0).fit(images[:32])
    ways = {
        "as the detector": lambda x: by_image(detector, x),
        "batches of 16": lambda x: by_batches(detector, x, 16),
        "batches of 1": lambda x: by_batches(detector, x, 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    latencies: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3):
        for name, way in ways.items():
            start = perf_counter()
            way(images)
            seconds[name].append(perf_counter() - start)
            for image in images[:20]:
                start = perf_counter()
                way(image[None])
                latencies[name].append(perf_counter() - start)
            print(name, seconds[name][-1], np.median(latencies[name]), flush=True)
    reference = by_image(detector, images[:50])
    results = {
        name: {
            "images_per_second": len(images) / float(np.median(seconds[name])),
            "latency_ms": 1000 * float(np.median(latencies[name])),
            "largest_relative_difference": float(np.abs(ways[name](images[:50]) / reference - 1).max()),
        }
        for name in ways
    }
    base = results["as the detector"]
    print_table(
        ["way", "images/s", "ratio", "latency ms", "ratio", "difference"],
        [
            [
                name,
                r["images_per_second"],
                r["images_per_second"] / base["images_per_second"],
                r["latency_ms"],
                r["latency_ms"] / base["latency_ms"],
                f"{r['largest_relative_difference']:.1e}",
            ]
            for name, r in results.items()
        ],
    )
    write("row_independence", {"n_images": len(images), "results": results})


if __name__ == "__main__":
    main()
