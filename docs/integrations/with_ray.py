import joblib
import numpy as np
import pandas as pd
import ray
from ray.util.joblib import register_ray

import skcsflow
from skcsflow.datasets import list_images


class Score:
    def __init__(self, path):
        self.detector = skcsflow.load(path).set_params(n_jobs=1)  # once for each process

    def __call__(self, batch):
        return {**batch, "score": self.detector.score_samples(batch["file"].tolist())}


ray.init(num_cpus=2)
files = list_images("images")

# Scores of any number of files.
table = ray.data.from_items([{"file": file} for file in files])
found = table.map_batches(Score, fn_constructor_args=("detector.skops",), batch_size=5, concurrency=2)
scores = found.to_pandas().set_index("file")["score"]

# Whatever scikit-learn and skcsflow do by joblib, on the cluster.
register_ray()
detector = skcsflow.load("detector.skops").set_params(n_jobs=1)
products = pd.DataFrame({"group": ["left", "right"] * (len(files) // 2), "image": files})
with joblib.parallel_config("ray", n_jobs=2):
    grouped = skcsflow.GroupedDetector(detector).fit(products)
ray.shutdown()

np.testing.assert_array_equal(scores[files], skcsflow.load("detector.skops").score_samples(files))
again = skcsflow.GroupedDetector(detector).fit(products)
np.testing.assert_array_equal(grouped.score_samples(products), again.score_samples(products))
