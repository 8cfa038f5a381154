"""Acting in a person's name: who that is, and what the audit trail is told."""

from __future__ import annotations

import argparse
import getpass
import time
from collections.abc import Mapping
from typing import Any

from services.mesh.adapters.kafka_records import RecordSender
from services.mesh.audit import AuditRole, audit_entry, audit_record
from services.mesh.errors import Fatal, Transient

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


def audit(
    kafka: str,
    action: str,
    subject: str,
    *,
    actor: str,
    why: str = "",
    role: AuditRole = "operator",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Tell the trail what has just been done. Raises Transient, and says that the deed itself is done."""
    entry = audit_entry(
        actor=actor, role=role, action=action, subject=subject, time_ms=wall_ms(), origin=ORIGIN, why=why, detail=detail
    )
    try:
        with RecordSender(kafka, "weir.cli.audit") as sender:
            sender.send([audit_record(entry)])
    except Transient as error:
        raise Transient(f"{action} of {subject} is done, but the audit trail was not told: {error}") from error
