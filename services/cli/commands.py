"""The table of commands: each module adds its own parser."""

from __future__ import annotations

import argparse

from services.cli import dead_letters, drift, features, models, parity, policy, schemas, send, status, trace, up

_EPILOG = "example: weir up --input payments.parquet --speed max"


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(prog="weir", description="Decisions from streams, exactly once.", epilog=_EPILOG)
    commands = root.add_subparsers(metavar="COMMAND", required=True)
    for module in (up, send, status, trace, dead_letters, models, policy, drift, features, parity, schemas):
        module.add(commands)
    return root
