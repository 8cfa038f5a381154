"""The planned writer writes what the general one writes, and leaves to it what it can't."""

from __future__ import annotations

from typing import Any

import pytest
from avro_values import CHAIN, binary, records
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mesh.codec import Codec, schema
from services.mesh.writing import long_bytes, writer_of

EVERYTHING = [*CHAIN, "payments/event_raw.v1.avsc", "payments/outcome_raw.v1.avsc", "policy_release.v1.avsc"]


@pytest.mark.parametrize("file", EVERYTHING)
def test_every_record_as_the_general_writer_writes_it(file: str) -> None:
    write = writer_of(schema(file).fields, schema(file).named)
    assert write is not None

    @settings(max_examples=100, deadline=None, database=None)
    @given(records(file))
    def check(record: dict[str, Any]) -> None:
        assert write(record) == binary(file, record)

    check()


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_numbers_are_as_short_as_can_be(number: int) -> None:
    raw = long_bytes(number)
    assert raw == binary("payments/event.v1.avsc", EVENT | {"amount_minor": number})[len(BEFORE) :][: len(raw)]
    assert all(byte & 0x80 for byte in raw[:-1])
    assert not raw[-1] & 0x80


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**80])
def test_a_number_beyond_64_bits_is_refused(number: int) -> None:
    with pytest.raises(OverflowError):
        long_bytes(number)


def test_a_union_that_has_no_plan_is_left_to_the_general_writer() -> None:
    assert writer_of(schema("terminal_update.v1.avsc").fields, schema("terminal_update.v1.avsc").named) is None


def test_a_field_left_out_gets_its_default() -> None:
    codec = Codec("payments/event.v1.avsc")
    short = {name: value for name, value in EVENT.items() if name not in ("currency", "channel")}
    write = writer_of(codec.schema.fields, codec.schema.named)
    assert write is not None
    assert write(short) == write(EVENT)
    assert codec.decode(codec.encode(short)) == EVENT


def test_a_field_left_out_that_has_no_default_is_refused() -> None:
    short = {name: value for name, value in EVENT.items() if name != "event_id"}
    with pytest.raises(ValueError, match="event_id"):
        Codec("payments/event.v1.avsc").encode(short)


@pytest.mark.parametrize(
    "wrong",
    [{"event_id": 7}, {"event_id": None}, {"amount_minor": "7"}, {"amount_minor": 2**63}, {"channel": 3}],
)
def test_what_does_not_fit_is_the_general_writers_error(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError, AttributeError)) as ours:
        Codec("payments/event.v1.avsc").encode(EVENT | wrong)
    with pytest.raises((TypeError, ValueError, OverflowError, AttributeError)) as theirs:
        binary("payments/event.v1.avsc", EVENT | wrong)
    assert (type(ours.value), str(ours.value)) == (type(theirs.value), str(theirs.value))


EVENT = {
    "event_id": "e-1",
    "customer_id": "c1",
    "terminal_id": "t1",
    "event_time_ms": 5,
    "amount_minor": 12_345,
    "currency": "EUR",
    "channel": None,
    "country": None,
    "device_id": None,
    "source_partition": 3,
    "source_offset": 70_000,
    "raw_append_time_ms": 1_795_254_894_001,
}
BEFORE = b"\x06e-1\x04c1\x04t1\x0a"
