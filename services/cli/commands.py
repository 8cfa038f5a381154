"""The table of commands: each module adds its own parser."""

from __future__ import annotations

import argparse

from services.cli import (
    audit,
    dead_letters,
    drift,
    features,
    models,
    parity,
    policy,
    review,
    schemas,
    send,
    status,
    tokens,
    trace,
    up,
    users,
    webhooks,
)

_EPILOG = "example: weir up --input payments.parquet --speed max"


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(prog="weir", description="Decisions from streams, exactly once.", epilog=_EPILOG)
    commands = root.add_subparsers(metavar="COMMAND", required=True)
    modules = (
        up, send, status, trace, dead_letters, models, policy, review, audit, drift, features, parity, schemas,
        tokens, users, webhooks,
    )  # fmt: skip
    for module in modules:
        module.add(commands)
    return root
