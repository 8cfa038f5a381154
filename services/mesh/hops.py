"""From a record back to what its producer sent, hop by hop, and what each hop says in words and numbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from services.mesh.codec import Codec, schema_id_of
from services.mesh.errors import Poison
from services.mesh.feature_set import pinned_feature_set, values_of
from services.mesh.headers import TRACEPARENT, WEIR, find, unpack_hop
from services.mesh.lookup_entries import Place, last_header
from services.mesh.ports import InRecord
from services.mesh.topics import DECISIONS, EVENTS, EVENTS_RAW, FEATURES, SCORES, UPDATES_TERMINAL, Topic

# From the decision back to what the producer sent: each record's header names the one before it.
BACKWARDS = (DECISIONS, SCORES, FEATURES, UPDATES_TERMINAL, EVENTS, EVENTS_RAW)
CAUSE_HEADERS = (
    "error_code",
    "error_field",
    "error_message",
    "stage",
    "origin_topic",
    "origin_partition",
    "origin_offset",
)
_RAW_SHOWN_BYTES_MAX = 2_048

Hop = dict[str, Any]


class RecordAt(Protocol):
    """Whoever can fetch one record by its place."""

    def one(self, place: Place) -> InRecord | None:
        """The record that lies at ``place``; None when the log no longer keeps it."""


def walk_back(log: RecordAt, record: InRecord | None, topics: Sequence[Topic]) -> list[Hop]:
    """The hops up to ``record``, oldest first."""
    hops: list[Hop] = []
    steps = list(topics)
    while record is not None and steps:
        hops.append(_hop(record))
        header = find(record.headers, WEIR)
        # A raw record with our header was sent once more under its right key: one step more, in the same topic.
        if record.topic != EVENTS_RAW.name:
            steps.pop(0)
        if header is None or not steps:
            break
        hop = unpack_hop(header)
        place = Place(steps[0].name, hop.previous_partition_number, hop.previous_offset)
        record = log.one(place)
        if record is None:
            hops.append({**place._asdict(), "append_time_ms": None, "what": {"gone": "the log no longer keeps it"}})
    hops.reverse()
    for before, after in itertools.pairwise(hops):
        known = before["append_time_ms"] is not None
        after["delta_ms"] = after["append_time_ms"] - before["append_time_ms"] if known else None
    return hops


def _hop(record: InRecord) -> Hop:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "append_time_ms": record.append_time_ms,
        "delta_ms": None,
        "traceparent": (find(record.headers, TRACEPARENT) or b"").decode(errors="replace") or None,
        "what": _WHAT[record.topic](record),
    }


def _raw(record: InRecord) -> dict[str, Any]:
    value = record.value or b""
    if schema_id_of(value) is None:
        return {"format": "json", "bytes": len(value), "value": value[:_RAW_SHOWN_BYTES_MAX].decode(errors="replace")}
    return {"format": "avro", "bytes": len(value), "schema_id": schema_id_of(value)}


def _json(value: bytes | None) -> dict[str, Any]:
    try:
        found = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _accepted(record: InRecord) -> dict[str, Any]:
    event = Codec("payments/event.v1.avsc").decode(record.value)
    return {name: value for name, value in event.items() if value is not None}


def _customer_features(record: InRecord) -> dict[str, Any]:
    update = Codec("terminal_update.v1.avsc").decode(record.value)["update"]
    return {"customer_status": update["customer_status"], "features": _named(update["customer_vector"])}


def _all_features(record: InRecord) -> dict[str, Any]:
    features = Codec("features.v1.avsc").decode(record.value)
    return {
        "feature_status": features["feature_status"],
        "feature_set": features["feature_set"],
        "features": _named(features["vector"]),
    }


def _scored(record: InRecord) -> dict[str, Any]:
    score = Codec("score.v1.avsc").decode(record.value)
    names = ("score", "model_version", "split_bucket", "explanation_status", "contributions", "challenger_scores")
    return {name: score[name] for name in names}


def _decided(record: InRecord) -> dict[str, Any]:
    decision = Codec("decision.v1.avsc").decode(record.value)
    names = ("action", "reasons", "rule_hits", "policy_version", "propensity", "shadow_verdicts", "conditions")
    return {name: decision[name] for name in names}


_WHAT = {
    EVENTS_RAW.name: _raw,
    EVENTS.name: _accepted,
    UPDATES_TERMINAL.name: _customer_features,
    FEATURES.name: _all_features,
    SCORES.name: _scored,
    DECISIONS.name: _decided,
}


def dead_letter(record: InRecord) -> dict[str, Any]:
    """Where it lies, when it was refused, and why."""
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    return place | {"append_time_ms": record.append_time_ms} | cause_of(record)


def cause_of(record: InRecord) -> dict[str, str]:
    """The cause of a dead letter, header by header; empty texts where somebody else wrote the record."""
    return {name: last_header(record.headers, name).decode(errors="replace") for name in CAUSE_HEADERS}


def outcome(record: InRecord) -> dict[str, Any]:
    """Where it lies, and what it says."""
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    try:
        said = Codec("payments/outcome_raw.v1.avsc").decode(record.value)
    except Poison:
        said = _json(record.value)
    return place | {"append_time_ms": record.append_time_ms} | said


def label(record: InRecord) -> dict[str, Any]:
    """Where it lies, and what the event was known to be from then on."""
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    known = Codec("labelled.v1.avsc").decode(record.value)
    names = ("label", "label_version", "label_source", "outcome_id", "revises", "observed_time_ms", "label_age_ms")
    return place | {"append_time_ms": record.append_time_ms} | {name: known[name] for name in names}


def orphan(record: InRecord) -> dict[str, Any]:
    """Where it lies, what it says, and why it belongs to no decision."""
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    return place | {"append_time_ms": record.append_time_ms} | Codec("outcome_orphan.v1.avsc").decode(record.value)


def _named(vector: bytes) -> dict[str, float | None]:
    """Feature names and values of a vector, or of its beginning; NaN as None."""
    return dict(zip(pinned_feature_set().names, values_of(vector), strict=False))
