"""Review's thinking: decisions and labels in, the life of cases out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, cast

from services.mesh.audit import audit_entry, audit_record
from services.mesh.codec import Codec, schema
from services.mesh.errors import Fatal, Poison
from services.mesh.excerpt import Excerpt
from services.mesh.feature_set import pinned_feature_set
from services.mesh.ports import LANE, Clock, CommittedOffset, InRecord, OutRecord
from services.mesh.records import Decision, Labelled
from services.mesh.review_records import SERVICE, review_of, review_record
from services.mesh.stage import Emit, dead_letter
from services.mesh.telemetry import StageTelemetry
from services.mesh.topology import REVIEW
from services.mesh.watermark import Marks
from services.review.book import Book, Ending, Move
from services.review.filing import Filing
from services.review.settings import LOOK_BACK_MARGIN_MS, ReviewSettings

TIMERS_EVERY_S: Final = 1.0
EXPIRE_EVERY_S: Final = 60.0
# Case ids that an audit entry names; reviews.v1 has each of them.
AUDIT_CASES_MAX: Final = 100

_NEEDED: Final = ("action", "event_time_ms")


class Written(Protocol):
    """``reviews.v1`` as a reader of committed records sees it, outside any group. Raises Transient."""

    def ends(self, partition: int) -> tuple[int, int]:
        """First offset that is kept, and the one after the last; waits until no transaction is open there."""
        ...

    def since(self, partition: int, time_ms: int) -> int:
        """First offset that was appended at ``time_ms`` or later; the end when there is none."""
        ...

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        """Records with ``start <= offset < end``."""
        ...


class Tail(Protocol):
    """What grows at the end of ``reviews.v1``. Raises Transient."""

    def follow(self, partition: int, offset: int) -> None:
        """Hear ``partition`` from ``offset`` on."""
        ...

    def leave(self, partition: int) -> None:
        """Hear it no more."""
        ...

    def poll(self) -> list[InRecord]:
        """What has come; never waits."""
        ...


class ReviewHandler:
    """Implements ``Handler`` for two inputs, and ``Reporter``: timers speak between batches, too."""

    def __init__(
        self,
        settings: ReviewSettings,
        *,
        filing: Filing,
        written: Written,
        tail: Tail,
        clock: Clock,
        telemetry: StageTelemetry,
    ) -> None:
        self._settings = settings
        self._filing = filing
        self._written = written
        self._tail = tail
        self._clock = clock
        self._telemetry = telemetry
        self._book = Book(settings.rules, settings.partitions)
        self._inputs: dict[int, CommittedOffset] = {}  # by number
        self._timers_at_s = self._expire_at_s = self._gauge_at_s = 0.0
        sizes = {"vector": 4 * len(pinned_feature_set().names)}
        self._decision, self._label = Codec("decision.v1.avsc"), Codec("labelled.v1.avsc")
        self._glance = {
            0: Excerpt(schema("decision.v1.avsc"), _NEEDED, sizes=sizes),
            1: Excerpt(schema("labelled.v1.avsc"), _NEEDED, sizes=sizes),
        }

    def assign(self, partition: int, committed: CommittedOffset, marks: Marks) -> None:
        """The second of a pair reads what the log says about its cases."""
        self._inputs[partition] = committed
        pair = partition % LANE
        if pair in self._inputs and LANE + pair in self._inputs:
            self._read(pair, self._inputs[pair].offset or 0)

    def revoke(self, partition: int) -> None:
        """Stop owning ``partition``; whoever is next reads the log."""
        self._inputs.pop(partition, None)
        pair = partition % LANE
        if pair in self._book.owned:
            self._book.drop(pair)
            self._filing.disown(pair)
            self._tail.leave(pair)

    def step(self, batch: Sequence[InRecord]) -> list[Emit]:
        """See ``Handler``."""
        now_ms = self._clock.now_ms()
        emits: list[Emit] = []
        for source, record in enumerate(batch):
            try:
                moves = self._take(record, now_ms)
            except Poison as poison:
                emits.append(dead_letter(record, source, REVIEW.name, poison))
                continue
            if moves:  # few decisions are anybody's to look at
                emits += [_emit(move, source) for move in moves]
                self._count(moves)
        overflowed = self._book.overflow(now_ms)
        self._count(overflowed)
        last = len(batch) - 1
        emits += [_emit(move, last) for move in overflowed]
        for out in self._audits("review.overflow", overflowed, now_ms):
            emits.append(Emit(out.topic, out.key, out.value, out.partition, last))
        return emits

    def report(self, now_s: float, ends: Mapping[int, int], *, last: bool) -> list[OutRecord]:
        """See ``Reporter``: what the clock has brought about."""
        if now_s < self._timers_at_s or last:
            return []
        self._timers_at_s = now_s + TIMERS_EVERY_S
        now_ms = self._clock.now_ms()
        overdue, expired = self._book.overdue(now_ms), list[Move]()
        if now_s >= self._expire_at_s:
            self._expire_at_s = now_s + EXPIRE_EVERY_S
            expired = self._book.expire(now_ms)
        self._count(overdue + expired)
        outputs = [review_record(move.review, move.partition) for move in overdue + expired]
        outputs += self._audits("review.overdue", overdue, now_ms)
        return outputs + self._audits("review.expire", expired, now_ms)

    def committed(self, offsets: dict[int, CommittedOffset]) -> None:
        """See ``Handler``: the queue learns it in the next breath (``idle``)."""
        self._inputs.update(offsets)

    def idle(self) -> bool:
        """Hear opinions, write the queue, tell how things stand."""
        for record in self._tail.poll():
            try:
                self._book.hear(review_of(record.value))
            except Poison as poison:
                logging.warning("review: %s[%d]@%d: %s", record.topic, record.partition, record.offset, poison)
        more = self._filing.turn(self._book)
        now_s = self._clock.monotonic_s()
        if now_s >= self._gauge_at_s:
            self._gauge_at_s = now_s + TIMERS_EVERY_S
            self._gauge()
        return more

    def _take(self, record: InRecord, now_ms: int) -> list[Move]:
        input_, partition = divmod(record.partition, LANE)
        if partition not in self._book.owned:
            names = " and ".join(topic.name for topic in REVIEW.inputs)
            raise Fatal(
                f"{record.topic}[{partition}] came without its twin; {names} must have the same number of partitions: "
                "see `weir status`, and create the topics with the deploy step"
            )
        action, event_time_ms = self._glance[input_].of(record.value)
        if input_:
            if action != "review":
                return []
            return self._book.label(partition, cast(Labelled, self._label.decode(record.value)), now_ms)
        self._book.newest_event_time_ms = max(self._book.newest_event_time_ms, event_time_ms)
        if action != "review":
            self._book.pass_by(partition, record.offset)
            return []
        decision = cast(Decision, self._decision.decode(record.value))
        return self._book.decide(partition, record.offset, record.append_time_ms, decision)

    def _read(self, partition: int, next_decision: int) -> None:
        """Bring the book to what the log says."""
        book, endings, records = self._book, dict[str, Ending](), 0
        book.begin(partition, next_decision)
        first, end = self._written.ends(partition)
        if first < end:
            look_back_ms = self._settings.rules.expiry_ms + LOOK_BACK_MARGIN_MS
            first = max(first, self._written.since(partition, self._clock.now_ms() - look_back_ms))
        for batch in self._written.read(partition, first, end) if first < end else ():
            for record in batch:
                move = review_of(record.value)
                ending = book.read(partition, move)
                if ending is not None:
                    endings[move["case_id"]] = ending
            records += len(batch)
            self._telemetry.alive()
        self._telemetry.metrics.add("weir_replayed", records)
        self._filing.own(partition, endings)
        self._tail.follow(partition, end)

    def _audits(self, action: str, moves: Sequence[Move], now_ms: int) -> list[OutRecord]:
        """One entry for all of a kind: what the service did by itself, and why."""
        if not moves:
            return []
        detail: dict[str, Any] = {
            "count": len(moves),
            "cases": [move.review["case_id"] for move in moves[:AUDIT_CASES_MAX]],
        }
        first = moves[0].review
        if first["default_action"] is not None:
            detail["default_action"] = first["default_action"]
        entry = audit_entry(
            actor=SERVICE, role="service", action=action, subject="queue:review", time_ms=now_ms, origin=SERVICE,
            why=first["why"], detail=detail,
        )  # fmt: skip
        return [audit_record(entry)]

    def _count(self, moves: Sequence[Move]) -> None:
        metrics = self._telemetry.metrics
        counts = Counter(move.review["move"] for move in moves)
        metrics.add("weir_reviews_opened", counts["opened"])
        metrics.add("weir_reviews_overflowed", counts["overflowed"])
        metrics.add("weir_reviews_escalated", counts["escalated"])
        ends = Counter(f"{move.review['resolution']}" for move in moves if move.review["move"] == "closed")
        metrics.add_all("weir_reviews_closed", ends)

    def _gauge(self) -> None:
        metrics = self._telemetry.metrics
        waiting = [case for case in self._book.cases.values() if case.default_action is None]
        oldest_ms = min((case.opened["opened_time_ms"] for case in waiting), default=None)
        metrics.set("weir_reviews_open", len(waiting))
        metrics.set("weir_reviews_oldest_seconds", (self._clock.now_ms() - oldest_ms) / 1000 if oldest_ms else 0.0)
        metrics.set("weir_reviews_claimed", self._filing.claimed)
        metrics.set("weir_reviews_judged", self._filing.judged)


def _emit(move: Move, source: int) -> Emit:
    out = review_record(move.review, move.partition)
    return Emit(out.topic, out.key, out.value, out.partition, source, tuple(out.headers))
