"""``weir dead-letters``: being written."""

from __future__ import annotations

import argparse

from services.cli.shared import Commands
from services.mesh.errors import Fatal


def add(commands: Commands) -> None:
    """``weir dead-letters``."""
    commands.add_parser("dead-letters").set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Not yet."""
    raise Fatal("weir dead-letters is being written")
