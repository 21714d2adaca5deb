"""How long until we are as good as anomalib ends up, and how long anomalib takes.

    python -m benchmarks.time_to_quality [--epochs 1 4 7 14] [--n-steps 3] [--every 1]

On the mono cells of ELPV, split 0: 441 to learn from, 147 functional and 313 defective ones to test with.
anomalib's curve of AUROC over epochs is read from `benchmarks/results/peer_curve.json`, which
`python -m benchmarks.peer_curve` writes; both sides have the same backbone, EfficientNet-Lite0 with ImageNet
weights. What an epoch takes anomalib is measured here, from full training steps on 32 images, features included:
441 / 32 times the median of the steps. Times epochs it gives the seconds to the end of the curve, and to the
first point of the curve that is as good as its end.

Ours are whole fits of the default detector in float32, but for its number of epochs, 1, 4, 7 and 14 (the default), each
from nothing. Seconds are those of `fit`; the floor is that of `benchmarks/_floor.py`. Each side has a process of its
own; steps of anomalib and fits of ours take turns. The ratio is anomalib's seconds to the first point as good as
its end, over ours to the first fit as good.
"""

import argparse
import json
from typing import Any

import numpy as np

from benchmarks._data import ANOMALIB_BATCH_SIZE
from benchmarks._floor import measure_peak
from benchmarks._report import RESULTS, print_table, write
from benchmarks._workers import workers

INPUT_SIZE = 256
N_TRAIN = 441
OUR_BATCH_SIZE = 8


def measure(
    all_epochs: list[int], n_steps: int, every: int
) -> tuple[float, list[dict[str, Any]], dict[str, float]]:
    """Seconds of anomalib's epoch; seconds and AUROC of our fits; peak memory."""
    steps: list[float] = []
    peak = measure_peak()
    fits = []
    sides = {
        "anomalib": ("benchmarks._peers", "Trainer", {}),
        "ours": ("benchmarks._ours", "Fitter", {"every": every}),
    }
    with workers(sides) as running:
        for n_epochs in all_epochs:
            _, new_steps = running["anomalib"].ask(
                "fit",
                ANOMALIB_BATCH_SIZE,
                n_epochs=n_steps,
                input_size=INPUT_SIZE,
                batch_size=ANOMALIB_BATCH_SIZE,
                backbone="lite0",
            )
            steps += new_steps
            once, epochs = running["ours"].ask("fit", n_epochs=n_epochs, precision="float32")
            auroc, _ = running["ours"].ask("test")
            of_features, of_step = running["ours"].ask("fitting_work")
            floor = (
                N_TRAIN // every * (of_features.floor(peak) + n_epochs * of_step.floor(peak, OUR_BATCH_SIZE))
            )
            seconds = {"seconds": once + sum(epochs), "floor_seconds": floor}
            fits.append({"epochs": n_epochs, **seconds, "auroc": auroc})
            print(fits[-1], f"anomalib's steps: {[round(s, 2) for s in new_steps]}", flush=True)
        memory = {name: worker.peak_memory() for name, worker in running.items()}
    return N_TRAIN / ANOMALIB_BATCH_SIZE * float(np.median(steps)), fits, memory


def main() -> None:
    """Run, print the tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 4, 7, 14])
    parser.add_argument("--n-steps", type=int, default=3, help="steps of anomalib in each turn")
    parser.add_argument(
        "--every", type=int, default=1, help="we learn from one image in so many, for a trial run"
    )
    args = parser.parse_args()
    path = RESULTS / "peer_curve.json"
    if not path.exists():
        parser.error(f"{path} is not there; run `python -m benchmarks.peer_curve` first")
    curve = json.loads(path.read_text())["curve"]
    end = curve[-1]
    as_good = next(point for point in curve if point["auroc"] >= end["auroc"])

    epoch_seconds, fits, memory = measure(args.epochs, args.n_steps, args.every)
    peers = {name: point["epoch"] * epoch_seconds for name, point in (("end", end), ("as_good", as_good))}
    ours = next((fit for fit in fits if fit["auroc"] >= end["auroc"]), None)
    ratio = peers["as_good"] / ours["seconds"] if ours else None
    rows = [
        ["anomalib, to its end", end["epoch"], peers["end"], "", end["auroc"], memory["anomalib"]],
        ["anomalib, as good", as_good["epoch"], peers["as_good"], "", as_good["auroc"], memory["anomalib"]],
        *(["ours", *fit.values(), memory["ours"]] for fit in fits),
    ]
    print_table(["side", "epochs", "seconds", "floor", "AUROC", "peak memory MB"], rows)
    print(f"times faster to anomalib's AUROC: {ratio}")
    write(
        "time_to_quality",
        {
            "anomalib_epoch_seconds": epoch_seconds,
            "anomalib": {"end": end, "as_good": as_good, "seconds": peers},
            "ours": fits,
            "ratio": ratio,
            "peak_memory_mb": memory,
        },
    )


if __name__ == "__main__":
    main()
