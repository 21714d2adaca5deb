"""Labels of ticks. Needs matplotlib, so it is imported where something is drawn."""

from matplotlib.ticker import LogFormatter

__all__ = ["PlainLogFormatter"]


class PlainLogFormatter(LogFormatter):
    """Labels a logarithmic scale as matplotlib does, as many ticks as there is room for, but 0.6 and not 6e-01."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Label of a tick; empty where it has none."""
        return f"{x:.6g}" if super().__call__(x, pos) else ""
