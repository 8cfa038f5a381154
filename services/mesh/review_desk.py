"""What people do with cases, for the console and the command line alike: look, claim, release, judge.

Three effects, always in this order, so that a crash between any two of them leaves nothing wrong:

1. the queue: the claim, the release, or the verdict that is about to be sent (``ReviewQueue.swap``, atomic);
2. the log: ``Step.records`` in one Kafka transaction (an outcome or an opinion, and the audit entry);
3. for a verdict, the queue once more: ``finish`` marks the case.

    step = desk.judge(case_id, Person("vera"), "fraud", "card was reported stolen", now_ms)
    sender.send(step.records)                     # or: await sender.send(step.records)
    filed = desk.finish(step)

Between 1 and 2 of a verdict: the case is still its analyst's, who repeats the verdict and sends the same bytes; if he
never does, his claim expires and the next one judges. Between 2 and 3: the label comes back through ``labels.v1`` and
closes the case; who repeats the verdict sends an outcome that ingestion knows as a repeat, and an audit entry with the
id of the first. Between 1 and 2 of a claim or a release: it holds, and the audit trail lacks it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, Protocol

from services.mesh.audit import audit_entry, audit_record
from services.mesh.ports import OutRecord
from services.mesh.records import Label
from services.mesh.review import (
    CLAIM_MS,
    CLAIMS_MAX,
    NAME_CHARACTERS_MAX,
    SHELVES,
    Filed,
    Judgement,
    Person,
    Refused,
    Shelf,
    claimed,
    judged,
    refusal,
    released,
    sent,
)
from services.mesh.review_records import opinion_move, outcome_of, outcome_record, review_record

# Who loses against another one looks again; dozens of analysts who all want the best case are through in a few turns.
_TRIES_MAX: Final = 50
_PAGE_CASES: Final = 50
_SCANNED_CASES_MAX: Final = 5_000


class ReviewQueue(Protocol):
    """Cases on their shelves, changed one at a time and only on top of what was seen.

    A view of ``reviews.v1``: it may be lost whole, and the review service writes it anew. Raises StoreUnreachable.
    """

    def page(self, shelf: Shelf, start: int, count: int) -> list[Filed]:
        """Cases of a shelf in its order: closed ones by time, newest first, others by expected loss, highest first."""
        ...

    def find(self, case_ids: Sequence[str]) -> list[Filed | None]:
        """Cases by id, in that order; None where the queue has none."""
        ...

    def swap(self, changes: Sequence[Filed]) -> list[bool]:
        """Put each in place of what is there, if that still has its ``version`` (0: nothing is there yet)."""
        ...

    def drop(self, case_ids: Sequence[str]) -> None:
        """Forget cases."""
        ...

    def held(self) -> dict[str, tuple[str, int]]:
        """Every claim, those that have expired included: case id -> analyst, until_ms."""
        ...

    def counts(self) -> dict[Shelf, int]:
        """How many cases stand on each shelf."""
        ...

    def marks(self) -> dict[str, str]:
        """What the review service left here, to notice that the queue was lost; ``clock_ms`` among it."""
        ...

    def set_marks(self, marks: Mapping[str, str]) -> None:
        """Leave marks; others stay."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...


class Step(NamedTuple):
    """What was done in the queue, and what must now reach the log."""

    filed: Filed
    records: tuple[OutRecord, ...]
    judgement: Judgement | None = None


class ReviewDesk:
    """One way into the queue; ``origin`` is who asks in people's names: cli or console."""

    def __init__(self, queue: ReviewQueue, origin: str, claim_ms: int = CLAIM_MS) -> None:
        self._queue = queue
        self._origin = origin
        self._claim_ms = claim_ms

    def cases(
        self, shelves: Sequence[Shelf] = ("open", "escalated"), *, mine: str = "", now_ms: int = 0, count: int = 50
    ) -> list[Filed]:
        """The first ``count`` cases of ``shelves``, shelf by shelf; with ``mine`` those that this analyst holds."""
        if mine:
            ids = [
                case_id for case_id, (who, until_ms) in self._queue.held().items() if who == mine and until_ms > now_ms
            ]
            found = [filed for filed in self._queue.find(ids) if filed is not None]
            found = [filed for filed in found if filed.holder(now_ms) == mine]
            return sorted(found, key=lambda filed: (SHELVES.index(filed.shelf), filed.case.order))[:count]
        cases: list[Filed] = []
        for shelf in shelves:
            cases += self._queue.page(shelf, 0, count - len(cases)) if len(cases) < count else []
        return cases

    def counts(self) -> dict[Shelf, int]:
        """How many cases stand on each shelf."""
        return self._queue.counts()

    def case(self, case_id: str) -> Filed:
        """One case. Raises Refused (unknown_case)."""
        filed = self._queue.find([case_id])[0]
        if filed is None:
            raise Refused("unknown_case", f"case {case_id}: the queue has none; `weir review list` shows what there is")
        return filed

    def claim(self, case_id: str | None, who: Person, now_ms: int) -> Step:
        """Take the case, or without one the best that ``who`` may take; renews a claim that holds. Raises Refused."""
        _check_name(who)
        mine = [i for i, (name, until_ms) in self._queue.held().items() if name == who.name and until_ms > now_ms]
        if len(mine) >= CLAIMS_MAX and case_id not in mine:
            raise Refused("too_many_held", f"{who.name} holds {len(mine)} cases; judge or release one first")
        for _ in range(_TRIES_MAX):
            before = self.case(case_id) if case_id else self._best(who, now_ms)
            after = claimed(before, who, now_ms, self._claim_ms)
            if self._swapped(after):
                renews = before.holder(now_ms) == who.name
                assert after.claim is not None
                detail = {"until_ms": after.claim.until_ms}
                records = () if renews else (self._audit("review.claim", before, who, now_ms, "", detail),)
                return Step(replace(after, version=after.version + 1), records)
        raise _busy(case_id)

    def release(self, case_id: str, who: Person, now_ms: int, why: str = "") -> Step:
        """Give the case back. Raises Refused."""
        _check_name(who)
        for _ in range(_TRIES_MAX):
            before = self.case(case_id)
            after = released(before, who, now_ms)
            if self._swapped(after):
                detail = {"held_by": before.holder(now_ms)}
                record = self._audit("review.release", before, who, now_ms, why, detail)
                return Step(replace(after, version=after.version + 1), (record,))
        raise _busy(case_id)

    def judge(self, case_id: str, who: Person, verdict: Label, why: str, now_ms: int) -> Step:
        """Begin a verdict; ``finish`` it once its records are in the log. Raises Refused."""
        _check_name(who)
        clock_ms = int(self._queue.marks().get("clock_ms", 0))
        for _ in range(_TRIES_MAX):
            before = self.case(case_id)
            after = judged(before, who, verdict, why, now_ms, clock_ms)
            if after is before or self._swapped(after):
                assert after.judgement is not None
                version = before.version if after is before else before.version + 1
                records = self._verdict_records(after, after.judgement, who)
                return Step(replace(after, version=version), records, after.judgement)
        raise _busy(case_id)

    def finish(self, step: Step) -> Filed:
        """Mark the case of a verdict that is in the log. Never raises Refused, whatever became of it since."""
        assert step.judgement is not None
        case_id, filed = step.filed.case.case_id, step.filed
        for _ in range(_TRIES_MAX):
            after = sent(filed, step.judgement)
            if self._swapped(after):
                return replace(after, version=after.version + 1)
            found = self._queue.find([case_id])[0]
            if found is None:
                break  # the queue was lost in between: the log has it all
            filed = found
        return sent(filed, step.judgement)

    def _best(self, who: Person, now_ms: int) -> Filed:
        shelves: tuple[Shelf, ...] = ("escalated", "open") if who.role == "supervisor" else ("open",)
        for filed in self._walk(shelves):
            if filed.holder(now_ms) is None and refusal(filed, who, now_ms) is None:
                return filed
        raise Refused("queue_empty", f"no case is left for {who.name} ({who.role}); come back later")

    def _walk(self, shelves: Sequence[Shelf]) -> Iterator[Filed]:
        for shelf in shelves:
            for start in range(0, _SCANNED_CASES_MAX, _PAGE_CASES):
                page = self._queue.page(shelf, start, _PAGE_CASES)
                yield from page
                if not page:  # a short one may have lost cases between two look-ups
                    break

    def _swapped(self, after: Filed) -> bool:
        return self._queue.swap([after])[0]

    def _verdict_records(self, filed: Filed, judgement: Judgement, who: Person) -> tuple[OutRecord, ...]:
        case = filed.case
        detail: dict[str, Any] = {"verdict": judgement.verdict, "is_final": judgement.is_final}
        if judgement.is_final:
            outcome = outcome_of(case, judgement)
            first = outcome_record(outcome)
            detail["outcome_id"] = outcome["outcome_id"]
        else:
            first = review_record(opinion_move(case, judgement))
        action = "review.verdict" if judgement.is_final else "review.opinion"
        return (first, self._audit(action, filed, who, judgement.time_ms, judgement.why, detail))

    def _audit(
        self, action: str, filed: Filed, who: Person, now_ms: int, why: str, detail: Mapping[str, Any]
    ) -> OutRecord:
        case = filed.case
        about = {"event_id": case.event_id, "customer_id": case.customer_id, **detail}
        entry = audit_entry(
            actor=who.name, role=who.role, action=action, subject=f"case:{case.case_id}", time_ms=now_ms,
            origin=self._origin, why=why, detail=about,
        )  # fmt: skip
        return audit_record(entry)


def _check_name(who: Person) -> None:
    if not who.name.strip() or len(who.name) > NAME_CHARACTERS_MAX or not who.name.isprintable():
        raise Refused(
            "name_invalid", f"analyst {who.name[:40]!r}: a name has 1 to {NAME_CHARACTERS_MAX} printable characters"
        )


def _busy(case_id: str | None) -> Refused:
    return Refused("busy", f"{f'case {case_id}' if case_id else 'the queue'} changes faster than we look; try it again")
