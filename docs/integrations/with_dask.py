import dask.bag
import numpy as np

import skcsflow
from skcsflow.datasets import list_images


def score(files):
    detector = skcsflow.load("detector.skops").set_params(n_jobs=1)  # a core for each worker
    return detector.score_samples(list(files)).tolist()


files = list_images("images")
bag = dask.bag.from_sequence(files, npartitions=2)
scores = bag.map_partitions(score).compute(scheduler="threads")

np.testing.assert_array_equal(scores, skcsflow.load("detector.skops").score_samples(files))
