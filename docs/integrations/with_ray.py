import numpy as np
import ray

import skcsflow
from skcsflow.datasets import list_images


@ray.remote(num_cpus=1)
class Worker:
    def __init__(self, path):
        self.detector = skcsflow.load(path).set_params(n_jobs=1)

    def score(self, files):
        return self.detector.score_samples(files)


ray.init(num_cpus=2)
files = list_images("images")
workers = [Worker.remote("detector.skops") for _ in range(2)]
parts = [part.tolist() for part in np.array_split(files, 2)]
scores = np.concatenate(
    ray.get([worker.score.remote(part) for worker, part in zip(workers, parts, strict=True)])
)
ray.shutdown()

np.testing.assert_array_equal(scores, skcsflow.load("detector.skops").score_samples(files))
