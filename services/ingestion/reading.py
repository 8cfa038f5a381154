"""A raw record's bytes -> a valid event, whichever of the two formats they are in. Pure."""

from __future__ import annotations

from typing import Final

from services.ingestion.avro_event import AvroEvents
from services.ingestion.json_event import json_fields
from services.ingestion.validation import valid_event
from services.mesh.errors import Poison, RejectCode
from services.mesh.records import EventRaw

# Nine fields of at most 128 characters, each at most 12 bytes as an escaped surrogate pair, are below 12 kB; the rest
# is room for white space. Nothing larger reaches a decoder.
EVENT_BYTES_MAX: Final = 65_536
_AVRO_MAGIC: Final = 0


def read_event(value: bytes | None, avro: AvroEvents) -> EventRaw:
    """The event in ``value``. Raises Poison."""
    if value is None:
        raise Poison(RejectCode.TOMBSTONE, "the record has no value; events are never deleted, send a new one")
    if len(value) > EVENT_BYTES_MAX:
        raise Poison(
            RejectCode.TOO_LARGE, f"{len(value)} bytes; an event has at most {EVENT_BYTES_MAX}; send one event a record"
        )
    if value[:1] == b"\x00":
        return valid_event(avro.fields(value))
    return valid_event(json_fields(value))
