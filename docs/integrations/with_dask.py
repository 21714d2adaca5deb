import dask.bag
import joblib
import numpy as np
from distributed import Client
from sklearn.model_selection import GridSearchCV

import skcsflow
from skcsflow.datasets import list_images


def score(files):
    detector = skcsflow.load("detector.skops").set_params(n_jobs=1)  # a core for each worker
    return detector.score_samples(list(files)).tolist()


if __name__ == "__main__":
    files = list_images("images")
    with Client(n_workers=2, threads_per_worker=1):  # or the address of a scheduler
        # Scores, computed where and when they are asked for.
        bag = dask.bag.from_sequence(files, npartitions=2)
        scores = bag.map_partitions(score).compute()

        # Whatever scikit-learn and skcsflow do by joblib, on the cluster.
        detector = skcsflow.load("detector.skops").set_params(n_jobs=1)
        search = GridSearchCV(detector, {"clamp": [2.0, 3.0]}, cv=2, refit=False)
        with joblib.parallel_config("dask"):
            search.fit(files)

    np.testing.assert_array_equal(scores, skcsflow.load("detector.skops").score_samples(files))
    of_cluster = search.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(of_cluster, search.fit(files).cv_results_["mean_test_score"])
