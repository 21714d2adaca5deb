"""Tick labels of logarithmic scales. This module imports matplotlib, so import it only where something is drawn."""

from matplotlib.ticker import LogFormatter

__all__ = ["PlainLogFormatter"]


class PlainLogFormatter(LogFormatter):
    """Tick labels of a logarithmic scale in plain notation: 0.6 instead of 6e-01."""

    def __init__(self) -> None:
        # Before 3.11 matplotlib's own limits leave a scale from 0.3 to 8 with the one number 1.
        super().__init__(minor_thresholds=(1.5, 0.4))

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Label of a tick; empty where matplotlib would leave it out for lack of room."""
        return f"{x:.6g}" if super().__call__(x, pos) else ""
