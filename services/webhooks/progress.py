"""Which offset may be committed while deliveries end in any order, and what to remember beside it. Pure.

A slow delivery holds back the committed offset, but not those behind it: the commit's metadata says up to where the
partition was read and which offsets in between are not settled, so that a restart sends only those again.
"""

from __future__ import annotations

import bisect
import re
from typing import Final, NamedTuple

# The metadata of a commit may have 4,096 bytes (the broker's offset.metadata.max.bytes): 2 for the version, 20 each for
# the time of creation and the position, and at most 20 for each offset, so 200 always fit. They are read in batches, of
# which the next is only taken into a partition that has room.
WAITING_MAX: Final = 200
METADATA_BYTES_MAX: Final = 4_096
assert 2 + 20 + 20 + 20 * WAITING_MAX <= METADATA_BYTES_MAX
_FORM: Final = re.compile(r"1 (\d{1,19}) (\d{1,19})(?: (\d{1,19}(?:,\d{1,19})*))?", re.ASCII)


class Mark(NamedTuple):
    """What is committed of one partition."""

    offset: int  # the first that is not settled: what Kafka's own tools show as committed
    position: int  # the first that was not read
    waiting: tuple[int, ...]  # not settled, ascending, all below the position

    def metadata(self, created_ms: int) -> str:
        """As it stands in the commit: version, whose it is, position, and the offsets as steps from one to the next."""
        steps = [after - before for before, after in zip((self.offset, *self.waiting), self.waiting, strict=False)]
        return " ".join(("1", str(created_ms), str(self.position), *([",".join(map(str, steps))] if steps else [])))


def mark_in(offset: int, metadata: str, created_ms: int) -> Mark | None:
    """The mark of a commit; None when it is another subscription's of the same name, or nobody's."""
    match = _FORM.fullmatch(metadata)
    if match is None or int(match[1]) != created_ms:
        return None
    waiting, at = list[int](), offset
    for step in match[3].split(",") if match[3] else ():
        at += int(step)
        waiting.append(at)
    return Mark(offset, max(int(match[2]), waiting[-1] + 1 if waiting else 0, offset), tuple(waiting))


class Progress:
    """One partition."""

    def __init__(self, mark: Mark) -> None:
        self.position = mark.position
        self._waiting = set(mark.waiting)
        self._unread = list(mark.waiting)  # of an earlier life, and not seen in this one yet
        self._latest = mark

    @property
    def room(self) -> int:
        """How many more may wait."""
        return WAITING_MAX - len(self._waiting)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def read(self, offset: int) -> bool:
        """The record at ``offset`` was read; whether it has to be looked at. Offsets ascend."""
        self._forget_before(offset)
        if offset < self.position:
            if self._unread and self._unread[0] == offset:
                del self._unread[0]
            return offset in self._waiting
        self.position = offset + 1
        self._waiting.add(offset)
        return True

    def passed(self, position: int) -> None:
        """Nothing lies before ``position`` that was not read: markers of transactions have offsets too."""
        self._forget_before(position)
        self.position = max(self.position, position)

    def settled(self, offset: int) -> None:
        """It was taken, given up, or not wanted."""
        self._waiting.remove(offset)

    def mark(self) -> Mark:
        """What may be committed now."""
        waiting = tuple(sorted(self._waiting))
        return Mark(waiting[0] if waiting else self.position, self.position, waiting)

    def changed(self) -> Mark | None:
        """The mark, when it is another than when last asked."""
        mark = self.mark()
        if mark == self._latest:
            return None
        self._latest = mark
        return mark

    def _forget_before(self, offset: int) -> None:
        """The log no longer keeps what waited there: retention has passed it."""
        gone = bisect.bisect_left(self._unread, offset)
        self._waiting.difference_update(self._unread[:gone])
        del self._unread[:gone]


def fresh(offset: int) -> Mark:
    """The mark of a partition of which nothing was read, to begin at ``offset``."""
    return Mark(offset, offset, ())
