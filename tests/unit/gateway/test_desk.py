"""The desk on hand-made ends: what is appended before what is promised, and who is told what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from services.gateway.bodies import Posted, outcome_in
from services.gateway.desk import Desk, NotYet
from services.gateway.memory import Memory
from services.gateway.problem import Kind, Problem
from services.gateway.publishing import NotSent
from services.gateway.verdicts import Refused
from services.mesh.adapters.system_clock import SystemClock
from services.mesh.errors import Transient
from services.mesh.telemetry import StageTelemetry
from tests.unit.gateway.ends import KEY, Ends, decision_of, event, refusal_of


def at_desk(work: Callable[[Desk, Ends], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        ends, clock = Ends(), SystemClock()
        fake = cast(Any, ends)
        desk = Desk(
            publisher=fake, follower=fake, finder=fake, waiters=ends.waiters,
            telemetry=StageTelemetry("gateway", clock), clock=clock, events=Memory(), outcomes=Memory(),
        )  # fmt: skip
        await work(desk, ends)
        assert len(ends.waiters) == 0  # nobody is left behind

    asyncio.run(run())


def soon(desk: Desk, seconds: float = 5.0) -> float:
    return desk.clock.monotonic_s() + seconds


def test_a_decision_that_comes_before_the_acknowledgement_is_heard() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        posted = event()
        ends.on_append = lambda value: ends.waiters.tell(KEY, decision_of(posted))
        assert await desk.decide(posted, "shop", soon(desk)) == decision_of(posted)

    at_desk(work)


def test_the_same_event_decided_before_is_told_and_not_appended_again() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        posted = event()
        ends.found = decision_of(posted)
        assert await desk.decide(posted, "shop", soon(desk)) == decision_of(posted)
        assert ends.appended == []

    at_desk(work)


def test_a_decision_on_another_body_is_never_told() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        mine, other = event(), event(amount_minor=6)
        ends.found = decision_of(other)
        ends.on_append = lambda value: ends.waiters.tell(KEY, decision_of(other))
        assert await desk.decide(mine, "shop", soon(desk, 0.1)) == NotYet("deadline")
        assert ends.appended == [mine.value]  # ingestion judges

    at_desk(work)


def test_only_its_own_refusal_ends_a_wait() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        mine, other = event(), event(amount_minor=6)

        def answer(value: bytes) -> None:
            ends.waiters.tell(KEY, refusal_of(other))
            ends.waiters.tell(KEY, refusal_of(mine, "conflict"))

        ends.on_append = answer
        assert await desk.decide(mine, "shop", soon(desk)) == refusal_of(mine, "conflict")
        ends.on_append = lambda value: ends.waiters.tell(KEY, decision_of(other))
        assert await desk.decide(other, "shop", soon(desk)) == decision_of(other)

    at_desk(work)


def test_a_refusal_by_a_later_stage_ends_the_wait_whatever_its_bytes() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        posted = event()
        refused = Refused("undecodable", "", "", "scoring", "features.v1", b"avro")
        ends.on_append = lambda value: ends.waiters.tell(KEY, refused)
        assert await desk.decide(posted, "shop", soon(desk)) == refused

    at_desk(work)


def test_what_was_refused_before_is_appended_again() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        posted = event()
        ends.found = refusal_of(posted, "clock_ahead")
        ends.on_append = lambda value: ends.waiters.tell(KEY, decision_of(posted))
        assert await desk.decide(posted, "shop", soon(desk)) == decision_of(posted)

    at_desk(work)


def test_without_index_and_follower_the_event_is_still_appended() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        ends.unclear = True
        assert await desk.decide(event(), "shop", soon(desk, 0.05)) == NotYet("deadline")
        assert len(ends.appended) == 1

    at_desk(work)


def test_a_broker_that_does_not_acknowledge_is_no_decision_and_no_promise() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        ends.failure = Transient("broker k has not acknowledged in time")
        for call in (desk.decide(event(), "shop", soon(desk)), desk.post_event(event(), "shop")):
            with pytest.raises(Problem, match="nothing is promised: it may have been stored or not") as refused:
                await call
            assert (refused.value.kind, refused.value.retry_after_s) == (Kind.AWAY, 2)

    at_desk(work)


def test_stopping_tells_who_waits_and_who_comes() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        waiting = asyncio.create_task(desk.decide(event(), "shop", soon(desk)))
        while not ends.appended:
            await asyncio.sleep(0)
        desk.stop_waiting()
        assert await waiting == NotYet("stopping")
        assert await desk.decide(event(event_id="e2"), "shop", soon(desk)) == NotYet("stopping")

    at_desk(work)


def test_another_body_is_a_conflict_as_long_as_it_is_remembered() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        await desk.post_event(event(), "shop")
        await desk.post_event(event(), "shop")  # a repeat is harmless
        for call in (
            desk.post_event(event(amount_minor=6), "shop"),
            desk.decide(event(amount_minor=7), "s", soon(desk)),
        ):
            with pytest.raises(Problem, match="'e' of this customer was posted before with another body") as refused:
                await call
            assert (refused.value.kind, refused.value.code) == (Kind.CONFLICT, "conflict")
        assert ends.appended == [event().value] * 2

    at_desk(work)


def test_a_body_that_the_mesh_has_refused_may_be_mended_under_its_id() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        await desk.post_event(event(), "shop")
        ends.found = refusal_of(event())
        await desk.post_event(event(event_time_ms=10), "shop")
        assert ends.appended[-1] == event(event_time_ms=10).value
        ends.found = decision_of(event(event_time_ms=11))  # it came another way
        await desk.post_event(event(event_time_ms=11), "shop")
        with pytest.raises(Problem, match="another body"):
            await desk.post_event(event(event_time_ms=12), "shop")

    at_desk(work)


def test_what_never_left_is_not_remembered_and_what_may_have_is() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        ends.failure = NotSent("takes nothing more")
        with pytest.raises(Problem):
            await desk.post_event(event(), "shop")
        ends.failure = Transient("has not acknowledged in time")
        with pytest.raises(Problem, match="nothing is promised"):
            await desk.post_event(event(amount_minor=6), "shop")
        with pytest.raises(Problem, match="another body"):
            await desk.post_event(event(amount_minor=7), "shop")

    at_desk(work)


def test_a_batch_is_judged_item_by_item() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        bad = Problem(Kind.INVALID, "wrong")
        items: list[Posted | Problem] = [event(), bad, event(amount_minor=6), event(event_id="e2")]
        results = await desk.post_events(items, "shop")
        assert results[0] == items[0]
        assert results[1] is bad
        assert isinstance(results[2], Problem)
        assert results[2].kind is Kind.CONFLICT  # with the first of the same batch
        assert results[3] == items[3]
        assert len(ends.appended) == 2

    at_desk(work)


def test_outcomes_have_conflicts_of_their_own() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        said = {"outcome_id": "e", "event_id": "e", "customer_id": "c", "label": "fraud", "source": "analyst"}
        first = outcome_in(json.dumps(said | {"observed_time_ms": 5}).encode())
        await desk.post_event(event(), "shop")
        await desk.post_outcome(first, "shop")
        with pytest.raises(Problem, match="another body"):
            await desk.post_outcome(outcome_in(json.dumps(said | {"observed_time_ms": 6}).encode()), "shop")

    at_desk(work)


def test_who_does_not_follow_never_says_that_there_is_nothing() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        ends.is_awake, ends.decided_unseen = False, decision_of(event())
        assert await desk.find("e", "c") == decision_of(event())

    at_desk(work)


def test_what_became_of_an_event() -> None:
    async def work(desk: Desk, ends: Ends) -> None:
        with pytest.raises(Problem, match="neither decided nor refused, and not posted here lately") as unknown:
            await desk.find("e", "c")
        assert unknown.value.kind is Kind.UNKNOWN_EVENT
        await desk.post_event(event(), "shop")
        assert await desk.find("e", "c") == NotYet("pending")
        ends.found = refusal_of(event())
        with pytest.raises(Problem, match="too late") as refused:
            await desk.find("e", "c")
        assert (refused.value.kind, refused.value.code) == (Kind.NO_DECISION, "late")
        ends.found = decision_of(event())
        assert await desk.find("e", "c") == ends.found
        ends.unclear = True
        with pytest.raises(Problem, match="it cannot be told now") as behind:
            await desk.find("e", "c")
        assert behind.value.kind is Kind.BEHIND

    at_desk(work)
