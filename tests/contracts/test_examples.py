"""The examples are what they claim to be: records that every reader of the contract accepts."""

from __future__ import annotations

import copy
import json
from io import BytesIO
from itertools import pairwise
from typing import Any

import fastavro
import numpy as np
import pytest
from example_files import NAMES, SCHEMAS, examples, schema_files
from fastavro.validation import validate

from services.mesh.codec import HEADER_BYTES, Codec, pinned_ids, schema, schema_id_of
from services.mesh.currency import EXPONENTS
from services.mesh.manifest import parse

FILES = schema_files()
CASES = [(file, case) for file in FILES for case in examples(file)]


def with_defaults(file: str, record: dict[str, Any]) -> dict[str, Any]:
    defaults = {field["name"]: field["default"] for field in schema(file).fields if "default" in field}
    return defaults | record


@pytest.mark.parametrize("file", FILES)
def test_every_contract_has_an_example(file: str) -> None:
    assert examples(file)


def test_every_example_belongs_to_a_contract() -> None:
    known = {str(SCHEMAS / file).removesuffix(".avsc").rpartition("/")[2] for file in FILES}
    found = {path.parent.name for path in SCHEMAS.rglob("examples/*/*.json")}
    assert found <= known


@pytest.mark.parametrize(("file", "case"), CASES)
def test_an_example_survives_the_wire(file: str, case: str) -> None:
    record = examples(file)[case]
    assert validate(record, schema(file).parsed, strict=file not in ("payments/event_raw.v1.avsc",))
    codec = Codec(file)
    value = codec.encode(record)
    assert schema_id_of(value) == pinned_ids()[file]
    decoded = codec.decode(value)
    if "contributions" in record:  # Avro's float is float32
        for contribution in record["contributions"]:
            for name in ("value", "contribution"):
                contribution[name] = float(np.float32(contribution[name]))
    assert decoded == with_defaults(file, record)
    assert codec.encode(decoded) == value


@pytest.mark.parametrize("file", ["features.v1.avsc", "score.v1.avsc", "decision.v1.avsc"])
def test_the_vector_of_an_example_fits_its_event(file: str) -> None:
    for case, record in examples(file).items():
        vector = np.frombuffer(record["vector"], dtype="<f4")
        assert len(vector) == len(NAMES), case
        major = np.float32(record["amount_minor"] / 10 ** EXPONENTS[record["currency"]])
        assert vector[NAMES.index("amount")] == major, case


def test_the_model_of_an_example_is_the_one_its_manifest_names() -> None:
    release = examples("model_release.v1.avsc")["promote"]
    manifest = parse(release["manifest"].encode())
    assert manifest.model_version == release["model_version"]
    assert manifest.feature_names == NAMES


def test_the_hops_of_an_example_are_those_of_one_event() -> None:
    """Each hop's example begins with the one before, as on the wire."""
    chain = ["payments/event.v1.avsc", "features.v1.avsc", "score.v1.avsc", "decision.v1.avsc"]
    for before, after in pairwise(chain):
        earlier, later = examples(before)["ordinary"], examples(after)["ordinary"]
        assert {name: later[name] for name in earlier} == earlier


NEW_FIELD = {
    "name": "added_later",
    "type": ["null", "string"],
    "doc": "Something new; null: not told.",
    "default": None,
}


def grown(file: str) -> dict[str, Any]:
    """The contract as it may be next year: one optional field more in every record of it."""
    raw = copy.deepcopy(schema(file).raw)

    def add(node: Any) -> None:
        if isinstance(node, list):
            for branch in node:
                add(branch)
        elif isinstance(node, dict):
            for field in node.get("fields", ()):
                add(field["type"])
            add(node.get("items"))
            if node.get("type") == "record":
                node["fields"].append(dict(NEW_FIELD))

    add(raw)
    assert json.dumps(raw).count("added_later") >= 1
    return raw


@pytest.mark.parametrize(("file", "case"), CASES)
def test_bytes_of_today_are_read_with_the_contract_of_next_year(file: str, case: str) -> None:
    codec, record = Codec(file), examples(file)[case]
    value = codec.encode(record)[HEADER_BYTES:]
    new = fastavro.parse_schema(grown(file))
    read = fastavro.schemaless_reader(BytesIO(value), codec.schema.parsed, new)
    assert read.pop("added_later") is None
    assert without(read) == codec.decode(codec.encode(record))


@pytest.mark.parametrize(("file", "case"), CASES)
def test_bytes_of_next_year_are_read_with_the_contract_of_today(file: str, case: str) -> None:
    codec, record = Codec(file), examples(file)[case]
    new, out = fastavro.parse_schema(grown(file)), BytesIO()
    fastavro.schemaless_writer(out, new, record | {"added_later": "something"})
    out.seek(0)
    assert fastavro.schemaless_reader(out, new, codec.schema.parsed) == codec.decode(codec.encode(record))


def without(value: Any) -> Any:
    """``value`` without what was added later, at any depth."""
    if isinstance(value, dict):
        return {name: without(inner) for name, inner in value.items() if name != "added_later"}
    return [without(inner) for inner in value] if isinstance(value, list) else value
