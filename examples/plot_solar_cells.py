"""
Find defective solar cells
==========================

A detector is trained on electroluminescence images of good solar cells alone. Then it tells defective cells from good
ones that were held out, and shows where each defect is. Everything runs offline on two processor cores.

The images are the monocrystalline cells of the ELPV data set (``pip install "skcsflow[examples]"``): 588 functional
cells, three quarters of them for training, and 313 that are certainly defective.
"""

from pathlib import Path
from time import perf_counter

import joblib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from skcsflow import CSFlowDetector
from skcsflow.datasets import load_elpv

output = Path("output")
output.mkdir(exist_ok=True)


class Stopwatch:
    """Prints how long each step took."""

    def __init__(self):
        self.last = perf_counter()

    def lap(self, step):
        """Print the time since the last step."""
        now = perf_counter()
        print(f"{step:<58}{now - self.last:7.1f} s")
        self.last = now


stopwatch = Stopwatch()

# %%
# The data
# --------
# Functional cells are split into training and test images.

cells = load_elpv(subset="mono")
functional = cells.images[cells.probability == 0]
defective = cells.images[cells.probability == 1]
train, held_out = train_test_split(functional, train_size=0.75, random_state=0)
test = np.concatenate([held_out, defective])
is_defective = np.repeat([False, True], [len(held_out), len(defective)])
stopwatch.lap(f"read {len(train)} cells to train on and {len(test)} to test with")

# %%
# Fit and score
# -------------
# Default parameters. Scores are higher for more normal images, as everywhere in scikit-learn.

detector = CSFlowDetector(random_state=0).fit(train)
stopwatch.lap(f"fit, {len(detector.history_['loss'])} epochs")

scores = detector.score_samples(test)
stopwatch.lap(f"score {len(test)} cells")

print(f"AUROC: {roc_auc_score(is_defective, -scores):.3f}")

# %%
# Save and load
# -------------
# One file holds the whole detector, with its backbone. The loaded detector gives the same scores, bit for bit.

path = output / "solar_cells.joblib"
joblib.dump(detector, path)
detector = joblib.load(path)
assert np.array_equal(detector.score_samples(test[:8]), scores[:8])
stopwatch.lap(f"save ({path.stat().st_size / 1e6:.0f} MB), load, and score again")

# %%
# Where the defects are
# ---------------------
# ``transform`` gives an anomaly map for each image. Here are defective cells, from the lowest score upwards, and the
# good cell with the median score. All maps share one colour scale.

order = np.argsort(scores)
good = order[~is_defective[order]][len(held_out) // 2]
bad = order[is_defective[order]][np.linspace(0, len(defective) * 0.7, 5).astype(int)]
shown = np.array([*bad, good])
maps = detector.transform(test[shown])
stopwatch.lap(f"draw {len(shown)} anomaly maps")

figure = plt.figure(figsize=(10, 6.2), layout="constrained")
pictures, histogram = figure.subfigures(2, 1, height_ratios=[3, 2])
axes = pictures.subplots(2, len(shown))
low, high = np.percentile(maps, [50, 99.5])
for column, (i, anomaly_map) in enumerate(zip(shown, maps, strict=True)):
    kind = "defective" if is_defective[i] else "good"
    axes[0, column].set_title(f"{kind}\nscore {scores[i]:.2f}", fontsize=10)
    for ax in axes[:, column]:
        ax.imshow(test[i], cmap="gray")
        ax.set_axis_off()
    overlay = axes[1, column].imshow(anomaly_map, cmap="inferno", alpha=0.65, vmin=low, vmax=high)
pictures.colorbar(overlay, ax=axes, label="anomaly", shrink=0.8)

ax = histogram.subplots()
bins = np.linspace(*np.percentile(scores, [1, 100]), 50)
ax.hist(scores[~is_defective], bins, alpha=0.7, color="#0072B2", label="good, held out")
ax.hist(np.clip(scores[is_defective], bins[0], None), bins, alpha=0.7, color="#D55E00", label="defective")
ax.axvline(detector.offset_, color="black", linestyle="--", linewidth=1, label="threshold")
ax.set(xlabel="score (higher is more normal)", ylabel="cells")
ax.legend(loc="upper right")

figure.savefig(output / "solar_cells.png", dpi=110)
print(f"saved {output / 'solar_cells.png'} and {path}")
