"""anomalib's recipe on ELPV mono cells to its end, epoch by epoch; slow, and resumes where it was interrupted.

    python -m benchmarks.peer_curve --folder FOLDER [--n-epochs 60]

anomalib's CS-Flow, loss, optimizer, clipping and batch size, with EfficientNet-Lite0 and its ImageNet weights in the
place of EfficientNet-B5, 1024 hidden channels, seed 0. The features are computed once, with anomalib's own extractor:
it is frozen, so the curve of AUROC over epochs is the one that anomalib has, in less time. What an epoch takes anomalib
is measured elsewhere, on a machine that does nothing else: `python -m benchmarks.time_to_quality` reads the curve.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from benchmarks._data import ANOMALIB_BATCH_SIZE, elpv_split
from benchmarks._peers import anomalib_csflow, anomalib_features, anomalib_optimizer, anomalib_step
from benchmarks._report import print_table, write

EVALUATE_EVERY = 5


@torch.no_grad()
def score(model: torch.nn.Module, features: list[torch.Tensor]) -> np.ndarray:
    """The scores that anomalib gives."""
    batches = zip(*(f.split(16) for f in features), strict=True)
    return torch.cat([model._compute_anomaly_scores(model.graph(list(b))[0]) for b in batches]).numpy()


def main() -> None:
    """Train, evaluate every few epochs, and write the curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the state is kept between runs")
    parser.add_argument("--n-epochs", type=int, default=60)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    split = elpv_split(0)
    model = anomalib_csflow(256, backbone="lite0")
    train, test = (anomalib_features(model, images, 256) for images in (split.train, split.test))
    optimizer = anomalib_optimizer(model.graph)
    curve: list[tuple[int, float, float]] = []
    path = args.folder / "state.pt"
    if path.exists():
        state = torch.load(path)
        model.graph.load_state_dict(state["graph"])
        optimizer.load_state_dict(state["optimizer"])
        curve = state["curve"]
        print(f"going on after epoch {state['epoch']}", flush=True)
    first = state["epoch"] + 1 if path.exists() else 1
    for epoch in range(first, args.n_epochs + 1):
        order = torch.from_numpy(np.random.RandomState(epoch).permutation(len(split.train)))
        losses = [
            anomalib_step(model.graph, [f[rows] for f in train], optimizer)
            for rows in order.split(ANOMALIB_BATCH_SIZE)
        ]
        if epoch % EVALUATE_EVERY == 0 or epoch == args.n_epochs:
            auroc = float(roc_auc_score(split.is_defective, score(model, test)))
            curve.append((epoch, float(np.mean(losses)), auroc))
            print(curve[-1], flush=True)
        state = {"graph": model.graph.state_dict(), "optimizer": optimizer.state_dict(), "curve": curve}
        torch.save({**state, "epoch": epoch}, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
    print_table(["epoch", "loss", "AUROC"], curve)
    names = ("epoch", "loss", "auroc")
    write("peer_curve", {"curve": [dict(zip(names, point, strict=True)) for point in curve]})


if __name__ == "__main__":
    main()
