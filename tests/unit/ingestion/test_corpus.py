from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from importlib.resources import files
from io import BytesIO
from typing import Any

import fastavro
import orjson
import pytest
from fastavro.schema import parse_schema
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingestion.avro_event import AvroEvents, compile_writer
from services.ingestion.intake import OUTCOMES_INTAKE
from services.ingestion.reading import read_event, read_record
from services.mesh.codec import schema
from services.mesh.errors import Poison, RejectCode
from services.mesh.event_fields import body_hash_of
from tests.unit.ingestion.corpus import FULL, RAW, avro_bytes, avro_cases, json_cases, json_text
from tests.unit.ingestion.world import WRITER_SCHEMAS, World, payment

AVRO = AvroEvents(WRITER_SCHEMAS)


def code_of(value: bytes | None, avro: AvroEvents = AVRO) -> str:
    try:
        read_event(value, avro)
    except Poison as poison:
        return poison.code.value
    return ""


def run_through_the_mesh(cases: list[tuple[str, bytes | None, str]]) -> dict[str, str]:
    """Code of each case, all sent through one ingestion in one stream."""
    world = World(partitions=1)
    places = {}
    for name, value, _ in cases:
        record = world.send(value)
        places[(record.partition, record.offset)] = name
    world.drain()
    codes = {places[(p, offset)]: code for p, offset, code in world.rejects()}
    assert len(codes) == len(world.rejects())
    return codes


@pytest.mark.parametrize("cases", [json_cases, avro_cases])
def test_every_case_gets_its_verdict(cases: Callable[[], Any]) -> None:
    count = 0
    for name, value, code in cases():
        started_s = time.perf_counter()
        found = code_of(value)
        took_s = time.perf_counter() - started_s
        expected = "" if code == "clock_ahead" else code  # that one needs the record's append time
        assert (name, found) == (name, expected)
        assert took_s < 0.1, f"{name} took {took_s:.3f} s"
        count += 1
    assert count > 200


def test_every_reject_reaches_dead_letters_once_with_its_code() -> None:
    seen: set[bytes | None] = set()
    cases: list[tuple[str, bytes | None, str]] = []
    for name, value, code in [*json_cases(), *avro_cases()]:
        if code and value not in seen:
            seen.add(value)
            cases.append((f"{name} {len(cases)}", value, code))
    random.Random(7).shuffle(cases)
    cases = cases[:900]  # the flood guard stops a stage at 1,000
    assert run_through_the_mesh(cases) == {name: code for name, _, code in cases}


def test_every_code_of_a_raw_record_is_in_the_corpus() -> None:
    codes = {code for _, _, code in [*json_cases(), *avro_cases()]}
    others = {"undecodable", "wrong_key", "late", "clock_jump", "conflict"}  # need state; see test_handler
    others |= {"webhook_refused", "webhook_not_taken"}  # of decisions
    assert codes | others == {*(code.value for code in RejectCode), ""}


def test_the_message_shows_value_and_remedy_and_the_field_is_named() -> None:
    with pytest.raises(Poison) as caught:
        read_event(json_text({**FULL, "amount_minor": -5}), AVRO)
    assert (str(caught.value), caught.value.field) == (
        "amount_minor=-5: must lie in 0..1000000000000000",
        "amount_minor",
    )


@pytest.mark.parametrize(
    "case",
    [case for case in [*json_cases(), *avro_cases()] if case[2] not in ("", "clock_ahead")][::7],
)
def test_messages_are_one_short_line_of_plain_text(case: tuple[str, bytes | None, str]) -> None:
    with pytest.raises(Poison) as caught:
        read_event(case[1], AVRO)
    message = str(caught.value)
    assert (message.isascii(), message.isprintable(), len(message) < 400) == (True, True, True)
    assert caught.value.field.isascii()


def test_each_flipped_byte_of_an_avro_record_is_refused_or_another_valid_event() -> None:
    for whole in (avro_bytes(FULL), avro_bytes(payment()), avro_bytes(payment(channel="é" * 100))):
        for at in range(len(whole)):
            for bit in range(8):
                mutant = whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :]
                try:
                    event = read_event(mutant, AVRO)
                except Poison:
                    continue
                assert avro_bytes(event) == mutant  # nothing was read in two ways, nothing silently changed


EVENTS = st.fixed_dictionaries(
    {
        "event_id": st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=128),
        "customer_id": st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=20),
        "terminal_id": st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=20),
        "event_time_ms": st.integers(1, 253_402_300_799_999),
        "amount_minor": st.integers(0, 10**15),
    },
    optional={
        "currency": st.sampled_from(["EUR", "JPY", "USD"]),
        "channel": st.none() | st.text('ab:"\\', min_size=1, max_size=9),
        "country": st.none() | st.sampled_from(["DE", "FR"]),
        "device_id": st.none() | st.text('ab:"\\ü', min_size=1, max_size=9),
    },
)


@settings(max_examples=200, deadline=None)
@given(EVENTS)
def test_json_and_avro_of_one_event_agree_in_every_field_and_in_the_hash(fields: dict[str, Any]) -> None:
    from_json, from_avro = read_event(orjson.dumps(fields), AVRO), read_event(avro_bytes(fields), AVRO)
    assert from_json == from_avro
    assert body_hash_of(from_json) == body_hash_of(from_avro)


@settings(max_examples=200, deadline=None)
@given(EVENTS, EVENTS)
def test_bodies_that_differ_have_hashes_that_differ(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = read_event(orjson.dumps(one), AVRO), read_event(orjson.dumps({**other, "event_id": "x"}), AVRO)
    second["event_id"], second["customer_id"] = first["event_id"], first["customer_id"]
    assert (first == second) == (body_hash_of(first) == body_hash_of(second))


def test_a_null_and_text_that_looks_like_one_are_different_bodies() -> None:
    bodies = [read_event(json_text(payment(channel=c)), AVRO) for c in (None, "None", "null")]
    assert len({body_hash_of(body) for body in bodies}) == 3


def test_a_derived_id_depends_on_every_other_field() -> None:
    def derived(**fields: Any) -> str:
        event = {**FULL, **fields}
        del event["event_id"]
        return read_event(json_text(event), AVRO)["event_id"]

    changes: list[dict[str, Any]] = [
        {}, {"customer_id": "x"}, {"terminal_id": "x"}, {"event_time_ms": 1}, {"amount_minor": 1}, {"currency": "USD"},
        {"channel": None}, {"country": None}, {"device_id": None},
    ]  # fmt: skip
    assert len({derived(**change) for change in changes}) == len(changes)
    assert derived() == derived()
    assert derived(currency="EUR") == derived()


# Writer schemas of the past and future, and what the guard must make of them.


def writer(*fields: Any, drop: tuple[str, ...] = ()) -> dict[str, Any]:
    return {**RAW.raw, "fields": [*(f for f in RAW.fields if f["name"] not in drop), *fields]}


NEWER = writer(
    {"name": "tip_minor", "type": ["null", "int"], "default": None},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
    {"name": "again", "type": "Kind"},
    {"name": "mac", "type": {"type": "fixed", "name": "Mac", "size": 4}},
    {"name": "lat", "type": "double"},
    {"name": "near", "type": "float"},
    {"name": "ok", "type": "boolean"},
    {"name": "blob", "type": "bytes"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
)
EXTRA = {
    "tip_minor": 5,
    "kind": "B",
    "again": "A",
    "mac": b"abcd",
    "lat": 1.5,
    "near": 0.5,
    "ok": True,
    "blob": b"\x00",
    "at": 7,
}
OLDER = writer(drop=("channel", "country", "device_id", "currency"))
ANONYMOUS = writer(drop=("event_id",))


def events_of(schema: Mapping[str, Any], schema_id: int = 50) -> AvroEvents:
    return AvroEvents({schema_id: schema})


@pytest.mark.parametrize(("schema", "extra"), [(NEWER, EXTRA), (OLDER, {})])
def test_other_versions_resolve_as_fastavro_resolves_them(schema: dict[str, Any], extra: dict[str, Any]) -> None:
    parsed = parse_schema(json.loads(json.dumps(schema)))
    value = avro_bytes({**FULL, **extra}, parsed, 50)
    resolved = fastavro.schemaless_reader(BytesIO(value[5:]), parsed, RAW.parsed)
    assert read_event(value, events_of(schema)) == resolved
    for end in range(5, len(value)):
        assert code_of(value[:end], events_of(schema)) == "malformed_avro"


def test_a_sender_without_ids_derives_them_in_avro_too() -> None:
    value = avro_bytes(FULL, parse_schema(json.loads(json.dumps(ANONYMOUS))), 50)
    without = {name: v for name, v in FULL.items() if name != "event_id"}
    derived = read_event(json_text(without), AVRO)
    assert read_event(value, events_of(ANONYMOUS)) == derived
    assert read_event(avro_bytes(without), AVRO) == derived, "and so does one that leaves the field to its default"


def test_an_outcome_without_an_id_gets_the_same_one_in_both_formats() -> None:
    file = schema("payments/outcome_raw.v1.avsc")
    outcome = {
        "event_id": "e-1",
        "customer_id": "c-1",
        "label": "fraud",
        "source": "chargeback",
        "observed_time_ms": 5,
    }
    intake = OUTCOMES_INTAKE
    avro = AvroEvents({file.id: file.raw}, intake.fields, intake.own_id)
    value = avro_bytes(outcome, file.parsed, file.id)
    read = read_record(value, avro, intake.valid)
    assert read == read_record(json_text(outcome), avro, intake.valid)
    assert read["outcome_id"].startswith("derived-")
    nameless = avro_bytes({**outcome, "event_id": ""}, file.parsed, file.id)
    with pytest.raises(Poison, match="event_id='': must not be empty"):
        read_record(nameless, avro, intake.valid)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ({"type": "enum", "name": "K", "symbols": ["A"]}, b"\x02"),
        ({"type": "enum", "name": "K", "symbols": ["A"]}, b"\x01"),
        ("int", b"\x80\x80\x80\x80\x10"),
        ("boolean", b"\x02"),
        ("double", b"\x00" * 7),
        ({"type": "fixed", "name": "F", "size": 4}, b"\x00" * 3),
        (["null", "string"], b"\x04"),
        ("bytes", b"\x04\x00"),
    ],
)
def test_values_outside_their_type_are_refused(kind: Any, value: bytes) -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "x", "type": kind}]}
    assert code_of(b"\x00\x00\x00\x00\x32" + value, events_of(schema)) == "malformed_avro"


def test_a_negative_length_does_not_lead_back_over_what_was_read() -> None:
    kinds = {"a": "long", "b": "string", "c": "bytes"}
    schema = {"type": "record", "name": "R", "fields": [{"name": n, "type": kind} for n, kind in kinds.items()]}
    with pytest.raises(Poison) as caught:
        events_of(schema).fields(b"\x00\x00\x00\x00\x32" + b"\x02\x03")
    assert caught.value.code is RejectCode.MALFORMED_AVRO


@pytest.mark.parametrize(
    "kind",
    [
        {"type": "array", "items": "null"},
        {"type": "map", "values": "string"},
        "EventRaw",  # recursion
        ["null", "EventRaw"],
        {"type": "record", "name": "Inner", "fields": []},
        [["null"]],
        "nonsense",
        {"type": ["null"]},
        {},
        7,
    ],
)
def test_a_schema_that_is_not_flat_is_never_decoded(kind: Any) -> None:
    schema = writer({"name": "x", "type": kind})
    assert code_of(b"\x00\x00\x00\x00\x32" + b"\x80" * 9 + b"\x01\x00", events_of(schema)) == "unknown_schema"
    with pytest.raises((ValueError, KeyError, TypeError)):
        compile_writer(schema)


def test_a_version_that_is_registered_later_is_understood() -> None:
    schemas: dict[int, Any] = {}
    avro = AvroEvents(schemas)
    assert code_of(avro_bytes(FULL), avro) == "unknown_schema"
    schemas[RAW.id] = RAW.raw
    assert code_of(avro_bytes(FULL), avro) == ""


# The examples that producers are shown.


def examples(name: str) -> list[dict[str, Any]]:
    text = files("schemas").joinpath(f"payments/examples/{name}").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_good_examples_are_accepted_and_say_the_same_in_avro() -> None:
    for event in examples("event_raw.good.jsonl"):
        read = read_event(json_text(event), AVRO)
        if "event_id" in event:
            assert read == read_event(avro_bytes(event), AVRO)


def test_bad_examples_are_refused_as_they_say() -> None:
    for example in examples("event_raw.bad.jsonl"):
        with pytest.raises(Poison) as caught:
            read_event(example["record"].encode(), AVRO)
        assert (caught.value.code.value, caught.value.field) == (example["error_code"], example["error_field"])
