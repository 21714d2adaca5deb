"""What a detector says of images, as a table of numbers for other estimators and for reports."""

from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skcsflow._checks import fit_context
from skcsflow._detector._estimator import DOCUMENTATION, CSFlowDetector
from skcsflow._detector._inspection import Inspection

__all__ = ["InspectionTable"]

COLUMNS: dict[str, Callable[[Inspection], float]] = {
    "score": lambda found: found.score,
    "p_value": lambda found: found.p_value,
    "verdict": lambda found: found.verdict,
    "peak": lambda found: found.anomaly_map.max(),
    "flagged_area": lambda found: found.mask.mean(),
    "n_regions": lambda found: len(found.regions),
}
"""The table's columns, and where their numbers come from."""


class InspectionTable(MetaEstimatorMixin, TransformerMixin, BaseEstimator):
    """A row of numbers for each image: its score, verdict, peak, flagged area and number of regions.

    A transformer for `Pipeline`, `ColumnTransformer` and `FeatureUnion`, whose columns have names. The images go
    through the network once, and their maps are not kept.

    Read more in the :ref:`user guide <inspection_table>`.

    Parameters
    ----------
    detector : CSFlowDetector, default=None
        The detector; `fit` fits a clone of it. None: ``CSFlowDetector()``. One that is fitted already, and is to
        stay as it is, is passed as :class:`FrozenEstimator(detector) <sklearn.frozen.FrozenEstimator>`.
    min_area : int, default=1
        Regions of fewer pixels are not counted. Acts in `transform`.

    Attributes
    ----------
    detector_ : CSFlowDetector or FrozenEstimator
        The fitted detector.
    n_features_in_ : int
        Length of the rows of X. Only where the detector was fitted on a 2-D X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X. Only where the detector was fitted on a DataFrame of numbers.

    See Also
    --------
    CSFlowDetector.inspect : The same with maps, masks and regions, one image after the other.

    Notes
    -----
    A detector scores the images that it was fitted on better than fresh good ones. A classifier that learns from the
    table of these images expects scores that fresh ones don't have. For a classifier, pass a detector that was
    fitted on other images, as a `FrozenEstimator`.

    Examples
    --------
    >>> from sklearn.frozen import FrozenEstimator
    >>> from skcsflow import CSFlowDetector, InspectionTable
    >>> from skcsflow.datasets import make_defects
    >>> data = make_defects(n_normal=24, n_defective=4, random_state=0)
    >>> detector = CSFlowDetector(input_size=64, n_epochs=1, random_state=0).fit(data.images[:12])
    >>> table = InspectionTable(FrozenEstimator(detector))
    >>> table.fit_transform(data.images[12:]).shape
    (16, 5)
    >>> table.get_feature_names_out().tolist()
    ['score', 'verdict', 'peak', 'flagged_area', 'n_regions']

    With p-values, once the detector is calibrated:

    >>> detector = detector.calibrate(data.images[12:24], fpr=0.1)
    >>> table.get_feature_names_out().tolist()
    ['score', 'p_value', 'verdict', 'peak', 'flagged_area', 'n_regions']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "detector": [HasMethods(["fit", "inspect"]), None],
        "min_area": [Interval(Integral, 1, None, closed="left")],
    }
    _doc_link_module = "skcsflow"
    _doc_link_template = DOCUMENTATION

    detector_: Any

    def __init__(self, detector: Any = None, *, min_area: int = 1) -> None:
        self.detector = detector
        self.min_area = min_area

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: ArrayLike | None = None) -> Self:
        """Fit a clone of the detector. One that is frozen stays as it is.

        Parameters
        ----------
        X : array-like of images
            Images, see :meth:`CSFlowDetector.fit`.
        y : array-like of shape (n,), default=None
            Labels, see :meth:`CSFlowDetector.fit`: known defects are left out of the training. Those of a classifier
            further on must therefore be labels that the detector can read, unless it is frozen.

        Returns
        -------
        InspectionTable
            The transformer itself.

        Raises
        ------
        ValueError, TypeError, OSError
            Where a parameter can't be used, or the detector's `fit` raises it.
        NotFittedError
            Where the detector is frozen and not fitted.
        """
        detector = CSFlowDetector() if self.detector is None else clone(self.detector)
        self.detector_ = detector.fit(X, y)
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Inspect images, and tabulate what is found.

        Parameters
        ----------
        X : array-like of images, or iterator of images
            Images, see :meth:`CSFlowDetector.inspect`.

        Returns
        -------
        ndarray of shape (n, 6) or (n, 5), float64
            A row for each image, or a frame where `set_output` asks for one. The columns are:

            - ``score``, as `score_samples` gives it; higher is more normal;
            - ``p_value``, as `p_values` gives it. Only where the detector is calibrated: a column of NaN would stop
              most estimators;
            - ``verdict``, +1, or -1 where anomalous;
            - ``peak``, the highest value of the anomaly map;
            - ``flagged_area``, the share of the image's pixels that `predict_masks` marks, from 0 to 1, whatever
              `min_area`;
            - ``n_regions``, the number of connected regions of such pixels.

            Of an image that can't be read, with the detector's ``on_error="nan"``, score, p-value and peak are NaN,
            the verdict is -1, and all of it is flagged as one region.
        """
        check_is_fitted(self)
        names = self._columns()
        inspections = self.detector_.inspect(X, min_area=self.min_area)
        rows = [[COLUMNS[name](found) for name in names] for found in inspections]
        return np.array(rows, dtype=np.float64).reshape(-1, len(names))

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Name the columns that `transform` gives.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns of X. Only checked against those that were seen in `fit`.

        Returns
        -------
        ndarray of shape (6,) or (5,), object
            The names. ``"p_value"`` is one of them where the detector is calibrated.

        Raises
        ------
        ValueError
            Where `input_features` differ from the columns of X in `fit`.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        return np.array(self._columns(), dtype=object)

    @property
    def n_features_in_(self) -> int:
        """Length of the rows of X. Only where the detector was fitted on a 2-D X."""
        n_features: int = self.detector_.n_features_in_
        return n_features

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """Names of the columns of X. Only where the detector was fitted on a DataFrame of numbers."""
        names: NDArray[np.object_] = self.detector_.feature_names_in_
        return names

    def _columns(self) -> list[str]:
        has_p_values = hasattr(self.detector_, "calibration_scores_")
        return [name for name in COLUMNS if name != "p_value" or has_p_values]
