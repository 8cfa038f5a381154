"""The columns that an input file may have, and the one check that all formats share: is it in order of time?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.mesh.errors import Fatal
from services.simulator.outliers import believable_ms

TEXT = ("event_id", "customer_id", "terminal_id", "currency", "channel", "country", "device_id")
WHOLE = ("event_time_ms", "amount_minor")
TRUTH = "is_fraud"
REQUIRED = ("event_time_ms", "customer_id", "terminal_id", "amount_minor")
ALLOWED = (*WHOLE, *TEXT, TRUTH)

# What ingestion forgives; older records become dead letters, which one by one is its business.
LATENESS_MS = 3_600_000
# A file with more than this share of late records is in no order at all, and sending it would reject most of it.
LATE_SHARE_MAX = 0.10
LATE_RECORDS_MIN = 5

Ints = NDArray[np.int64]


def check_columns(file: str, names: set[str]) -> None:
    """Refuse a file that lacks a column or has one that no contract knows; Fatal names it."""
    for name in REQUIRED:
        if name not in names:
            raise Fatal(f"{file}: no column {name}; needed are {', '.join(REQUIRED)} (and event_id, if it has {TRUTH})")
    if TRUTH in names and "event_id" not in names:
        raise Fatal(f"{file}: has {TRUTH} but no column event_id; an outcome must name its event, add the column")
    for name in sorted(names - set(ALLOWED)):
        raise Fatal(f"{file}: unknown column {name}; drop or rename it, allowed are {', '.join(ALLOWED)}")


class OrderCheck:
    """Watches event times go by; raises once the input is evidently not sorted by them."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._clock_ms = -(2**62)
        self._records = 0
        self._late = 0

    def see(self, event_time_ms: Ints) -> None:
        """The next records' times; Fatal when too many are late."""
        if not len(event_time_ms):
            return
        clock = np.maximum(np.maximum.accumulate(believable_ms(event_time_ms)), self._clock_ms)
        late = clock - event_time_ms > LATENESS_MS
        self._records += len(event_time_ms)
        self._late += int(late.sum())
        self._clock_ms = int(clock[-1])
        if self._late > max(LATE_RECORDS_MIN, LATE_SHARE_MAX * self._records):
            row = self._records - len(late) + int(np.flatnonzero(late)[0])
            behind_h = float((clock - event_time_ms).max()) / LATENESS_MS
            raise Fatal(
                f"{self._file}:{row + 1}: not sorted by event_time_ms ({self._late} of {self._records} records are "
                f"behind by up to {behind_h:.1f} h and would be rejected as late); sort the file by event_time_ms"
            )


def kind_of(name: str) -> str:
    """What a column holds, for messages."""
    kinds = {"event_time_ms": "int64 (Unix milliseconds)", "amount_minor": "int64 (minor units)", TRUTH: "bool"}
    return kinds.get(name, "string")
