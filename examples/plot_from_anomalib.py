"""
Coming from anomalib: how is it done here?
==========================================

anomalib has CS-Flow too, as `Csflow`. This page does one task in both: train on a folder of good parts, inspect a
folder of parts, and measure how good the verdicts and the maps are. The code of anomalib is shown and not run. It
is that of version 2.6.

.. code-block:: python

    from anomalib.data import Folder
    from anomalib.engine import Engine
    from anomalib.models import Csflow

    data = Folder(name="wood", root="wood", normal_dir="good", normal_test_dir="test_good",
                  abnormal_dir="test_defective", mask_dir="masks")
    model = Csflow()
    engine = Engine(max_epochs=240)
    engine.fit(model=model, datamodule=data)
    engine.test(model=model, datamodule=data)       # prints image and pixel metrics
    for batch in engine.predict(model=model, data_path="wood/test_defective"):
        print(batch.image_path, batch.pred_score, batch.pred_label)

What corresponds to what?

.. list-table::
    :header-rows: 1
    :widths: 45 55

    * - anomalib
      - skcsflow
    * - `Csflow(n_coupling_blocks=4, cross_conv_hidden_channels=1024, clamp=3, num_channels=3)`
      - `CSFlowDetector(**PAPER_PARAMS)` is the paper's configuration; the default is smaller and fits on a laptop.
        The four parameters have the same names
    * - `Engine(max_epochs=240)`
      - `n_epochs=240`; ``"auto"``, the default, is 600 steps
    * - `Folder(...)`, a datamodule
      - a folder, a list of paths, or an array, passed to `fit`
    * - `engine.fit(model=..., datamodule=...)`
      - `detector.fit(X)`
    * - `engine.predict(...)`, a list of batches
      - `detector.inspect(X)`, or a method for each of the following
    * - `pred_score`, higher is more anomalous
      - `-detector.score_samples(X)`: here higher is more *normal*, as in scikit-learn
    * - `pred_label`, true for a defect
      - `detector.predict(X) == -1`
    * - `anomaly_map`, `pred_mask`
      - `detector.transform(X)`, `detector.predict_masks(X)`
    * - `engine.test(...)`
      - scikit-learn's metrics for images, :mod:`skcsflow.metrics` for pixels
    * - a threshold by F1 on the labelled images that the datamodule sets aside (`F1AdaptiveThreshold`)
      - good images alone, held out by `fit`. `calibrate(X, fpr=0.05)`, or `calibrate(X, y, criterion="f1")` for the
        like of anomalib's
    * - `engine.export(model, "onnx")`
      - `skcsflow.export.to_onnx(detector, "detector.onnx")`
    * - a checkpoint of Lightning
      - `skcsflow.save(detector, "detector.skops")`
    * - a trained `CsFlowModel`
      - `skcsflow.nn.CrossScaleFlow.from_anomalib(model.state_dict())` takes its flow over
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from skcsflow import CSFlowDetector
from skcsflow.datasets import list_images, make_defects, read_mask
from skcsflow.metrics import pixel_roc_auc_score, pro_auc_score
from skcsflow.plotting import AnomalyMapDisplay

# %%
# The folders
# -----------
# The same as in the code above, with drawn wood in them.

temporary = tempfile.TemporaryDirectory()
root = Path(temporary.name)
data = make_defects(n_normal=60, n_defective=18, surface="wood", random_state=0)
for name in ("good", "test_good", "test_defective", "masks"):
    (root / name).mkdir()
for i, (image, mask) in enumerate(zip(data.images, data.masks, strict=True)):
    name = "good" if i < 40 else "test_good" if i < 60 else "test_defective"
    Image.fromarray(image).save(root / name / f"{i:03}.png")
    if i >= 60:
        Image.fromarray(mask).save(root / "masks" / f"{i:03}.png")

# %%
# Fit
# ---
# No datamodule, and no engine. This is a small size and a short training, for this page.

detector = CSFlowDetector(input_size=128, n_epochs=20, random_state=0).fit(root / "good")

# %%
# Test
# ----

good, defective = list_images(root / "test_good"), list_images(root / "test_defective")
files = [*good, *defective]
is_defective = np.repeat([False, True], [len(good), len(defective)])
scores = detector.score_samples(files)
maps = detector.transform(files)
masks = np.zeros(maps.shape, dtype=bool)
masks[len(good) :] = [read_mask(file) for file in list_images(root / "masks")]

print(f"AUROC of images: {roc_auc_score(is_defective, -scores):.3f}")
print(f"AUROC of pixels: {pixel_roc_auc_score(masks, maps):.3f}")
print(f"AUPRO:           {pro_auc_score(masks, maps):.3f}")

# %%
# Predict
# -------

labels = detector.predict(files) == -1
print(f"{labels[is_defective].sum()} of {len(defective)} defective images are flagged")
print(f"{labels[~is_defective].sum()} of {len(good)} good images are flagged")

# %%
# The solid line is the true mask, the dashed one what `predict_masks` marks.

shown = [0, *range(len(good), len(good) + 5)]
AnomalyMapDisplay.from_estimator(
    detector, [files[i] for i in shown], np.where(is_defective[shown], -1, 1), masks=masks[shown]
)
plt.show()
temporary.cleanup()
