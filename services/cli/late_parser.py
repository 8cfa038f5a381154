"""A parser that is filled when it is used: who gives one command does not wait for the imports of all others."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any


class LateParser(argparse.ArgumentParser):
    """Its parsers of commands and actions are late ones too, because argparse makes them of their parent's class."""

    def __init__(self, *, filled_by: str = "", **named: Any) -> None:
        """``filled_by``: ``module:function``, to be given this parser; empty for one that is filled at once."""
        super().__init__(**named)
        self._filled_by = filled_by

    def parse_known_args(self, *given: Any, **named: Any) -> Any:
        """As argparse does, once this parser is filled."""
        self.fill()
        return super().parse_known_args(*given, **named)

    def fill(self) -> None:
        """Import the module and have its function add what belongs here; once."""
        if self._filled_by:
            module, _, function = self._filled_by.partition(":")
            self._filled_by = ""
            getattr(import_module(module), function)(self)
