"""Records that end an event's way -> what callers are told of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from services.gateway.problem import Kind, Problem
from services.mesh.codec import schema
from services.mesh.errors import RejectCode
from services.mesh.event_fields import body_hash_of
from services.mesh.excerpt import Excerpt
from services.mesh.lookup_entries import last_header
from services.mesh.ports import Header
from services.mesh.records import EventRaw
from services.mesh.topics import DECISIONS, EVENTS_RAW, OUTCOMES, OUTCOMES_RAW

# What the caller sent, which says whether it is his event that was decided.
_SENT: Final = (
    "event_id", "customer_id", "terminal_id", "event_time_ms", "amount_minor", "currency", "channel", "country",
    "device_id",
)  # fmt: skip
# What he is told beside the ids: the decision, its reasons, and the versions of all that had a say.
_TOLD: Final = (
    "action", "score", "reasons", "rule_hits", "model_version", "policy_version", "feature_set", "feature_status",
    "propensity", "source_partition", "source_offset", "raw_append_time_ms",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decided:
    """An event's decision."""

    told: dict[str, Any]
    body_hash: int  # of the event that was decided


@dataclass(frozen=True, slots=True)
class Refused:
    """A record's dead letter."""

    code: str
    field: str
    message: str
    stage: str
    origin_topic: str
    value: bytes  # as the refused record was

    def is_of(self, value: bytes) -> bool:
        """Whether it is about the record ``value`` in its raw topic, or about the accepted event itself."""
        return self.value == value if self.origin_topic == EVENTS_RAW.name else True

    @property
    def is_of_an_event(self) -> bool:
        """Whether an event was refused, and neither an outcome nor a decision (by a webhook's receiver)."""
        return self.origin_topic not in (OUTCOMES_RAW.name, OUTCOMES.name, DECISIONS.name)


class DecisionReader:
    """Reads what is told of a decision; the rest of its record is not decoded."""

    def __init__(self) -> None:
        self._excerpt = Excerpt(schema("decision.v1.avsc"), (*_SENT, *_TOLD))

    def read(self, value: bytes | None) -> Decided:
        """The decision in ``value``. Raises Poison when it is none."""
        fields = self._excerpt.record(value)
        sent = cast(EventRaw, {name: fields[name] for name in _SENT})
        return Decided({name: fields[name] for name in ("event_id", "customer_id", *_TOLD)}, body_hash_of(sent))


def refusal_in(value: bytes | None, headers: Sequence[Header]) -> Refused:
    """What a dead letter says."""
    code, field, message, stage, origin = (
        last_header(headers, name).decode(errors="replace")
        for name in ("error_code", "error_field", "error_message", "stage", "origin_topic")
    )
    return Refused(code, field, message, stage, origin, value or b"")


def problem_of_refusal(refused: Refused, kind: Kind | None = None) -> Problem:
    """Told to who waits for an event that the mesh has refused."""
    usual = Kind.CONFLICT if refused.code == RejectCode.CONFLICT.value else Kind.REFUSED
    extra = {"decided": False, "refused_by": refused.stage}
    return Problem(kind or usual, refused.message, refused.code, field=refused.field, extra=extra)
