"""A registry Avro record -> its fields, or Poison: a decoder for flat records that cannot be made to do more. Pure.

fastavro must not see bytes from outside: a 5 kB recursive record crashes the process, 11 bytes of ``array<null>`` hang
it, and it takes negative union indexes, overlong numbers and trailing bytes. Events are flat, so the guard is the
decoder: it reads each field of the writer's schema once, left to right, never past the end, and loops over nothing
that the bytes claim. Fields are matched by name, as Avro's schema resolution does: one that we do not know is skipped,
one that the writer does not have gets its default in ``validation``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from services.mesh.codec import HEADER_BYTES, schema_id_of
from services.mesh.errors import Poison, RejectCode
from services.mesh.event_fields import shown
from services.mesh.records import EventRaw

# (bytes, position) -> (value, next position). Raises ValueError, IndexError, struct.error or UnicodeDecodeError.
Reader = Callable[[bytes, int], tuple[Any, int]]

_VARINT_BYTES_MAX: Final = 10  # 64 bits, 7 a byte
_INT_MAX: Final = 2**31
_KNOWN: Final = frozenset(EventRaw.__annotations__)


class AvroEvents:
    """Decodes records of the allowed writer schemas into the fields that are ``known``: an event's, unless told so.

    Avro cannot leave a field out: a sender without ids of its own sends ``own_id`` empty, which is its default.
    ``writer_schemas``: schema id -> schema as parsed JSON; the versions registered for the topic's subject. It is
    looked up on each id's first sight, so a mapping that learns of new versions while running works.
    """

    def __init__(
        self,
        writer_schemas: Mapping[int, Mapping[str, Any]],
        known: Collection[str] = _KNOWN,
        own_id: str = "event_id",
    ) -> None:
        self._writer_schemas = writer_schemas
        self._own_id = own_id
        self._known = frozenset(known)
        self._compiled: dict[int, tuple[tuple[str, Reader], ...]] = {}

    def fields(self, value: bytes) -> dict[str, Any]:
        """The record's fields in ``value`` (wire format). Raises Poison."""
        schema_id = schema_id_of(value)
        if schema_id is None:
            raise _malformed(value, "", "has no room for the 5 bytes of a schema id after magic byte 0")
        readers = self._compiled.get(schema_id) or self._compile(schema_id)
        fields: dict[str, Any] = {}
        at, name = HEADER_BYTES, ""
        try:
            for name, reader in readers:
                fields[name], at = reader(value, at)
        except (ValueError, IndexError, struct.error) as error:  # UnicodeDecodeError is a ValueError
            raise _malformed(value, name, f"schema {schema_id}, byte {at}: {error}") from error
        if at != len(value):
            raise _malformed(value, "", f"schema {schema_id}: {len(value) - at} bytes are left after its last field")
        known = {name: fields[name] for name in fields if name in self._known}
        if known.get(self._own_id) == "":
            del known[self._own_id]
        return known

    def _compile(self, schema_id: int) -> tuple[tuple[str, Reader], ...]:
        schema = self._writer_schemas.get(schema_id)
        if schema is None:
            raise Poison(
                RejectCode.UNKNOWN_SCHEMA,
                f"schema id {schema_id} is not registered for this topic; register it, or send with one of "
                f"{sorted(self._writer_schemas)}",
            )
        try:
            readers = compile_writer(schema)
        except (ValueError, KeyError, TypeError) as error:
            raise Poison(
                RejectCode.UNKNOWN_SCHEMA, f"schema id {schema_id}: {error}; ingestion reads flat records only"
            ) from error
        self._compiled[schema_id] = readers
        return readers


def compile_writer(schema: Mapping[str, Any]) -> tuple[tuple[str, Reader], ...]:
    """Field names and readers of a flat record ``schema``. Raises ValueError when it is not flat."""
    if not isinstance(schema, Mapping) or schema.get("type") != "record":
        raise ValueError("is not a record")
    named: dict[str, Reader] = {}
    return tuple((field["name"], _reader(field["type"], named, field["name"])) for field in schema["fields"])


def _reader(kind: Any, named: dict[str, Reader], place: str) -> Reader:
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        if any(isinstance(branch, Sequence) and not isinstance(branch, str) for branch in kind):
            raise ValueError(f"field {place}: a union inside a union")
        return _union([_reader(branch, named, place) for branch in kind])
    if isinstance(kind, str):
        known = _PRIMITIVES.get(kind) or named.get(kind)
        if known is None:
            raise ValueError(f"field {place}: type {shown(kind)} is not flat")
        return known
    match kind["type"]:
        case "enum":
            reader = _enum(tuple(kind["symbols"]))
        case "fixed":
            reader = _fixed(int(kind["size"]))
        case str() as primitive if primitive in _PRIMITIVES:  # {"type": "long", "logicalType": ...}
            return _PRIMITIVES[primitive]
        case other:
            raise ValueError(f"field {place}: type {shown(other)} is not flat")
    named[kind["name"]] = reader
    if "namespace" in kind:
        named[f"{kind['namespace']}.{kind['name']}"] = reader
    return reader


def _long(value: bytes, at: int) -> tuple[int, int]:
    """A zigzag varint, in its only shortest form."""
    byte = value[at]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at + 1
    number, shift, start = byte & 0x7F, 7, at
    while True:
        at += 1
        byte = value[at]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if at - start >= _VARINT_BYTES_MAX - 1:
            raise ValueError("a number of more than 10 bytes")
    if byte == 0:
        raise ValueError("a number longer than it has to be")
    if number >> 64:
        raise ValueError("a number of more than 64 bits")
    return (number >> 1) ^ -(number & 1), at + 1


def _int(value: bytes, at: int) -> tuple[int, int]:
    number, end = _long(value, at)
    if not -_INT_MAX <= number < _INT_MAX:
        raise ValueError(f"{number} is no 32-bit int")
    return number, end


def _bytes(value: bytes, at: int) -> tuple[bytes, int]:
    length, start = _long(value, at)
    end = start + length
    if length < 0 or end > len(value):
        raise ValueError(f"a length of {length} where {len(value) - start} bytes are left")
    return value[start:end], end


def _string(value: bytes, at: int) -> tuple[str, int]:
    text, end = _bytes(value, at)
    return text.decode(), end


def _boolean(value: bytes, at: int) -> tuple[bool, int]:
    if value[at] > 1:
        raise ValueError(f"{value[at]} is no boolean")
    return value[at] == 1, at + 1


def _null(_value: bytes, at: int) -> tuple[None, int]:
    return None, at


def _number(layout: str) -> Reader:
    unpack = struct.Struct(layout)

    def read(value: bytes, at: int) -> tuple[float, int]:
        return unpack.unpack_from(value, at)[0], at + unpack.size

    return read


def _fixed(size: int) -> Reader:
    def read(value: bytes, at: int) -> tuple[bytes, int]:
        if at + size > len(value):
            raise ValueError(f"{size} bytes where {len(value) - at} are left")
        return value[at : at + size], at + size

    return read


def _enum(symbols: tuple[str, ...]) -> Reader:
    def read(value: bytes, at: int) -> tuple[str, int]:
        index, end = _long(value, at)
        if not 0 <= index < len(symbols):
            raise ValueError(f"symbol {index} of {len(symbols)}")
        return symbols[index], end

    return read


def _union(branches: Sequence[Reader]) -> Reader:
    def read(value: bytes, at: int) -> tuple[Any, int]:
        index, start = _long(value, at)
        if not 0 <= index < len(branches):
            raise ValueError(f"branch {index} of a union of {len(branches)}")
        return branches[index](value, start)

    return read


_PRIMITIVES: Final[Mapping[str, Reader]] = {
    "null": _null,
    "boolean": _boolean,
    "int": _int,
    "long": _long,
    "float": _number("<f"),
    "double": _number("<d"),
    "bytes": _bytes,
    "string": _string,
}


def _malformed(value: bytes, field: str, why: str) -> Poison:
    place = f"{field}, " if field else ""
    message = f"{place}{shown(value[:24].hex())}: {why}; write it with a registered schema's own serializer"
    return Poison(RejectCode.MALFORMED_AVRO, message, field if field in _KNOWN else "")
