"""Records in and out: the head of a decision, outcomes, labels, orphans and the terminal's label updates. Pure.

A label is the decision's own bytes with fields appended: nothing of the decision is decoded but its ids and its time.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, NamedTuple

from services.mesh.codec import HEADER_BYTES, Codec, Extension, own_fields_schema, read, schema
from services.mesh.errors import Poison, RejectCode
from services.mesh.headers import TRACEPARENT, traceparent_of
from services.mesh.identity import identity_of
from services.mesh.ports import Header, InRecord
from services.mesh.records import Label, LabelUpdate, OrphanReason, Outcome
from services.mesh.topics import LABELS, OUTCOMES_ORPHAN, UPDATES_TERMINAL

_HEAD_FIELDS: Final = ("event_id", "customer_id", "terminal_id", "event_time_ms")
_LABEL_BRANCH: Final = "weir.LabelUpdate"


class Head(NamedTuple):
    """What a decision is about."""

    event_id: str
    customer_id: str
    terminal_id: str
    event_time_ms: int

    @property
    def identity(self) -> bytes:
        """The event's."""
        return identity_of(self.customer_id, self.event_id)


class Decided(NamedTuple):
    """One decision as the file keeps it."""

    offset: int
    time_ms: int  # of its event
    append_time_ms: int
    record: bytes  # as it was in decisions.v1


class Made(NamedTuple):
    """One record to produce."""

    topic: str
    key: bytes
    value: bytes
    partition: int | None
    headers: tuple[Header, ...]


class Labelling:
    """Reads and writes the records."""

    def __init__(self) -> None:
        decision, label, orphan = (
            schema(f) for f in ("decision.v1.avsc", "labelled.v1.avsc", "outcome_orphan.v1.avsc")
        )
        fields = decision.fields
        if tuple(field["name"] for field in fields[: len(_HEAD_FIELDS)]) != _HEAD_FIELDS:
            raise AssertionError(f"{decision.file} does not begin with {', '.join(_HEAD_FIELDS)}")
        self._decision = decision
        self._head = own_fields_schema(decision, fields[: len(_HEAD_FIELDS)], "Head")
        self._outcome = Codec("payments/outcome.v1.avsc")
        self._label = Extension(decision, fields, label, label.fields)
        self._orphan = Extension(self._outcome.schema, self._outcome.schema.fields, orphan, orphan.fields)
        self._update = Codec("terminal_update.v1.avsc")

    def head(self, value: bytes | None) -> Head:
        """The ids and the time of a decision. Raises Poison."""
        if value is None or value[:HEADER_BYTES] != self._decision.header:
            raise Poison(RejectCode.UNDECODABLE, f"not a {self._decision.file} record: {(value or b'')[:16].hex()}")
        found, _ = read(value, HEADER_BYTES, self._head, self._decision.file)
        return Head(**found)

    def outcome(self, value: bytes | None) -> Outcome:
        """A record of outcomes.v1. Raises Poison."""
        return self._outcome.decode(value)  # type: ignore[return-value]

    def observed(self, decided: Decided, head: Head, partition: int, outcome: Outcome, version: int) -> Made:
        """The label that ``outcome`` gives."""
        return self._labelled(
            decided,
            head,
            partition,
            {
                "label": outcome["label"],
                "label_version": version,
                "label_source": outcome["source"],
                "outcome_id": outcome["outcome_id"],
                "revises": outcome["revises"],
                "observed_time_ms": outcome["observed_time_ms"],
                "label_age_ms": outcome["observed_time_ms"] - decided.time_ms,
                "outcome_append_time_ms": outcome["raw_append_time_ms"],
            },
        )

    def matured(self, decided: Decided, head: Head, partition: int, maturity_ms: int) -> Made:
        """The label of an event that nobody said anything about in time."""
        return self._labelled(
            decided,
            head,
            partition,
            {
                "label": "genuine",
                "label_version": 0,
                "label_source": "matured",
                "outcome_id": None,
                "revises": None,
                "observed_time_ms": decided.time_ms + maturity_ms,
                "label_age_ms": maturity_ms,
                "outcome_append_time_ms": None,
            },
        )

    def orphan(self, value: bytes, partition: int, reason: OrphanReason, clock_ms: int) -> Made:
        """The outcome record ``value``, given up."""
        outcome = self.outcome(value)
        own = {"orphan_reason": reason, "orphaned_time_ms": clock_ms}
        trace = traceparent_of(identity_of(outcome["customer_id"], outcome["event_id"]))
        record = self._orphan.extend(value[HEADER_BYTES:], own)
        return Made(OUTCOMES_ORPHAN.name, outcome["customer_id"].encode(), record, partition, ((TRACEPARENT, trace),))

    def update(self, head: Head, label: Label, version: int, observed_time_ms: int) -> Made:
        """What the terminal is told."""
        update: LabelUpdate = {
            "event_id": head.event_id,
            "customer_id": head.customer_id,
            "terminal_id": head.terminal_id,
            "event_time_ms": head.event_time_ms,
            "label": label,
            "label_version": version,
            "observed_time_ms": observed_time_ms,
        }
        value = self._update.encode({"update": (_LABEL_BRANCH, update)})
        return Made(UPDATES_TERMINAL.name, head.terminal_id.encode(), value, None, _trace(head))

    def _labelled(self, decided: Decided, head: Head, partition: int, own: dict[str, Any]) -> Made:
        own |= {"decision_append_time_ms": decided.append_time_ms, "decision_offset": decided.offset}
        value = self._label.extend(decided.record[HEADER_BYTES:], own)
        return Made(LABELS.name, head.customer_id.encode(), value, partition, _trace(head))


class Told:
    """Reads back what was made of outcomes: the few fields of labels and orphans that a rebuild needs."""

    def __init__(self) -> None:
        self._label, self._orphan = Codec("labelled.v1.avsc"), Codec("outcome_orphan.v1.avsc")

    def label(self, record: InRecord) -> dict[str, Any]:
        """A record of labels.v1. Raises Poison."""
        return self._label.decode(record.value)

    def orphan(self, record: InRecord) -> dict[str, Any]:
        """A record of outcomes.orphan.v1. Raises Poison."""
        return self._orphan.decode(record.value)


def tag_of(customer_id: str, event_id: str) -> int:
    """63 bits of the event's identity: what the file is searched by; ids are compared before anything is joined."""
    return int.from_bytes(identity_of(customer_id, event_id)[:8], "little") >> 1


def mark_of(customer_id: str, outcome_id: str) -> int:
    """62 bits of an outcome's identity: how a history knows that it was told."""
    customer = customer_id.encode()
    text = b"%d:%b\x1f%b" % (len(customer), customer, outcome_id.encode())
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") >> 2


def _trace(head: Head) -> tuple[Header, ...]:
    return ((TRACEPARENT, traceparent_of(head.identity)),)
