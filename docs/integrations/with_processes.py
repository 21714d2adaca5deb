from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

import skcsflow
from skcsflow.datasets import list_images


def load():
    global detector
    detector = skcsflow.load("detector.skops").set_params(n_jobs=1)  # a core for each process


def score(files):
    return detector.score_samples(files)


if __name__ == "__main__":
    files = list_images("images")
    parts = [part.tolist() for part in np.array_split(files, 4)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=load) as pool:
        scores = np.concatenate(list(pool.map(score, parts)))
    load()
    np.testing.assert_array_equal(scores, detector.score_samples(files))
