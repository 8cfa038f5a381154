"""``weir models``: being written."""

from __future__ import annotations

import argparse

from services.cli.shared import Commands
from services.mesh.errors import Fatal


def add(commands: Commands) -> None:
    """``weir models``."""
    commands.add_parser("models").set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Not yet."""
    raise Fatal("weir models is being written")
