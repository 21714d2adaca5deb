"""Displays of an anomaly detector's maps, scores and training, in the style of scikit-learn's displays.

They need matplotlib: ``pip install "skcsflow[plot]"``. It is imported when something is drawn, and not with
this package.
"""

from skcsflow.plotting._anomaly_map import AnomalyMapDisplay
from skcsflow.plotting._history import HistoryDisplay
from skcsflow.plotting._roc import RocByKindDisplay
from skcsflow.plotting._scores import ScoreHistogramDisplay

__all__ = ["AnomalyMapDisplay", "HistoryDisplay", "RocByKindDisplay", "ScoreHistogramDisplay"]

for _class in (AnomalyMapDisplay, HistoryDisplay, RocByKindDisplay, ScoreHistogramDisplay):
    _class.__module__ = __name__  # where users import it from
