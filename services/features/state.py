"""What one view keeps of one entity: a log of its events, sorted by event time, and tiles for what no longer fits.

Kept are the times newer than the entity's newest time minus ``kept_span_ms`` (the horizon). What is older may still
be in memory until the next compaction, but no answer depends on it. Every change is also written, in arrival order,
as an entry of 8-byte numbers to ``pending``; the store holds the same entries, see ``layout``.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, islice
from operator import sub
from struct import Struct
from typing import Final

from services.features.layout import Append, Rewrite, pack
from services.features.occupancy import NEVER_MS, Occupancy
from services.features.tiles import Tiles
from services.features.words import IS_LABEL, IS_REVISION, LABEL_BITS, LABEL_CODE, TAG_SHIFT, Label

# Room that a compaction leaves: at least so many entries, else half of what is kept. A rewrite of n entries then comes
# once in n / 2 changes (32 bytes written a change), and memory holds a quarter more than needed on average.
ROOM_MIN: Final = 16
# Fewer old events than this stay exact even when memory is short: a tile takes as much as three, its entity as fifteen.
MEMORY_FOLD_MIN: Final = 16

# Nothing kept is shared between entities: a column that a view doesn't keep is this one, which stays empty.
_NOT_KEPT: Final[array[int]] = array("q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What one view keeps of each of its entities.

    ``store_mark`` is 8 bytes that tell this view of this feature set from any other; ``entry`` packs one entry of the
    log: time, then the amount in 1e-4 major units if kept, then the word if labels are kept.
    """

    view: str
    store_mark: bytes
    amounts: bool
    labels: bool
    kept_span_ms: int
    tile_width_ms: int
    entry: Struct = field(init=False)

    def __post_init__(self) -> None:
        assert len(self.store_mark) == 8, self.store_mark
        object.__setattr__(self, "entry", Struct("<" + "q" * (1 + self.amounts + self.labels)))


class EntityState:
    """One entity of one view. Changed in place for speed; what it becomes depends on it and the change alone.

    ``times_ms``: event times, ascending. ``totals``: running amounts, one more than there are events. ``words``: tag
    and label of each. ``labelled_ms``, ``frauds_ms``: times of the events labelled at all, and as fraud, ascending.
    ``log_entries``: entries since the last compaction, which comes at ``compact_at``. ``stored_bytes``: length of the
    value in the store, 0 when that must be written whole.
    """

    __slots__ = (
        "compact_at",
        "frauds_ms",
        "keeping",
        "labelled_ms",
        "log_entries",
        "pending",
        "stored_bytes",
        "tiles",
        "times_ms",
        "totals",
        "words",
    )

    def __init__(self, keeping: Keeping) -> None:
        self.keeping = keeping
        self.times_ms: array[int] = array("q")
        self.totals: array[int] | list[int] = array("q", (0,)) if keeping.amounts else _NOT_KEPT
        self.words: array[int] = array("q") if keeping.labels else _NOT_KEPT
        self.labelled_ms: array[int] = array("q") if keeping.labels else _NOT_KEPT
        self.frauds_ms: array[int] = array("q") if keeping.labels else _NOT_KEPT
        self.tiles: Tiles | None = None
        self.pending = bytearray()
        self.stored_bytes = 0
        self.log_entries = 0
        self.compact_at = ROOM_MIN

    @property
    def exact_events(self) -> int:
        """Events in memory one by one; those behind the horizon count until the next compaction (which is no accident
        of this process: it comes at the same place of the log in every one).
        """
        return len(self.times_ms)

    def insert(self, time_ms: int, amount: int, tag: int) -> None:
        """Place one event by its time, behind those of the same time.

        Raises struct.error, having changed nothing, when a number does not fit 64 bits.
        """
        keeping = self.keeping
        if keeping.labels:
            word = tag << TAG_SHIFT
            entry = keeping.entry.pack(time_ms, amount, word) if keeping.amounts else keeping.entry.pack(time_ms, word)
        else:
            word = 0
            entry = keeping.entry.pack(time_ms, amount) if keeping.amounts else keeping.entry.pack(time_ms)
        tiles, times_ms = self.tiles, self.times_ms
        if tiles is not None and time_ms < tiles.newest_ms[-1]:
            # A tile behind the horizon must not come back to life by taking in an event of its hour.
            tiles.drop_until(times_ms[-1] - keeping.kept_span_ms)
            tiles.add(time_ms, amount if keeping.amounts else 0, 0, 0)
        else:
            if keeping.amounts:
                try:
                    self.totals.append(self.totals[-1] + amount)
                except OverflowError:
                    self.totals = [*self.totals, self.totals[-1] + amount]
            if not times_ms or time_ms >= times_ms[-1]:
                times_ms.append(time_ms)
                if keeping.labels:
                    self.words.append(word)
            else:
                self._insert_late(time_ms, amount, word)
        self.pending += entry
        self.log_entries += 1

    def relabel(self, time_ms: int, tag: int, label: Label, is_revision: bool) -> bool:
        """Give an event its label, or another one; False when no such event is kept."""
        times_ms = self.times_ms
        if not times_ms or time_ms <= times_ms[-1] - self.keeping.kept_span_ms:
            return False
        code = LABEL_CODE[label]
        at = self._find(time_ms, tag)
        if at is not None:
            former = self.words[at] & LABEL_BITS
            if former == code:
                return True
            self.words[at] = tag << TAG_SHIFT | code
            if not former:
                insort(self.labelled_ms, time_ms)
            if label == "fraud":
                insort(self.frauds_ms, time_ms)
            elif former:
                del self.frauds_ms[bisect_left(self.frauds_ms, time_ms)]
        elif self.tiles is None or not self.tiles.relabel(time_ms, label, is_revision):
            return False
        word = tag << TAG_SHIFT | IS_LABEL | code | (IS_REVISION if is_revision else 0)
        numbers = (time_ms, 0, word) if self.keeping.amounts else (time_ms, word)
        self.pending += self.keeping.entry.pack(*numbers)
        self.log_entries += 1
        return True

    def compact(self, exact_events_max: int, occupancy: Occupancy | None = None) -> None:
        """Drop what is behind the horizon and fold what is too much, for this entity or for memory, if any is due."""
        times_ms = self.times_ms
        if not times_ms:
            return
        horizon_ms = times_ms[-1] - self.keeping.kept_span_ms
        dead = bisect_right(times_ms, horizon_ms)
        # Only what is kept counts: whether the rest has left memory already must not show in any answer.
        kept = len(times_ms) - dead
        # A quarter at a time: folding one by one would rewrite the stored value for each event.
        folded = kept - max(1, exact_events_max * 3 // 4) if kept > exact_events_max else 0
        if occupancy is not None and occupancy.exact_after_ms > horizon_ms:
            old = min(bisect_right(times_ms, occupancy.exact_after_ms, dead) - dead, kept - 1)
            if old >= max(MEMORY_FOLD_MIN, kept // 4):
                folded = max(folded, old)
        if not folded and self.log_entries < self.compact_at:
            return
        self._drop(dead)
        if self.tiles is not None:
            self.tiles.drop_until(horizon_ms)
            if not self.tiles:
                self.tiles = None
        if folded:
            self._fold(folded)
            if occupancy is not None and occupancy.exact_after_ms > NEVER_MS:
                assert self.tiles is not None
                self.tiles.coarsen(occupancy.tile_events_min, self.keeping.kept_span_ms)
        self.log_entries = len(times_ms)
        self.compact_at = self.log_entries + max(ROOM_MIN, self.log_entries // 2, len(self.tiles or ()))
        self.stored_bytes = 0

    def take_delta(self) -> Append | Rewrite | None:
        """What the store must be told since the last call; None when nothing changed.

        Afterwards the state counts as stored: if the write is not made, drop the state and read it again.
        """
        delta: Append | Rewrite | None = None
        if not self.stored_bytes:
            delta = Rewrite(pack(self))
            self.stored_bytes = len(delta.data)
        elif self.pending:
            delta = Append(bytes(self.pending), self.stored_bytes)
            self.stored_bytes += len(delta.data)
        self.pending.clear()
        return delta

    def amounts(self) -> Iterator[int]:
        """Amount of each event in memory, in 1e-4 major units."""
        return map(sub, islice(self.totals, 1, None), self.totals)

    def restore(self, times_ms: array[int], amounts: array[int], words: array[int]) -> None:
        """Take over sorted columns, as they are in the store."""
        self.times_ms = times_ms
        if self.keeping.amounts:
            self.totals = _running(amounts)
        if self.keeping.labels:
            self.words = words
            self.labelled_ms = array("q", (t for t, w in zip(times_ms, words, strict=True) if w & LABEL_BITS))
            fraud = LABEL_CODE["fraud"]
            self.frauds_ms = array("q", (t for t, w in zip(times_ms, words, strict=True) if w & LABEL_BITS == fraud))

    def _insert_late(self, time_ms: int, amount: int, word: int) -> None:
        """Place an event before others; the total behind the last has its amount already."""
        keeping, totals = self.keeping, self.totals
        at = bisect_right(self.times_ms, time_ms)
        self.times_ms.insert(at, time_ms)
        if keeping.amounts:
            for position in range(len(totals) - 2, at, -1):
                totals[position] = totals[position - 1] + amount
        if keeping.labels:
            self.words.insert(at, word)

    def _find(self, time_ms: int, tag: int) -> int | None:
        times_ms, words = self.times_ms, self.words
        at = bisect_left(times_ms, time_ms)
        while at < len(times_ms) and times_ms[at] == time_ms:
            if words[at] >> TAG_SHIFT == tag:
                return at
            at += 1
        return None

    def _drop(self, count: int) -> None:
        """Forget the ``count`` oldest events."""
        if not count:
            return
        if self.keeping.amounts:
            # From 0 again, so that the totals stay small however long the entity lives.
            self.totals = _running(islice(self.amounts(), count, None))
        if self.keeping.labels:
            codes = [word & LABEL_BITS for word in self.words[:count]]
            del self.words[:count]
            del self.labelled_ms[: count - codes.count(0)]
            del self.frauds_ms[: codes.count(LABEL_CODE["fraud"])]
        del self.times_ms[:count]

    def _fold(self, count: int) -> None:
        """Fold the ``count`` oldest events into tiles."""
        if self.tiles is None:
            self.tiles = Tiles(self.keeping.tile_width_ms)
        amounts = list(islice(self.amounts(), count)) if self.keeping.amounts else [0] * count
        codes = [word & LABEL_BITS for word in self.words[:count]] if self.keeping.labels else [0] * count
        for time_ms, amount, code in zip(self.times_ms[:count], amounts, codes, strict=True):
            self.tiles.add(time_ms, amount, int(code == 1), int(code == 2))
        self._drop(count)


def _running(amounts: Iterator[int] | array[int]) -> array[int] | list[int]:
    """Running totals from 0; a list where they outgrow 64 bits (a window of amounts near the limit)."""
    totals = list(accumulate(amounts, initial=0))
    try:
        return array("q", totals)
    except OverflowError:
        return totals
