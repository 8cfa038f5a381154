"""``weir schemas``: being written."""

from __future__ import annotations

import argparse

from services.cli.shared import Commands
from services.mesh.errors import Fatal


def add(commands: Commands) -> None:
    """``weir schemas``."""
    commands.add_parser("schemas").set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Not yet."""
    raise Fatal("weir schemas is being written")
