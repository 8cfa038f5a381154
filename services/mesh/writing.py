"""Avro's binary form of a record's fields, written by a plan that is made once.

For what stages append to a record (a few fields, once an event) a general writer spends most of its time on finding out
what it was given. ``writer_of`` finds out beforehand. Types that no stage writes (maps, fixed, unions beyond null and
one other) have no plan: None.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

Write = Callable[[Any], bytes]

# What a writer raises for a value that is not of its field's type.
MISFITS: Final = (KeyError, TypeError, AttributeError, OverflowError, struct.error)

_ONE: Final = tuple(bytes((number,)) for number in range(128))
_MISSING: Final = object()  # of no Avro type: every writer refuses it
_LONG_MIN: Final = -(2**63)
_LONG_MAX: Final = 2**63 - 1
_PLAIN: Final = frozenset(
    ("null", "boolean", "int", "long", "float", "double", "bytes", "string", "enum", "array", "record", "map", "fixed")
)


@lru_cache(maxsize=2_048)
def long_bytes(number: int) -> bytes:
    """``number`` as a zigzag varint. Raises OverflowError beyond 64 bits.

    Cached: append times repeat for a whole batch, and lengths for ever.
    """
    if not _LONG_MIN <= number <= _LONG_MAX:
        raise OverflowError(f"{number} does not fit 64 bits")
    zigzag = number << 1 if number >= 0 else ~(number << 1)
    if zigzag < 1 << 7:
        return _ONE[zigzag]
    if 1 << 35 <= zigzag < 1 << 42:  # times in milliseconds, from 1970 + 199 days to 2039
        low, high = zigzag & 0x1FFFFF, zigzag >> 21
        return bytes((
            low & 0x7F | 0x80, low >> 7 & 0x7F | 0x80, low >> 14 | 0x80,
            high & 0x7F | 0x80, high >> 7 & 0x7F | 0x80, high >> 14,
        ))  # fmt: skip
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def writer_of(fields: Sequence[Mapping[str, Any]], named: Mapping[str, Any]) -> Write | None:
    """What turns a mapping into the binary of ``fields``; None when one of them is of no type known here.

    ``named``: parsed types by full name. The writer raises one of ``MISFITS`` for what does not fit.
    """
    try:
        plan = tuple((field["name"], _default(field), _writer(field["type"], named)) for field in fields)
    except _NoPlan:
        return None
    return lambda record: b"".join([write(record.get(name, default)) for name, default, write in plan])


def _default(field: Mapping[str, Any]) -> Any:
    """What stands for a field that is left out; bytes have theirs in a spelling of its own."""
    return field.get("default", _MISSING) if field["type"] != "bytes" else _MISSING


class _NoPlan(Exception):
    """A type that is left to the general writer."""


def _writer(kind: Any, named: Mapping[str, Any]) -> Write:
    if isinstance(kind, list):
        return _optional(kind, named)
    if isinstance(kind, str) and kind not in _PLAIN:
        return _writer(named[kind if "." in kind else f"weir.{kind}"], named)
    name = kind if isinstance(kind, str) else kind["type"]
    if not isinstance(name, str):
        return _writer(name, named)
    if name in _SCALARS:
        return _SCALARS[name]
    if name == "enum":
        return {symbol: long_bytes(number) for number, symbol in enumerate(kind["symbols"])}.__getitem__
    if name == "array":
        return _array(_writer(kind["items"], named))
    if name == "record":
        write = writer_of(kind["fields"], named)
        if write is not None:
            return write
    raise _NoPlan


def _optional(branches: Sequence[Any], named: Mapping[str, Any]) -> Write:
    if len(branches) != 2 or branches[0] != "null":
        raise _NoPlan
    write = _writer(branches[1], named)
    return lambda value: b"\x00" if value is None else b"\x02" + write(value)


def _array(write: Write) -> Write:
    return lambda items: long_bytes(len(items)) + b"".join(map(write, items)) + b"\x00" if items else b"\x00"


def _text(value: str) -> bytes:
    raw = value.encode()
    size = len(raw)
    return (_ONE[size << 1] if size < 64 else long_bytes(size)) + raw


def _bytes(value: bytes) -> bytes:
    return long_bytes(len(value)) + value


_SCALARS: Final[dict[str, Write]] = {
    "null": {None: b""}.__getitem__,
    "boolean": {True: b"\x01", False: b"\x00"}.__getitem__,
    "int": long_bytes,
    "long": long_bytes,
    "float": struct.Struct("<f").pack,
    "double": struct.Struct("<d").pack,
    "bytes": _bytes,
    "string": _text,
}
