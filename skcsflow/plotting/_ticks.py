"""Tick labels of logarithmic scales. This module imports matplotlib, so import it only where something is drawn."""

from matplotlib.ticker import LogFormatter

__all__ = ["PlainLogFormatter"]


class PlainLogFormatter(LogFormatter):
    """Tick labels of a logarithmic scale in plain notation: 0.6 instead of 6e-01."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Label of a tick; empty where matplotlib would leave it out for lack of room."""
        return f"{x:.6g}" if super().__call__(x, pos) else ""
