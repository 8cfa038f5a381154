"""An excerpt reads what the full decoder reads and refuses what it refuses, in its words."""

from __future__ import annotations

import re
from typing import Any

import pytest
from avro_values import CHAIN, binary, records
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mesh.codec import HEADER_BYTES, Codec, schema
from services.mesh.errors import Fatal, Poison
from services.mesh.excerpt import ITEMS_MAX, TEXT_BYTES_MAX, Excerpt
from services.mesh.writing import long_bytes

SIZES = {"vector": 100}
EVENT: dict[str, Any] = {
    "event_id": "e-1",
    "customer_id": "c000123",
    "terminal_id": "t000999",
    "event_time_ms": 1_736_121_600_000,
    "amount_minor": 12_345,
    "currency": "EUR",
    "channel": None,
    "country": "DE",
    "device_id": "d-1",
    "source_partition": 3,
    "source_offset": 70_000,
    "raw_append_time_ms": 1_795_254_894_001,
}
FEATURES = EVENT | {
    "event_append_time_ms": 1_795_254_894_002,
    "update_append_time_ms": 1_795_254_894_003,
    "feature_set": "0123456789abcdef",
    "feature_status": "saturated",
    "vector": bytes(range(100)),
}
SCORE = FEATURES | {
    "features_append_time_ms": 1_795_254_894_004,
    "score": 0.25,
    "model_version": "m1",
    "split_bucket": 9_999,
    "challenger_scores": [{"model_version": "m2", "score": 0.5}],
    "explanation_status": "full",
    "contributions": [{"feature": "amount", "value": 1.5, "contribution": 0.75}] * ITEMS_MAX,
}
USUAL: dict[str, dict[str, Any]] = {
    "payments/event.v1.avsc": EVENT,
    "features.v1.avsc": FEATURES,
    "score.v1.avsc": SCORE,
}


def readable(file: str) -> list[str]:
    """Fields that an excerpt can have: all but lists."""
    return [field["name"] for field in schema(file).fields if "array" not in str(field["type"])]


def excerpt_of(file: str) -> Excerpt:
    return Excerpt(schema(file), readable(file), sizes=SIZES)


def seen_by(read: Any, value: bytes | None, names: list[str]) -> object:
    """What a reader makes of ``value``: the fields as text (NaN is not equal to itself), or its refusal."""
    try:
        record = read(value)
    except Poison as poison:
        return poison.code, poison.field, re.sub("0x[0-9a-f]+", "", str(poison))  # an object's address
    return repr([record[name] for name in names])


def agree(file: str, excerpt: Excerpt, value: bytes | None) -> None:
    names = readable(file)
    assert seen_by(excerpt.record, value, names) == seen_by(Codec(file).decode, value, names)


@pytest.mark.parametrize("file", CHAIN)
def test_any_record_is_read_as_the_decoder_reads_it(file: str) -> None:
    excerpt = excerpt_of(file)

    @settings(max_examples=150, deadline=None, database=None)
    @given(records(file))
    def check(record: dict[str, Any]) -> None:
        agree(file, excerpt, Codec(file).encode(record))

    check()


@pytest.mark.parametrize("file", list(USUAL))
def test_a_usual_record_is_never_decoded_in_full(file: str) -> None:
    def never(value: bytes | None) -> dict[str, Any]:
        raise AssertionError("decoded in full")

    names = readable(file)
    excerpt = Excerpt(schema(file), names, sizes=SIZES, whole=never)
    assert excerpt.of(Codec(file).encode(USUAL[file])) == [USUAL[file][name] for name in names]


@pytest.mark.parametrize("file", list(USUAL))
def test_every_way_to_cut_or_lengthen_a_record_is_refused_alike(file: str) -> None:
    excerpt, value = excerpt_of(file), Codec(file).encode(USUAL[file])
    for end in range(len(value)):
        agree(file, excerpt, value[:end])
    for more in (b"\x00", b"\x02", b"\x80", value):
        agree(file, excerpt, value + more)
    agree(file, excerpt, None)


@pytest.mark.parametrize("file", list(USUAL))
def test_every_byte_changed_in_every_way_is_seen_alike(file: str) -> None:
    excerpt, value = excerpt_of(file), Codec(file).encode(USUAL[file])
    for at in range(len(value)):
        for byte in (0, 1, 2, 3, 4, 0x7E, 0x7F, 0x80, 0x81, 0xFE, 0xFF, value[at] ^ 1, value[at] ^ 0x80):
            agree(file, excerpt, value[:at] + bytes((byte,)) + value[at + 1 :])


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_bytes_put_in_taken_out_and_moved_are_seen_alike(data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(list(USUAL)))
    value = bytearray(Codec(file).encode(USUAL[file]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(HEADER_BYTES, len(value)))
        taken = data.draw(st.integers(0, 4))
        value[at : at + taken] = data.draw(st.binary(max_size=5))
    agree(file, excerpt_cached(file), bytes(value))


_EXCERPTS: dict[str, Excerpt] = {}


def excerpt_cached(file: str) -> Excerpt:
    if file not in _EXCERPTS:
        _EXCERPTS[file] = excerpt_of(file)
    return _EXCERPTS[file]


@pytest.mark.parametrize(
    "name",
    ["é", "日本", "x" * TEXT_BYTES_MAX, "x" * (TEXT_BYTES_MAX + 1), "x" * 128, "", "\x00"],
)
def test_texts_that_are_long_or_not_ascii_are_read_all_the_same(name: str) -> None:
    record = EVENT | {"event_id": name, "customer_id": name, "channel": name}
    value = Codec("payments/event.v1.avsc").encode(record)
    asked = ("event_id", "customer_id", "channel")
    assert Excerpt(schema("payments/event.v1.avsc"), asked).of(value) == [name] * 3
    as_bytes = Excerpt(schema("payments/event.v1.avsc"), asked, as_bytes=asked[:2])
    assert as_bytes.of(value) == [name.encode(), name.encode(), name]


@pytest.mark.parametrize("number", [0, -1, 1, 63, 64, -64, -65, 2**40, 2**62, 2**63 - 1, -(2**63)])
def test_numbers_of_every_length(number: int) -> None:
    value = Codec("payments/event.v1.avsc").encode(EVENT | {"amount_minor": number})
    assert Excerpt(schema("payments/event.v1.avsc"), ("amount_minor",)).of(value) == [number]


@pytest.mark.parametrize("more", range(1, 12))
@pytest.mark.parametrize("last", [0x00, 0x01, 0x02, 0x7F])
def test_numbers_written_the_long_way_round_or_beyond_64_bits_are_seen_alike(more: int, last: int) -> None:
    file = "payments/event.v1.avsc"
    value = Codec(file).encode(EVENT)
    amount = long_bytes(EVENT["amount_minor"])
    at = value.index(amount)
    for byte in (0x80, 0xFF):
        agree(file, excerpt_cached(file), value[:at] + bytes([byte] * more + [last]) + value[at + len(amount) :])


def test_fields_come_in_the_order_asked_for() -> None:
    value = Codec("features.v1.avsc").encode(FEATURES)
    names = ("vector", "currency", "feature_status", "customer_id")
    assert Excerpt(schema("features.v1.avsc"), names, sizes=SIZES).of(value) == [FEATURES[name] for name in names]


@pytest.mark.parametrize("customer_id", ["c1", "ç1"])  # by the pattern, by the decoder
def test_the_head_is_the_binary_of_all_fields_before_one(customer_id: str) -> None:
    record = FEATURES | {"customer_id": customer_id}
    value = Codec("features.v1.avsc").encode(record)
    excerpt = Excerpt(schema("features.v1.avsc"), ("vector", "currency"), head_before="event_append_time_ms")
    event = binary("payments/event.v1.avsc", {name: record[name] for name in EVENT})
    assert excerpt.of(value) == [event, record["vector"], "EUR"]


def test_a_vector_of_another_size_is_read_all_the_same() -> None:
    value = Codec("features.v1.avsc").encode(FEATURES | {"vector": bytes(12)})
    assert Excerpt(schema("features.v1.avsc"), ("vector",), sizes=SIZES).of(value) == [bytes(12)]


def test_a_field_that_there_is_not_is_fatal() -> None:
    with pytest.raises(Fatal, match="feature_sets"):
        Excerpt(schema("features.v1.avsc"), ("feature_sets",))


def test_bytes_that_almost_match_are_refused_at_once() -> None:
    # A thousand numbers that never end: an expression that went back over them would take for ever.
    value = schema("features.v1.avsc").header + b"\x02a\x02b\x02c" + b"\x80" * 200_000
    agree("features.v1.avsc", excerpt_cached("features.v1.avsc"), value)
