"""Our sides of the comparisons."""

from collections.abc import Iterator
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import joblib
import torch

from benchmarks._data import elpv_split, square_cells, timed_auroc
from benchmarks._floor import Work, count_scoring, count_work
from skcsflow import PAPER_PARAMS, CSFlowDetector
from skcsflow._compute import has_fast_bfloat16
from skcsflow.datasets import load_elpv
from skcsflow.nn import CSFlowLoss

PEERS_NETWORK = {
    name: value
    for name, value in PAPER_PARAMS.items()
    if name not in ("input_size", "n_epochs", "batch_size", "precision")  # which the benchmarks vary
} | {"weights": None}
"""anomalib's own network, with random weights, which make no difference to the time it takes."""


def engines() -> Iterator[str]:
    """Each `engine` that a detector can compute with here."""
    yield "torch"
    if find_spec("openvino"):
        yield "openvino"


def precisions() -> Iterator[str]:
    """Each `precision` of comparisons: float32, and bfloat16 where this processor is faster in it."""
    yield "float32"
    if has_fast_bfloat16(torch.device("cpu")):
        yield "bfloat16"


class Fitter:
    """Fits detectors to ELPV cells.

    Parameters
    ----------
    seed : int, default=0
        Random state of the detectors, and of the split.
    **split
        Which cells, see :func:`elpv_split`.
    """

    def __init__(self, seed: int = 0, **split: Any) -> None:
        self.seed = seed
        self.split = elpv_split(seed, **split)
        self.detector: CSFlowDetector | None = None

    def fit(self, n_images: int | None = None, **params: Any) -> tuple[float, list[float]]:
        """Fit to the first cells, from nothing; seconds of all that is done once, and of each epoch."""
        self.detector = None  # not two in memory
        start = perf_counter()
        self.detector = CSFlowDetector(random_state=self.seed, **params).fit(self.split.train[:n_images])
        seconds = perf_counter() - start
        epochs = self.detector.history_["seconds"].tolist()
        return seconds - sum(epochs), epochs

    def test(self) -> tuple[float, float]:
        """AUROC of the detector that was fitted last, and seconds per image."""
        return timed_auroc(lambda images: -self.detector.score_samples(images), self.split)

    def save(self, path: str) -> None:
        """Save the detector that was fitted last."""
        joblib.dump(self.detector, path)

    def scoring_work(self) -> Work:
        """Of one image that is scored."""
        return _scoring_work(self.detector)

    def fitting_work(self) -> tuple[Work, Work]:
        """Of one image's features, and of its training step."""
        model = self.detector.model_
        images = torch.rand(1, 3, *model.config["input_size"])
        with torch.no_grad():
            features = model.feature_extractor(images)
            of_features = count_work(lambda: model.feature_extractor(images), model.feature_extractor)
        return of_features, count_work(lambda: CSFlowLoss()(*model.flow(features)).backward(), model.flow)


class Scorer:
    """Scores ELPV cells, and makes their maps.

    Parameters
    ----------
    path : str
        File of a fitted detector.
    """

    def __init__(self, path: str) -> None:
        self.images = load_elpv().images
        self.detector = joblib.load(path)

    def seconds(self, n_images: int, batch_size: int, is_square: bool) -> float:
        """Seconds for the first cells; the detector itself knows how many it computes at a time.

        Of cells, scores and maps in one pass; of cells that are cut to the input's size, what `transform` takes.
        """
        make_map = self.detector._map_maker()
        size = self.detector.model_.input_size
        images = square_cells(n_images, size[0]) if is_square else self.images[:n_images]
        start = perf_counter()
        if is_square:
            self.detector.transform(images)
        else:
            for scored in self.detector._score_images(images):
                make_map(scored, size)
        return perf_counter() - start

    def work(self) -> Work:
        """Of one image."""
        return _scoring_work(self.detector)


def _scoring_work(detector: CSFlowDetector) -> Work:
    return count_scoring(detector.model_, detector.model_.config["input_size"])
