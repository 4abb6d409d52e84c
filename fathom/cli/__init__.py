"""The command `fathom`. Everything heavy is imported by the command that needs it."""

from fathom.cli.app import cli, main

__all__ = ["cli", "main"]
