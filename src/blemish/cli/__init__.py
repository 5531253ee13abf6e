"""The command line: text -> one library call -> text."""

from blemish.cli.main import main

__all__ = ["main"]
