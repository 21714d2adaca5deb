"""
Three products, one detector?
=============================

Each product needs a detector of its own, as good wood is no good fabric. :class:`~skcsflow.GroupedDetector` fits one
for each product from one table, and keeps them together in one file, with one backbone for all.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import skcsflow
from skcsflow import CSFlowDetector, GroupedDetector
from skcsflow.datasets import make_defects
from skcsflow.plotting import AnomalyMapDisplay

# %%
# A table of images
# -----------------
# A DataFrame of pandas or polars would do, with a column of paths. Here it is a dict of columns, with arrays for
# images: for each product 30 good images to fit on, 29 more to calibrate by, and 12 good and 12 defective ones to
# inspect.

products = ("fabric", "tiles", "wood")
drawn = {product: make_defects(71, 12, surface=product, random_state=0) for product in products}


def table(rows):
    """Take the same rows of each product, and make a table of them."""
    return {
        "product": [product for product in products for _ in range(*rows)],
        "image": [image for product in products for image in drawn[product].images[slice(*rows)]],
    }


# %%
# Fit and calibrate
# -----------------
# Thresholds are those of each product: at most 10 % of its fresh good images are flagged, on average over
# calibrations.

detector = CSFlowDetector(input_size=128, strides=(8, 16, 32), n_epochs=20, random_state=0)
grouped = GroupedDetector(detector, group_column="product").fit(table((0, 30)))
grouped.calibrate(table((30, 59)), fpr=0.1)

# %%
# Inspect a mixed lot
# -------------------
# Rows may come in any order. Each goes to the detector of its product.

lot = table((59, 83))
verdicts = grouped.predict(lot)
of_product = np.array(lot["product"])
is_good = np.tile(np.repeat([True, False], 12), len(products))
for product in products:
    rows = of_product == product
    alarms = np.sum(verdicts[rows & is_good] == -1)
    found = np.sum(verdicts[rows & ~is_good] == -1)
    print(f"{product:12}{alarms:3} of 12 good flagged, {found:3} of 12 defects found")

# %%
# Compare products by p-values
# ----------------------------
# Scores of two products are not in the same units. P-values are: a good image's is equally likely anywhere between
# 0 and 1, whatever the product. With 29 images to calibrate by, the lowest is 1 in 30.

scores, p_values = grouped.score_samples(lot), grouped.p_values(lot)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", sharey=True)
rng = np.random.default_rng(0)
for ax, values, name in ((axes[0], scores, "score"), (axes[1], p_values, "p-value")):
    for good, colour, label in ((True, "#0072B2", "good"), (False, "#D55E00", "defective")):
        heights = [products.index(product) for product in of_product[is_good == good]]
        heights += rng.uniform(-0.2, 0.2, len(heights))
        ax.plot(values[is_good == good], heights, "o", color=colour, alpha=0.6, label=label)
    ax.set_xlabel(name)
axes[0].set_yticks(range(len(products)), products)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
plt.show()

# %%
# One detector alone
# ------------------
# `detectors_` holds them by name. Each is a :class:`~skcsflow.CSFlowDetector`, which draws maps as any other does.

wood = drawn["wood"]
shown = [59, 60, 71, 72, 73, 74]
AnomalyMapDisplay.from_estimator(
    grouped.detectors_["wood"], wood.images[shown], wood.y[shown], masks=wood.masks[shown]
)
plt.show()

# %%
# One file for all
# ----------------

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "plant.skops"
    skcsflow.save(grouped, path)
    loaded = skcsflow.load(path)
    print(f"{path.stat().st_size / 1e6:.0f} MB for {len(loaded.detectors_)} products")
print("same scores:", np.array_equal(loaded.score_samples(lot), scores))
