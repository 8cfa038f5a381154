"""Where the latest decisions and refusals lie: what the index has not taken in yet. Pure.

The index trails the log by about a second. The follower notes what it reads from where the index ends; what the index
has taken in is dropped. When it falls far behind, the oldest notes are dropped all the same, and ``covers`` says that
between the two something may be missing: then nobody may say that there is no such event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from services.mesh.lookup_entries import Place

PLACES_MAX: Final = 200_000  # 300 bytes each; a minute of a fast mesh

Key = tuple[bytes, bytes]
"""event_id and customer_id in UTF-8."""
Where = tuple[str, int]
"""Topic and partition."""


class Recent:
    """Places by key, for each followed partition from some offset on."""

    def __init__(self, places_max: int = PLACES_MAX) -> None:
        self._places: dict[tuple[str, Key], tuple[int, int]] = {}  # partition and offset of a key's latest record
        self._order: dict[Where, deque[tuple[int, Key]]] = {}
        self._from: dict[Where, int] = {}
        self._count = 0
        self._places_max = places_max

    def begin(self, starts: Mapping[Where, int]) -> None:
        """Forget everything; from now on partitions are followed from ``starts``."""
        self._places.clear()
        self._order = {where: deque() for where in starts}
        self._from = dict(starts)
        self._count = 0

    def note(self, where: Where, offset: int, key: Key) -> None:
        """A record of that key lies there."""
        self._places[where[0], key] = where[1], offset
        self._order[where].append((offset, key))
        self._count += 1
        if self._count > self._places_max:
            longest = max(self._order, key=lambda each: len(self._order[each]))
            self._drop_first(longest)

    def drop_before(self, progress: Mapping[Where, int]) -> None:
        """The index has taken in everything before ``progress``."""
        for where, next_offset in progress.items():
            order = self._order.get(where)
            while order and order[0][0] < next_offset:
                self._drop_first(where)
            if where in self._from:
                self._from[where] = max(self._from[where], next_offset)

    def place(self, topic: str, key: Key) -> Place | None:
        """Where the latest record of ``key`` in ``topic`` lies."""
        found = self._places.get((topic, key))
        return None if found is None else Place(topic, *found)

    def covers(self, where: Where, indexed_to: int) -> bool:
        """Whether index and notes together know everything in ``where`` up to now."""
        return where in self._from and self._from[where] <= indexed_to

    def _drop_first(self, where: Where) -> None:
        offset, key = self._order[where].popleft()
        self._count -= 1
        if self._places.get((where[0], key)) == (where[1], offset):
            del self._places[where[0], key]
        self._from[where] = max(self._from[where], offset + 1)
