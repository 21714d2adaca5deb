"""
What kind of defect is it?
==========================

A detector says that something is wrong, and where. A classifier behind it can tell which kind of defect it is, from
a few labelled examples of each. Both fit in one scikit-learn pipeline: the detector, learnt from good parts alone
and then frozen, gives anomaly maps; a function makes a few numbers of each map; a classifier learns what they mean.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skcsflow import CSFlowDetector, find_regions
from skcsflow.datasets import make_defects

# %%
# The detector learns what good tiles look like, from 40 images.

data = make_defects(
    n_normal=70, n_defective=90, surface="tiles", defect=["scratch", "spot", "missing_part"], random_state=0
)
detector = CSFlowDetector(input_size=128, n_epochs=20, random_state=0).fit(data.images[:40])

# %%
# From a map to numbers
# ---------------------
# A scratch is long and thin, a spot is round, and a missing part is strong. So these numbers tell kinds apart: the
# peak of the map and its mean, and of the strongest region its area, its longer side, and how much of its box it
# fills. All are 0 where no region is found.


def describe(maps, threshold):
    """Make five numbers of each map."""
    rows = []
    for anomaly_map in maps:
        area = longer = filled = 0
        for region in find_regions(anomaly_map, threshold)[:1]:
            top, left, bottom, right = region.bbox
            area, longer = region.area, max(bottom - top, right - left)
            filled = area / ((bottom - top) * (right - left))
        rows.append([anomaly_map.max(), anomaly_map.mean(), area, longer, filled])
    return np.array(rows)


pipeline = make_pipeline(
    FrozenEstimator(detector),
    FunctionTransformer(describe, kw_args={"threshold": detector.map_threshold_}),
    RandomForestClassifier(random_state=0),
)

# %%
# Fit the classifier
# ------------------
# On images that the detector has not seen: good images that it was fitted on look better to it than fresh ones.
# `FrozenEstimator` keeps the detector as it is when the pipeline is fitted.

X, kinds = data.images[40:], data.defect[40:]
X_train, X_test, y_train, y_test = train_test_split(X, kinds, test_size=0.5, stratify=kinds, random_state=0)
pipeline.fit(X_train, y_train)
predicted = pipeline.predict(X_test)
print(f"{accuracy_score(y_test, predicted):.0%} of {len(y_test)} images are called by their kind")
share = np.unique(y_test, return_counts=True)[1].max() / len(y_test)
print(f"always saying the commonest kind would be right for {share:.0%}")

# %%
# Rows are what was drawn, columns what the pipeline says.

ConfusionMatrixDisplay.from_predictions(y_test, predicted, cmap="Blues", colorbar=False)
plt.show()

# %%
# One image of each kind, and what its map looks like:

names = np.unique(kinds)
shown = [int(np.flatnonzero(y_test == name)[0]) for name in names]
maps = detector.transform(X_test[shown])
figure, axes = plt.subplots(2, len(names), figsize=(9, 5), layout="constrained")
for column, i in enumerate(shown):
    axes[0, column].imshow(X_test[i])
    axes[0, column].set_title(f"{y_test[i]}\ncalled {predicted[i]}", fontsize=10)
    image = axes[1, column].imshow(maps[column], cmap="inferno", vmin=0, vmax=np.percentile(maps, 99))
for ax in axes.flat:
    ax.set_axis_off()
figure.colorbar(image, ax=axes[1], label="anomaly")
plt.show()

# %%
# :class:`~skcsflow.InspectionTable` is a ready-made table of such numbers, with names for its columns. See
# :ref:`inspection_table`.
