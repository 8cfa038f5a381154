"""Bad and odd records with the verdict that each must get: the code of its dead letter, "" for accepted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any

import fastavro

from services.mesh.codec import schema
from tests.unit.ingestion.world import NOW_MS, payment

RAW = schema("payments/event_raw.v1.avsc")
FULL = payment(currency="EUR", channel="pos", country="DE", device_id="d-1")
TEXTS = ("event_id", "customer_id", "terminal_id", "channel", "device_id")
OPTIONAL = ("currency", "channel", "country", "device_id")
LEFT_OUT = object()

BAD_TEXTS = {
    "empty": "",
    "too long": "x" * 129,
    "huge": "x" * 20_000,
    "nul": "a\x00b",
    "newline": "a\nb",
    "delete": "a\x7f",
    "c1 control": "a\x85",
    "right-to-left override": "a\u202eb",
    "left-to-right mark": "\u200ea",
    "line separator": "a\u2028",
    "byte-order mark": "\ufeffa",
}
GOOD_TEXTS = {
    "one": "x",
    "longest": "x" * 128,
    "longest in four bytes": "\U0001f600" * 128,
    "accents": "Zoë-№ 7",
    "look-alike": "с-1",  # Cyrillic: another customer, not an error
    "arabic": "بطاقة",
    "space": "a b",
    "quotes": "a\"b\\c'd",
    "colons": 'urn:card:"1":2',
    "newer than this Python's Unicode": "\U0001fae9",
}
# field, value, code
FIELD_VALUES: list[tuple[str, Any, str]] = [
    *((name, text, "out_of_range") for name in TEXTS for text in BAD_TEXTS.values()),
    *((name, text, "") for name in TEXTS for text in GOOD_TEXTS.values()),
    *((n, v, "out_of_range") for n in ("event_time_ms", "amount_minor") for v in (-1, -(2**63), 2**63 - 1, 10**16)),
    ("event_time_ms", 0, "out_of_range"),
    ("event_time_ms", 253_402_300_800_000, "out_of_range"),
    ("event_time_ms", 253_402_300_799_999, "clock_ahead"),
    ("event_time_ms", NOW_MS // 1_000, ""),  # seconds: valid by itself; the clock tells
    ("event_time_ms", 1, ""),
    ("amount_minor", 0, ""),
    ("amount_minor", 10**15, ""),
    ("amount_minor", 10**15 + 1, "out_of_range"),
    *(("currency", text, "out_of_range") for text in ("", "eur", "EU", "EURO", "XXX", "XAU", "ZZZ", " EUR", "ЕUR")),
    *(("currency", text, "") for text in ("EUR", "JPY", "KWD", "CLF", "HRK", "XCG")),
    *(("country", text, "out_of_range") for text in ("", "de", "D", "DEU", "D1", "D\n", "ДЕ")),
    ("country", "DE", ""),
]
WRONG_TYPES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(TEXTS, ("1", "1.5", "true", "[]", "{}", '["x"]')),
    "currency": ("null", "1", "true", "[]"),
    "country": ("1", "true", "{}"),
    "event_time_ms": ("null", '"1"', "1.0", "1e3", "true", "[]", "1.7e12"),
    "amount_minor": ("null", '"12"', "12.0", "12.5", "1e2", "true", "false", "-0.0", "5e-324", "[1]", '{"eur": 1}'),
}


def json_text(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()


def with_literal(name: str, literal: str) -> bytes:
    """A valid event with ``name`` given as ``literal`` in JSON."""
    return json_text({**FULL, name: "@"}).replace(b'"@"', literal.encode())


def json_cases() -> Iterator[tuple[str, bytes | None, str]]:
    """What it is, the bytes, the code."""
    whole = json_text(FULL)
    yield "plain", whole, ""
    yield "only what is required", json_text(payment()), ""
    yield "tombstone", None, "tombstone"
    for end in range(len(whole)):
        yield f"cut at byte {end}", whole[:end], "malformed_json"
    for name, value, code in FIELD_VALUES:
        yield f"{name}={value!r:.30}", json_text({**FULL, name: value}), code
    for name, literals in WRONG_TYPES.items():
        for literal in literals:
            yield f"{name}: {literal}", with_literal(name, literal), "wrong_type"
    for name in FULL:
        missing = {key: value for key, value in FULL.items() if key != name}
        required = name not in (*OPTIONAL, "event_id")
        yield f"{name} left out", json_text(missing), "missing_field" if required else ""
        null_is_fine = name in ("channel", "country", "device_id")
        yield f"{name} null", with_literal(name, "null"), "" if null_is_fine else "wrong_type"
        twice = whole[:-1] + b', "%b": %b}' % (name.encode(), json.dumps(FULL[name]).encode())
        yield f"{name} twice", twice, "malformed_json"
        yield f"{name} misspelt", json_text({**missing, name.upper(): FULL[name]}), "unknown_field"
    numbers = {
        "malformed_json": ("NaN", "Infinity", "-Infinity", "1e400", "01", "+1", "0x10", ".5", "9" * 5_000),
        "out_of_range": (str(2**63), str(2**64 - 1)),
        "wrong_type": (str(2**64), str(-(2**63) - 1), "9" * 300),  # orjson makes floats of them
        "": ("-0",),
    }
    for code, literals in numbers.items():
        for literal in literals:
            yield f"amount {literal:.20}", with_literal("amount_minor", literal), code
    syntax: dict[str, bytes] = {
        "empty": b"",
        "blank": b" ",
        "null": b"null",
        "number": b"1",
        "string": b'"x"',
        "array": b"[]",
        "array of events": b"[" + whole + b"]",
        "two documents": whole + whole,
        "trailing text": whole + b"x",
        "trailing comma": whole[:-1] + b",}",
        "comment": whole[:-1] + b"/* x */}",
        "single quotes": whole.replace(b'"', b"'"),
        "byte-order mark": b"\xef\xbb\xbf" + whole,
        "utf-16": whole.decode().encode("utf-16"),
        "utf-32": whole.decode().encode("utf-32"),
        "latin-1": whole.replace(b"pos", b"\xe9"),
        "lone surrogate": whole.replace(b"pos", b"\\ud800"),
        "surrogate bytes": whole.replace(b"pos", b"\xed\xa0\x80"),
        "overlong utf-8": whole.replace(b"pos", b"\xc0\xaf"),
        "raw newline": whole.replace(b"pos", b"p\nos"),
        "depth 2,000": b"[" * 2_000 + b"]" * 2_000,
        "depth 10,000": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        "escaped key twice": whole[:-1] + b', "amount\\u005fminor": 7}',
        "key twice, text with colons": json_text({**FULL, "device_id": "a:b:c"})[:-1] + b', "amount_minor" : 7}',
        "unknown key twice": whole[:-1] + b', "x": 1, "x": 2}',
    }
    for name, value in syntax.items():
        yield name, value, "malformed_json"
    yield "nested a thousand deep", with_literal("channel", "[" * 900 + "]" * 900), "wrong_type"
    yield "4,000 keys", json_text({f"k{n}": n for n in range(4_000)}), "unknown_field"
    yield "white space around", b" \n\t" + whole.replace(b":", b" :\t") + b"\r\n ", ""
    yield "as large as allowed", whole + b" " * (65_536 - len(whole)), ""
    yield "a byte too large", whole + b" " * (65_537 - len(whole)), "too_large"
    yield "10 MB", json_text({**FULL, "channel": "x" * 10_000_000}), "too_large"


def avro_bytes(fields: Mapping[str, Any], writer: Any = RAW.parsed, schema_id: int = RAW.id) -> bytes:
    out = BytesIO()
    out.write(b"\x00" + schema_id.to_bytes(4, "big"))
    fastavro.schemaless_writer(out, writer, fields)
    return out.getvalue()


def avro_cases() -> Iterator[tuple[str, bytes, str]]:
    """The same for registry Avro."""
    whole = avro_bytes(FULL)
    yield "plain", whole, ""
    yield "only what is required", avro_bytes(payment()), ""
    for end in range(1, len(whole)):
        yield f"cut at byte {end}", whole[:end], "malformed_avro"
    for name, value, code in FIELD_VALUES:
        if isinstance(value, str) or -(2**63) <= value < 2**63:
            left_out = (name, value) == ("event_id", "")  # Avro's way: the field's default
            yield f"{name}={value!r:.30}", avro_bytes({**FULL, name: value}), "" if left_out else code
    yield "event_id left out", avro_bytes({name: value for name, value in FULL.items() if name != "event_id"}), ""
    for schema_id in (0, 2, 7, 99, 2**31, 2**32 - 1):
        yield f"schema {schema_id}", avro_bytes(FULL, schema_id=schema_id), "unknown_schema"
    head = whole[:5]
    yield "trailing byte", whole + b"\x00", "malformed_avro"
    yield "two records", whole + whole[5:], "malformed_avro"
    yield "length that leads back to the start", head + b"\x0b" + whole[6:], "malformed_avro"
    yield "negative length", head + b"\x01" + whole[6:], "malformed_avro"
    yield "length 2^62", head + b"\x80" * 8 + b"\x80\x01" + whole[6:], "malformed_avro"
    yield "overlong length", head + bytes([whole[5] | 0x80, 0]) + whole[6:], "malformed_avro"
    yield "eleven-byte number", head + b"\xff" * 10 + b"\x01" + whole[6:], "malformed_avro"
    yield "65-bit number", head + b"\xff" * 9 + b"\x02" + whole[6:], "malformed_avro"
    yield "amount of 65 bits", whole.replace(b"\xc4\x13", b"\xff" * 9 + b"\x02"), "malformed_avro"
    yield "string is not utf-8", whole.replace(b"t-1", b"t\xff1"), "malformed_avro"
    yield "union branch -1", whole.replace(b"\x02\x06pos", b"\x01\x06pos"), "malformed_avro"
    yield "union branch 2", whole.replace(b"\x02\x06pos", b"\x04\x06pos"), "malformed_avro"
    yield "array<null> of 2^62 (hangs fastavro)", head + b"\x80" * 9 + b"\x01\x00", "malformed_avro"
    yield "5,001 bytes that nest (crash fastavro)", head + b"\x02" * 5_001, "malformed_avro"
    yield "a byte too large", whole + b"\x00" * (65_537 - len(whole)), "too_large"
