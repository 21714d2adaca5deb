"""
Look at an inspection
=====================

How well does a detector tell good parts from defective ones? Which kinds of defect does it miss? Does it find the right
place? The displays of :mod:`skcsflow.plotting` show it (``pip install "skcsflow[plot]"``).

The images are drawn by :func:`~skcsflow.datasets.make_defects`, with exact masks of the defects.
"""

import matplotlib.pyplot as plt
import numpy as np

from skcsflow import CSFlowDetector
from skcsflow.datasets import make_defects
from skcsflow.plotting import AnomalyMapDisplay, HistoryDisplay, RocByKindDisplay, ScoreHistogramDisplay

# %%
# The data, and a detector
# ------------------------
# 60 images of good wood to train on; 40 good ones and 36 with six kinds of defect to test with.

data = make_defects(100, 36, surface="wood", random_state=0)
X, y = data.images[60:], data.y[60:]
masks, kinds = data.masks[60:], data.defect[60:]
detector = CSFlowDetector(input_size=128, random_state=0).fit(data.images[:60])

# %%
# How the training went
# ---------------------

HistoryDisplay.from_estimator(detector)
plt.show()

# %%
# The scores
# ----------
# Scores are those of `score_samples`: higher is more normal. What lies left of the threshold `offset_` is called
# defective.

scores = detector.score_samples(X)
ScoreHistogramDisplay.from_predictions(y, scores, kinds=kinds, threshold=detector.offset_)
plt.show()

# %%
# `fit` holds out a fifth of the training images, and sets that threshold by them.
# :meth:`~skcsflow.CSFlowDetector.calibrate` sets it for a false-positive rate of your choice, here of at most one in
# ten, by good images of your own: the first 20 of the test images. The rest is tested with.

detector.calibrate(X[:20], fpr=0.1)
X, y, masks, kinds, scores = X[20:], y[20:], masks[20:], kinds[20:], scores[20:]
ScoreHistogramDisplay.from_predictions(y, scores, kinds=kinds, threshold=detector.offset_)
plt.show()

# %%
# Which kinds it finds
# --------------------
# One curve for each kind of defect, each against all good images.

RocByKindDisplay.from_predictions(y, scores, kinds=kinds)
plt.show()

# %%
# Where it looks
# --------------
# One image of each kind, above without its map and below with it. The solid line is the true mask. All maps share one
# colour scale, so that the map of a good part stays dark. Wrong verdicts are coloured.

shown = [int(np.flatnonzero(kinds == kind)[0]) for kind in ("good", *np.unique(kinds[y == -1])[:5])]
AnomalyMapDisplay.from_estimator(detector, X[shown], y[shown], masks=masks[shown], kinds=kinds[shown])
plt.show()

# %%
# Many images make a grid of overlays. `from_maps` takes maps that were computed before, and needs no detector.

maps = detector.transform(X)
AnomalyMapDisplay.from_maps(
    X,
    maps,
    masks=masks,
    y=y,
    kinds=kinds,
    scores=scores,
    threshold=detector.offset_,
    map_threshold=detector.map_threshold_,
    predicted_masks=detector.predict_masks(X),
)
plt.show()
