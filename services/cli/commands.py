"""The table of commands. Each is the module of its name, which ``fill``s the parser once the command is given."""

from __future__ import annotations

from typing import Final

from services.cli.late_parser import LateParser

COMMANDS: Final = {
    "up": "start everything and run until the input is decided, the time is up, or Ctrl-C",
    "send": "send a file's events to the running mesh",
    "status": "lag, rates, latencies, versions in force, capacity",
    "trace": "everything that happened to one event",
    "dead-letters": "what was refused and why; send it once more",
    "models": "list, show, lineage, status, verify; moves; train",
    "policy": "check, backtest, shadow, publish, rollback, retire, list, show",
    "review": "cases that people look into: list, claim, judge",
    "audit": "who did what, when and why",
    "drift": "status, report",
    "features": "names and meanings; one entity as of now",
    "parity": "recompute served features from the log and compare, bit for bit",
    "schemas": "register contracts, pin their ids, list them",
    "tokens": "who may use the gateway",
    "users": "who may sign in to the console: add, list, remove, role, password",
    "webhooks": "tell other systems of decisions",
}
_EPILOG = "example: weir up --input payments.parquet --speed max"


def parser() -> LateParser:
    """The whole command line."""
    root = LateParser(prog="weir", description="Decisions from streams, exactly once.", epilog=_EPILOG)
    commands = root.add_subparsers(metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, filled_by=f"services.cli.{name.replace('-', '_')}:fill")
    return root
