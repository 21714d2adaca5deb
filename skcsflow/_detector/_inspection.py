"""All that a detector says of an image, from one pass."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from math import nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skcsflow._detector._maps import mask_of
from skcsflow._regions import Region, check_min_area, regions_of_mask
from skcsflow._scoring import ImageScores, MapMaker
from skcsflow.calibration import conformal_p_values
from skcsflow.nn import CSFlowModel

__all__ = ["Inspection", "InspectionMixin"]


class Inspection(NamedTuple):
    """What a detector says of one image.

    Attributes
    ----------
    score : float
        As `score_samples` gives it; higher is more normal. NaN where the image can't be read.
    p_value : float
        As `p_values` gives it; NaN before :meth:`CSFlowDetector.calibrate`.
    verdict : int
        As `predict` gives it: +1, or -1 where anomalous.
    anomaly_map : ndarray of shape (H, W), float32
        As `iter_maps` gives it, at the image's own size; higher is more anomalous.
    mask : ndarray of shape (H, W), bool
        As `predict_masks` gives it, at the image's own size.
    regions : list of Region
        As `predict_regions` gives them: the connected regions of the mask, the highest peak first.
    error : str or None
        Why the image can't be read, with the detector's ``on_error="nan"``; None where it can.
    """

    score: float
    p_value: float
    verdict: int
    anomaly_map: NDArray[np.float32]
    mask: NDArray[np.bool_]
    regions: list[Region]
    error: str | None = None


class InspectionMixin:
    """The method of :class:`~skcsflow.CSFlowDetector` that says all of an image."""

    offset_: float
    map_threshold_: float
    model_: CSFlowModel
    _score_images: Callable[..., Generator[ImageScores, None, None]]
    _map_maker: Callable[[], MapMaker]

    def inspect(self, X: Any, *, min_area: int = 1) -> Iterator[Inspection]:
        """Say all of each image, one after the other, from one pass.

        Parameters
        ----------
        X : array-like of images, or iterator of images
            Images, see :meth:`fit`. Of an iterator, such as a camera's, images are taken one by one, each when
            its inspection is asked for.
        min_area : int, default=1
            Regions of fewer pixels are left out.

        Returns
        -------
        iterator of Inspection
            Score, p-value, verdict, map, mask and regions of each image in turn, as `score_samples`,
            `p_values`, `predict`, `iter_maps` and `predict_regions` give them. Unless X is an iterator, threads
            work ahead of it: close it, or take all of it, for them to end.

        Examples
        --------
        >>> from skcsflow import CSFlowDetector
        >>> from skcsflow.datasets import make_defects
        >>> images = make_defects(n_normal=12, n_defective=0, random_state=0).images
        >>> detector = CSFlowDetector(input_size=64, n_epochs=1, random_state=0).fit(images)
        >>> camera = iter(images[:3])  # frames of OpenCV are BGR: frame[..., ::-1]
        >>> [(found.verdict, found.anomaly_map.shape) for found in detector.inspect(camera)]
        [(1, (128, 128)), (1, (128, 128)), (1, (128, 128))]
        """
        check_is_fitted(self)
        check_min_area(min_area)
        if isinstance(X, Iterator):
            return (
                found
                for row, image in enumerate(X)
                for found in self._inspect(self._score_images([image], first_row=row), min_area)
            )
        return self._inspect(self._score_images(X), min_area)  # what is wrong with X shows now

    def _inspect(
        self, images: Generator[ImageScores, None, None], min_area: int
    ) -> Generator[Inspection, None, None]:
        make_map = self._map_maker()
        calibration_scores = getattr(self, "calibration_scores_", None)
        with closing(images):  # its threads end here, also where the caller keeps the error
            for scored in images:
                score, p_value = -scored.anomaly_score, nan
                if calibration_scores is not None and scored.size is not None:
                    p_value = float(conformal_p_values([score], calibration_scores)[0])
                anomaly_map = make_map(scored)
                mask = mask_of(anomaly_map, self.map_threshold_, make_map.generator)
                yield Inspection(
                    score=score,
                    p_value=p_value,
                    verdict=1 if score - self.offset_ >= 0 else -1,
                    anomaly_map=anomaly_map,
                    mask=mask,
                    regions=_regions_of(anomaly_map, mask, min_area),
                    error=scored.error,
                )


def _regions_of(anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_], min_area: int) -> list[Region]:
    """The regions of a mask that :func:`mask_of` gave."""
    if np.isnan(anomaly_map[0, 0]):
        height, width = anomaly_map.shape
        return [Region((0, 0, height, width), height * width, nan, (0, 0))]
    return regions_of_mask(anomaly_map, mask, min_area)
