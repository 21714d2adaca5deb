"""
Which parameters suit my parts?
===============================

Ask `GridSearchCV`. Good images alone can choose the parameters of the flow, by likelihood. With some labelled
defects you can choose anything, by what is found. With `memory`, each image goes through the backbone once for the
whole search.
"""

import tempfile

import matplotlib.pyplot as plt
from sklearn.model_selection import GridSearchCV, KFold

from skcsflow import CSFlowDetector, feature_cache_info
from skcsflow.datasets import make_defects
from skcsflow.model_selection import OneClassKFold, anomaly_roc_auc

data = make_defects(n_normal=48, n_defective=18, surface="wood", random_state=0)
good = data.images[:48]
memory = tempfile.TemporaryDirectory()
detector = CSFlowDetector(
    input_size=64, strides=(8, 16), n_coupling_blocks=1, n_epochs=20, random_state=0, memory=memory.name
)

# %%
# Without a defect
# ----------------
# `score` is how likely the features of held-out good images are. Higher is better. It can compare whatever changes
# the flow or its training, here the noise on the features.

search = GridSearchCV(
    detector, {"feature_noise": [0.1, 0.25, 0.5]}, cv=KFold(3, shuffle=True, random_state=0)
)
search.fit(good)
by_likelihood = search.cv_results_
print("best:", search.best_params_)

# %%
# Ten fits were made: three candidates by three folds, and the last one on all images. How many images went through
# the backbone?

info = feature_cache_info(memory.name)
print(f"{info.n_images} images in memory, {info.n_bytes / 1e6:.0f} MB")

# %%
# With labelled defects
# ---------------------
# Likelihoods can *not* compare input sizes or strides: these change the features, and so what is likely. Defects
# can. Known defects are never trained on. :class:`~skcsflow.model_selection.OneClassKFold` spreads them over the
# folds' test images, and :data:`~skcsflow.model_selection.anomaly_roc_auc` takes any labels that the detector
# takes.

folds = OneClassKFold(3, shuffle=True, random_state=0)
search = GridSearchCV(detector, {"input_size": [64, 128]}, scoring=anomaly_roc_auc, cv=folds)
search.fit(data.images, data.y)
by_defects = search.cv_results_
print("best:", search.best_params_)
memory.cleanup()

# %%
# Both searches
# -------------
# A point for each fold, a line for their mean. Where the folds differ more than the candidates do, the choice is a
# matter of chance: take the cheaper one, or get more images.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for ax, results, name, label in (
    (axes[0], by_likelihood, "feature_noise", "log-likelihood per dimension"),
    (axes[1], by_defects, "input_size", "AUROC"),
):
    values = [str(value) for value in results[f"param_{name}"]]
    for fold in range(3):
        ax.plot(values, results[f"split{fold}_test_score"], "o", color="#0072B2", alpha=0.5)
    ax.plot(values, results["mean_test_score"], color="black")
    ax.set(xlabel=name, ylabel=label)
axes[0].set_title("good images alone")
axes[1].set_title("with labelled defects")
plt.show()

# %%
# The two may disagree: the flow with the highest likelihood isn't always the best at finding defects. Where you
# have defects, go by them.
