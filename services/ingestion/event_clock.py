"""Event time of one raw partition, in log order: what is late, what is ahead, and what may move the clock. Pure.

The clock is the greatest event time accepted so far; it never steps back. The wall clock it is held against is the
broker's append time of the record at hand, so that a replay reaches the same verdicts.

* Ahead: more than ``ahead_ms`` after the record's own append time. Refused.
* Late: more than ``lateness_ms`` behind the clock. Refused.
* Jump: more than ``jump_ms`` ahead of the clock. Refused, and remembered as a voice for the new time, until enough
  voices agree; the record that completes them is accepted and moves the clock. Voices agree when they are within one
  ``jump_ms`` of each other and come in a row: an accepted record shows that time has not moved for the others, and
  silences them. Enough is ``JUMP_CUSTOMERS`` different customers, or, where fewer are about, ``JUMP_EVENTS`` different
  events. A sender that is wrong about one record in ten gets five voices in a row once in 100,000 records only if
  nobody else's are between them; a whole stream that resumes after days loses four records a partition to dead letters.

Because only accepted records move the clock or silence voices, the state at any offset follows from the accepted
events before it and the raw records after the last of them: that is how ``rebuild.py`` gets it back.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from services.mesh.errors import Poison, RejectCode

JUMP_CUSTOMERS: Final = 5
JUMP_EVENTS: Final = 50  # also bounds the memory: 16 bytes a voice
_HEAD: Final = struct.Struct("<qqqH")  # clock, earliest and latest voice, voices
_VOICE: Final = struct.Struct("8s8s")  # hashes of customer and identity


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockRules:
    """How far event time may stray; all in milliseconds."""

    lateness_ms: int = 3_600_000
    ahead_ms: int = 300_000
    jump_ms: int = 86_400_000
    field: str = "event_time_ms"  # what the clock runs on, for messages
    setting: str = "WEIR_LATENESS"  # what allows more


class EventClock:
    """One partition's clock. ``now_ms`` is 0 until the first event is accepted."""

    __slots__ = ("_earliest_ms", "_latest_ms", "_rules", "_voices", "now_ms")

    def __init__(self, rules: ClockRules, now_ms: int = 0) -> None:
        self._rules = rules
        self.now_ms = now_ms
        self._voices: list[tuple[bytes, bytes]] = []
        self._earliest_ms = 0
        self._latest_ms = 0

    @property
    def late_before_ms(self) -> int:
        """Events before this time are late."""
        return self.now_ms - self._rules.lateness_ms

    def refuse(self, event_time_ms: int, append_time_ms: int, customer: bytes, identity: bytes) -> Poison | None:
        """Why an event of ``customer`` may not be accepted now, or None.

        A jump is remembered as a voice; nothing else changes.
        """
        rules = self._rules
        if event_time_ms > append_time_ms + rules.ahead_ms:
            return Poison(
                RejectCode.CLOCK_AHEAD,
                f"{rules.field}={event_time_ms} is {_span(event_time_ms - append_time_ms)} after its arrival at "
                f"{append_time_ms}; {_span(rules.ahead_ms)} are allowed; set the sender's clock, and check its unit",
                rules.field,
            )
        now_ms = self.now_ms
        if event_time_ms < now_ms - rules.lateness_ms:
            return Poison(
                RejectCode.LATE,
                f"{rules.field}={event_time_ms} is {_span(now_ms - event_time_ms)} behind the partition's clock "
                f"{now_ms}; {_span(rules.lateness_ms)} are allowed; send sooner, or raise {rules.setting}",
                rules.field,
            )
        if now_ms and event_time_ms > now_ms + rules.jump_ms and not self._agreed(event_time_ms, customer, identity):
            return Poison(
                RejectCode.CLOCK_JUMP,
                f"{rules.field}={event_time_ms} is {_span(event_time_ms - now_ms)} ahead of the partition's clock "
                f"{now_ms}; until {JUMP_CUSTOMERS} customers in a row agree, {_span(rules.jump_ms)} are allowed; "
                f"{len(self._voices)} voices so far; send again once the clock has moved",
                rules.field,
            )
        return None

    def accept(self, event_time_ms: int) -> None:
        """An event was accepted: move on, and silence the voices for another time."""
        if event_time_ms > self.now_ms:
            self.now_ms = event_time_ms
        if self._voices:
            self._voices = []

    def _agreed(self, event_time_ms: int, customer: bytes, identity: bytes) -> bool:
        speaker, said = (blake2b(name, digest_size=8).digest() for name in (customer, identity))
        earliest_ms = min(self._earliest_ms, event_time_ms)
        latest_ms = max(self._latest_ms, event_time_ms)
        if not self._voices or latest_ms - earliest_ms > self._rules.jump_ms:
            self._voices = []
            earliest_ms = latest_ms = event_time_ms
        self._earliest_ms, self._latest_ms = earliest_ms, latest_ms
        if all(said != known for _, known in self._voices) and len(self._voices) < JUMP_EVENTS:
            self._voices.append((speaker, said))
        return len({who for who, _ in self._voices}) >= JUMP_CUSTOMERS or len(self._voices) >= JUMP_EVENTS

    def pack(self) -> bytes:
        """The whole state."""
        head = _HEAD.pack(self.now_ms, self._earliest_ms, self._latest_ms, len(self._voices))
        return head + b"".join(_VOICE.pack(*voice) for voice in self._voices)

    @classmethod
    def unpack(cls, rules: ClockRules, state: bytes) -> EventClock:
        """The reverse of ``pack``. Raises ValueError for bytes that it did not write."""
        if len(state) < _HEAD.size:
            raise ValueError(f"a clock of {len(state)} bytes")
        now_ms, earliest_ms, latest_ms, voices = _HEAD.unpack_from(state)
        if len(state) != _HEAD.size + voices * _VOICE.size:
            raise ValueError(f"a clock of {len(state)} bytes with {voices} voices")
        clock = cls(rules, now_ms)
        clock._earliest_ms, clock._latest_ms = earliest_ms, latest_ms
        clock._voices = list(_VOICE.iter_unpack(state[_HEAD.size :]))
        return clock


def _span(milliseconds: int) -> str:
    """A length of time for people, in its two largest units."""
    seconds, rest_ms = divmod(milliseconds, 1_000)
    if not seconds:
        return f"{rest_ms} ms"
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
