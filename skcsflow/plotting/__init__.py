"""Displays of an anomaly detector's maps, scores and training, in the manner of scikit-learn's.

They need matplotlib, which the extra ``plot`` brings: ``pip install "skcsflow[plot]"``. It's imported where
something is drawn, not here.
"""

from skcsflow.plotting._anomaly_map import AnomalyMapDisplay
from skcsflow.plotting._history import HistoryDisplay
from skcsflow.plotting._roc import RocByKindDisplay
from skcsflow.plotting._scores import ScoreHistogramDisplay

__all__ = ["AnomalyMapDisplay", "HistoryDisplay", "RocByKindDisplay", "ScoreHistogramDisplay"]
