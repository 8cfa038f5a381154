"""The audit trail: who did what, when, why, and on which subject. Pure; ``adapters/kafka_records.py`` sends it.

    entry = audit_entry(actor="vera", role="analyst", action="review.claim", subject="case:1f0c5e0b9a4d7e21",
                        time_ms=now_ms, origin="console")
    send([audit_record(entry)])

An entry's id is the hash of all it says: what was sent twice because an answer was lost counts once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from typing import Any, Final, Literal

from services.mesh.codec import Codec
from services.mesh.ports import OutRecord
from services.mesh.records import AuditEntry
from services.mesh.topics import AUDIT

AuditRole = Literal["viewer", "analyst", "supervisor", "operator", "service"]

# What is longer is cut: the trail says that something was done and why, it is no archive.
WHY_CHARACTERS_MAX: Final = 2_000
DETAIL_CHARACTERS_MAX: Final = 100_000


def audit_entry(
    *,
    actor: str,
    role: AuditRole,
    action: str,
    subject: str,
    time_ms: int,
    origin: str,
    why: str = "",
    detail: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """One entry. ``subject`` is KIND:ID; ``detail`` what JSON takes. Raises ValueError when that is too long."""
    text = json.dumps(detail or {}, sort_keys=True, ensure_ascii=False)
    if len(text) > DETAIL_CHARACTERS_MAX:
        raise ValueError(
            f"detail of {action} on {subject} has {len(text)} characters; name the subject, not its content"
        )
    why = one_line(why)[:WHY_CHARACTERS_MAX]
    said = "\x1f".join((str(time_ms), actor, role, action, subject, why, origin, text))
    return {
        "audit_id": blake2b(said.encode(), digest_size=12).hexdigest(),
        "time_ms": time_ms,
        "actor": actor,
        "role": role,
        "action": action,
        "subject": subject,
        "why": why,
        "origin": origin,
        "detail": text,
    }


def one_line(text: str) -> str:
    """``text`` as people wrote it, without line ends and what could move a terminal's cursor."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def audit_record(entry: AuditEntry) -> OutRecord:
    """``entry`` as a record of ``audit.v1``."""
    return OutRecord(AUDIT.name, entry["subject"].encode(), _codec().encode(entry), 0, [])


def audit_of(value: bytes | None) -> AuditEntry:
    """The entry in a record's value. Raises Poison."""
    return _codec().decode(value)  # type: ignore[return-value]


@cache
def _codec() -> Codec:
    return Codec(AUDIT.schemas[0])
