"""A raw record's bytes -> a valid event or outcome, whichever of the two formats they are in. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from services.ingestion.avro_event import AvroEvents
from services.mesh.errors import Poison, RejectCode
from services.mesh.event_fields import EVENT_BYTES_MAX, valid_event
from services.mesh.json_fields import json_fields
from services.mesh.records import EventRaw

Record = TypeVar("Record")


def read_event(value: bytes | None, avro: AvroEvents) -> EventRaw:
    """The event in ``value``. Raises Poison."""
    return read_record(value, avro, valid_event)


def read_record(value: bytes | None, avro: AvroEvents, valid: Callable[[Mapping[str, Any]], Record]) -> Record:
    """What ``valid`` makes of the fields in ``value``. Raises Poison."""
    if value is None:
        raise Poison(RejectCode.TOMBSTONE, "the record has no value; nothing is ever deleted here, send a new one")
    if len(value) > EVENT_BYTES_MAX:
        raise Poison(RejectCode.TOO_LARGE, f"{len(value)} bytes; at most {EVENT_BYTES_MAX} are read; send one a record")
    if value[:1] == b"\x00":
        return valid(avro.fields(value))
    return valid(json_fields(value))
