"""Which stretches of a stage's input have been counted: repeats are dropped, holes are known. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.mesh.records import Covered

# Rebalances make a profile of one process arrive before an earlier one of another; a hole that is older than so many
# others will not be filled any more.
HOLES_MAX = 64


@dataclass(slots=True)
class _Stretches:
    """Disjoint stretches of one partition, ascending; never adjacent."""

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    lost: int = 0  # offsets of holes that were given up

    def overlaps(self, start: int, end: int) -> bool:
        place = bisect_right(self.starts, start)
        return (place > 0 and self.ends[place - 1] > start) or (place < len(self.starts) and self.starts[place] < end)

    def add(self, start: int, end: int) -> None:
        place = bisect_right(self.starts, start)
        if place and self.ends[place - 1] == start:
            place -= 1
            self.ends[place] = end
        else:
            self.starts.insert(place, start)
            self.ends.insert(place, end)
        if place + 1 < len(self.starts) and self.starts[place + 1] == self.ends[place]:
            self.ends[place] = self.ends.pop(place + 1)
            self.starts.pop(place + 1)
        if len(self.starts) > HOLES_MAX:
            self.lost += self.starts[1] - self.ends[0]
            self.ends[0] = self.ends.pop(1)
            self.starts.pop(1)


class Coverage:
    """Of one stage, all partitions."""

    def __init__(self) -> None:
        self._partitions: dict[int, _Stretches] = {}
        self.counted = 0
        self.repeats = 0

    def admit(self, covered: Sequence[Covered]) -> bool:
        """Take a profile that covers these stretches; False when any of them is counted already."""
        spans = [(c["source_partition"], c["from_offset"], c["to_offset"]) for c in covered]
        if any(self._partitions.setdefault(p, _Stretches()).overlaps(start, end) for p, start, end in spans):
            self.repeats += 1
            return False
        for partition, start, end in spans:
            self._partitions[partition].add(start, end)
            self.counted += end - start
        return True

    @property
    def missing(self) -> int:
        """Offsets between counted stretches: at most so many records were handled and never told."""
        return sum(
            stretches.lost + sum(b - a for a, b in zip(stretches.ends, stretches.starts[1:], strict=False))
            for stretches in self._partitions.values()
        )
