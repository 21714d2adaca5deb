"""Reports on images as a page for a browser: one file, which needs no network.

They need jinja2: ``pip install "skcsflow[report]"``. It is imported when a report is written, and not with
this package.
"""

from skcsflow.report._report import write_report

__all__ = ["write_report"]
