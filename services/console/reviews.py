"""The review queue as the page works it: the mesh's own review desk, asked in threads, told as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, get_args

from services.console.access import Role
from services.console.sessions import Session
from services.mesh.adapters.aiokafka_records import AsyncRecordSender
from services.mesh.audit import AuditRole, audit_entry, audit_record
from services.mesh.ports import Clock
from services.mesh.records import Label
from services.mesh.review import Filed, Person, Shelf
from services.mesh.review_desk import ReviewDesk, Step

SHELVES: Final[tuple[Shelf, ...]] = get_args(Shelf)
CASES_MAX: Final = 100
_AUDITED_AS: Final[Mapping[Role, AuditRole]] = {
    Role.VIEWER: "viewer",
    Role.ANALYST: "analyst",
    Role.RISK: "operator",
    Role.SUPERVISOR: "supervisor",
    Role.ADMIN: "operator",
}

Found = TypeVar("Found")


class Reviews:
    """What analysts do. Raises Refused, Transient."""

    def __init__(self, desk: ReviewDesk, sender: AsyncRecordSender, clock: Clock) -> None:
        self._desk, self._sender, self._clock = desk, sender, clock

    def counts(self) -> dict[str, int]:
        """How many cases stand on each shelf; asks Redis and waits."""
        return {str(shelf): count for shelf, count in self._desk.counts().items()}

    async def listed(self, shelf: Shelf | None, mine: str) -> list[dict[str, Any]]:
        """Cases of ``shelf``; without one, what can be worked now. With ``mine`` those that this person holds."""
        now_ms = self._clock.now_ms()
        if mine:
            found = await asyncio.to_thread(lambda: self._desk.cases(mine=mine, now_ms=now_ms, count=CASES_MAX))
        else:
            shelves: tuple[Shelf, ...] = (shelf,) if shelf else ("escalated", "open")
            found = await asyncio.to_thread(lambda: self._desk.cases(shelves, count=CASES_MAX))
        return [told(filed, now_ms) for filed in found]

    async def one(self, case_id: str) -> dict[str, Any]:
        """One case."""
        return told(await asyncio.to_thread(self._desk.case, case_id), self._clock.now_ms())

    async def claim(self, case_id: str | None, session: Session) -> dict[str, Any]:
        """Take a case, or the best one; renews."""
        now_ms, who = self._clock.now_ms(), person_of(session)
        return await self._done(lambda: self._desk.claim(case_id, who, now_ms), now_ms)

    async def release(self, case_id: str, session: Session) -> dict[str, Any]:
        """Give it back."""
        now_ms, who = self._clock.now_ms(), person_of(session)
        return await self._done(lambda: self._desk.release(case_id, who, now_ms), now_ms)

    async def judge(self, case_id: str, session: Session, verdict: Label, why: str) -> dict[str, Any]:
        """Say what it was."""
        now_ms, who = self._clock.now_ms(), person_of(session)
        step = await asyncio.to_thread(lambda: self._desk.judge(case_id, who, verdict, why, now_ms))
        await self._sender.send(step.records)
        filed = await asyncio.to_thread(self._desk.finish, step)
        is_final = step.judgement is None or step.judgement.is_final
        return told(filed, now_ms) | {"is_final": is_final}

    async def note(self, session: Session, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """An entry in the audit trail for what is done beside the queue."""
        entry = audit_entry(
            actor=session.name,
            role=_AUDITED_AS[session.role],
            action=action,
            subject=subject,
            time_ms=self._clock.now_ms(),
            origin="console",
            detail=detail,
        )
        await self._sender.send([audit_record(entry)])

    async def _done(self, work: Callable[[], Step], now_ms: int) -> dict[str, Any]:
        step = await asyncio.to_thread(work)
        await self._sender.send(step.records)
        return told(step.filed, now_ms)


def person_of(session: Session) -> Person:
    """Who works: an admin may what a supervisor may."""
    return Person(session.name, "analyst" if session.role is Role.ANALYST else "supervisor")


def told(filed: Filed, now_ms: int) -> dict[str, Any]:
    """A case as the page shows it."""
    case = filed.case
    claim = filed.claim if filed.holder(now_ms) is not None else None
    return {
        "case_id": case.case_id,
        "event_id": case.event_id,
        "customer_id": case.customer_id,
        "shelf": filed.shelf,
        **{name: case.opened[name] for name in _OPENED},
        "claim": {"analyst": claim.analyst, "until_ms": claim.until_ms} if claim else None,
        "opinions": [
            {"analyst": one.analyst, "verdict": one.verdict, "why": one.why, "time_ms": one.time_ms}
            for one in case.opinions
        ],
        "is_overdue": case.is_overdue,
        "is_disputed": case.is_disputed,
        "needs_supervisor": case.needs_supervisor,
        "default_action": case.default_action,
        "resolution": case.resolution,
        "verdict": case.verdict or (filed.judgement.verdict if filed.judgement else None),
        "closed_time_ms": case.closed_time_ms,
        "now_ms": now_ms,
    }


_OPENED: Final = (
    "terminal_id",
    "event_time_ms",
    "amount_minor",
    "currency",
    "expected_loss_minor",
    "house_currency",
    "channel",
    "country",
    "score",
    "reasons",
    "rule_hits",
    "model_version",
    "policy_version",
    "feature_status",
    "opened_time_ms",
    "due_time_ms",
    "verdicts_needed",
)
