"""Features the plain way: one thread, one sorted list an entity, every window counted from its slice.

The reference of ``loadtests.exactness``. It shares no code with ``services.features``: windows and formulas are written
out from the design. Amounts are integers of minor units (EUR, as in the inputs it is used on); one division, one
rounding to float32 at the end.
"""

from __future__ import annotations

import struct
from bisect import bisect_right, insort
from collections.abc import Callable

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
CUSTOMER_WINDOWS_MS = (5 * MINUTE_MS, HOUR_MS, DAY_MS, 7 * DAY_MS, 30 * DAY_MS)
TERMINAL_WINDOWS_MS = (DAY_MS, 7 * DAY_MS, 30 * DAY_MS)
DELAY_MS = 7 * DAY_MS
_LAST = (1 << 62,)


class CustomerReference:
    """Every payment of every customer, in the order in which they are added."""

    def __init__(self) -> None:
        self._payments: dict[str, list[tuple[int, ...]]] = {}

    def event(self, customer: str, time_ms: int, amount_minor: int) -> bytes:
        """Add one payment; the customer's 13 features, float32 little-endian."""
        payments = self._payments.setdefault(customer, [])
        insort(payments, (time_ms, amount_minor))
        end = bisect_right(payments, (time_ms, *_LAST))
        inside = [payments[bisect_right(payments, (time_ms - w, *_LAST)) : end] for w in CUSTOMER_WINDOWS_MS]
        counts = [len(window) for window in inside]
        means = [sum(p[1] for p in w) / (100 * n) if n else 0.0 for w, n in zip(inside, counts, strict=True)]
        days, of_day = divmod(time_ms // 1000, 86_400)
        weekend = (days + 3) % 7 >= 5
        return struct.pack("<13f", amount_minor / 100, weekend, of_day // 3600 <= 6, *counts, *means)


class TerminalReference:
    """Every payment and label of every terminal, in the order in which they are added."""

    def __init__(self) -> None:
        self._times: dict[str, list[int]] = {}
        self._labels: dict[str, dict[tuple[str, str], tuple[int, bool]]] = {}
        self._known: dict[tuple[str, str, str], int] = {}

    def event(self, terminal: str, customer: str, event: str, time_ms: int) -> bytes:
        """Add one payment; the terminal's 12 features, float32 little-endian."""
        times = self._times.setdefault(terminal, [])
        insort(times, time_ms)
        self._known[(terminal, customer, event)] = time_ms
        labels = list(self._labels.get(terminal, {}).values())
        counts, rates, known_rates, known = [], [], [], []
        for window_ms in TERMINAL_WINDOWS_MS:
            end_ms = time_ms - DELAY_MS
            count = bisect_right(times, end_ms) - bisect_right(times, end_ms - window_ms)
            fraud = sum(is_fraud for at, is_fraud in labels if end_ms - window_ms < at <= end_ms)
            recent = [is_fraud for at, is_fraud in labels if time_ms - window_ms < at <= time_ms]
            counts.append(count)
            rates.append(fraud / count if count else 0.0)
            known_rates.append(sum(recent) / len(recent) if recent else 0.0)
            known.append(len(recent))
        return struct.pack("<12f", *counts, *rates, *known_rates, *known)

    def label(self, terminal: str, customer: str, event: str, time_ms: int, is_fraud: bool) -> None:
        """Label a payment of the terminal, in place of a former label; of one that never came: nothing."""
        if self._known.get((terminal, customer, event)) == time_ms:
            self._labels.setdefault(terminal, {})[(customer, event)] = (time_ms, is_fraud)


def first_difference(served: bytes, recomputed: bytes, name_of: Callable[[int], str]) -> str:
    """Which feature differs first, for a message."""
    for place in range(0, len(served), 4):
        ours, theirs = served[place : place + 4], recomputed[place : place + 4]
        if ours != theirs:
            values = struct.unpack("<f", ours)[0], struct.unpack("<f", theirs)[0]
            return f"{name_of(place // 4)}: served {values[0]!r}, reference {values[1]!r}"
    return "lengths differ"
