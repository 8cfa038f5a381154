"""Many Avro records at once, column by column: for readers of a whole log, who need a few fields of each record.

All records of one schema have their fields in one order, so one field is read of every record before the next one is
looked at, with one cursor for each record. That costs 2 us a record where decoding one by one costs 30 to 40.

    table = Columns(schema("labelled.v1.avsc"), ("event_time_ms", "score", "vector")).read(values)
    table.sound                     bool, (n,): the others are not of this schema, or are damaged
    table.numbers["score"]          long, int, enum (place in its symbols): int64; double, float: float64
    table.spans["vector"]           string, bytes, string or null: where it lies in ``table.content``
    table.items["challenger_scores"]  array of records: a table of items, and the record that each belongs to

Records that are not sound have zeros everywhere. Texts are not checked to be UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from services.mesh.codec import Schema

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_NUMBERS = {"long", "int", "enum"}
_WIDTH = {"double": 8, "float": 4}
_VARINT_BYTES_MAX = 10
_PAD = bytes(16)  # a cursor that stands at the very end may still be read through


class Spans(NamedTuple):
    """Where a text or bytes lies: int64, (n,) each, into ``content``."""

    start: Ints
    length: Ints


@dataclass(slots=True)
class Table:
    """What was read. ``content`` holds all records, one behind the other."""

    content: npt.NDArray[np.uint8]
    sound: Mask
    numbers: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    spans: dict[str, Spans] = field(default_factory=dict)
    items: dict[str, tuple[Ints, dict[str, npt.NDArray[Any]], dict[str, Spans]]] = field(default_factory=dict)
    whole: Spans = field(default_factory=lambda: Spans(np.empty(0, np.int64), np.empty(0, np.int64)))

    def texts(self, spans: Spans) -> list[str]:
        """As Python strings."""
        content = self.content.tobytes()
        return [
            content[start : start + length].decode("utf-8", "replace")
            for start, length in zip(spans.start.tolist(), spans.length.tolist(), strict=True)
        ]

    def names(self, spans: Spans) -> tuple[list[str], Ints]:
        """Distinct texts, and for each row the place of its own: for the few values of a closed set."""
        prints = fingerprints(self.content, spans)
        _, first, place = np.unique(prints, return_index=True, return_inverse=True)
        return self.texts(Spans(spans.start[first], spans.length[first])), place.astype(np.int64)

    def matrix(self, spans: Spans, columns: int) -> tuple[npt.NDArray[np.float32], Mask]:
        """Little-endian float32 vectors: (n, columns), and which rows have just that length (zeros elsewhere)."""
        width = 4 * columns
        fits = spans.length == width
        rows = np.zeros((len(spans.start), width), dtype=np.uint8)
        rows[fits] = self.content[spans.start[fits, None] + np.arange(width)]
        return rows.view("<f4").astype(np.float32, copy=False), fits


class Columns:
    """Reads ``wanted`` fields of records of ``schema``, and walks over the rest."""

    def __init__(self, schema: Schema, wanted: Sequence[str]) -> None:
        self._header = np.frombuffer(schema.header, dtype=np.uint8)
        self._wanted = frozenset(wanted)
        types = _named_types(schema.raw)
        self._fields = [(entry["name"], _resolved(entry["type"], types)) for entry in schema.fields]
        unknown = self._wanted - {name for name, _ in self._fields}
        assert not unknown, f"{schema.file} has no field {sorted(unknown)}"

    def read(self, values: Sequence[bytes]) -> Table:
        """Decode ``values``, in wire format."""
        content = np.frombuffer(b"".join(values) + _PAD, dtype=np.uint8)
        lengths = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
        ends = np.cumsum(lengths)
        starts = ends - lengths
        sound = lengths >= len(self._header)
        for place, byte in enumerate(self._header.tolist()):
            sound &= content[np.where(sound, starts + place, 0)] == byte
        table = Table(content, sound, whole=Spans(starts, lengths))
        walk = _Walk(content, starts + len(self._header), ends, sound)
        for name, kind in self._fields:
            walk.field(kind, _Keep(table.numbers, table.spans, table.items, name) if name in self._wanted else None)
        sound &= walk.cursor == ends
        _clear(table)
        return table


class _Keep(NamedTuple):
    """Where a wanted field goes, and under which name."""

    numbers: dict[str, npt.NDArray[Any]]
    spans: dict[str, Spans]
    items: dict[str, tuple[Ints, dict[str, npt.NDArray[Any]], dict[str, Spans]]]
    name: str


class _Walk:
    """One cursor for each record; a record that does not fit its schema is marked and stands still."""

    def __init__(self, content: npt.NDArray[np.uint8], cursor: Ints, ends: Ints, sound: Mask) -> None:
        self._content = content
        self.cursor = cursor
        self._ends = ends
        self._sound = sound
        self._everybody = np.arange(len(cursor), dtype=np.int64)

    def field(self, kind: Any, keep: _Keep | None) -> None:
        """Step over one field of every record."""
        self._value(self._everybody, kind, keep)

    def _value(self, who: Ints, kind: Any, keep: _Keep | None) -> None:
        name = kind if isinstance(kind, str) else "union" if isinstance(kind, list) else kind["type"]
        if name in _NUMBERS:
            found = self._varint(who)
            if name == "enum":
                self._sound[who[(found < 0) | (found >= len(kind["symbols"]))]] = False
            if keep:
                keep.numbers[keep.name] = found
        elif name in _WIDTH:
            self._fixed(who, name, keep)
        elif name in ("string", "bytes"):
            length = self._varint(who)
            start = self.cursor[who]
            self._advance(who, length)
            if keep:
                keep.spans[keep.name] = Spans(start, length)
        elif name == "record":
            for entry in kind["fields"]:
                self._value(who, entry["type"], keep._replace(name=entry["name"]) if keep else None)
        elif name == "array":
            self._array(who, kind["items"], keep)
        elif name == "union":
            self._union(who, kind, keep)
        else:
            assert name == "null", f"{name}: no such type in the mesh's schemas"

    def _fixed(self, who: Ints, name: str, keep: _Keep | None) -> None:
        width = _WIDTH[name]
        start = self.cursor[who]
        self._advance(who, np.full(len(who), width, dtype=np.int64))
        if keep:
            at = np.where(self._sound[who], start, 0)
            raw = self._content[np.minimum(at[:, None] + np.arange(width), len(self._content) - 1)]
            keep.numbers[keep.name] = raw.view(f"<f{width}").ravel().astype(np.float64)

    def _union(self, who: Ints, branches: list[Any], keep: _Keep | None) -> None:
        """A text that may be null is kept, null as an empty one; other unions are walked over."""
        branch = self._varint(who)
        self._sound[who[(branch < 0) | (branch >= len(branches))]] = False
        start, length = np.zeros(len(who), dtype=np.int64), np.zeros(len(who), dtype=np.int64)
        for place, kind in enumerate(branches):
            some = np.flatnonzero(branch == place)
            if not len(some):
                continue
            found = _Keep({}, {}, {}, "") if keep else None
            self._value(who[some], kind, found)
            if found and found.spans:
                start[some], length[some] = found.spans[""]
        if keep:
            assert {"string", "null"}.issuperset(map(str, branches)), f"{keep.name}: only nullable texts are kept"
            keep.spans[keep.name] = Spans(start, length)

    def _array(self, who: Ints, kind: Any, keep: _Keep | None) -> None:
        owners: list[Ints] = []
        numbers: list[dict[str, npt.NDArray[Any]]] = []
        spans: list[dict[str, Spans]] = []
        left = self._block(who)
        while (some := who[left > 0]).size:
            found = _Keep({}, {}, {}, "") if keep else None
            self._value(some, kind, found)
            if found:
                owners.append(some)
                numbers.append(found.numbers)
                spans.append(found.spans)
            left[left > 0] -= 1
            # A block that is empty now is followed by the next one's count.
            ended = np.isin(who, some) & (left == 0)
            left[ended] = self._block(who[ended])
            left[~self._sound[who]] = 0
        if keep:
            keep.items[keep.name] = _joined(owners, numbers, spans, kind)

    def _block(self, who: Ints) -> Ints:
        """Items of the next block; a negative count is followed by the block's bytes, which nobody needs."""
        count = self._varint(who)
        negative = count < 0
        if negative.any():
            self._varint(who[negative])
        count = np.abs(count)
        # An item has at least one byte, so a damaged count ends here and not after 2^63 rounds.
        self._sound[who[(count < 0) | (count > self._ends[who] - self.cursor[who])]] = False
        count[~self._sound[who]] = 0
        return count

    def _varint(self, who: Ints) -> Ints:
        """The next zigzag varint of each, zeros for those that are not sound."""
        content, sound = self._content, self._sound
        at = np.where(sound[who], self.cursor[who], 0)
        last = len(content) - 1
        byte = content[at]
        value = (byte & 0x7F).astype(np.uint64)
        width = np.ones(len(who), dtype=np.int64)
        more = np.flatnonzero(byte >= 0x80)
        shift = 7
        while more.size and shift < 7 * _VARINT_BYTES_MAX:
            byte = content[np.minimum(at[more] + width[more], last)]
            value[more] |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
            width[more] += 1
            more = more[byte >= 0x80]
            shift += 7
        self._sound[who[more]] = False
        self._advance(who, width)
        number = (value >> np.uint64(1)).astype(np.int64) ^ -(value & np.uint64(1)).astype(np.int64)
        number[~self._sound[who]] = 0
        return number

    def _advance(self, who: Ints, width: Ints) -> None:
        after = self.cursor[who] + width
        fine = self._sound[who] & (width >= 0) & (after <= self._ends[who]) & (after >= self.cursor[who])
        self._sound[who] = fine
        self.cursor[who] = np.where(fine, after, self.cursor[who])


def fingerprints(content: npt.NDArray[np.uint8], spans: Spans) -> npt.NDArray[np.uint64]:
    """64 bits for each text, the same in every process: FNV-1a's step over bytes, then a mix of its high bits.

    http://www.isthe.com/chongo/tech/comp/fnv/; one million texts share one with a chance of 3 in 100 million.
    """
    found = np.full(len(spans.start), 0xCBF29CE484222325, dtype=np.uint64)
    prime = np.uint64(0x100000001B3)
    longest = int(spans.length.max(initial=0))
    last = len(content) - 1
    for place in range(longest):
        inside = spans.length > place
        byte = content[np.minimum(spans.start + place, last)].astype(np.uint64)
        found = np.where(inside, (found ^ byte) * prime, found)
    found ^= found >> np.uint64(32)
    return found * np.uint64(0x9E3779B97F4A7C15)


def _joined(
    owners: list[Ints], numbers: list[dict[str, npt.NDArray[Any]]], spans: list[dict[str, Spans]], kind: Any
) -> tuple[Ints, dict[str, npt.NDArray[Any]], dict[str, Spans]]:
    if not owners:
        return np.empty(0, np.int64), _empty_numbers(kind), _empty_spans(kind)
    return (
        np.concatenate(owners),
        {name: np.concatenate([n[name] for n in numbers]) for name in numbers[0]},
        {
            name: Spans(np.concatenate([s[name].start for s in spans]), np.concatenate([s[name].length for s in spans]))
            for name in spans[0]
        },
    )


def _empty_numbers(kind: Any) -> dict[str, npt.NDArray[Any]]:
    fields: list[Any] = kind["fields"] if isinstance(kind, dict) and kind["type"] == "record" else []
    return {f["name"]: np.empty(0) for f in fields if f["type"] not in ("string", "bytes")}


def _empty_spans(kind: Any) -> dict[str, Spans]:
    fields: list[Any] = kind["fields"] if isinstance(kind, dict) and kind["type"] == "record" else []
    none = np.empty(0, np.int64)
    return {f["name"]: Spans(none, none) for f in fields if f["type"] in ("string", "bytes")}


def _clear(table: Table) -> None:
    """What was read of a record before its damage showed is nobody's value."""
    unsound = ~table.sound
    if not unsound.any():
        return
    for array in table.numbers.values():
        array[unsound] = 0
    for name, spans in table.spans.items():
        table.spans[name] = Spans(np.where(unsound, 0, spans.start), np.where(unsound, 0, spans.length))
    for name, (owner, numbers, spans_by_name) in table.items.items():
        kept = table.sound[owner]
        table.items[name] = (
            owner[kept],
            {n: array[kept] for n, array in numbers.items()},
            {n: Spans(s.start[kept], s.length[kept]) for n, s in spans_by_name.items()},
        )


def _named_types(kind: Any) -> dict[str, Any]:
    """Named types anywhere in a schema, by short name."""
    found: dict[str, Any] = {}
    if isinstance(kind, list):
        for branch in kind:
            found |= _named_types(branch)
    elif isinstance(kind, Mapping):
        if kind.get("type") in ("record", "enum"):
            found[str(kind["name"])] = kind
        for child in (kind.get("type"), kind.get("items"), *kind.get("fields", ())):
            if isinstance(child, list | Mapping):
                found |= _named_types(child)
    return found


def _resolved(kind: Any, types: Mapping[str, Any]) -> Any:
    """``kind`` with every named type in place of its name."""
    if isinstance(kind, str):
        return _resolved(types[kind], types) if kind in types else kind
    if isinstance(kind, list):
        return [_resolved(branch, types) for branch in kind]
    match kind["type"]:
        case "record":
            fields = [{"name": f["name"], "type": _resolved(f["type"], types)} for f in kind["fields"]]
            return {"type": "record", "fields": fields}
        case "array":
            return {"type": "array", "items": _resolved(kind["items"], types)}
        case "enum":
            return {"type": "enum", "symbols": kind["symbols"]}
        case other:
            return _resolved(other, types)
