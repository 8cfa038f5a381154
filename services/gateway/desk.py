"""What the gateway does with a request that may come in: appends, waits, finds. Without a word of HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from services.gateway.bodies import Posted
from services.gateway.finding import Finder
from services.gateway.following import Follower
from services.gateway.memory import Memory
from services.gateway.problem import Kind, Problem
from services.gateway.publishing import SENDER, NotSent, Publisher
from services.gateway.recent import Key
from services.gateway.verdicts import Decided, Refused, problem_of_refusal
from services.gateway.waiting import Waiters
from services.mesh.errors import Transient
from services.mesh.identity import identity_of
from services.mesh.ports import Clock
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import EVENTS_RAW, OUTCOMES_RAW, Topic

RETRY_S: Final = 2  # a broker that restarts is back in 4
_FIND_S_MAX: Final = 3.0
_WAKE_SHARE: Final = 0.5  # of a deadline: the other half is for the mesh

Why = Literal["deadline", "stopping", "pending"]
_UNKNOWN: Final = (
    "nothing is promised: it may have been stored or not; send it again as it is, which is harmless, until it is "
    "accepted"
)


@dataclass(frozen=True, slots=True)
class NotYet:
    """There is no decision yet, and why nobody waits for it any longer."""

    why: Why


Verdict = Decided | Refused | NotYet


@dataclass(slots=True, kw_only=True)
class Desk:
    """All that a request needs."""

    publisher: Publisher
    follower: Follower
    finder: Finder
    waiters: Waiters
    telemetry: StageTelemetry
    clock: Clock
    events: Memory
    outcomes: Memory
    stopping: bool = False

    async def post_event(self, posted: Posted, sender: str) -> None:
        """Append an event; returns once it is acknowledged. Raises Problem."""
        await self._note_event(posted)
        await self._append(EVENTS_RAW, self.events, posted, sender, None)

    async def post_events(self, items: Sequence[Posted | Problem], sender: str) -> list[Posted | Problem]:
        """Append those that are events, acknowledged together; each is itself again, or what kept it out."""
        results = list(items)
        for number, item in enumerate(results):
            if isinstance(item, Posted):
                try:
                    await self._note_event(item)
                except Problem as problem:
                    results[number] = problem
        sent = [(number, item) for number, item in enumerate(results) if isinstance(item, Posted)]
        records = [(item.customer_id.encode(), item.value) for _, item in sent]
        failures = await self.publisher.append_all(EVENTS_RAW.name, records, _headers(sender)) if records else []
        for (number, item), failure in zip(sent, failures, strict=True):
            if failure is not None:
                results[number] = self._away(failure, self.events, item)
        self.telemetry.metrics.add("weir_outputs", sum(failure is None for failure in failures), EVENTS_RAW.name)
        return results

    async def post_outcome(self, posted: Posted, sender: str) -> None:
        """Append an outcome; returns once it is acknowledged. Raises Problem."""
        if self.outcomes.differs(posted.identity, posted.body_hash):
            raise _conflict(posted)
        self.outcomes.note(posted.identity, posted.body_hash)
        await self._append(OUTCOMES_RAW, self.outcomes, posted, sender, None)

    async def decide(self, posted: Posted, sender: str, deadline_s: float) -> Decided | Refused | NotYet:
        """Append an event and wait for its decision until ``deadline_s`` (monotonic). Raises Problem.

        A decision that is there already is told, and nothing is appended.
        """
        key = (posted.event_id.encode(), posted.customer_id.encode())
        said: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

        def wake(verdict: Verdict) -> None:
            if not said.done() and _is_of(posted, verdict):
                said.set_result(verdict)

        # Before anything is looked at or appended: what comes from now on is heard.
        self.waiters.add(key, wake)
        try:
            await self._note_event(posted)
            known = await self._known(key, deadline_s)
            # One of another body is ingestion's to judge: far enough apart they are two events.
            if isinstance(known, Decided) and _is_of(posted, known):
                return known
            await self._append(EVENTS_RAW, self.events, posted, sender, self._left_s(deadline_s))
            if self.stopping:
                return NotYet("stopping")
            verdict = await asyncio.wait_for(said, self._left_s(deadline_s))
            if isinstance(verdict, Refused):
                self.events.forget(posted.identity)  # ingestion does not remember it either
            return verdict
        except TimeoutError:
            return NotYet("deadline")
        finally:
            self.waiters.remove(key, wake)

    async def find(self, event_id: str, customer_id: str) -> Decided | NotYet:
        """What became of an event. Raises Problem: unknown, refused, or it cannot be told now."""
        try:
            found = await self._found(event_id, customer_id)
        except Transient as error:
            detail = f"it cannot be told now whether there is a decision: {error}"
            raise Problem(Kind.BEHIND, detail, retry_after_s=RETRY_S) from error
        if isinstance(found, Decided):
            return found
        if found is not None:
            raise problem_of_refusal(found, Kind.NO_DECISION)
        if self.events.knows(identity_of(customer_id, event_id)):
            return NotYet("pending")
        detail = (
            f"event {event_id!r} of customer {customer_id!r}: neither decided nor refused, and not posted here lately; "
            "are both ids right? If it came another way it may still be on its way: ask again"
        )
        raise Problem(Kind.UNKNOWN_EVENT, detail)

    def stop_waiting(self) -> None:
        """The process ends: who waits is told so."""
        self.stopping = True
        self.waiters.tell_all(NotYet("stopping"))

    async def _found(self, event_id: str, customer_id: str) -> Decided | Refused | None:
        """What became of it; None only of who follows: the index trails by a second. Raises Transient."""
        follows = self.follower.is_awake
        try:
            found = await self.finder.find(event_id, customer_id)
        except Transient:
            found, follows = None, False
        if found is None and not follows:
            await self.follower.wake(_FIND_S_MAX)
            found = await self.finder.find(event_id, customer_id)
        return found

    async def _known(self, key: Key, deadline_s: float) -> Decided | Refused | None:
        """What has become of it already, as far as that can be told before half of the time is over."""
        try:
            await self.follower.wake(_WAKE_SHARE * self._left_s(deadline_s))
            return await asyncio.wait_for(
                self.finder.find(key[0].decode(), key[1].decode()), _WAKE_SHARE * self._left_s(deadline_s)
            )
        except (Transient, TimeoutError) as error:
            self.telemetry.health.last_error = f"not looked up: {error!r}"  # at 200 a second, no line each
            return None

    async def _note_event(self, posted: Posted) -> None:
        if self.events.differs(posted.identity, posted.body_hash) and not await self._is_mended(posted):
            raise _conflict(posted)
        self.events.note(posted.identity, posted.body_hash)

    async def _is_mended(self, posted: Posted) -> bool:
        """Whether the mesh refused what was posted before, or has decided this very event already."""
        try:
            await self.follower.wake(_FIND_S_MAX)
            found = await self.finder.find(posted.event_id, posted.customer_id)
        except Transient:
            return False
        return isinstance(found, Refused) or (found is not None and _is_of(posted, found))

    async def _append(self, topic: Topic, memory: Memory, posted: Posted, sender: str, wait_s: float | None) -> None:
        key = posted.customer_id.encode()
        try:
            await self.publisher.append(topic.name, key, posted.value, _headers(sender), wait_s)
        except Transient as error:
            raise self._away(error, memory, posted) from error
        self.telemetry.metrics.add("weir_outputs", 1, topic.name)

    def _away(self, error: Transient, memory: Memory, posted: Posted) -> Problem:
        if isinstance(error, NotSent):
            memory.forget(posted.identity)
        return Problem(Kind.AWAY, f"{error}; {_UNKNOWN}", retry_after_s=RETRY_S)

    def _left_s(self, deadline_s: float) -> float:
        return max(0.0, deadline_s - self.clock.monotonic_s())


def _is_of(posted: Posted, verdict: Verdict) -> bool:
    """Whether it is about this very record, and not about another body of the same identity."""
    match verdict:
        case Decided():
            return verdict.body_hash == posted.body_hash
        case Refused():
            return verdict.is_of(posted.value)
        case NotYet():
            return True


def _conflict(posted: Posted) -> Problem:
    detail = (
        f"{posted.own_id!r} of this customer was posted before with another body; what was said never changes: send "
        "the new one under an id of its own"
    )
    return Problem(Kind.CONFLICT, detail, "conflict")


def _headers(sender: str) -> list[tuple[str, bytes]]:
    return [(SENDER, sender.encode())]
