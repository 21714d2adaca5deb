"""The commands that put a detector on a line."""

from skcsflow.cli._shared import Command

__all__ = ["DEPLOY_COMMANDS"]

DEPLOY_COMMANDS: list[Command] = []
