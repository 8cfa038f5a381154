"""How fast to send: ``max``, a factor of event time, or events a second. Pure: the time of day is handed in."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from services.mesh.errors import Fatal

# After a stall (a full window, a slept laptop) at most this much is caught up at once, so that no flood follows.
CATCH_UP_S_MAX = 1.0

_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|[smhdw]?)")
_PER_SECOND = re.compile(r"(\d+(?:\.\d+)?)/s")
_FACTOR = re.compile(r"(\d+(?:\.\d+)?)x?")


@dataclass(frozen=True, slots=True)
class Unpaced:
    """As fast as the mesh takes it."""


@dataclass(frozen=True, slots=True)
class Factor:
    """``times`` seconds of event time in a second."""

    times: float


@dataclass(frozen=True, slots=True)
class PerSecond:
    """``events`` in a second, whatever their event times."""

    events: float


Speed = Unpaced | Factor | PerSecond


class Allowance(NamedTuple):
    """What may have been sent by now since pacing began."""

    event_time_ms: float  # events up to this time
    events: float  # this many


def parse_speed(text: str) -> Speed:
    """``max``, ``60`` or ``60x``, ``500/s``; Fatal on anything else."""
    lean = text.strip().lower()
    if lean == "max":
        return Unpaced()
    if match := _PER_SECOND.fullmatch(lean):
        return PerSecond(_positive(float(match[1]), text))
    if match := _FACTOR.fullmatch(lean):
        return Factor(_positive(float(match[1]), text))
    raise Fatal(f"SPEED={text!r}: must be max, a factor of event time such as 60, or events a second such as 500/s")


def parse_duration_s(text: str, name: str) -> float:
    """Seconds of ``7d``, ``30s``, ``1.5h`` or ``240``; ``name`` is the setting's, for the message."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise Fatal(
            f"{name}={text!r}: must be a number of seconds or one with a unit (s, m, h, d, w), such as 30s or 7d"
        )
    return float(match[1]) * _UNITS_S[match[2]]


class Pacer:
    """Turns passing time into an allowance, from ``start_s`` and the first paced event's ``start_event_ms`` on."""

    def __init__(self, speed: Speed, start_s: float, start_event_ms: int) -> None:
        self.speed = speed
        self._start_s = start_s
        self._start_event_ms = start_event_ms

    def allowance(self, now_s: float) -> Allowance:
        """What may have been sent by ``now_s``."""
        passed_s = now_s - self._start_s
        match self.speed:
            case Unpaced():
                return Allowance(math.inf, math.inf)
            case Factor(times):
                return Allowance(self._start_event_ms + passed_s * 1_000.0 * times, math.inf)
            case PerSecond(events):
                return Allowance(math.inf, passed_s * events)

    def stalled(self, now_s: float, event_time_ms: int, events: int) -> None:
        """Something else held sending back to ``event_time_ms`` and ``events``: forgive what cannot be caught up."""
        allowed = self.allowance(now_s)
        match self.speed:
            case Factor(times):
                behind_s = (allowed.event_time_ms - event_time_ms) / (1_000.0 * times)
            case PerSecond(rate):
                behind_s = (allowed.events - events) / rate
            case Unpaced():
                return
        self._start_s += max(0.0, behind_s - CATCH_UP_S_MAX)


def _positive(value: float, text: str) -> float:
    if value <= 0:
        raise Fatal(f"SPEED={text!r}: must be above 0")
    return value
