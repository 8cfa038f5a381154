"""Acting in a person's name: who that is."""

from __future__ import annotations

import argparse
import getpass
import time

from services.mesh.errors import Fatal

ORIGIN = "cli"


def add_person(parser: argparse.ArgumentParser) -> None:
    """``--as``."""
    parser.add_argument("--as", dest="person", metavar="NAME", help="who acts (default: the user of this machine)")


def person_of(given: argparse.Namespace) -> str:
    """Who acts."""
    return given.person or user_name("--as")


def user_name(option: str) -> str:
    """Whoever runs the command; ``option`` is how to say it otherwise. Raises Fatal."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        raise Fatal(f"{option}: this user has no name; say who acts") from None


def wall_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000
