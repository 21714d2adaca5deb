"""How the defaults were chosen: one factor at a time around them, on seeds that are never reported.

    python -m benchmarks.study --cache FOLDER [--subset mono|all] [--seeds 10 11 12] [--only NAME ...] [--plot]

Each line of the table is a recipe that differs from the first, ``base``, in what its name says. Features are
extracted once per backbone, size and stage, and kept in FOLDER. Results are added to ``benchmarks/results/study.json``
one by one, and what is there is not computed again, so that the study can be interrupted. ``--plot`` draws
``docs/_static/study.png`` from it, without computing anything. Where features are smoothed, the study does it itself.

Cost is counted, not timed: multiplications and additions of the flow's forward pass, times the image-steps of the
training, relative to the recipe called ``base``.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from benchmarks._data import split_normal
from benchmarks._floor import count_work
from benchmarks._report import RESULTS, print_table, write
from skcsflow._images import check_images, standardize
from skcsflow._training import FlowTrainer
from skcsflow.datasets import load_elpv
from skcsflow.nn import CrossScaleFlow, MultiScaleFeatureExtractor, anomaly_score

SCORING_BATCH = 32
TOP_SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class Recipe:
    """All that is varied; by default the recipe called ``base``."""

    backbone: str = "tf_efficientnet_lite0"
    input_size: int = 256
    stages: tuple[int, ...] = (5,)
    """Stages of the backbone, side by side; those of stride 16 are averaged down to stride 32."""
    smoothing: tuple[int, int, int] = (1, 1, 1)
    """Size of the box that each scale's features are averaged over; 1 is none."""
    shrinkage: float = 0.003
    kernel_sizes: tuple[int, ...] = (3, 3, 3, 5)
    hidden: int = 64
    n_epochs: int = 8
    learning_rate: float = 2e-3
    noise: float = 0.0
    """Standard deviation of noise that is added to the whitened features in training."""


BASE = Recipe()
NO_FLOW = replace(BASE, kernel_sizes=())
SMOOTH = replace(BASE, smoothing=(3, 3, 3))
SMALL = replace(BASE, kernel_sizes=(3, 3))
SMOOTH_SMALL = replace(SMOOTH, kernel_sizes=(3, 3))
# Without coupling blocks nothing is trained, and much can be tried in seconds.
UNTRAINED = {
    "no flow": NO_FLOW,
    "no flow, shrinkage .001": replace(NO_FLOW, shrinkage=0.001),
    "no flow, shrinkage .03": replace(NO_FLOW, shrinkage=0.03),
    "no flow, shrinkage .1": replace(NO_FLOW, shrinkage=0.1),
    "no flow, stage 3 (1/16)": replace(NO_FLOW, stages=(3,)),
    "no flow, stage 4 (1/16)": replace(NO_FLOW, stages=(4,)),
    "no flow, stages 4 and 5": replace(NO_FLOW, stages=(4, 5)),
    "no flow, smoothing 3": replace(NO_FLOW, smoothing=(3, 3, 3)),
    "no flow, smoothing 1 3 3": replace(NO_FLOW, smoothing=(1, 3, 3)),
    "no flow, 192 pixels": replace(NO_FLOW, input_size=192),
    "no flow, 384 pixels": replace(NO_FLOW, input_size=384),
    "no flow, smoothing 5 5 3": replace(NO_FLOW, smoothing=(5, 5, 3)),
    "no flow, smoothing 3, stages 4 and 5": replace(NO_FLOW, smoothing=(3, 3, 3), stages=(4, 5)),
}
TRAINED = {
    "base": BASE,
    "kernels 3 3": SMALL,
    "kernels 3 3 3 3": replace(BASE, kernel_sizes=(3, 3, 3, 3)),
    "kernels 3": replace(BASE, kernel_sizes=(3,)),
    "kernels 1 1": replace(BASE, kernel_sizes=(1, 1)),
    "hidden 32": replace(BASE, hidden=32),
    "hidden 128": replace(BASE, hidden=128),
    "epochs 4": replace(BASE, n_epochs=4),
    "epochs 16": replace(BASE, n_epochs=16),
    "rate 1e-3": replace(BASE, learning_rate=1e-3),
    "rate 4e-3": replace(BASE, learning_rate=4e-3),
    "noise .5": replace(BASE, noise=0.5),
    "noise .5, 192 pixels": replace(BASE, noise=0.5, input_size=192),
    "noise .7, epochs 16": replace(BASE, noise=0.7, n_epochs=16),
    "noise .5, smoothing 1 3 3": replace(BASE, noise=0.5, smoothing=(1, 3, 3)),
    "noise .5, epochs 4": replace(BASE, noise=0.5, n_epochs=4),
    "noise .5, epochs 5": replace(BASE, noise=0.5, n_epochs=5),
    "noise .5, hidden 32": replace(BASE, noise=0.5, hidden=32),
    "noise .5, hidden 128": replace(BASE, noise=0.5, hidden=128),
    "noise 1": replace(BASE, noise=1.0),
    "kernels 3 3, noise .5": replace(SMALL, noise=0.5),
    "kernels 3 3, noise 1": replace(SMALL, noise=1.0),
    "smoothing 3": SMOOTH,
    "smoothing 3, noise .5": replace(SMOOTH, noise=0.5),
    "smoothing 3, kernels 3 3": SMOOTH_SMALL,
    "smoothing 3, kernels 3 3, epochs 4": replace(SMOOTH_SMALL, n_epochs=4),
    "smoothing 3, kernels 3 3, noise .5": replace(SMOOTH_SMALL, noise=0.5),
    "smoothing 3, kernels 3 3, noise 1": replace(SMOOTH_SMALL, noise=1.0),
    "smoothing 3, kernels 3": replace(SMOOTH, kernel_sizes=(3,)),
    "smoothing 3, kernels 1 1": replace(SMOOTH, kernel_sizes=(1, 1)),
}
RECIPES = UNTRAINED | TRAINED


class Cells:
    """The functional and the surely defective cells of ELPV, with features kept in a folder."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        cells = load_elpv(subset=None)
        sure = np.isin(cells.probability, (0, 1))
        self.images = cells.images[sure]
        self.is_defective = cells.probability[sure] == 1
        self.is_mono = cells.cell_type[sure] == "mono"

    def split(self, seed: int, subset: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows to learn from and to test with, as :func:`benchmarks._data.elpv_split` draws them."""
        among = self.is_mono | (subset == "all")
        train, held_out = split_normal(seed, np.flatnonzero(among & ~self.is_defective))
        return train, np.concatenate([held_out, np.flatnonzero(among & self.is_defective)])

    def features(self, recipe: Recipe) -> list[Tensor]:
        """Feature maps of all cells, one tensor per scale."""
        stages = []
        for stage in recipe.stages:
            maps = self._stage(recipe.backbone, recipe.input_size, stage)
            largest = -(-recipe.input_size // 32)
            stages.append(maps if maps[0].shape[-1] == largest else [F.avg_pool2d(m, 2) for m in maps])
        scales = [torch.cat(of_scale, dim=1) for of_scale in zip(*stages, strict=True)]
        return [
            F.avg_pool2d(m, k, stride=1, padding=k // 2, count_include_pad=False) if k > 1 else m
            for m, k in zip(scales, recipe.smoothing, strict=True)
        ]

    @torch.no_grad()
    def _stage(self, backbone: str, input_size: int, stage: int) -> list[Tensor]:
        path = self.cache / f"{backbone}-{input_size}-{stage}.pt"
        if path.exists():
            return torch.load(path)
        extractor = MultiScaleFeatureExtractor(backbone)
        extractor.backbone[0] = extractor.backbone[0][: 3 + stage]  # the stem is two modules
        images = check_images(self.images, 3)
        collected: list[list[Tensor]] = []
        for rows in torch.arange(len(images)).split(16):
            decoded = [images[i] for i in rows.tolist()]
            batch = standardize(decoded, (input_size,) * 2, torch.float32, torch.device("cpu"))
            collected.append([m.contiguous() for m in extractor(batch)])
        maps = [torch.cat(of_scale) for of_scale in zip(*collected, strict=True)]
        torch.save(maps, path)
        return maps


def build_flow(recipe: Recipe, channels: int, seed: int) -> CrossScaleFlow:
    """A flow that has not learnt anything yet."""
    return CrossScaleFlow(
        channels,
        n_coupling_blocks=len(recipe.kernel_sizes),
        kernel_sizes=recipe.kernel_sizes,
        cross_conv_hidden_channels=recipe.hidden,
        whiten=True,
        generator=torch.Generator().manual_seed(seed),
    ).to(memory_format=torch.channels_last)


def train(recipe: Recipe, features: list[Tensor], seed: int) -> CrossScaleFlow:
    """Learn from training features, as the detector does."""
    # A flow without coupling blocks can't be built: one that has not learnt is the same but for a permutation.
    n_blocks = len(recipe.kernel_sizes)
    flow = build_flow(recipe if n_blocks else replace(recipe, kernel_sizes=(1,)), features[0].shape[1], seed)
    flow.initialize_whitening([features], shrinkage=recipe.shrinkage)
    trainer = FlowTrainer(
        n_epochs=recipe.n_epochs,
        batch_size=16,
        learning_rate=recipe.learning_rate,
        lr_schedule="one_cycle",
        weight_decay=1e-5,
        max_grad_norm=1.0,
        precision="float32",
        seed=seed,
        noise=recipe.noise,
        n_threads=torch.get_num_threads(),
    )
    if n_blocks:
        trainer.train(flow, [m.contiguous(memory_format=torch.channels_last) for m in features])
    return flow.eval()


@torch.no_grad()
def measure(
    flow: CrossScaleFlow, features: list[Tensor]
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[Any]]:
    """Anomaly scores, negative log-likelihoods per dimension but for a constant, and each scale's maps."""
    scores, losses, maps = [], [], []
    n_dims = sum(m[0].numel() for m in features)
    for batch in zip(*(m.split(SCORING_BATCH) for m in features), strict=True):
        z, log_det = flow([m.contiguous(memory_format=torch.channels_last) for m in batch])
        scores.append(anomaly_score(z))
        losses.append(scores[-1] - log_det.double() / n_dims)
        maps.append([m.double().square().mean(dim=1).flatten(1) for m in z])
    return (
        torch.cat(scores).numpy(),
        torch.cat(losses).numpy(),
        [torch.cat(of_scale).numpy() for of_scale in zip(*maps, strict=True)],
    )


def aggregations(test: Sequence[Any], train: Sequence[Any]) -> dict[str, NDArray[np.float64]]:
    """Other scores of the same latent maps."""
    pooled = [m.mean(axis=1) for m in test]
    centred = [(t.mean(axis=1).mean(), t.mean(axis=1).std()) for t in train]
    flat = np.concatenate(test, axis=1)
    result = {f"scale {i}": p for i, p in enumerate(pooled)}
    result["scales alike"] = np.sum(pooled, axis=0)
    result["scales z-scored"] = np.sum(
        [(p - m) / s for p, (m, s) in zip(pooled, centred, strict=True)], axis=0
    )
    result["largest position"] = flat.max(axis=1)
    for share in TOP_SHARES:
        result[f"highest {share:g}"] = highest(flat, share)
        result[f"highest {share:g} of scale 0"] = highest(test[0], share)
    result["mean of cubes"] = np.mean(flat**3, axis=1)
    return result


def highest(maps: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Mean of the highest values of each row."""
    n_highest = math.ceil(share * maps.shape[1])
    return np.sort(maps, axis=1)[:, -n_highest:].mean(axis=1)


def macs(recipe: Recipe, features: list[Tensor]) -> int:
    """Multiplications and additions of a forward pass of the coupling blocks, for one image."""
    if not recipe.kernel_sizes:
        return 0
    flow = build_flow(recipe, features[0].shape[1], 0)
    with torch.no_grad():
        return int(count_work(lambda: flow.couple([m[:1] for m in features]), flow).flops)


def run(cells: Cells, recipe: Recipe, seed: int, subset: str) -> dict[str, Any]:
    """Train on one split and test."""
    features = cells.features(recipe)
    train_rows, test_rows = cells.split(seed, subset)
    learnt = [m[train_rows] for m in features]
    tested = [m[test_rows] for m in features]
    is_defective = cells.is_defective[test_rows]
    start = perf_counter()
    flow = train(recipe, learnt, seed)
    seconds = perf_counter() - start
    train_scores, train_losses, train_maps = measure(flow, learnt)
    scores, losses, maps = measure(flow, tested)
    others = {"log-likelihood": losses, **aggregations(maps, train_maps)}
    result: dict[str, Any] = {
        "auroc": float(roc_auc_score(is_defective, scores)),
        "seconds": seconds,
        "work": macs(recipe, features) * recipe.n_epochs * len(train_rows),
        "loss_learnt": float(train_losses.mean()),
        "loss_held_out": float(losses[~is_defective].mean()),
        "score_learnt": float(train_scores.mean()),
        "score_held_out": float(scores[~is_defective].mean()),
        "other_scores": {name: float(roc_auc_score(is_defective, s)) for name, s in others.items()},
    }
    for kind, among in (("mono", cells.is_mono[test_rows]), ("poly", ~cells.is_mono[test_rows])):
        if among.any():
            result[f"auroc_{kind}"] = float(roc_auc_score(is_defective[among], scores[among]))
    return result


def mahalanobis(cells: Cells, recipe: Recipe, seed: int, subset: str) -> float:
    """AUROC of a Mahalanobis distance on features averaged over positions."""
    train_rows, test_rows = cells.split(seed, subset)
    pooled = torch.cat([m.mean(dim=(2, 3)) for m in cells.features(recipe)], dim=1).numpy()
    distances = LedoitWolf().fit(pooled[train_rows]).mahalanobis(pooled[test_rows])
    return float(roc_auc_score(cells.is_defective[test_rows], distances))


def load_results() -> dict[str, Any]:
    """What has been measured so far: subset -> recipe -> seed -> result."""
    path = RESULTS / "study.json"
    return json.loads(path.read_text())["results"] if path.exists() else {}


def record(subset: str, name: str, seed: str, result: dict[str, Any]) -> None:
    """Add a result to the file, which another process may have written to meanwhile."""
    print(subset, name, seed, result, flush=True)
    results = load_results()
    results.setdefault(subset, {}).setdefault(name, {})[seed] = result
    write("study", {"results": results})


def print_results(results: dict[str, Any]) -> None:
    """Print a table per subset."""
    for subset, of_recipe in results.items():
        seeds = sorted({seed for of_seed in of_recipe.values() for seed in of_seed}, key=int)
        rows = []
        base = {seed: result["work"] for seed, result in of_recipe.get("base", {}).items()}
        for name, of_seed in of_recipe.items():
            costs = [r["work"] / base[s] for s, r in of_seed.items() if "work" in r and s in base]
            cost = f"{np.mean(costs):.2f}" if costs else ""
            losses = [r["loss_held_out"] for r in of_seed.values() if "loss_held_out" in r]
            loss = np.mean(losses).item() if losses else ""
            per_seed = [of_seed[s]["auroc"] if s in of_seed else "" for s in seeds]
            rows.append([name, cost, *per_seed, loss])
        print(f"\n{subset}")
        print_table(["recipe", "cost", *seeds, "held-out loss"], rows)


def main() -> None:
    """Measure what hasn't been, print and write it; or draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cache", type=Path, help="folder that features are kept in")
    parser.add_argument("--subset", choices=("mono", "all"), nargs="+", default=["mono", "all"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12])
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--plot", action="store_true")
    args = parser.parse_args()
    if min(args.seeds) < 10:
        parser.error("seeds below 10 are for reporting only")
    if args.plot:
        from benchmarks._study_plot import plot

        results = load_results()
        plot(results, ["Mahalanobis", *RECIPES])
        print_results(results)
        return
    if args.cache is None:
        parser.error("--cache is needed")
    args.cache.mkdir(parents=True, exist_ok=True)
    cells = Cells(args.cache)
    for name in args.only:
        for seed in args.seeds:
            for subset in args.subset:
                key = str(seed)
                known = load_results().get(subset, {})
                if key not in known.get("Mahalanobis", {}):
                    record(subset, "Mahalanobis", key, {"auroc": mahalanobis(cells, BASE, seed, subset)})
                if key not in known.get(name, {}):
                    record(subset, name, key, run(cells, RECIPES[name], seed, subset))
    results = load_results()
    print_results(results)


if __name__ == "__main__":
    main()
