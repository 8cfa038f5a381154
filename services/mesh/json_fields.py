"""A JSON record -> its fields, or Poison. Pure.

orjson refuses what JSON forbids (NaN, byte-order marks, trailing text, bad UTF-8, more than 1,024 levels) but keeps
the last of two equal keys in silence. Each member of a flat object has one colon outside strings: no more colons than
keys means no key twice, which settles nearly every record in 0.1 us; a scan decides about the others.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from services.mesh.errors import Poison, RejectCode
from services.mesh.event_fields import shown

# A string, and the colon after it when it is a key. Strings are matched whole, so a colon inside one is never seen.
_STRING: Final = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*")[ \t\r\n]*(:?)', re.DOTALL)


def json_fields(value: bytes) -> dict[str, Any]:
    """The members of the one flat object in ``value``. Raises Poison."""
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Poison(
            RejectCode.MALFORMED_JSON, f"{shown(value)} is not JSON: {error}; send one JSON object in UTF-8"
        ) from error
    if type(fields) is not dict:
        raise Poison(RejectCode.MALFORMED_JSON, f"{shown(value)} is a {type(fields).__name__}; send one JSON object")
    if value.count(b":") != len(fields):
        _refuse_repeated_key(value, fields)
    return fields


def _refuse_repeated_key(value: bytes, fields: dict[str, Any]) -> None:
    if any(isinstance(member, (dict, list)) for member in fields.values()):
        return  # no field of an event is nested: refused by its type, whatever its keys are
    seen: set[str] = set()
    for match in _STRING.finditer(value):
        if match[2]:
            key = orjson.loads(match[1])
            if key in seen:
                raise Poison(
                    RejectCode.MALFORMED_JSON,
                    f"key {shown(key)} stands twice in {shown(value)}; which one is meant? send it once",
                    key if key in _PLAIN else "",
                )
            seen.add(key)


_PLAIN: Final = frozenset(
    ("event_id", "customer_id", "terminal_id", "event_time_ms", "amount_minor", "currency", "channel", "country",
     "device_id", "outcome_id", "label", "source", "observed_time_ms", "revises")
)  # fmt: skip
