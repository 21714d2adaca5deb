import torch
from scipy.special import expit
from torchmetrics.classification import BinaryAUROC

import skcsflow
from skcsflow.datasets import make_defects
from skcsflow.metrics import pixel_roc_auc_score

detector = skcsflow.load("detector.skops")
data = make_defects(n_normal=4, n_defective=4, size=64, random_state=1)

# In [0, 1], and 0.5 at the threshold, as torchmetrics and anomalib want maps. The order of pixels stays the same.
maps = expit(detector.transform(data.images).astype("float64") - detector.map_threshold_)

auroc = BinaryAUROC()
auroc.update(torch.from_numpy(maps), torch.from_numpy(data.masks != 0).int())
assert abs(float(auroc.compute()) - pixel_roc_auc_score(data.masks, maps)) < 1e-6
