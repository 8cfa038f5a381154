"""Dirt in the input, each piece with the verdict that it must get.

The verdict of every piece follows from records of the same customer before it, so it holds for any number of
partitions: a late record comes right after a clean one of its customer that is hours newer, a repeat within minutes of
its original. What was put in is returned beside the records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from services.mesh.errors import Fatal, RejectCode

Verdict = Literal["duplicate"] | RejectCode
DUPLICATE: Verdict = "duplicate"

_HOUR_MS = 3_600_000
LATE_BY_MS = (2 * _HOUR_MS, 8 * _HOUR_MS)  # well past the allowed lateness of 1 h
REPEAT_WITHIN_MS = 20 * 60_000  # well inside it, so that the first one is still remembered

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirtyRates:
    """Pieces of each sort over clean records."""

    late: float = 0.0
    duplicate: float = 0.0
    conflict: float = 0.0
    malformed: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise Fatal(f"dirty rate {name}={getattr(self, name)}: must be between 0 and 1")

    @classmethod
    def evenly(cls, rate: float) -> DirtyRates:
        """``rate`` in all, a quarter each."""
        return cls(late=rate / 4, duplicate=rate / 4, conflict=rate / 4, malformed=rate / 4)

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return max(self.late, self.duplicate, self.conflict, self.malformed) > 0.0


class Injected(NamedTuple):
    """One piece of dirt: where it is in the soiled stretch, and what must become of it."""

    row: int
    verdict: Verdict


class Soiled(NamedTuple):
    """A stretch of records with dirt between them; ``origin[i]`` is the clean record's row, -1 for dirt."""

    event_time_ms: Ints
    keys: list[bytes]
    values: list[bytes]
    origin: Ints
    injected: list[Injected]


def soil(
    rng: np.random.Generator, rates: DirtyRates, event_time_ms: Ints, keys: Sequence[bytes], values: Sequence[bytes]
) -> Soiled:
    """Put dirt between clean records (sorted by time, JSON objects of the event contract), drawn from ``rng``."""
    n = len(values)
    extra: list[tuple[int, int, bytes, bytes, Verdict]] = []  # goes after this row, base row, key, value, verdict
    for row in _some(rng, n, rates.late):
        event = orjson.loads(values[row])
        event["event_id"] += "-late"
        event["event_time_ms"] -= int(rng.integers(*LATE_BY_MS))
        extra.append((row, row, keys[row], orjson.dumps(event), RejectCode.LATE))
    for row in _some(rng, n, rates.duplicate):
        extra.append((_soon_after(rng, event_time_ms, row), row, keys[row], values[row], DUPLICATE))
    for row in _some(rng, n, rates.conflict):
        event = orjson.loads(values[row])
        event["amount_minor"] += int(rng.integers(1, 10_000))
        extra.append((_soon_after(rng, event_time_ms, row), row, keys[row], orjson.dumps(event), RejectCode.CONFLICT))
    for row in _some(rng, n, rates.malformed):
        value, verdict = _break(rng, orjson.loads(values[row]))
        extra.append((row, row, keys[row], value, verdict))
    return _weave(event_time_ms, keys, values, extra)


def _some(rng: np.random.Generator, n: int, rate: float) -> list[int]:
    """Rows picked at ``rate``; without a rate nothing is drawn."""
    return [int(row) for row in np.flatnonzero(rng.random(n) < rate)] if rate > 0.0 else []


def _soon_after(rng: np.random.Generator, event_time_ms: Ints, row: int) -> int:
    until = int(event_time_ms[row]) + int(rng.integers(0, REPEAT_WITHIN_MS))
    return int(np.searchsorted(event_time_ms, until, side="right")) - 1


def _break(rng: np.random.Generator, event: dict[str, object]) -> tuple[bytes, Verdict]:
    """A record that no contract allows, of one of several sorts."""
    event["event_id"] = f"{event['event_id']}-broken"
    sort = int(rng.integers(0, 6))
    match sort:
        case 0:
            text = orjson.dumps(event)
            return text[: int(rng.integers(1, len(text)))], RejectCode.MALFORMED_JSON
        case 1:
            return b"\xff\xfe not even text", RejectCode.MALFORMED_JSON
        case 2:
            event["amount_minor"] = "12.50"
            return orjson.dumps(event), RejectCode.WRONG_TYPE
        case 3:
            del event[("event_time_ms", "terminal_id", "amount_minor")[int(rng.integers(0, 3))]]
            return orjson.dumps(event), RejectCode.MISSING_FIELD
        case 4:
            event["amount_minor"] = -int(rng.integers(1, 10_000))
            return orjson.dumps(event), RejectCode.OUT_OF_RANGE
        case _:
            event["amuont_minor"] = 100
            return orjson.dumps(event), RejectCode.UNKNOWN_FIELD


def _weave(
    event_time_ms: Ints,
    keys: Sequence[bytes],
    values: Sequence[bytes],
    extra: Sequence[tuple[int, int, bytes, bytes, Verdict]],
) -> Soiled:
    """Clean records in their order, each piece of dirt after the row that it belongs to."""
    n = len(values)
    # A stable sort on (row that it follows) leaves clean record i before the dirt that goes after i.
    after = np.concatenate([np.arange(n), np.array([piece[0] for piece in extra], np.int64)])
    order = np.argsort(after, kind="stable")
    base = np.concatenate([np.arange(n), np.array([piece[0] for piece in extra], np.int64)])[order]
    picked = order.tolist()
    return Soiled(
        event_time_ms=event_time_ms[base],
        keys=[keys[i] if i < n else extra[i - n][2] for i in picked],
        values=[values[i] if i < n else extra[i - n][3] for i in picked],
        origin=np.where(order < n, order, -1),
        injected=[Injected(row, extra[i - n][4]) for row, i in enumerate(picked) if i >= n],
    )
