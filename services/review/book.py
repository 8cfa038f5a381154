"""All cases of the owned partitions, and every rule about what becomes of them without people. Pure.

The book is what ``reviews.v1`` adds up to. Its verbs return the steps that lead on; they hold in here at once, and the
handler has them written. What comes back through the log, or is read again from it, changes nothing a second time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from services.mesh.records import Decision, Label, Labelled, Review, ReviewOpened, ReviewResolution
from services.mesh.review import Case, case_id_of, surplus
from services.mesh.review_records import (
    closed_move,
    escalated_move,
    follow,
    is_outcome_of,
    opened_move,
    overflowed_move,
)
from services.mesh.topics import DAY_MS
from services.review.settings import ReviewRules

# Timers and overflows of one transaction; the rest waits for the next.
MOVES_MAX: Final = 1_000
# Overflowed cases are kept so that a label or a supervisor can still end them: 20,000 are about 40 MB.
OVERFLOWED_MAX: Final = 20_000
# Closed ones that are written anew when the queue was lost, so that people find what they did today.
RECENT_MAX: Final = 500


class Ending(NamedTuple):
    """How a case ended: what a queue that missed it must learn."""

    resolution: ReviewResolution
    verdict: Label | None
    outcome_id: str | None
    closed_time_ms: int


class Move(NamedTuple):
    """One step to be written, and the partition of the topic that its case belongs to."""

    partition: int
    review: Review


class Book:
    """Cases by id, closed ones left out. ``changed`` holds what the queue has not been told yet, by id."""

    def __init__(self, rules: ReviewRules, partitions: int) -> None:
        self._rules = rules
        self._partitions = partitions
        self.cases: dict[str, Case] = {}
        self.changed: dict[str, Case] = {}
        self.recent: deque[Case] = deque(maxlen=RECENT_MAX)
        self.spared: frozenset[str] = frozenset()  # in somebody's hands: these do not overflow
        self.newest_event_time_ms = 0
        self._next: dict[int, int] = {}  # partition -> next offset of decisions.v1
        self._ahead: dict[int, set[int]] = {}  # partition -> decisions whose label came first
        self._kept: dict[int, Counter[int]] = {}  # partition -> day -> cases opened and not overflowed
        self._crowded: set[int] = set()  # days that got a case since the last overflow
        self._overflowed: dict[str, None] = {}  # oldest first

    @property
    def owned(self) -> set[int]:
        """Partitions in the book."""
        return set(self._next)

    def begin(self, partition: int, next_decision: int) -> None:
        """Open the book for ``partition``; ``read`` its log next."""
        self.drop(partition)
        self._next[partition], self._ahead[partition], self._kept[partition] = next_decision, set(), Counter()

    def drop(self, partition: int) -> None:
        """Forget ``partition``."""
        for case_id in [i for i, case in self.cases.items() if case.opened["decision_partition"] == partition]:
            del self.cases[case_id]
            self._overflowed.pop(case_id, None)
        self.changed = {i: case for i, case in self.changed.items() if case.opened["decision_partition"] != partition}
        for by_partition in (self._next, self._ahead, self._kept):
            by_partition.pop(partition, None)

    def read(self, partition: int, move: Review) -> Ending | None:
        """A step that is in the log, once each and in order; how the case ended, if that is the step."""
        case_id = move["case_id"]
        before = self.cases.get(case_id)
        if before is None and move["opened"] is not None:
            if move["opened"]["decision_offset"] >= self._next[partition]:
                self._ahead[partition].add(move["opened"]["decision_offset"])
            self._count(partition, move["opened"], 1)
        after = follow(before, move)
        if after is None or after == before:
            return None
        self._put(partition, before, after)
        if after.resolution is None:
            return None
        del self.changed[case_id]  # of months of closed cases the queue is told those that it asks for (``Ending``)
        return Ending(after.resolution, after.verdict, after.outcome_id, after.closed_time_ms)

    def hear(self, move: Review) -> None:
        """An opinion that somebody wrote to the log beside us; everything else there is our own, and known."""
        case = self.cases.get(move["case_id"])
        after = follow(case, move) if move["move"] == "opinion" else None
        if case is not None and after is not None and after != case:
            self._put(_partition(case), case, after)

    def decide(self, partition: int, offset: int, append_time_ms: int, decision: Decision) -> list[Move]:
        """A decision that people have to look into."""
        self._next[partition] = offset + 1
        if offset in self._ahead[partition]:
            self._ahead[partition].remove(offset)
            return []
        opened = self._opened(partition, offset, append_time_ms, decision)
        return [self._made(partition, opened_move(decision["customer_id"], decision["event_id"], opened))]

    def pass_by(self, partition: int, offset: int) -> None:
        """A decision that needs nobody."""
        self._next[partition] = offset + 1

    def label(self, partition: int, label: Labelled, now_ms: int) -> list[Move]:
        """What a reviewed event turned out to be: its case ends, also one whose decision has not come by yet."""
        customer_id, event_id = label["customer_id"], label["event_id"]
        case_id, moves = case_id_of(customer_id, event_id), list[Move]()
        if case_id not in self.cases:
            offset = label["decision_offset"]
            if offset < self._next[partition] or offset in self._ahead[partition]:
                return []  # it has ended before
            self._ahead[partition].add(offset)
            opened = self._opened(partition, offset, label["decision_append_time_ms"], label)
            moves.append(self._made(partition, opened_move(customer_id, event_id, opened)))
        case, source = self.cases[case_id], label["label_source"]
        resolution: ReviewResolution = "elsewhere"
        if is_outcome_of(case_id, label["outcome_id"]):
            resolution = "verdict"
        elif source == "matured":
            resolution = "matured"
        why = f"{label['label']}, says {source}"
        closed = closed_move(case, resolution, label["label"], label["outcome_id"], now_ms, why)
        return [*moves, self._made(partition, closed)]

    def overflow(self, now_ms: int) -> list[Move]:
        """The least costly cases beyond what people can do; of each day, and in all."""
        if not self._crowded:
            return []
        rules, found = self._rules, list[Case]()
        waiting = [case for case in self.cases.values() if case.default_action is None]
        if rules.per_day:
            for day in sorted(self._crowded):
                beyond = sum(kept[day] for kept in self._kept.values()) - self._share(rules.per_day)
                of_day = [case for case in waiting if _day(case.opened) == day] if beyond > 0 else []
                found += surplus(of_day, len(of_day) - beyond, self._held(of_day)) if of_day else []
        self._crowded.clear()
        beyond = len(waiting) - len(found) - self._share(rules.open_max)
        if beyond > 0:
            gone = {case.case_id for case in found}
            left = [case for case in waiting if case.case_id not in gone]
            found += surplus(left, len(left) - beyond, self._held(left))
        why = f"people have room for {rules.open_max} at once"
        why += f" and {rules.per_day} a day" if rules.per_day else ""
        return [
            self._made(_partition(case), overflowed_move(case, rules.default_action, now_ms, why)) for case in found
        ]

    def overdue(self, now_ms: int) -> list[Move]:
        """Cases whose time is up go to supervisors."""
        due = [
            case
            for case in self.cases.values()
            if case.opened["due_time_ms"] <= now_ms and not case.is_overdue and case.default_action is None
        ]
        why = "nobody has judged it in time"
        return [self._made(_partition(case), escalated_move(case, "overdue", now_ms, why)) for case in due[:MOVES_MAX]]

    def expire(self, now_ms: int) -> list[Move]:
        """Cases that nobody will ever end, and the oldest overflowed ones when there are too many."""
        before_ms = now_ms - self._rules.expiry_ms
        old = {i: case for i, case in self.cases.items() if case.opened["opened_time_ms"] <= before_ms}
        for case_id in list(self._overflowed)[: max(0, len(self._overflowed) - OVERFLOWED_MAX)]:
            old[case_id] = self.cases[case_id]
        why = "nobody said what it was"
        return [
            self._made(_partition(case), closed_move(case, "expired", None, None, now_ms, why))
            for case in list(old.values())[:MOVES_MAX]
        ]

    def tell_all(self) -> None:
        """The queue was lost: it needs everything."""
        self.changed = {case.case_id: case for case in self.recent} | self.cases

    def tell_recent(self, partition: int) -> None:
        """The queue needs what ended lately in ``partition``."""
        recent = {case.case_id: case for case in self.recent if _partition(case) == partition}
        self.changed = recent | self.changed

    def _made(self, partition: int, review: Review) -> Move:
        """A step of our own, which holds at once."""
        if review["opened"] is not None:
            self._count(partition, review["opened"], 1)
        before = self.cases.get(review["case_id"])
        after = follow(before, review)
        assert after is not None
        self._put(partition, before, after)
        return Move(partition, review)

    def _put(self, partition: int, before: Case | None, after: Case) -> None:
        case_id = after.case_id
        self.changed[case_id] = after
        if before is not None and before.default_action is None and after.default_action is not None:
            self._overflowed[case_id] = None
            self._count(partition, after.opened, -1)
        if after.resolution is None:
            self.cases[case_id] = after
        else:
            self.cases.pop(case_id, None)
            self._overflowed.pop(case_id, None)
            self.recent.append(after)

    def _count(self, partition: int, opened: ReviewOpened, one: int) -> None:
        day = _day(opened)
        kept = self._kept[partition]
        kept[day] += one
        if one > 0:
            self._crowded.add(day)
            for old in [known for known in kept if known < day - 60]:
                del kept[old]

    def _opened(
        self, partition: int, offset: int, append_time_ms: int, decision: Decision | Mapping[str, Any]
    ) -> ReviewOpened:
        rules, score = self._rules, decision["score"]
        value_minor = rules.value_minor(decision["amount_minor"], decision["currency"])
        return {
            "terminal_id": decision["terminal_id"],
            "event_time_ms": decision["event_time_ms"],
            "amount_minor": decision["amount_minor"],
            "currency": decision["currency"],
            "value_minor": value_minor,
            "expected_loss_minor": round(score * value_minor),
            "house_currency": rules.house_currency,
            "channel": decision["channel"],
            "country": decision["country"],
            "score": score,
            "reasons": decision["reasons"],
            "rule_hits": decision["rule_hits"],
            "model_version": decision["model_version"],
            "policy_version": decision["policy_version"],
            "feature_status": decision["feature_status"],
            "decision_partition": partition,
            "decision_offset": offset,
            "opened_time_ms": append_time_ms,
            "due_time_ms": append_time_ms + rules.sla_ms,
            "verdicts_needed": rules.verdicts_needed(value_minor),
        }

    def _held(self, cases: Iterable[Case]) -> set[str]:
        """Those of ``cases`` that somebody works on, or has judged as the first of two."""
        return {case.case_id for case in cases if case.opinions or case.case_id in self.spared}

    def _share(self, limit: int) -> int:
        """Of a limit for the whole mesh, what these partitions may use."""
        return -(-limit * len(self._next) // self._partitions)


def ended(case: Case, ending: Ending) -> Case:
    """``case`` with its ending."""
    return replace(
        case,
        resolution=ending.resolution,
        verdict=ending.verdict,
        outcome_id=ending.outcome_id,
        closed_time_ms=ending.closed_time_ms,
    )


def _partition(case: Case) -> int:
    return case.opened["decision_partition"]


def _day(opened: ReviewOpened) -> int:
    return opened["opened_time_ms"] // DAY_MS
