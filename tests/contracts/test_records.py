"""The record as Python sees it and the record as the contract declares it are one."""

from __future__ import annotations

import inspect
import types
import typing
from typing import Any, Literal

import pytest
from example_files import schema_files

from services.mesh import records
from services.mesh.codec import schema

PRIMITIVES: dict[type, set[str]] = {
    str: {"string"},
    int: {"int", "long"},
    float: {"float", "double"},
    bytes: {"bytes"},
    bool: {"boolean"},
}
TYPED = {name: value for name, value in vars(records).items() if typing.is_typeddict(value)}


def file_of(record: type) -> str:
    """The first word of a record's docstring is its contract."""
    return (inspect.getdoc(record) or "").removeprefix("schemas/").partition(".avsc")[0] + ".avsc"


WHOLE = {
    name: record
    for name, record in TYPED.items()
    if (inspect.getdoc(record) or "").startswith("schemas/") and "branch:" not in (inspect.getdoc(record) or "")
}


def differences(hint: Any, avro: Any, place: str, named: dict[str, Any]) -> list[str]:
    """Where Python's ``hint`` and the contract's ``avro`` type disagree; empty when they say the same."""
    if isinstance(avro, str) and avro in named:
        avro = named[avro]
    if isinstance(avro, dict) and "name" in avro:
        named[avro["name"]] = avro
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        branches = typing.get_args(hint)
        if not isinstance(avro, list) or len(avro) != len(branches):
            return [f"{place}: {hint} against {avro}"]
        optional = type(None) in branches
        if optional != ("null" in avro):
            return [f"{place}: {hint} against {avro}"]
        real = [branch for branch in branches if branch is not type(None)]
        declared = [branch for branch in avro if branch != "null"]
        pairs = zip(real, declared, strict=True)
        return [found for mine, theirs in pairs for found in differences(mine, theirs, place, named)]
    if origin is Literal:
        symbols = avro.get("symbols") if isinstance(avro, dict) else avro
        return [] if list(typing.get_args(hint)) == symbols else [f"{place}: {hint} against {symbols}"]
    if origin is list:
        if not isinstance(avro, dict) or avro.get("type") != "array":
            return [f"{place}: {hint} against {avro}"]
        return differences(typing.get_args(hint)[0], avro["items"], f"{place}[]", named)
    if typing.is_typeddict(hint):
        if not isinstance(avro, dict) or avro.get("type") != "record":
            return [f"{place}: {hint} against {avro}"]
        if avro["name"] != hint.__name__:
            return [f"{place}: called {hint.__name__} here and {avro['name']} there"]
        mine, theirs = typing.get_type_hints(hint), {field["name"]: field["type"] for field in avro["fields"]}
        if list(mine) != list(theirs):
            return [f"{place}: fields {list(mine)} against {list(theirs)}"]
        return [found for field in mine for found in differences(mine[field], theirs[field], f"{place}.{field}", named)]
    return [] if avro in PRIMITIVES.get(hint, set()) else [f"{place}: {hint} against {avro}"]


def test_every_contract_has_its_record() -> None:
    assert sorted(file_of(record) for record in WHOLE.values()) == schema_files()


@pytest.mark.parametrize("name", WHOLE)
def test_a_record_is_its_contract_field_by_field(name: str) -> None:
    record = WHOLE[name]
    assert differences(record, schema(file_of(record)).raw, name, {}) == []


def test_a_difference_is_found_wherever_it_hides() -> None:
    decision = schema("decision.v1.avsc").raw

    def with_field(name: str, type_: Any) -> dict[str, Any]:
        fields = [field | {"type": type_} if field["name"] == name else field for field in decision["fields"]]
        return decision | {"fields": fields}

    swapped = decision | {"fields": [decision["fields"][1], decision["fields"][0], *decision["fields"][2:]]}
    assert differences(records.Decision, decision, "Decision", {}) == []
    for broken in (
        with_field("score", "string"),
        with_field("channel", "string"),
        with_field("rule_hits", {"type": "array", "items": "long"}),
        with_field("action", {"type": "enum", "name": "Action", "symbols": ["approve", "decline"]}),
        with_field("reasons", {"type": "array", "items": {"type": "record", "name": "Reason", "fields": []}}),
        decision | {"fields": decision["fields"][:-1]},
        swapped,
    ):
        assert differences(records.Decision, broken, "Decision", {}) != []
