"""Tiles: what is left of the oldest events of an entity that has too many of them.

A tile holds the folded events of one stretch of event time, as (time of its newest event, count, total amount, labelled
genuine, labelled fraud). Stretches are ``width_ms`` long: what the view declares, or that doubled as often as memory
asked for. A window counts a tile wholly if its newest event is in the window
and else not at all. So at each edge of a window the answer is off by at most the content of the one tile that the
edge cuts.

Kept as running totals, so that a window is two look-ups; a late event or label adds to all totals behind it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from services.features.words import Label


@dataclass(frozen=True, slots=True)
class Tile:
    """Content of one tile; ``amount`` in 1e-4 major units."""

    newest_ms: int
    count: int
    amount: int
    genuine: int
    fraud: int


class Tiles:
    """All tiles of one entity, oldest first; totals have one entry more than there are tiles and begin with the
    base."""

    __slots__ = ("amounts", "counts", "frauds", "genuines", "newest_ms", "width_ms")

    def __init__(self, width_ms: int) -> None:
        self.width_ms = width_ms
        self.newest_ms: list[int] = []
        self.counts: list[int] = [0]
        self.amounts: list[int] = [0]
        self.genuines: list[int] = [0]
        self.frauds: list[int] = [0]

    def __len__(self) -> int:
        return len(self.newest_ms)

    def __iter__(self) -> Iterator[Tile]:
        totals = list(zip(self.counts, self.amounts, self.genuines, self.frauds, strict=True))
        for newest_ms, before, after in zip(self.newest_ms, totals, totals[1:], strict=False):
            yield Tile(newest_ms, *(b - a for a, b in zip(before, after, strict=True)))

    def append(self, tile: Tile) -> None:
        """Add a whole tile behind the newest."""
        self.newest_ms.append(tile.newest_ms)
        self.counts.append(self.counts[-1] + tile.count)
        self.amounts.append(self.amounts[-1] + tile.amount)
        self.genuines.append(self.genuines[-1] + tile.genuine)
        self.frauds.append(self.frauds[-1] + tile.fraud)

    def add(self, time_ms: int, amount: int, genuine: int, fraud: int) -> None:
        """Fold one event in: into the tile of its stretch, or a new one."""
        at = bisect_left(self.newest_ms, time_ms)
        if not self._covers(at, time_ms):
            if at and self._covers(at - 1, time_ms):
                at -= 1
                self.newest_ms[at] = time_ms
            else:
                self.newest_ms.insert(at, time_ms)
                for totals in (self.counts, self.amounts, self.genuines, self.frauds):
                    totals.insert(at, totals[at])
        for totals, step in ((self.counts, 1), (self.amounts, amount), (self.genuines, genuine), (self.frauds, fraud)):
            if step:
                _raise_from(totals, at + 1, step)

    def relabel(self, time_ms: int, label: Label, is_revision: bool) -> bool:
        """Count a label of a folded event; False when no tile covers its time.

        A tile no longer knows which of its events have labels. A label replaces one of the other kind when it says that
        it is a revision or when every event of the tile has a label already; else it is one more.
        """
        at = bisect_left(self.newest_ms, time_ms)
        if not self._covers(at, time_ms):
            return False
        mine, other = (self.frauds, self.genuines) if label == "fraud" else (self.genuines, self.frauds)
        others = other[at + 1] - other[at]
        is_full = others + mine[at + 1] - mine[at] == self.counts[at + 1] - self.counts[at]
        if others and (is_revision or is_full):
            _raise_from(other, at + 1, -1)
        elif is_full:
            return True
        _raise_from(mine, at + 1, 1)
        return True

    def drop_until(self, horizon_ms: int) -> None:
        """Forget the tiles whose newest event is not after ``horizon_ms``."""
        dead = bisect_right(self.newest_ms, horizon_ms)
        for series in (self.newest_ms, self.counts, self.amounts, self.genuines, self.frauds):
            del series[:dead]

    def coarsen(self, events_min: int, span_ms: int) -> None:
        """Double the width until a tile holds ``events_min`` events on average, or one tile may hold ``span_ms``."""
        while len(self.newest_ms) * events_min > self.counts[-1] - self.counts[0] and self.width_ms < span_ms:
            self.width_ms *= 2
            newest_ms, width_ms = self.newest_ms, self.width_ms
            last = len(newest_ms) - 1
            kept = [n for n in range(last) if newest_ms[n] // width_ms != newest_ms[n + 1] // width_ms] + [last]
            self.newest_ms = [newest_ms[n] for n in kept]
            for totals in (self.counts, self.amounts, self.genuines, self.frauds):
                totals[:] = [totals[0], *(totals[n + 1] for n in kept)]

    def _covers(self, at: int, time_ms: int) -> bool:
        return at < len(self.newest_ms) and self.newest_ms[at] // self.width_ms == time_ms // self.width_ms


def _raise_from(totals: list[int], start: int, step: int) -> None:
    totals[start:] = [total + step for total in totals[start:]]
