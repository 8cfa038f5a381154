"""Chosen fields of a record, without decoding the rest: one regular expression for the whole of it.

The expression is written out from the schema and matches nothing but records that the full decoder reads, with the same
values: each length, branch and symbol of Avro's binary form in its place, the end included. It matches in one call of C
what costs Python a step a field. Whatever it does not match (texts that are long or not ASCII, arrays of many items,
numbers written the long way round; bytes that no stage has written) goes to the full decoder, which reads it or refuses
it: what is refused, and why, is the decoder's word alone.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from io import BytesIO
from operator import call
from typing import Any, Final

import fastavro

from services.mesh.codec import Codec, Schema, own_fields_schema, read
from services.mesh.errors import Fatal
from services.mesh.writing import long_bytes

# Lengths below 64 are one byte of zigzag varint; ids, hashes, currencies and names are shorter, as a rule.
TEXT_BYTES_MAX: Final = 63
BYTES_MAX: Final = 160  # of a field whose size is not told
ITEMS_MAX: Final = 5

_NULL: Final = b"\x00"  # a null branch, an array's end, a length of 0
_PRIMITIVES: Final[dict[str, bytes]] = {
    "null": b"",
    "boolean": rb"[\x00\x01]",
    # Possessive: a number that was taken is never given back in parts, so that no bytes take long to be refused.
    "int": rb"[\x80-\xff]{0,3}+[\x00-\x7f]",
    "long": rb"[\x80-\xff]{0,8}+[\x00-\x7f]",
    "float": b".{4}",
    "double": b".{8}",
}
_SIMPLE: Final = frozenset((*_PRIMITIVES, "string", "bytes"))
_COMPLEX: Final = ("enum", "array", "record", "map", "fixed")


class Excerpt:
    """The fields ``names`` of records of one type.

    The record type is ``schema``'s, or ``fields`` behind the bytes ``start`` (a union's branch). ``whole`` decodes all
    of a value or raises Poison. ``sizes``: length of fields of type bytes, where it is fixed; another length is read
    all the same. Texts come as str, or as UTF-8 for those in ``as_bytes``. With ``head_before``, the first of what
    ``of`` returns is the binary of all fields before that one.
    """

    def __init__(
        self,
        schema: Schema,
        names: Sequence[str],
        *,
        start: bytes | None = None,
        fields: Sequence[dict[str, Any]] | None = None,
        whole: Callable[[bytes | None], Mapping[str, Any]] | None = None,
        sizes: Mapping[str, int] | None = None,
        as_bytes: Collection[str] = (),
        head_before: str | None = None,
    ) -> None:
        start = schema.header if start is None else start
        fields = schema.fields if fields is None else fields
        missing = set(names) - {field["name"] for field in fields}
        if missing:
            raise Fatal(f"{schema.file} has no field {sorted(missing)}; is the name right?")
        self._names = names
        self._as_bytes = frozenset(as_bytes)
        self._whole = whole or Codec(schema.file).decode
        self._file, self._start = schema.file, len(start)
        pattern = _Pattern(schema.named, sizes or {})
        head_parts: list[bytes] = []
        parts: list[bytes] = []
        found: dict[str, Callable[[bytes], Any]] = {}
        self._head: Any = None
        for number, field in enumerate(fields):
            name = field["name"]
            if name == head_before:
                self._head = own_fields_schema(schema, list(fields[:number]), "Head")
                head_parts, parts = parts, []
            expression = pattern.of(field["type"], name)
            if name in names:
                found[name] = pattern.converter(field["type"], name in self._as_bytes)
                expression = b"(" + expression + b")"
            parts.append(expression)
        head = b"".join(head_parts)
        expression = re.escape(start) + (b"(" + head + b")" if self._head else head) + b"".join(parts)
        self._match = re.compile(expression, re.DOTALL).fullmatch
        in_order = list(found)
        self._converters: list[Callable[[bytes], Any]] = [bytes] if self._head else []
        self._converters += found.values()
        # Groups come in the schema's order; asking in another one costs a look-up a field.
        self._order = None if in_order == list(names) else [in_order.index(name) for name in names]

    def of(self, value: bytes | None) -> list[Any]:
        """The head, if asked for, and the fields in the order of ``names``. Raises Poison as the full decoder does."""
        match = None if value is None else self._match(value)
        if match is None:
            return self._of_whole(value)
        found = list(map(call, self._converters, match.groups()))
        if self._order is None:
            return found
        skipped = 1 if self._head else 0
        return found[:skipped] + [found[skipped + place] for place in self._order]

    def record(self, value: bytes | None) -> dict[str, Any]:
        """The fields by name; see ``of``."""
        return dict(zip(self._names, self.of(value), strict=True))

    def _of_whole(self, value: bytes | None) -> list[Any]:
        record = self._whole(value)
        found = [record[name].encode() if name in self._as_bytes else record[name] for name in self._names]
        if self._head:
            assert value is not None
            _, end = read(value, self._start, self._head, self._file)
            found.insert(0, value[self._start : end])
        return found


class _Pattern:
    """Avro types as regular expressions, and what makes values of what they matched."""

    def __init__(self, named: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        self._named = named
        self._sizes = sizes

    def of(self, kind: Any, field: str = "") -> bytes:
        """The expression of type ``kind``; it has no groups that capture."""
        kind = self._resolved(kind)
        if isinstance(kind, list):
            return _either((long_bytes(number), self.of(branch)) for number, branch in enumerate(kind))
        if kind == "string":
            return _counted(rb"[\x00-\x7f]", TEXT_BYTES_MAX)
        if kind == "bytes":
            size = self._sizes.get(field)
            return _counted(b".", BYTES_MAX) if size is None else re.escape(long_bytes(size)) + b".{%d}" % size
        if isinstance(kind, str):
            return _PRIMITIVES[kind]
        if kind["type"] == "enum":
            return b"[" + b"".join(rb"\x%02x" % (2 * n) for n in range(min(len(kind["symbols"]), 64))) + b"]"
        if kind["type"] == "array":
            item = self.of(kind["items"])
            blocks = [(long_bytes(count), b"(?:%b){%d}" % (item, count) + _NULL) for count in range(1, ITEMS_MAX + 1)]
            return _either([(_NULL, b""), *blocks])
        if kind["type"] == "record":
            return b"".join(self.of(field["type"]) for field in kind["fields"])
        raise Fatal(f"Avro type {kind}: no excerpt can be made of records with it; use Codec.decode")

    def converter(self, kind: Any, as_bytes: bool) -> Callable[[bytes], Any]:
        """What makes a value of the bytes that ``of(kind)`` matched."""
        kind = self._resolved(kind)
        if kind == "string":
            return _text_bytes if as_bytes else _text
        if kind == "bytes":
            return _bytes
        if kind in ("int", "long"):
            return _long
        if kind == "double":
            return _double
        if isinstance(kind, list) and len(kind) == 2 and kind[0] == "null":
            rest = self.converter(kind[1], as_bytes)
            return lambda raw: None if raw == _NULL else rest(raw[1:])
        if isinstance(kind, dict) and kind["type"] == "enum":
            return {bytes([2 * number]): symbol for number, symbol in enumerate(kind["symbols"])}.__getitem__
        if isinstance(kind, dict) and kind["type"] == "array":
            parsed = fastavro.parse_schema(kind)  # of a type that defines all that it uses
            return lambda raw: [] if raw == _NULL else fastavro.schemaless_reader(BytesIO(raw), parsed, None)
        raise Fatal(f"Avro type {kind}: its value can't be part of an excerpt; use Codec.decode")

    def _resolved(self, kind: Any) -> Any:
        """``kind`` without names and without attributes that mean nothing to the binary form."""
        while True:
            if isinstance(kind, str) and kind not in _SIMPLE:
                kind = self._named[kind if "." in kind else f"weir.{kind}"]
            elif isinstance(kind, dict) and kind["type"] not in _COMPLEX:
                kind = kind["type"]
            else:
                return kind


def _either(alternatives: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Alternatives of (first bytes, expression of the rest): one comparison passes over each that is not meant."""
    return b"(?:" + b"|".join(re.escape(first) + rest for first, rest in alternatives) + b")"


def _counted(unit: bytes, size_max: int) -> bytes:
    """A length and as many ``unit``."""
    return _either((long_bytes(size), b"%b{%d}" % (unit, size) if size else b"") for size in range(size_max + 1))


def _text(raw: bytes) -> str:
    return raw[1:].decode()


def _text_bytes(raw: bytes) -> bytes:
    return raw[1:]


def _bytes(raw: bytes) -> bytes:
    at = 0
    while raw[at] > 0x7F:
        at += 1
    return raw[at + 1 :]


def _long(raw: bytes) -> int:
    if len(raw) == 6:  # times in milliseconds, without a loop
        a, b, c, d, e, f = raw
        number = (a & 0x7F | (b & 0x7F) << 7 | (c & 0x7F) << 14) | (d & 0x7F | (e & 0x7F) << 7 | f << 14) << 21
        return number >> 1 ^ -(number & 1)
    number = 0
    for byte in reversed(raw):
        number = number << 7 | byte & 0x7F
    return number >> 1 ^ -(number & 1)


def _double(raw: bytes) -> float:
    value: float = struct.unpack("<d", raw)[0]
    return value
