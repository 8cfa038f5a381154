"""Records and bytes: Avro (fastavro) in the Confluent wire format, so that every Kafka tool can read every topic.

Wire format: magic byte 0, schema id (4 bytes, big-endian), Avro binary. Ids are pinned in ``schemas/ids.json``.
Every data-plane record begins with all fields of the one before it. Avro binary is the concatenation of its fields, so
a stage *extends*: it copies the bytes that it was handed and appends only its own fields (``Extension``).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Any

import fastavro
from fastavro.schema import parse_schema

from services.mesh.errors import Fatal, Poison, RejectCode
from services.mesh.writing import MISFITS, Write, writer_of

_HEADER = struct.Struct(">bI")
HEADER_BYTES = _HEADER.size
_MAGIC = 0


class Schema:
    """One record version: its file, its pinned id in the registry, its parsed form."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.text = files("schemas").joinpath(file).read_text()
        self.raw: dict[str, Any] = json.loads(self.text)
        self.named: dict[str, Any] = {}
        self.parsed = parse_schema(json.loads(self.text), named_schemas=self.named)
        self.id = pinned_ids()[file]
        self.header = _HEADER.pack(_MAGIC, self.id)

    @property
    def fields(self) -> list[dict[str, Any]]:
        """The record's fields as the file declares them."""
        return list(self.raw["fields"])


@cache
def pinned_ids() -> Mapping[str, int]:
    """Schema file -> id in the registry, as ``weir schemas register`` pinned them."""
    ids: dict[str, int] = json.loads(files("schemas").joinpath("ids.json").read_text())
    return ids


@cache
def schema(file: str) -> Schema:
    """The schema of ``file`` (path below ``schemas/``), parsed once."""
    try:
        return Schema(file)
    except (FileNotFoundError, KeyError) as error:
        raise Fatal(f"schema {file}: {error}; is it in schemas/ and registered (weir schemas register)?") from error


class Codec:
    """Encode and decode one record type."""

    def __init__(self, file: str) -> None:
        self.schema = schema(file)
        self._parsed = self.schema.parsed
        self._header = self.schema.header
        self._write = writer_of(self.schema.fields, self.schema.named)

    def encode(self, record: Mapping[str, Any]) -> bytes:
        """``record`` in wire format; ValueError or TypeError when it does not fit the schema (a bug of ours)."""
        return _written(self._header, self._write, self._parsed, record)

    def decode(self, value: bytes | None) -> dict[str, Any]:
        """The record in ``value``; Poison when it is not one of this schema."""
        if value is None or value[:HEADER_BYTES] != self._header:
            raise Poison(RejectCode.UNDECODABLE, _foreign(value, self.schema))
        record, end = read(value, HEADER_BYTES, self._parsed, self.schema.file)
        if end != len(value):
            # An extension copies these bytes: what is behind the record would be read as its next fields.
            raise Poison(RejectCode.UNDECODABLE, f"{self.schema.file}: {len(value) - end} bytes behind the record")
        return record


class Extension:
    """Turn a record of ``source`` into one of ``target`` by appending ``target``'s own fields to the shared ones."""

    def __init__(
        self,
        source: Schema,
        source_fields: list[dict[str, Any]],
        target: Schema,
        target_fields: list[dict[str, Any]],
    ) -> None:
        theirs, ours = source_fields, target_fields
        shared = 0
        while shared < min(len(theirs), len(ours)) and theirs[shared]["name"] == ours[shared]["name"]:
            if theirs[shared]["type"] != ours[shared]["type"]:
                raise Fatal(f"{target.file}: field {ours[shared]['name']} differs from {source.file}; make them equal")
            shared += 1
        self.shared_names = [field["name"] for field in ours[:shared]]
        self.target = target
        self._own = own_fields_schema(target, ours[shared:], "Extension")
        self._write = writer_of(ours[shared:], target.named)

    def extend(self, shared: bytes, own: Mapping[str, Any]) -> bytes:
        """Wire format of the target: ``shared`` holds the binary of the shared fields, without any header."""
        return self.extend_after(self.target.header, shared, own)

    def extend_after(self, prefix: bytes, shared: bytes, own: Mapping[str, Any]) -> bytes:
        """As ``extend``, with ``prefix`` in place of the target's wire header (a union's branch follows it)."""
        return _written(prefix + shared, self._write, self._own, own)


def own_fields_schema(target: Schema, fields: list[dict[str, Any]], name: str) -> Any:
    """A parsed record schema of just ``fields``, which may use types that ``target`` names elsewhere."""
    defined = {full: target.named[full] for full in target.named if not _defines(fields, full)}
    return parse_schema(
        {"type": "record", "name": f"{target.raw['name']}{name}", "fields": fields, "namespace": "weir"},
        named_schemas=dict(defined),
    )


def read(value: bytes, start: int, parsed: Any, place: str) -> tuple[dict[str, Any], int]:
    """Decode one record of ``parsed`` at ``start``; return it and where it ends. Poison when it does not decode."""
    source = BytesIO(value)
    source.seek(start)
    try:
        record: dict[str, Any] = fastavro.schemaless_reader(source, parsed, None)
    except (
        EOFError,
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        UnicodeDecodeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise Poison(
            RejectCode.UNDECODABLE, f"{place}: {type(error).__name__}: {error}; not written by a stage?"
        ) from error
    return record, source.tell()


def schema_id_of(value: bytes) -> int | None:
    """Schema id in ``value``'s wire header; None when it has none."""
    if len(value) < HEADER_BYTES or value[0] != _MAGIC:
        return None
    return int(_HEADER.unpack_from(value)[1])


def _written(before: bytes, write: Write | None, parsed: Any, record: Mapping[str, Any]) -> bytes:
    """``before``, and ``record`` behind it."""
    if write is not None:
        try:
            return before + write(record)
        except MISFITS:
            pass  # the general writer takes more, and says what is wrong
    out = BytesIO()
    out.write(before)
    fastavro.schemaless_writer(out, parsed, record)
    return out.getvalue()


def _defines(fields: list[dict[str, Any]], full_name: str) -> bool:
    short = full_name.rpartition(".")[2]
    return f'"name": "{short}"' in json.dumps([field["type"] for field in fields])


def _foreign(value: bytes | None, expected: Schema) -> str:
    if value is None:
        return f"no value where a record of {expected.file} belongs; tombstones have no meaning here"
    return f"schema id {schema_id_of(value)} where {expected.id} ({expected.file}) belongs; see schemas/ids.json"
