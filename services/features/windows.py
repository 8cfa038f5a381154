"""What a feature set is made of: ops, durations, and lines that apply one op to several windows."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal

EventOp = Literal["amount", "is_weekend", "is_night"]
WindowOp = Literal["count", "amount_mean", "fraud_rate", "known_fraud_rate", "known_labels"]

EVENT_OPS: Final[tuple[EventOp, ...]] = ("amount", "is_weekend", "is_night")
WINDOW_OPS: Final[tuple[WindowOp, ...]] = ("count", "amount_mean", "fraud_rate", "known_fraud_rate", "known_labels")
LABEL_OPS: Final = frozenset({"fraud_rate", "known_fraud_rate", "known_labels"})
AMOUNT_OPS: Final = frozenset({"amount_mean"})

# Amounts are kept in 1e-4 major units: ISO 4217 knows 0 to 4 decimals, and in their finest unit all add up exactly.
UNITS_PER_MAJOR: Final = 10_000

_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_UNIT_BYTES: Final = {"k": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE = re.compile(r"([1-9][0-9]{0,8})([kMG])")
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])")


def duration_ms(text: object) -> int:
    """Milliseconds of ``5m``, ``1h``, ``30d``; raises ValueError for anything else."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is no duration: write a whole number above 0 and s, m, h or d, as in 5m or 30d")
    return int(match[1]) * _UNIT_MS[match[2]]


def size_bytes(text: object) -> int:
    """Bytes of ``64k``, ``640M``, ``2G`` (powers of 1,024); raises ValueError for anything else."""
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is no size: write a whole number above 0 and k, M or G, as in 640M")
    return int(match[1]) * _UNIT_BYTES[match[2]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One declared line: an op over each of its windows (none for an op that needs the event alone).

    ``names`` has one name a window. A window ``w`` with delay ``d`` covers ``(t - d - w, t - d]``.
    """

    names: tuple[str, ...]
    op: EventOp | WindowOp
    about: str = ""
    windows_ms: tuple[int, ...] = ()
    delay_ms: int = 0

    @property
    def reaches_ms(self) -> tuple[float, ...]:
        """How far behind the event each feature looks; minus infinity where it looks at the event alone."""
        if not self.windows_ms:
            return (-math.inf,) * len(self.names)
        return tuple(self.delay_ms + window_ms for window_ms in self.windows_ms)
