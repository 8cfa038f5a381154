"""How full one partition's windows are, and from which event time on that leaves room to keep events one by one.

Events are counted by the quarter of a day of their event time, whatever became of them, over as much as a view keeps.
While the counts fit the budget, everything stays exact. When they do not, the newest quarters that fit do, and what is
older is folded into tiles (see ``state``), the coarser the more of it there is. So what is folded is a function of the
partition's own log: a replay, a rebuild and the parity check come to the same. Nothing here looks at a machine.

A budget of ``memory`` bytes is ``memory / 48`` events: 16 bytes for an entry and up to 8 for the tiles of everything
older, twice, because Redis allocates as much again ahead of a value that is appended to (which is also where entries
stand until the next compaction). Beside it each entity costs its key and header, 250 bytes, and up to 15 events
that are too few to fold.
"""

from __future__ import annotations

from array import array
from base64 import b64decode, b64encode
from struct import Struct, error
from typing import Final

QUARTER_MS: Final = 6 * 3_600_000
BYTES_AN_EVENT: Final = 48
NEVER_MS: Final = -(2**63)

# A tile takes as much as three events, so it pays from six on, at a budget that is exactly full. With r times as many
# events as fit, tiles of at least 6 r events each take at most 8 bytes for each event of the budget.
_TILE_EVENTS: Final = 6
_NOTHING_YET: Final = -(2**40)
_NEWEST: Final = Struct("<q")


class Occupancy:
    """Counts of one partition and what follows from them. ``events_max``: the partition's share of the budget.

    ``exact_after_ms``: events up to here are to be folded; NEVER_MS while all fit. ``events``: those within the span.
    """

    __slots__ = ("_counts", "_cut", "_floor", "_held", "_newest", "events", "events_max", "exact_after_ms")

    def __init__(self, span_ms: int, events_max: int) -> None:
        # Four bytes a count: a partition would have to take 190,000 events a second to outgrow them.
        self._counts = array("I", bytes(4 * (span_ms // QUARTER_MS + 2)))
        self._newest = _NOTHING_YET
        self._floor = _NOTHING_YET - len(self._counts) + 1  # the oldest quarter that is counted
        self._cut = self._floor - 1  # the newest quarter that does not fit; below the floor: all fit
        self._held = 0  # events behind the cut
        self.events = 0
        self.events_max = max(1, events_max)
        self.exact_after_ms = NEVER_MS

    @property
    def tile_events_min(self) -> int:
        """How many events a tile must hold on average, so that tiles stay within their share of the budget."""
        return max(1, -(-_TILE_EVENTS * self.events // self.events_max))

    def add(self, time_ms: int) -> None:
        """Count one event; one that is older than the span changes nothing."""
        quarter = time_ms // QUARTER_MS
        if quarter > self._newest:
            self._advance(quarter)
        elif quarter < self._floor:
            return
        self._counts[quarter % len(self._counts)] += 1
        self.events += 1
        if quarter > self._cut:
            self._held += 1
            if self._held > self.events_max:
                self._tighten()

    def to_text(self) -> str:
        """For the store's mark; ``from_text`` is the reverse."""
        return b64encode(_NEWEST.pack(self._newest) + self._counts.tobytes()).decode()

    @classmethod
    def from_text(cls, span_ms: int, events_max: int, text: str) -> Occupancy:
        """Raises ValueError when ``text`` was not written for this span."""
        occupancy = cls(span_ms, events_max)
        if not text:
            return occupancy
        stored = b64decode(text, validate=True)
        counts = array("I")
        try:
            (occupancy._newest,) = _NEWEST.unpack_from(stored)
            counts.frombytes(stored[_NEWEST.size :])
        except error as cause:
            raise ValueError(f"{len(stored)} bytes of occupancy are cut short") from cause
        if len(counts) != len(occupancy._counts):
            raise ValueError(f"{len(counts)} counts where {len(occupancy._counts)} belong")
        occupancy._counts = counts
        occupancy._floor = occupancy._newest - len(counts) + 1
        occupancy._cut = occupancy._floor - 1
        occupancy.events = occupancy._held = sum(counts)
        occupancy._tighten()
        return occupancy

    def _advance(self, quarter: int) -> None:
        """The newest event is of a later quarter: forget what has left the span."""
        counts, room = self._counts, len(self._counts)
        floor = quarter - room + 1
        for gone in range(self._floor, min(floor, self._floor + room)):
            count = counts[gone % room]
            counts[gone % room] = 0
            self.events -= count
            if gone > self._cut:
                self._held -= count
        self._newest, self._floor = quarter, floor
        self._cut = max(self._cut, floor - 1)
        self._tighten()

    def _tighten(self) -> None:
        """Move the cut until what is behind it fits; the newest quarter always counts as fitting.

        The cut never has to move back: what lies behind a given quarter only grows.
        """
        while self._held > self.events_max and self._cut < self._newest - 1:
            self._cut += 1
            self._held -= self._counts[self._cut % len(self._counts)]
        self.exact_after_ms = NEVER_MS if self._cut < self._floor else (self._cut + 1) * QUARTER_MS - 1
