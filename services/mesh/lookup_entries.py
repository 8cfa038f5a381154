"""What the index keeps of one record: hashes of its ids, and where it lies. Pure.

Decisions and labels begin with their ids, orphans with the outcome's. Outcomes and refused records are whatever their
senders sent, so their ids are read as far as they can be: a refused record whose ids nobody can read is found by its
offset alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

import orjson

from services.mesh.codec import HEADER_BYTES, schema, schema_id_of
from services.mesh.ports import Header
from services.mesh.prefix import ids_of
from services.mesh.topics import (
    DEAD_LETTERS,
    DECISIONS,
    EVENTS_RAW,
    LABELS,
    OUTCOMES,
    OUTCOMES_ORPHAN,
    OUTCOMES_RAW,
    UPDATES_TERMINAL,
    Topic,
)

# Their places are numbers in the file: append only.
INDEXED: Final[tuple[Topic, ...]] = (DECISIONS, DEAD_LETTERS, OUTCOMES_RAW, LABELS, OUTCOMES_ORPHAN)
TOPIC_NUMBERS: Final = {topic.name: number for number, topic in enumerate(INDEXED)}

# tag of the event_id (signed, as SQLite compares), crc of the customer_id, topic, partition, offset
ENTRY: Final = Struct("<qIHHq")
UNKNOWN_CUSTOMER: Final = 0

# Of a record that is no JSON: its beginning often is.
_BEGINNING_BYTES = 2_048
_EVENT_ID = re.compile(rb'"event_id"\s*:\s*"([^"\\]{1,512})"')
_CUSTOMER_ID = re.compile(rb'"customer_id"\s*:\s*"([^"\\]{1,512})"')


class Ids(NamedTuple):
    """What a record says it is about, in UTF-8; no customer where that cannot be read."""

    event_id: bytes
    customer_id: bytes | None


class Place(NamedTuple):
    """Where a record lies."""

    topic: str
    partition: int
    offset: int


def tag_of_event(event_id: bytes) -> int:
    """63 bits of a hash: what the index is sorted by."""
    return int.from_bytes(blake2b(event_id, digest_size=8).digest(), "little") >> 1


def crc_of_customer(customer_id: bytes | None) -> int:
    """32 bits that tell customers with the same event_id apart, most of the time; 0: unknown."""
    return UNKNOWN_CUSTOMER if customer_id is None else crc32(customer_id)


def entry_of(ids: Ids, topic_number: int, partition: int, offset: int) -> bytes:
    """One entry as the file keeps it."""
    return ENTRY.pack(tag_of_event(ids.event_id), crc_of_customer(ids.customer_id), topic_number, partition, offset)


def ids_in(topic: str, value: bytes | None, headers: Sequence[Header]) -> Ids | None:
    """The ids in a record of an indexed topic; None when they cannot be read."""
    if not value:
        return None
    try:
        ids = _READERS[topic](value, headers)
    except ValueError:
        return None
    return ids if ids is not None and ids.event_id else None  # a refused event whose sender has no ids


def last_header(headers: Sequence[Header], name: str) -> bytes:
    """The last header called ``name``: causes are added behind the sender's own headers, which may use the name too."""
    return next((value or b"" for key, value in reversed(headers) if key == name), b"")


def _decided(value: bytes, headers: Sequence[Header]) -> Ids | None:
    return Ids(*ids_of(value))


def _outcome(value: bytes, headers: Sequence[Header]) -> Ids | None:
    return _sent(value, "payments/outcome_raw.v1.avsc", skipped_texts=1)


def _refused(value: bytes, headers: Sequence[Header]) -> Ids | None:
    origin = last_header(headers, "origin_topic").decode(errors="replace")
    if origin == EVENTS_RAW.name:
        return _sent(value, "payments/event_raw.v1.avsc", skipped_texts=0)
    if origin == OUTCOMES_RAW.name:
        return _outcome(value, headers)
    if origin == OUTCOMES.name:
        return _behind(value, skipped_texts=1)
    return Ids(*ids_of(value, HEADER_BYTES + (origin == UPDATES_TERMINAL.name)))


def _sent(value: bytes, schema_file: str, skipped_texts: int) -> Ids | None:
    """From a record as a sender wrote it: registry Avro of our schema, or JSON."""
    if value[0] == 0:
        if schema_id_of(value) != schema(schema_file).id:
            return None
        return _behind(value, skipped_texts)
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError:
        return _from_beginning(value[:_BEGINNING_BYTES])
    if not isinstance(document, dict):
        return None
    event_id, customer_id = document.get("event_id"), document.get("customer_id")
    if not isinstance(event_id, str):
        return None
    return Ids(event_id.encode(), customer_id.encode() if isinstance(customer_id, str) else None)


def _orphaned(value: bytes, headers: Sequence[Header]) -> Ids | None:
    return _behind(value, skipped_texts=1)


def _behind(value: bytes, skipped_texts: int) -> Ids:
    """The ids behind some texts at the start of a record."""
    start = HEADER_BYTES
    for _ in range(skipped_texts):
        skipped, _ = ids_of(value, start)
        start += len(skipped) + _varint_bytes(2 * len(skipped))
    return Ids(*ids_of(value, start))


def _from_beginning(text: bytes) -> Ids | None:
    event_id, customer_id = _EVENT_ID.search(text), _CUSTOMER_ID.search(text)
    return Ids(event_id[1], customer_id[1] if customer_id else None) if event_id else None


def _varint_bytes(number: int) -> int:
    return max(1, (number.bit_length() + 6) // 7)


_READERS: Final[dict[str, Callable[[bytes, Sequence[Header]], Ids | None]]] = {
    DECISIONS.name: _decided,
    DEAD_LETTERS.name: _refused,
    OUTCOMES_RAW.name: _outcome,
    LABELS.name: _decided,
    OUTCOMES_ORPHAN.name: _orphaned,
}
