"""The figure of the study, for the documentation."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

FIGURE = Path(__file__).parent.parent / "docs" / "_static" / "study.png"
COLOURS = {"mono": "#0072B2", "all": "#D55E00"}  # of Okabe and Ito's palette
MARKERS = {"mono": "o", "all": "s"}
LABELS = {"mono": "mono cells", "all": "all cells"}


def plot(results: dict[str, Any], order: list[str]) -> None:
    """Draw quality by recipe, and whether the likelihood tells it."""
    names = [name for name in order if any(name in of_recipe for of_recipe in results.values())]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 0.36 * len(names) + 1.6), width_ratios=(1.5, 1), layout="constrained"
    )
    for subset, of_recipe in results.items():
        style: dict[str, Any] = {"color": COLOURS[subset], "marker": MARKERS[subset], "linestyle": "none"}
        label: str | None = LABELS[subset]
        for name, of_seed in of_recipe.items():
            values = [result["auroc"] for result in of_seed.values()]
            row = names.index(name)
            left.plot(values, [row] * len(values), **style, alpha=0.45, markersize=5)
            left.plot(np.mean(values), row, **style, markersize=9, label=label)
            label = None
        for smoothed, filled in ((False, COLOURS[subset]), (True, "none")):
            of_kind = [
                result
                for name, of_seed in of_recipe.items()
                for result in of_seed.values()
                if "loss_held_out" in result and ("smoothing" in name) == smoothed
            ]
            if of_kind:
                right.plot(
                    [-result["loss_held_out"] for result in of_kind],
                    [result["auroc"] for result in of_kind],
                    **style,
                    markerfacecolor=filled,
                    label=LABELS[subset] + (", smoothed" if smoothed else ""),
                )
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set_xlabel("AUROC; small: one seed, large: their mean")
    left.grid(axis="both", alpha=0.3)
    left.legend(loc="best")
    left.set_title("Quality of each recipe")
    right.set_xlabel("log-likelihood of held-out good cells\n(per dimension, but for a constant)")
    right.set_ylabel("AUROC")
    right.grid(alpha=0.3)
    right.legend(loc="best")
    right.set_title("Likelihood and quality")
    figure.savefig(FIGURE, dpi=110)
    plt.close(figure)
    print(f"wrote {FIGURE}")
