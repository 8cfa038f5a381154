"""Keeps the queue in Redis equal to the book: writes what changed, notices a loss, learns what people hold.

The queue may be away for as long as it likes: changes wait in the book, one document a case, and are written when it is
back. Every owned partition leaves a mark; where it is gone, so is the queue, and everything is written anew.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from services.mesh.errors import StoreUnreachable
from services.mesh.ports import Clock
from services.mesh.review import Filed, Shelf, refiled
from services.mesh.review_desk import ReviewQueue
from services.review.book import Book, Ending, ended

# One turn writes so many: some 10 ms, so that polling never waits.
WRITES_MAX: Final = 500
LOOK_EVERY_S: Final = 1.0
# What people may look back on; a page of 50 is seen at once, nobody turns a hundred.
CLOSED_KEPT: Final = 5_000
RETRY_WAIT_S_FIRST: Final = 1.0
RETRY_WAIT_S_MAX: Final = 15.0
CLOCK_MARK: Final = "clock_ms"

_PAGE: Final = 500
_LIVE: Final[tuple[Shelf, ...]] = ("open", "escalated", "overflowed", "judged")


class Filing:
    """One handler's way to ``queue``. ``token`` tells this owner's marks from every other's."""

    def __init__(self, queue: ReviewQueue, clock: Clock, token: str) -> None:
        self._queue = queue
        self._clock = clock
        self._token = token
        self._endings: dict[int, Mapping[str, Ending]] = {}  # partitions whose stale documents are to be found
        self._marked: set[int] = set()
        self._clock_ms = 0
        self._look_at_s = self._away_until_s = 0.0
        self._retry_wait_s = RETRY_WAIT_S_FIRST
        self.claimed = 0
        self.judged = 0

    def own(self, partition: int, endings: Mapping[str, Ending]) -> None:
        """``partition`` is in the book; ``endings``: cases that ended, which the queue may not know."""
        self._endings[partition] = endings

    def disown(self, partition: int) -> None:
        """Somebody else writes ``partition`` from now on."""
        self._endings.pop(partition, None)
        self._marked.discard(partition)

    def turn(self, book: Book) -> bool:
        """Write what waits; whether there is more of it. Never raises for a queue that is out of reach."""
        now_s = self._clock.monotonic_s()
        if now_s < self._away_until_s:
            return False
        try:
            self._forget_stale(book)
            self._write(book)
            if now_s >= self._look_at_s:
                self._look_at_s = now_s + LOOK_EVERY_S
                self._look(book)
            if not book.changed:
                self._mark(book)
            self._retry_wait_s = RETRY_WAIT_S_FIRST
        except StoreUnreachable as error:
            logging.warning("review: %s; next try in %.0f s", error, self._retry_wait_s)
            self._away_until_s = self._clock.monotonic_s() + self._retry_wait_s
            self._retry_wait_s = min(2 * self._retry_wait_s, RETRY_WAIT_S_MAX)
            return False
        return bool(book.changed)

    def _write(self, book: Book) -> None:
        """Up to WRITES_MAX documents; one that somebody changes at the same moment stays for the next turn."""
        ids = list(book.changed)[:WRITES_MAX]
        if not ids:
            return
        changes: list[Filed] = []
        for case_id, found in zip(ids, self._queue.find(ids), strict=True):
            after = refiled(found, book.changed[case_id])
            if after == found:
                del book.changed[case_id]
            else:
                changes.append(after)
        for after, done in zip(changes, self._queue.swap(changes), strict=True):
            if done:
                del book.changed[after.case.case_id]

    def _forget_stale(self, book: Book) -> None:
        """Documents of cases that ended while nobody wrote: closed where the log says how, else dropped."""
        if not self._endings:
            return
        marks, documents = self._queue.marks(), self._documents()
        for partition, endings in list(self._endings.items()):
            unknown: list[str] = []
            if _name(partition) not in marks:  # lost while nobody looked: what people did lately is worth a write
                book.tell_recent(partition)
            for filed in documents:
                case = filed.case
                if case.opened["decision_partition"] != partition or case.case_id in book.cases:
                    continue
                if case.case_id in endings:
                    book.changed[case.case_id] = ended(case, endings[case.case_id])
                elif case.case_id not in book.changed:
                    unknown.append(case.case_id)
            if unknown:
                logging.warning("review: %d cases in the queue are not of this log; they are dropped", len(unknown))
                self._queue.drop(unknown)
            del self._endings[partition]

    def _documents(self) -> list[Filed]:
        found: list[Filed] = []
        for shelf in _LIVE:
            start = 0
            while page := self._queue.page(shelf, start, _PAGE):
                found += page
                start += _PAGE
        return found

    def _look(self, book: Book) -> None:
        """Is the queue still there, and who works on what?"""
        marks = self._queue.marks()
        lost = [partition for partition in self._marked if marks.get(_name(partition)) != self._token]
        if lost:
            logging.warning("review: the queue has lost partitions %s; it is written anew", sorted(lost))
            book.tell_all()
            self._marked.clear()
        self._clock_ms = int(marks.get(CLOCK_MARK, 0))
        now_ms = self._clock.now_ms()
        held = {i for i, (_, until_ms) in self._queue.held().items() if until_ms > now_ms} & book.cases.keys()
        judged = {filed.case.case_id for filed in self._queue.page("judged", 0, _PAGE)} & book.cases.keys()
        book.spared = frozenset(held | judged)
        self.claimed, self.judged = len(held), len(judged)
        extra = self._queue.counts()["closed"] - CLOSED_KEPT
        if extra > 0:
            old = self._queue.page("closed", CLOSED_KEPT, min(extra, _PAGE))
            self._queue.drop([filed.case.case_id for filed in old])

    def _mark(self, book: Book) -> None:
        """Everything is written: say so, and what time it is in the world of events."""
        new = {_name(partition): self._token for partition in book.owned - self._marked - self._endings.keys()}
        if book.newest_event_time_ms > self._clock_ms:
            self._clock_ms = book.newest_event_time_ms
            new[CLOCK_MARK] = str(self._clock_ms)
        self._queue.set_marks(new)
        self._marked |= book.owned - self._endings.keys()


def _name(partition: int) -> str:
    return f"partition:{partition}"
