"""The queue and the book: equal again after every loss."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from review_cases import NOW_MS, decision, filed, label

from services.mesh.adapters.memory import ManualClock
from services.mesh.adapters.memory_review import MemoryReviewQueue
from services.mesh.errors import StoreUnreachable
from services.mesh.review import Filed, Person, case_id_of, claimed
from services.mesh.review_desk import ReviewDesk
from services.review.book import Book, Ending
from services.review.filing import CLOCK_MARK, CLOSED_KEPT, RETRY_WAIT_S_FIRST, Filing
from services.review.settings import ReviewRules

P = 0


class AwayQueue(MemoryReviewQueue):
    away = False

    def find(self, case_ids: Any) -> Any:
        if self.away:
            raise StoreUnreachable("away")
        return super().find(case_ids)


class World:
    def __init__(self, queue: MemoryReviewQueue | None = None) -> None:
        self.clock = ManualClock(NOW_MS)
        self.queue = queue or MemoryReviewQueue()
        self.book = Book(ReviewRules(), 1)
        self.book.begin(P, 0)
        self.filing = Filing(self.queue, self.clock, "mine")
        self.filing.own(P, {})

    def decide(self, event: str = "e-1", amount_minor: int = 200) -> str:
        found: Any = decision(event, amount_minor)
        self.book.decide(P, int(event[2:]), NOW_MS, found)
        return case_id_of("c-1", event)

    def end(self, event: str) -> None:
        told: Any = label(event, int(event[2:]))
        self.book.label(P, told, NOW_MS)

    def turn(self) -> None:
        self.clock.advance_ms(1_000)
        while self.filing.turn(self.book):
            pass

    def on(self, shelf: Any) -> list[str]:
        return [each.case.event_id for each in self.queue.page(shelf, 0, 99)]


def test_changes_reach_the_queue_in_its_order() -> None:
    world = World()
    for event, amount_minor in (("e-1", 100), ("e-2", 300), ("e-3", 200)):
        world.decide(event, amount_minor)
    world.end("e-3")
    world.turn()
    assert (world.on("open"), world.on("closed")) == (["e-2", "e-1"], ["e-3"])
    assert not world.book.changed
    assert world.queue.marks()["partition:0"] == "mine"


def test_a_queue_that_is_lost_is_written_anew() -> None:
    world = World()
    world.decide("e-1")
    world.decide("e-2")
    world.end("e-2")
    world.turn()
    world.queue.clear()
    world.turn()
    assert (world.on("open"), world.on("closed")) == (["e-1"], ["e-2"])


def test_a_claim_is_left_alone_and_an_older_owners_mark_is_not_ours() -> None:
    world = World()
    case_id = world.decide()
    world.turn()
    ReviewDesk(world.queue, "test").claim(case_id, Person("vera"), world.clock.now_ms())
    world.queue.set_marks({"partition:0": "another"})
    world.turn()
    found = world.queue.find([case_id])[0]
    assert found is not None
    assert found.holder(world.clock.now_ms()) == "vera"
    assert world.queue.marks()["partition:0"] == "mine"
    assert world.filing.claimed == 1
    assert world.book.spared == {case_id}


def test_who_changes_a_document_at_the_same_moment_does_not_stop_the_rest() -> None:
    class Racing(MemoryReviewQueue):
        """Somebody claims the first case between the service's look and its write."""

        races = 1

        def swap(self, changes: Any) -> list[bool]:
            if self.races and changes[0].version:
                self.races = 0
                seen = self.find([changes[0].case.case_id])[0]
                assert seen is not None
                super().swap([claimed(seen, Person("vera"), NOW_MS, 10**9)])
            return super().swap(changes)

    world = World(Racing())
    case_id = world.decide()
    world.turn()
    world.clock.advance_ms(ReviewRules().sla_ms)
    world.book.overdue(world.clock.now_ms())
    world.turn()
    found = world.queue.find([case_id])[0]
    assert found is not None
    assert (found.shelf, found.holder(world.clock.now_ms())) == ("escalated", "vera")


def test_a_queue_that_is_away_is_asked_again_later(caplog: pytest.LogCaptureFixture) -> None:
    queue = AwayQueue()
    world = World(queue)
    queue.away = True
    world.decide()
    with caplog.at_level(logging.WARNING):
        world.turn()
    assert "next try in 1 s" in caplog.text
    queue.away = False
    world.filing.turn(world.book)
    assert world.on("open") == []
    world.clock.advance_ms(int(RETRY_WAIT_S_FIRST * 1_000))
    world.turn()
    assert world.on("open") == ["e-1"]


def test_what_ended_while_nobody_wrote_is_closed_and_strangers_are_dropped() -> None:
    world = World()
    ended, stranger, theirs = filed("e-5"), filed("e-6"), filed("e-7", decision_partition=1)
    world.queue.swap([ended, stranger, theirs])
    ending = Ending("elsewhere", "fraud", "o-1", NOW_MS)
    world.filing.own(P, {ended.case.case_id: ending})
    world.turn()
    assert (world.on("open"), world.on("closed")) == (["e-7"], ["e-5"])
    found = world.queue.find([ended.case.case_id])[0]
    assert found is not None
    assert (found.case.resolution, found.case.verdict, found.case.outcome_id) == ("elsewhere", "fraud", "o-1")


def test_after_a_restart_the_queue_is_not_told_of_everything_that_ever_ended() -> None:
    world = World()
    moves: Any = []
    for number in range(3):
        found: Any = decision(f"e-{number}")
        told: Any = label(f"e-{number}", number)
        moves += world.book.decide(P, number, NOW_MS, found)
        moves += world.book.label(P, told, NOW_MS) if number else []
    for queue_is_lost in (False, True):
        again = World(MemoryReviewQueue())
        if not queue_is_lost:
            again.queue.set_marks({"partition:0": "of before"})
        endings = {m.review["case_id"]: e for m in moves if (e := again.book.read(P, m.review)) is not None}
        again.filing.own(P, endings)
        again.turn()
        assert again.on("open") == ["e-0"]
        assert sorted(again.on("closed")) == (["e-1", "e-2"] if queue_is_lost else [])


def test_only_so_many_closed_cases_are_kept() -> None:
    world = World()
    old = [
        Filed(case=filed(f"e-{number}", resolution="elsewhere", closed_time_ms=number).case)
        for number in range(CLOSED_KEPT + 20)
    ]
    world.queue.swap(old)
    world.turn()
    kept = world.queue.page("closed", 0, 10**6)
    assert len(kept) == CLOSED_KEPT
    assert min(each.case.closed_time_ms for each in kept) == 20


def test_the_queue_learns_the_time_of_events_and_never_an_earlier_one() -> None:
    world = World()
    world.book.newest_event_time_ms = 5
    world.turn()
    assert world.queue.marks()[CLOCK_MARK] == "5"
    world.queue.set_marks({CLOCK_MARK: "9"})
    world.book.newest_event_time_ms = 7
    world.turn()
    assert world.queue.marks()[CLOCK_MARK] == "9"
