"""Whether new images are still like those that a detector was calibrated by."""

from skcsflow.monitoring._discoveries import discoveries
from skcsflow.monitoring._drift import DriftMonitor

__all__ = ["DriftMonitor", "discoveries"]

DriftMonitor.__module__ = __name__  # where users import it from
