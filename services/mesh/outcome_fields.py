"""Fields of a decoded record -> a valid OutcomeRaw, or Poison that names the field. Pure.

As strict as for events, and by the same rules: nothing is converted, nothing unknown is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, get_args

from services.mesh.event_fields import (
    EVENT_TIME_MS_MAX,
    check_integer,
    check_text,
    refuse_missing,
    refuse_range,
    refuse_type,
    refuse_unknown,
    shown,
)
from services.mesh.identity import identity_of
from services.mesh.records import Label, OutcomeRaw, OutcomeSource

_FIELDS: Final = OutcomeRaw.__annotations__
_REQUIRED: Final = ("event_id", "customer_id", "label", "source", "observed_time_ms")
_LABELS: Final = get_args(Label)
_SOURCES: Final = get_args(OutcomeSource)
_ABSENT: Final = object()


def valid_outcome(fields: Mapping[str, Any]) -> OutcomeRaw:
    """``fields`` as an outcome in normal form; the id is derived when left out. Raises Poison."""
    if not fields.keys() <= _FIELDS.keys():
        refuse_unknown(fields, _FIELDS, "outcome")
    for name in _REQUIRED:
        if name not in fields:
            refuse_missing(name, fields, "outcome")
    outcome_id, revises = fields.get("outcome_id", _ABSENT), fields.get("revises")
    if outcome_id is not _ABSENT:
        check_text("outcome_id", outcome_id)
    check_text("event_id", fields["event_id"])
    check_text("customer_id", fields["customer_id"])
    _check_choice("label", fields["label"], _LABELS)
    _check_choice("source", fields["source"], _SOURCES)
    check_integer("observed_time_ms", fields["observed_time_ms"], 1, EVENT_TIME_MS_MAX)
    if revises is not None:
        check_text("revises", revises)
    if revises is not None and revises == outcome_id:
        refuse_range("revises", revises, "an outcome cannot reverse itself; name the earlier one")
    outcome: OutcomeRaw = {
        "outcome_id": "" if outcome_id is _ABSENT else outcome_id,
        "event_id": fields["event_id"],
        "customer_id": fields["customer_id"],
        "label": fields["label"],
        "source": fields["source"],
        "observed_time_ms": fields["observed_time_ms"],
        "revises": revises,
    }
    if outcome_id is _ABSENT:
        outcome["outcome_id"] = derived_outcome_id(outcome)
    return outcome


def outcome_identity_of(outcome: OutcomeRaw) -> bytes:
    """16-byte identity: one customer's outcome ids stand once; never that of an event."""
    return identity_of(outcome["customer_id"], f"outcome\x1f{outcome['outcome_id']}")


def outcome_body_hash_of(outcome: OutcomeRaw) -> int:
    """64-bit hash over the normal form of everything but the identity: equal for the same in JSON and in Avro."""
    return int.from_bytes(blake2b(_body_text(outcome).encode(), digest_size=8).digest(), "little")


def derived_outcome_id(outcome: OutcomeRaw) -> str:
    """The id of an outcome whose sender has none: a hash of its other fields, so that a resend gets the same one."""
    text = f"{outcome['customer_id']}\x1f{_body_text(outcome)}"
    return f"derived-{blake2b(text.encode(), digest_size=16).hexdigest()}"


def _body_text(outcome: OutcomeRaw) -> str:
    """The joint is a control character, which no field can hold; an outcome that reverses none ends with two."""
    revises = outcome["revises"]
    return (
        f"{outcome['event_id']}\x1f{outcome['label']}\x1f{outcome['source']}\x1f{outcome['observed_time_ms']}\x1f"
        f"{chr(0) if revises is None else revises}"
    )


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if type(value) is not str:
        refuse_type(name, value, f"one of {', '.join(choices)}")
    if value not in choices:
        refuse_range(name, shown(value), f"must be one of {', '.join(choices)}")
