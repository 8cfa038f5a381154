"""Records of any schema, drawn at random, and their binary by the general writer."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import fastavro
from hypothesis import strategies as st

from services.mesh.codec import schema

CHAIN = ["payments/event.v1.avsc", "features.v1.avsc", "score.v1.avsc", "decision.v1.avsc"]
PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=12),
    "long": st.integers(-(2**63), 2**63 - 1),
    "int": st.integers(-(2**31), 2**31 - 1),
    "double": st.floats(allow_nan=False),
    "float": st.floats(width=32, allow_nan=False),
    "bytes": st.binary(max_size=300),
    "boolean": st.booleans(),
    "null": st.none(),
}


def values(of: Any, named: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of an Avro type."""
    if isinstance(of, list):
        return st.one_of([values(branch, named) for branch in of])
    if isinstance(of, str):
        return PRIMITIVES[of] if of in PRIMITIVES else values(named[of.rpartition(".")[2]], named)
    kind = of["type"]
    if kind == "record":
        named[of["name"]] = of
        return st.fixed_dictionaries({field["name"]: values(field["type"], named) for field in of["fields"]})
    if kind == "enum":
        named[of["name"]] = of
        return st.sampled_from(of["symbols"])
    if kind == "array":
        return st.lists(values(of["items"], named), max_size=3)
    return values(kind, named)


def records(file: str) -> st.SearchStrategy[dict[str, Any]]:
    return values(schema(file).raw, {})


def binary(file: str, record: dict[str, Any]) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, schema(file).parsed, record)
    return out.getvalue()
