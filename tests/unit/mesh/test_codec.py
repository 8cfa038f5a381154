"""Extending bytes is the same as encoding the whole, and no bytes are more than a refusal."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from avro_values import CHAIN, binary, records, values
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mesh.codec import HEADER_BYTES, Codec, Extension, schema, schema_id_of
from services.mesh.errors import Fatal, Poison


@pytest.mark.parametrize(("source", "target"), list(pairwise(CHAIN)))
def test_each_record_extends_the_one_before(source: str, target: str) -> None:
    extension = Extension(schema(source), schema(source).fields, schema(target), schema(target).fields)
    shared_names = [field["name"] for field in schema(source).fields]
    assert extension.shared_names == shared_names

    @settings(max_examples=60, deadline=None, database=None)
    @given(records(target))
    def check(record: dict[str, Any]) -> None:
        shared = binary(source, {name: record[name] for name in shared_names})
        own = {name: value for name, value in record.items() if name not in shared_names}
        assert extension.extend(shared, own) == Codec(target).encode(record)

    check()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_terminals_update_extends_an_event_behind_its_branch(data: st.DataObject) -> None:
    update = schema("terminal_update.v1.avsc")
    branch = update.fields[0]["type"][0]
    event = schema("payments/event.v1.avsc")
    extension = Extension(event, event.fields, update, branch["fields"])
    record = data.draw(values(branch, {}))
    shared = binary("payments/event.v1.avsc", {name: record[name] for name in extension.shared_names})
    own = {name: value for name, value in record.items() if name not in extension.shared_names}
    whole = Codec("terminal_update.v1.avsc").encode({"update": (f"weir.{branch['name']}", record)})
    assert extension.extend_after(update.header + b"\x00", shared, own) == whole


@pytest.mark.parametrize("file", [*CHAIN, "terminal_update.v1.avsc", "model_release.v1.avsc", "policy_release.v1.avsc"])
def test_what_was_encoded_decodes_to_itself(file: str) -> None:
    codec = Codec(file)

    @settings(max_examples=30, deadline=None, database=None)
    @given(records(file))
    def check(record: dict[str, Any]) -> None:
        once = codec.encode(codec.decode(codec.encode(record)))
        assert once == codec.encode(record)
        assert schema_id_of(once) == codec.schema.id

    if file != "terminal_update.v1.avsc":  # its branches are named by tuples when written
        check()


@settings(max_examples=300, deadline=None)
@given(records("decision.v1.avsc"), st.data())
def test_damaged_bytes_are_poison_or_another_record_never_an_error(record: dict[str, Any], data: st.DataObject) -> None:
    codec = Codec("decision.v1.avsc")
    value = bytearray(codec.encode(record))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(value) - 1))
        kind = data.draw(st.sampled_from(("flip", "cut", "add")))
        if kind == "flip":
            value[at] ^= data.draw(st.integers(1, 255))
        elif kind == "cut":
            del value[at + 1 :]
        else:
            value[at:at] = data.draw(st.binary(max_size=5))
    with suppress(Poison):
        codec.decode(bytes(value))


@pytest.mark.parametrize("value", [None, b"", b"\x00", b"\x01\x00\x00\x00\x02", b"{}", b"\x00\x00\x00\x00\x63junk"])
def test_records_of_another_schema_are_poison(value: bytes | None) -> None:
    with pytest.raises(Poison):
        Codec("payments/event.v1.avsc").decode(value)


def test_bytes_behind_a_record_are_poison() -> None:
    """They would be taken for the fields that the next hop appends."""
    codec = Codec("policy_release.v1.avsc")
    value = codec.encode({"policy_version": "v", "author": "a", "why": "w", "policy": "p"})
    with pytest.raises(Poison, match="3 bytes behind"):
        codec.decode(value + b"abc")
    with pytest.raises(Poison):
        codec.decode(value[:HEADER_BYTES])


def test_a_shared_field_that_differs_is_fatal() -> None:
    source, target = schema("payments/event.v1.avsc"), schema("features.v1.avsc")
    wrong = [{**source.fields[0], "type": "long"}, *source.fields[1:]]
    with pytest.raises(Fatal, match="differs"):
        Extension(source, wrong, target, target.fields)


def test_a_schema_that_is_not_there_is_fatal() -> None:
    with pytest.raises(Fatal, match="is it in schemas/ and registered"):
        Codec("nothing.v1.avsc")
