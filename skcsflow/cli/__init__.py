"""The command line: ``skcsflow``."""

from skcsflow.cli._main import main

__all__ = ["main"]
