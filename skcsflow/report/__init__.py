"""Reports on images as a page for a browser: one file, which needs no network."""

from skcsflow.report._report import write_report

__all__ = ["write_report"]
