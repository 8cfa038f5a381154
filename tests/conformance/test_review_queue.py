"""What the review desk relies on in its queue: the twin and the real Redis, held to the same facts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import pytest

from services.mesh.adapters.memory_review import MemoryReviewQueue
from services.mesh.adapters.redis_review import RedisReviewQueue
from services.mesh.adapters.redis_store import connect
from services.mesh.review import CLAIMS_MAX, Case, Claim, Filed, Person, Refused, case_id_of
from services.mesh.review_desk import ReviewDesk, ReviewQueue

NOW_MS = 1_800_000_000_000
VERA, OMAR, ROSA = Person("vera"), Person("omar"), Person("rosa", "supervisor")


class World(Protocol):
    def queue(self) -> ReviewQueue: ...


class MemoryWorld:
    def __init__(self) -> None:
        self._queue = MemoryReviewQueue()

    def queue(self) -> ReviewQueue:
        return self._queue


class RedisWorld:
    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name

    def queue(self) -> ReviewQueue:
        return RedisReviewQueue(connect(self._url, 5.0), self._name)


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.connected)])
def queue(request: pytest.FixtureRequest) -> Iterator[ReviewQueue]:
    world: World = MemoryWorld()
    if request.param == "redis":
        world = RedisWorld(request.getfixturevalue("servers").endpoints.redis, request.getfixturevalue("own_name"))
    made = world.queue()
    yield made
    made.clear()


def filed(event: str, loss: int = 100, **of_case: Any) -> Filed:
    opened: Any = {
        "terminal_id": "t", "event_time_ms": 1, "amount_minor": 2 * loss, "currency": "EUR", "value_minor": 2 * loss,
        "expected_loss_minor": loss, "house_currency": "EUR", "channel": None, "country": "FR", "score": 0.5,
        "reasons": [{"code": "c", "text": "Because: “ü”."}], "rule_hits": ["r"], "model_version": "m",
        "policy_version": "p", "feature_status": "ok", "decision_partition": 0, "decision_offset": 7,
        "opened_time_ms": NOW_MS, "due_time_ms": NOW_MS + 1, "verdicts_needed": 1,
    }  # fmt: skip
    case_id = case_id_of("c", event)
    return Filed(case=Case(case_id=case_id, event_id=event, customer_id="c", opened=opened, **of_case))


def put(queue: ReviewQueue, *changes: Filed) -> None:
    assert all(queue.swap(changes))


def events(queue: ReviewQueue, shelf: Any, start: int = 0, count: int = 99) -> list[str]:
    return [each.case.event_id for each in queue.page(shelf, start, count)]


def test_a_case_is_found_as_it_was_put(queue: ReviewQueue) -> None:
    one = filed("e-1", claim := 5, is_overdue=True)
    put(queue, one)
    assert queue.find([one.case.case_id, "none"]) == [replace(one, version=1), None]
    assert queue.find([]) == []
    assert claim == 5


def test_cases_stand_in_the_order_of_their_expected_loss_and_equal_ones_by_id(queue: ReviewQueue) -> None:
    cases = [filed("a", 5), filed("b", 50), filed("c", 5), filed("d", 2**52)]
    put(queue, *cases)
    expected = [each.case.event_id for each in sorted(cases, key=lambda each: each.case.order)]
    assert events(queue, "open") == expected
    assert events(queue, "open", 1, 2) == expected[1:3]
    assert events(queue, "open", 4) == events(queue, "open", 0, 0) == []


def test_closed_cases_stand_with_the_newest_first(queue: ReviewQueue) -> None:
    put(queue, *(filed(f"e-{n}", n, resolution="elsewhere", closed_time_ms=NOW_MS + n % 3) for n in range(3)))
    assert events(queue, "closed") == ["e-2", "e-1", "e-0"]


def test_a_case_stands_on_one_shelf(queue: ReviewQueue) -> None:
    put(queue, filed("e-1"))
    start = queue.find([case_id_of("c", "e-1")])[0]
    assert start is not None
    for version, (shelf, changed) in enumerate(
        [
            ("escalated", {"is_overdue": True}),
            ("overflowed", {"default_action": "challenge"}),
            ("closed", {"resolution": "matured", "closed_time_ms": 5}),
        ],
        1,
    ):
        put(queue, replace(filed("e-1", **changed), version=version))
        assert {name: count for name, count in queue.counts().items() if count} == {shelf: 1}


def test_a_change_on_top_of_what_is_no_longer_there_is_refused(queue: ReviewQueue) -> None:
    one = filed("e-1")
    assert queue.swap([one, one]) == [True, False]
    assert queue.swap([replace(one, version=2)]) == [False]
    assert queue.swap([replace(one, version=1, claim=Claim(analyst="vera", since_ms=1, until_ms=2))]) == [True]
    queue.clear()
    assert queue.swap([replace(one, version=2)]) == [False]


def test_claims_are_known_by_name_until_they_are_given_up(queue: ReviewQueue) -> None:
    one = filed("e-1")
    case_id = one.case.case_id
    put(queue, one, filed("e-2"))
    put(queue, replace(one, version=1, claim=Claim(analyst="vera de la cruz", since_ms=1, until_ms=NOW_MS)))
    assert queue.held() == {case_id: ("vera de la cruz", NOW_MS)}
    put(queue, replace(one, version=2))
    assert queue.held() == {}


def test_dropped_cases_are_gone_everywhere(queue: ReviewQueue) -> None:
    one = replace(filed("e-1"), claim=Claim(analyst="vera", since_ms=1, until_ms=2))
    put(queue, one, filed("e-2"))
    queue.drop([one.case.case_id, "none"])
    queue.drop([])
    assert (events(queue, "open"), queue.held()) == (["e-2"], {})
    assert queue.find([one.case.case_id]) == [None]


def test_marks_stay_until_all_is_cleared(queue: ReviewQueue) -> None:
    queue.set_marks({"partition:1": "a", "clock_ms": "5"})
    queue.set_marks({"partition:1": "b"})
    queue.set_marks({})
    assert queue.marks() == {"partition:1": "b", "clock_ms": "5"}
    queue.clear()
    assert queue.marks() == {}


def test_many_changes_at_once_are_each_answered(queue: ReviewQueue) -> None:
    cases = [filed(f"e-{number}", number) for number in range(1_100)]
    assert queue.swap(cases) == [True] * 1_100
    assert queue.swap([cases[0], replace(cases[1], version=1), cases[2]]) == [False, True, False]
    assert queue.counts()["open"] == 1_100


def test_each_analyst_gets_the_best_case_that_is_free(queue: ReviewQueue) -> None:
    put(queue, filed("a", 10), filed("b", 30), filed("c", 20), filed("d", 90, is_overdue=True))
    desk = ReviewDesk(queue, "test", claim_ms=1_000)
    assert [desk.claim(None, who, NOW_MS).filed.case.event_id for who in (VERA, OMAR, ROSA)] == ["b", "c", "d"]
    assert desk.claim(None, VERA, NOW_MS).filed.case.event_id == "a"
    assert [each.case.event_id for each in desk.cases(mine="vera", now_ms=NOW_MS)] == ["b", "a"]
    with pytest.raises(Refused, match="no case is left") as refused:
        desk.claim(None, OMAR, NOW_MS)
    assert refused.value.code == "queue_empty"
    assert desk.claim(None, OMAR, NOW_MS + 1_000).filed.case.event_id == "b"
    assert desk.cases(mine="vera", now_ms=NOW_MS + 1_000) == []


def test_nobody_holds_more_than_a_hand_can(queue: ReviewQueue) -> None:
    put(queue, *(filed(f"e-{number}", number) for number in range(CLAIMS_MAX + 1)))
    desk = ReviewDesk(queue, "test", claim_ms=1_000)
    taken = [desk.claim(None, VERA, NOW_MS).filed.case.case_id for _ in range(CLAIMS_MAX)]
    with pytest.raises(Refused, match="judge or release one first"):
        desk.claim(None, VERA, NOW_MS)
    assert desk.claim(taken[0], VERA, NOW_MS).filed.holder(NOW_MS) == "vera"  # renews
    assert desk.claim(None, OMAR, NOW_MS).filed.case.case_id not in taken
    assert desk.claim(None, VERA, NOW_MS + 1_000).filed.case.case_id == taken[0]


def test_a_released_case_is_the_next_ones(queue: ReviewQueue) -> None:
    put(queue, filed("a", 10), filed("b", 30))
    desk = ReviewDesk(queue, "test")
    case_id = desk.claim(None, VERA, NOW_MS).filed.case.case_id
    step = desk.release(case_id, VERA, NOW_MS, "lunch")
    assert step.filed.claim is None
    assert [record.topic for record in step.records] == ["audit.v1"]
    assert desk.claim(None, OMAR, NOW_MS).filed.case.case_id == case_id


def test_a_verdict_is_marked_once_its_records_are_out(queue: ReviewQueue) -> None:
    put(queue, filed("a", 10))
    desk = ReviewDesk(queue, "test")
    case_id = desk.claim(None, VERA, NOW_MS).filed.case.case_id
    step = desk.judge(case_id, VERA, "fraud", "seen", NOW_MS + 5)
    assert [record.topic for record in step.records] == ["outcomes.raw.v1", "audit.v1"]
    assert desk.case(case_id).shelf == "open"
    done = desk.finish(step)
    assert done == desk.case(case_id)
    assert (done.shelf, queue.held()) == ("judged", {})
    again = desk.finish(step)
    assert again.shelf == "judged"


def test_a_verdict_is_finished_even_when_the_queue_was_lost_meanwhile(queue: ReviewQueue) -> None:
    put(queue, filed("a", 10))
    desk = ReviewDesk(queue, "test")
    case_id = desk.claim(None, VERA, NOW_MS).filed.case.case_id
    step = desk.judge(case_id, VERA, "fraud", "seen", NOW_MS)
    queue.clear()
    assert desk.finish(step).shelf == "judged"
    put(queue, filed("a", 10))
    assert desk.finish(step).shelf == "judged"
    assert desk.case(case_id).shelf == "judged"


def test_unknown_cases_and_unnamed_people_are_refused(queue: ReviewQueue) -> None:
    desk = ReviewDesk(queue, "test")
    with pytest.raises(Refused, match="the queue has none"):
        desk.case("none")
    with pytest.raises(Refused, match="printable"):
        desk.claim(None, Person(" "), NOW_MS)


def test_of_many_who_claim_at_once_each_has_a_case_of_his_own(
    queue: ReviewQueue, request: pytest.FixtureRequest
) -> None:
    put(queue, *(filed(f"e-{number}", number) for number in range(12)))
    got: list[str] = []
    gate = threading.Barrier(6)

    def work(name: str) -> None:
        desk = ReviewDesk(queue, "test")
        gate.wait()
        for _ in range(2):
            got.append(desk.claim(None, Person(name), NOW_MS).filed.case.case_id)

    workers = [threading.Thread(target=work, args=(f"analyst-{number}",)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(got) == len(set(got)) == 12
