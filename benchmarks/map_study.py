"""How maps and scores were chosen: fusions, smoothing and aggregations, on synthetic defects of seeds never reported.

    python -m benchmarks.map_study [--seeds 900] [--feature-smoothing 1 3] [--n-train 60] [--n-defective 24]

Every surface of :func:`~skcsflow.datasets.make_defects`, 256 x 256 pixels, with a detector of its own, once with
features as they are and once with features averaged over 3 x 3 positions, at all scales. From each detector's latent
maps, every fusion of the table is computed, as it is and smoothed by a Gaussian of some standard deviations. Means over
surfaces and seeds. "image" is the AUROC of `score_samples`, which no fusion changes; beside it stand means over the
highest positions alone (`score_mode`).
"""

import argparse
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from benchmarks._ours import position_energies
from benchmarks._report import print_table, write
from benchmarks.study import TOP_SHARES, highest
from skcsflow import CSFlowDetector
from skcsflow.datasets import SURFACES, make_defects
from skcsflow.metrics import pixel_roc_auc_score, pro_auc_score
from skcsflow.nn import CSFlowModel

SIZE = 256
FUSIONS = {
    "all: product": lambda maps: torch.stack(maps).prod(dim=0),
    "max: largest scale": lambda maps: maps[0],
    "mean": lambda maps: torch.stack(maps).mean(dim=0),
    "two largest: product": lambda maps: maps[0] * maps[1],
    "two largest: first times root of second": lambda maps: maps[0] * maps[1].sqrt(),
}
SIGMAS = (0.0, 4.0, 8.0, 16.0)


def fuse(scale_maps: list[list[Tensor]], fusion: str, sigma: float) -> NDArray[np.float32]:
    """Maps of all images at full size."""
    maps = []
    for of_image in scale_maps:
        full = [F.interpolate(m[None, None], size=(SIZE, SIZE), mode="bilinear") for m in of_image]
        fused = FUSIONS[fusion](full)[0, 0].numpy()
        maps.append(gaussian_filter(fused, sigma, mode="nearest") if sigma else fused)
    return np.stack(maps)


class SmoothingDetector(CSFlowDetector):
    """Averages features over a box of positions before the flow; `box_size` is its size, and 1 is none."""

    box_size = 1

    def _new_model(self, size: tuple[int, int], seed: int) -> CSFlowModel:
        model = super()._new_model(size, seed)
        model.feature_extractor.register_forward_hook(lambda module, args, maps: smooth(maps, self.box_size))
        return model


def smooth(maps: Sequence[Tensor], box_size: int) -> list[Tensor]:
    """Averages over boxes of positions, of which those at the borders hold fewer."""
    if box_size == 1:
        return list(maps)
    options = {"stride": 1, "padding": box_size // 2, "count_include_pad": False}
    return [F.avg_pool2d(m, box_size, **options) for m in maps]


def run(surface: str, seed: int, feature_smoothing: int, n_train: int, n_defective: int) -> dict[str, Any]:
    """Fit to one surface and measure."""
    n_good = n_defective // 2
    data = make_defects(n_train + n_good, n_defective, surface=surface, size=SIZE, random_state=seed)
    detector = SmoothingDetector(random_state=seed)
    detector.box_size = feature_smoothing
    detector.fit(data.images[:n_train])
    test, y, masks = data.images[n_train:], data.y[n_train:], data.masks[n_train:]
    scored = list(detector._score_images(test))
    found: dict[str, Any] = {
        "image": float(roc_auc_score(y == -1, [s.anomaly_score for s in scored])),
    }
    positions = position_energies(scored)
    largest = positions[:, : scored[0].scale_maps[0].numel()]
    for share in TOP_SHARES:
        found[f"image, highest {share:g}"] = float(roc_auc_score(y == -1, highest(positions, share)))
        found[f"image, highest {share:g} of scale 0"] = float(roc_auc_score(y == -1, highest(largest, share)))
    found["image, mean of cubes"] = float(roc_auc_score(y == -1, np.mean(positions**3, axis=1)))
    for fusion, sigma in product(FUSIONS, SIGMAS):
        maps = fuse([s.scale_maps for s in scored], fusion, sigma)
        found[f"{fusion}, {sigma:g}"] = {
            "pixel": pixel_roc_auc_score(masks, maps),
            "pro": pro_auc_score(masks, maps),
        }
    return found


def main() -> None:
    """Run, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[900])
    parser.add_argument("--feature-smoothing", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--n-train", type=int, default=60)
    parser.add_argument("--n-defective", type=int, default=24)
    args = parser.parse_args()
    if not all(900 <= seed < 1000 for seed in args.seeds):
        parser.error("choices are made on seeds 900 to 999")
    results: dict[int, dict[str, Any]] = {smoothing: {} for smoothing in args.feature_smoothing}
    for smoothing, seed, surface in product(results, args.seeds, SURFACES):
        found = run(surface, seed, smoothing, args.n_train, args.n_defective)
        results[smoothing][f"{surface}, {seed}"] = found
        print(smoothing, surface, seed, found["image"], found["all: product, 0"], flush=True)
        write("map_study", {"arguments": vars(args), "results": results})
    for smoothing, of_smoothing in results.items():
        runs = list(of_smoothing.values())
        of_images = [name for name in runs[0] if name.startswith("image")]
        print(f"\nfeatures averaged over {smoothing} x {smoothing} positions")
        print_table(
            ["score", "AUROC"], [[name, float(np.mean([r[name] for r in runs]))] for name in of_images]
        )
        rows = [
            [name, *(float(np.mean([r[name][metric] for r in runs])) for metric in ("pixel", "pro"))]
            for name in runs[0]
            if name not in of_images
        ]
        print_table(["fusion, sigma", "pixel AUROC", "AU-PRO"], rows)


if __name__ == "__main__":
    main()
