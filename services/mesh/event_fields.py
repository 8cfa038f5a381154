"""Fields of a decoded record -> a valid EventRaw, or Poison that names the field. Pure.

Nothing is converted: "12" is not 12, 1.0 is not 1, true is not 1, "eur" is not "EUR". What a sender may leave out gets
its default here, for JSON and Avro alike. Ingestion judges by it, and so does whoever tells a sender before: one rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, NoReturn

from services.mesh.currency import EXPONENTS
from services.mesh.errors import Poison, RejectCode
from services.mesh.records import EventRaw

TEXT_CHARS_MAX: Final = 128
# Nine fields of at most 128 characters, each at most 12 bytes as an escaped surrogate pair, are below 12 kB; the rest
# is room for white space. Nothing larger reaches a decoder.
EVENT_BYTES_MAX: Final = 65_536
AMOUNT_MINOR_MAX: Final = 10**15  # exact as a float64 with room for sums of thousands; ten trillion euros
EVENT_TIME_MS_MAX: Final = 253_402_300_799_999  # the last millisecond of 9999, where calendars of many tools end
CURRENCY_DEFAULT: Final = "EUR"
_SHOWN_CHARS_MAX: Final = 80

_REQUIRED: Final = ("customer_id", "terminal_id", "event_time_ms", "amount_minor")
_KNOWN: Final = frozenset(EventRaw.__annotations__)
_ABSENT: Final = object()

# Control characters, line separators, direction marks and overrides, lone surrogates. A fixed list, not "unprintable":
# that depends on Python's Unicode version, and a replay must reach the same verdict.
_REFUSED_CHARACTERS: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufffe\uffff]"
)
_NULL: Final = "\x00"  # no field can hold it
_COUNTRY: Final = re.compile("[A-Z]{2}")


def valid_event(fields: Mapping[str, Any]) -> EventRaw:
    """``fields`` as an event in normal form; the id is derived when left out. Raises Poison."""
    if not fields.keys() <= _KNOWN:
        refuse_unknown(fields, EventRaw.__annotations__, "event")
    for name in _REQUIRED:
        if name not in fields:
            refuse_missing(name, fields, "event")
    event_id = fields.get("event_id", _ABSENT)
    currency = fields.get("currency", CURRENCY_DEFAULT)
    channel = fields.get("channel")
    country = fields.get("country")
    device_id = fields.get("device_id")
    if event_id is not _ABSENT:
        check_text("event_id", event_id)
    check_text("customer_id", fields["customer_id"])
    check_text("terminal_id", fields["terminal_id"])
    check_integer("event_time_ms", fields["event_time_ms"], 1, EVENT_TIME_MS_MAX)
    check_integer("amount_minor", fields["amount_minor"], 0, AMOUNT_MINOR_MAX)
    if type(currency) is not str or currency not in EXPONENTS:
        _refuse_currency(currency)
    if channel is not None:
        check_text("channel", channel)
    if country is not None:
        _check_country(country)
    if device_id is not None:
        check_text("device_id", device_id)
    event: EventRaw = {
        "event_id": "" if event_id is _ABSENT else event_id,
        "customer_id": fields["customer_id"],
        "terminal_id": fields["terminal_id"],
        "event_time_ms": fields["event_time_ms"],
        "amount_minor": fields["amount_minor"],
        "currency": currency,
        "channel": channel,
        "country": country,
        "device_id": device_id,
    }
    if event_id is _ABSENT:
        event["event_id"] = derived_event_id(event)
    return event


def body_hash_of(event: EventRaw) -> int:
    """64-bit hash over the normal form of everything but the identity: equal for the same event in JSON and in Avro.

    The joint is a control character, which no field can hold, so different bodies cannot join to the same text.
    """
    return int.from_bytes(blake2b(_body_text(event).encode(), digest_size=8).digest(), "little")


def derived_event_id(event: EventRaw) -> str:
    """The id of an event whose sender has none: a hash of its other fields, so that a resend gets the same one."""
    text = f"{event['customer_id']}\x1f{_body_text(event)}"
    return f"derived-{blake2b(text.encode(), digest_size=16).hexdigest()}"


def _body_text(event: EventRaw) -> str:
    channel, country, device_id = event["channel"], event["country"], event["device_id"]
    return (
        f"{event['terminal_id']}\x1f{event['event_time_ms']}\x1f{event['amount_minor']}\x1f{event['currency']}\x1f"
        f"{_NULL if channel is None else channel}\x1f{_NULL if country is None else country}\x1f"
        f"{_NULL if device_id is None else device_id}"
    )


def shown(value: object) -> str:
    """``value`` as an error message shows it: at most 80 characters, nothing that a terminal would act on."""
    text = ascii(value[: 4 * _SHOWN_CHARS_MAX] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= _SHOWN_CHARS_MAX else text[: _SHOWN_CHARS_MAX - 3] + "..."


def check_text(name: str, value: object) -> None:
    """A text of 1 to 128 plain characters. Raises Poison."""
    if type(value) is not str:
        refuse_type(name, value, "a string")
    # Printable covers nearly all ids in 40 ns; the list decides about the rest.
    if 0 < len(value) <= TEXT_CHARS_MAX and (value.isprintable() or not _REFUSED_CHARACTERS.search(value)):
        return
    if not value:
        refuse_range(name, value, "must not be empty")
    if len(value) > TEXT_CHARS_MAX:
        refuse_range(name, value, f"has {len(value)} characters; at most {TEXT_CHARS_MAX} are allowed")
    refuse_range(name, value, "holds a control character, direction mark or lone surrogate; send plain text")


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """A whole number in ``low..high``. Raises Poison."""
    if type(value) is not int:  # also refuses bool, which is an int to isinstance
        refuse_type(name, value, "an integer, written without quotes, fraction or exponent")
    if not low <= value <= high:
        refuse_range(name, value, f"must lie in {low}..{high}")


def _check_country(value: object) -> None:
    if type(value) is not str:
        refuse_type("country", value, "a string, or left out")
    if not _COUNTRY.fullmatch(value):
        refuse_range("country", value, "must be two upper-case letters (ISO 3166 alpha-2)")


def _refuse_currency(value: object) -> NoReturn:
    if type(value) is not str:
        refuse_type("currency", value, f"a string, or left out for {CURRENCY_DEFAULT}")
    refuse_range("currency", value, "must be an ISO 4217 code in upper case, for example EUR")


def refuse_unknown(fields: Mapping[str, Any], known: Mapping[str, Any], noun: str) -> NoReturn:
    """A field that no ``noun`` has."""
    name = min(str(field) for field in fields.keys() - known.keys())
    raise Poison(
        RejectCode.UNKNOWN_FIELD,
        f"field {shown(name)} is none of the {noun}'s; the fields are {', '.join(known)}",
        _header_safe(name),
    )


def refuse_missing(name: str, fields: Mapping[str, Any], noun: str) -> NoReturn:
    """A field that every ``noun`` has, and this one has not."""
    present = ", ".join(sorted(fields)) or "no fields"
    raise Poison(RejectCode.MISSING_FIELD, f"{name} is missing (the record has {present}); every {noun} needs it", name)


def refuse_type(name: str, value: object, wanted: str) -> NoReturn:
    """Not of the type that the field has."""
    message = f"{name}={shown(value)} ({type(value).__name__}): must be {wanted}"
    raise Poison(RejectCode.WRONG_TYPE, message, name)


def refuse_range(name: str, value: object, rule: str) -> NoReturn:
    """Of the right type, and still nothing that the field may hold."""
    raise Poison(RejectCode.OUT_OF_RANGE, f"{name}={shown(value)}: {rule}", name)


def _header_safe(name: str) -> str:
    """A field name that a stranger chose, fit for the error_field header."""
    return name[:TEXT_CHARS_MAX].encode("ascii", "backslashreplace").decode()
