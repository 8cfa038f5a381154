"""What a receiver is sent: the id that repeats share, and the whole decision as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

import orjson

from services.mesh.codec import Codec
from services.mesh.feature_set import pinned_feature_set, values_of
from services.mesh.identity import identity_of_bytes
from services.mesh.ports import InRecord
from services.mesh.prefix import ids_of

TYPE_DECISION: Final = "decision.made"
TYPE_TEST: Final = "webhook.test"


def message_id_of(name: str, value: bytes) -> str:
    """The ``webhook-id`` of the decision in ``value`` for the subscription ``name``; the same at each repeat.

    Raises ValueError when ``value`` does not begin like a decision.
    """
    event_id, customer_id = ids_of(value)
    return "msg_" + blake2b(identity_of_bytes(customer_id, event_id) + name.encode(), digest_size=16).hexdigest()


def body_of(record: InRecord, codec: Codec) -> bytes:
    """``{"type", "timestamp", "data"}``; the same bytes at each repeat. Raises Poison when it is no decision.

    ``data`` is the decision's record with all its fields, and ``features`` by name in place of the packed vector.
    """
    decision = codec.decode(record.value)
    vector = decision.pop("vector")
    data = decision | {
        "features": _named(vector, decision["feature_set"]),
        "decision_append_time_ms": record.append_time_ms,
    }
    return _message(TYPE_DECISION, record.append_time_ms, data)


def trial_body(name: str, now_ms: int) -> bytes:
    """What ``weir webhooks test`` sends: no decision, and says so."""
    return _message(TYPE_TEST, now_ms, {"webhook": name})


def _message(kind: str, time_ms: int, data: Mapping[str, Any]) -> bytes:
    at = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps({"type": kind, "timestamp": at, "data": data})


def _named(vector: bytes, feature_set: str) -> dict[str, float | None]:
    """By name, or by place where the decision was made with another feature set than the one known here."""
    values = values_of(vector)
    pinned = pinned_feature_set()
    known = pinned.content_hash == feature_set and len(values) == len(pinned.names)
    names = pinned.names if known else [str(place) for place in range(len(values))]
    return dict(zip(names, values, strict=True))
