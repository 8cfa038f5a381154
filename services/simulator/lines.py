"""One line of a text file as a record, parsed as far as it can be.

A line that is no record, or that does not fit its columns, is sent byte for byte as it is: judging is ingestion's work.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from services.simulator.columns import TRUTH, WHOLE

_WHOLE_NUMBER = re.compile(r"-?\d{1,18}")
_TRUTHS = {"true": True, "1": True, "false": False, "0": False, "": None}


class Line(NamedTuple):
    """One line, parsed as far as it can be."""

    value: bytes  # what to send
    event_id: str | None
    event_time_ms: int | None
    customer_id: str | None
    fraud: bool | None
    fields: dict[str, Any] | None  # None: not a record at all


class JsonLines:
    """One JSON object a line; a line is sent as it is, without its ``is_fraud``."""

    skip = 0

    def parse(self, raw: bytes) -> Line:
        """``raw`` without its line end."""
        try:
            record = orjson.loads(raw)
        except orjson.JSONDecodeError:
            record = None
        if not isinstance(record, dict):
            return Line(raw, None, None, None, None, None)
        if isinstance(record.get(TRUTH, True), bool | None):
            return _line(raw, record)
        return Line(raw, None, None, None, None, record)  # the label is no label: ingestion refuses the field


class CsvLines:
    """Comma-separated lines under a header; sent as JSON, or as they are when a field does not fit its column."""

    skip = 1

    def __init__(self, header: Sequence[str]) -> None:
        self._header = header

    def parse(self, raw: bytes) -> Line:
        """``raw`` without its line end."""
        try:
            text = raw.decode()
            fields = next(csv.reader([text], strict=True)) if '"' in text else text.split(",")
        except (UnicodeDecodeError, csv.Error):
            return Line(raw, None, None, None, None, None)
        if len(fields) != len(self._header):
            return Line(raw, None, None, None, None, None)
        record: dict[str, Any] = {}
        for name, field in zip(self._header, fields, strict=True):
            if name in WHOLE:
                record[name] = int(field) if _WHOLE_NUMBER.fullmatch(field) else field
            elif name == TRUTH:
                record[name] = _TRUTHS.get(field.lower(), field)
            elif field:
                record[name] = field
        if isinstance(record.get(TRUTH, True), bool | None) and all(isinstance(record[name], int) for name in WHOLE):
            return _line(None, record)
        return Line(raw, None, None, None, None, record)


def _line(raw: bytes | None, record: dict[str, Any]) -> Line:
    """A record whose truth, if any, is well formed; it is taken out of what is sent."""
    has_truth = TRUTH in record
    fraud = record.pop(TRUTH, None)
    event_id, time, customer = record.get("event_id"), record.get("event_time_ms"), record.get("customer_id")
    return Line(
        orjson.dumps(record) if has_truth or raw is None else raw,
        event_id if type(event_id) is str else None,
        # Beyond any clock it is garbage that must not carry the sender's own clock away.
        time if type(time) is int and 0 <= time < 2**52 else None,
        customer if type(customer) is str else None,
        fraud,
        {**record, TRUTH: fraud} if has_truth else record,
    )
