"""The package's version, which the build takes from the git tag."""

from importlib.metadata import version

__version__ = version("skcsflow")
