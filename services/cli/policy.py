"""``weir policy``: being written."""

from __future__ import annotations

import argparse

from services.cli.shared import Commands
from services.mesh.errors import Fatal


def add(commands: Commands) -> None:
    """``weir policy``."""
    commands.add_parser("policy").set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Not yet."""
    raise Fatal("weir policy is being written")
