"""What the audit trail is told of what people do here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.cli.acting import ORIGIN, wall_ms
from services.mesh.adapters.kafka_records import RecordSender
from services.mesh.audit import AuditRole, audit_entry, audit_record
from services.mesh.errors import Transient


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
