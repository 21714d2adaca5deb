"""
Where to draw the line between good and defective?
==================================================

A detector gives scores. A threshold makes verdicts of them. A high one finds more defects, and stops more good
parts. There are three ways to choose it: leave it to `fit`, set a false-positive rate with more good images, or use
defects that somebody has labelled. We try each on fresh images.
"""

import matplotlib.pyplot as plt
import numpy as np

from skcsflow import CSFlowDetector
from skcsflow.calibration import conformal_threshold, optimal_threshold
from skcsflow.datasets import make_defects

# %%
# Images
# ------
# 40 good images to fit on, 60 more good ones and 20 labelled defects to choose thresholds by, and 100 good ones and
# 40 defects that nobody has seen, to see what comes of it.

data = make_defects(n_normal=200, n_defective=60, surface="fabric", random_state=0)
good, defective = data.images[:200], data.images[200:]
detector = CSFlowDetector(input_size=64, n_epochs=20, random_state=0).fit(good[:40])

fresh = detector.score_samples(good[100:])
defects = detector.score_samples(defective[20:])
thresholds = {}

# %%
# 1. Leave it to `fit`
# --------------------
# `fit` holds out a fifth of its images, here eight, and sets `offset_` by them. It aims at 5 % of fresh good
# images. Eight are few, so the rate may turn out at several times that, or at none.

thresholds["default"] = detector.offset_

# %%
# 2. Say which false-positive rate
# --------------------------------
# :meth:`~skcsflow.CSFlowDetector.calibrate` takes good images that were not trained on. A rate of 5 % needs 19 of
# them, and a rate of 1 % needs 99. A new good image is then flagged with a probability of at most that rate, on
# average over calibrations. No defect is needed.

detector.calibrate(good[40:100], fpr=0.05)
thresholds["fpr=0.05"] = detector.offset_

# %%
# To try several rates, score the images once. The functions of :mod:`skcsflow.calibration` take scores.

held_out = detector.score_samples(good[40:100])
assert conformal_threshold(held_out, fpr=0.05) == detector.offset_
thresholds["fpr=0.1"] = conformal_threshold(held_out, fpr=0.1)

# %%
# 3. Use labelled defects
# -----------------------
# With labels, a threshold can be chosen by what it finds. `recall=0.95` finds 95 % of *these* defects with the
# fewest false alarms. `criterion="f1"` weighs defects missed against false alarms. ``detector.calibrate(X, y,
# recall=0.95)`` does the same in one call. Beware: a threshold chosen by these defects suits defects like them. A
# new kind may be missed.

y = np.repeat([1, -1], [60, 20])
scores = np.concatenate([held_out, detector.score_samples(defective[:20])])
thresholds["recall=0.95"] = optimal_threshold(y, scores, recall=0.95)
thresholds["criterion=f1"] = optimal_threshold(y, scores, criterion="f1")

# %%
# What comes of it on fresh images
# --------------------------------

print(f"{'':14}{'threshold':>10}{'good flagged':>14}{'defects found':>15}")
for name, threshold in thresholds.items():
    print(f"{name:14}{threshold:10.2f}{np.mean(fresh < threshold):14.0%}{np.mean(defects < threshold):15.0%}")

# %%
# And as a picture: the scores of fresh images above, and below it the false-positive rate that was wanted, and the
# one that came out. From one calibration by 60 images, it may lie a few percent off; the band is one standard
# deviation, ``sqrt(fpr / 60)``.

figure, (above, below) = plt.subplots(2, 1, figsize=(8, 7), layout="constrained")
bins = np.linspace(max(defects.min(), -12), fresh.max(), 50)
above.hist(fresh, bins, alpha=0.7, color="#0072B2", label="fresh good images")
above.hist(np.clip(defects, bins[0], None), bins, alpha=0.7, color="#D55E00", label="fresh defects")
for (name, threshold), style in zip(thresholds.items(), ["-", "--", "-.", ":", (0, (6, 1))], strict=True):
    above.axvline(threshold, color="black", linestyle=style, linewidth=1.2, label=name)
above.set(xlabel="score (higher is more normal)", ylabel="images")
above.legend(loc="upper right")

wanted = np.linspace(0.02, 0.3, 29)
found = np.array([np.mean(fresh < conformal_threshold(held_out, fpr)) for fpr in wanted])
spread = np.sqrt(wanted / len(held_out))
below.fill_between(wanted, np.maximum(wanted - spread, 0), wanted + spread, color="0.9")
below.plot(wanted, wanted, color="0.4", linestyle="--", linewidth=1, label="as wanted")
below.plot(wanted, found, color="#0072B2", drawstyle="steps-mid", label="on fresh good images")
below.set(xlabel="false-positive rate wanted", ylabel="came out")
below.legend(loc="upper left")
plt.show()
