"""Which ids a record is indexed under."""

from __future__ import annotations

import json

import pytest

from services.mesh.codec import Codec
from services.mesh.lookup_entries import Ids, crc_of_customer, ids_in, tag_of_event
from services.mesh.ports import Header
from services.mesh.prefix import ids_of, prefix_of

OUTCOME = {
    "outcome_id": "o" * 200,  # a length of two bytes
    "event_id": "e-1",
    "customer_id": "c-ü",
    "label": "fraud",
    "source": "analyst",
    "observed_time_ms": 5,
    "revises": None,
}
EVENT = {
    "event_id": "e-1",
    "customer_id": "c-ü",
    "terminal_id": "t",
    "event_time_ms": 1,
    "amount_minor": 1,
    "currency": "EUR",
    "channel": None,
    "country": None,
    "device_id": None,
}
ACCEPTED = {**EVENT, "source_partition": 1, "source_offset": 2, "raw_append_time_ms": 3}
ACCEPTED_OUTCOME = {**OUTCOME, "source_partition": 1, "source_offset": 2, "raw_append_time_ms": 3}
IDS = Ids(b"e-1", "c-ü".encode())


def refused_in(topic: str) -> list[Header]:
    return [("origin_topic", b"forged by the sender"), ("origin_topic", topic.encode())]


@pytest.mark.parametrize(
    ("topic", "value", "headers"),
    [
        ("decisions.v1", Codec("payments/event.v1.avsc").encode(ACCEPTED), ()),
        ("outcomes.raw.v1", json.dumps(OUTCOME).encode(), ()),
        ("outcomes.raw.v1", Codec("payments/outcome_raw.v1.avsc").encode(OUTCOME), ()),
        ("dead-letters.v1", json.dumps(EVENT).encode(), refused_in("events.raw.v1")),
        ("dead-letters.v1", Codec("payments/event_raw.v1.avsc").encode(EVENT), refused_in("events.raw.v1")),
        ("dead-letters.v1", Codec("payments/event.v1.avsc").encode(ACCEPTED), refused_in("events.v1")),
        ("dead-letters.v1", json.dumps(OUTCOME).encode(), refused_in("outcomes.raw.v1")),
        ("dead-letters.v1", Codec("payments/outcome.v1.avsc").encode(ACCEPTED_OUTCOME), refused_in("outcomes.v1")),
        ("labels.v1", Codec("payments/event.v1.avsc").encode(ACCEPTED), ()),
        ("outcomes.orphan.v1", Codec("payments/outcome.v1.avsc").encode(ACCEPTED_OUTCOME), ()),
    ],
)
def test_ids_are_read_whatever_the_record(topic: str, value: bytes, headers: list[Header]) -> None:
    assert ids_in(topic, value, headers) == IDS


def test_a_refused_event_without_an_id_is_found_by_its_offset_alone() -> None:
    for value in (Codec("payments/event_raw.v1.avsc").encode({**EVENT, "event_id": ""}), b'{"event_id": ""}'):
        assert ids_in("dead-letters.v1", value, refused_in("events.raw.v1")) is None


@pytest.mark.parametrize(
    "value", [None, b"", b"\0", b"\0\0\0\0\1\xff", b"[]", b'{"event_id": 7}', b"\xff\xfe", b"[" * 99]
)
def test_what_cannot_be_read_is_not_indexed(value: bytes | None) -> None:
    assert ids_in("dead-letters.v1", value, refused_in("events.raw.v1")) is None
    assert ids_in("dead-letters.v1", value, refused_in("events.v1")) is None
    assert ids_in("outcomes.raw.v1", value, ()) is None


def test_the_prefix_tells_identities_apart() -> None:
    one = Codec("payments/event.v1.avsc").encode({**ACCEPTED, "event_id": "ab", "customer_id": "c"})
    other = Codec("payments/event.v1.avsc").encode({**ACCEPTED, "event_id": "a", "customer_id": "bc"})
    assert prefix_of(one) != prefix_of(other)
    assert prefix_of(one) == b"\x04ab\x02c"
    long_id = "x" * 10_000
    assert ids_of(Codec("payments/event.v1.avsc").encode({**ACCEPTED, "event_id": long_id})) == (
        long_id.encode(),
        "c-ü".encode(),
    )


def test_tags_fit_a_signed_column_and_an_unknown_customer_is_nobody() -> None:
    assert all(0 <= tag_of_event(b"%d" % n) < 2**63 for n in range(100))
    assert crc_of_customer(None) == 0
    assert crc_of_customer(b"c") != 0
