"""What becomes of cases without people."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from review_cases import EVENT_MS, HOUR_MS, NOW_MS, decision, label

from services.mesh.records import Review
from services.mesh.review import case_id_of
from services.mesh.review_records import opinion_move
from services.mesh.topics import DAY_MS
from services.review.book import Book, Ending, Move
from services.review.settings import ReviewRules

P = 3


def book(rules: ReviewRules | None = None, owned: int = 1, partitions: int = 1) -> Book:
    made = Book(rules or ReviewRules(), partitions)
    for partition in range(P, P + owned):
        made.begin(partition, 0)
    return made


def decide(on: Book, event: str, amount_minor: int = 200, offset: int = 0, at_ms: int = NOW_MS, **other: Any) -> str:
    found: Any = decision(event, amount_minor, **other)
    on.decide(P, offset, at_ms, found)
    return case_id_of("c-1", event)


def kinds(moves: list[Move]) -> list[tuple[str, str]]:
    return [(move.review["move"], move.review["event_id"]) for move in moves]


def test_a_case_says_what_is_at_stake_and_until_when() -> None:
    on = book(ReviewRules(sla_ms=HOUR_MS, four_eyes_minor=20_000))
    found: Any = decision("e-1", 20_000, score=0.25)
    (move,) = on.decide(P, 41, NOW_MS, found)
    opened = move.review["opened"]
    assert opened is not None
    assert (move.partition, move.review["case_id"]) == (P, case_id_of("c-1", "e-1"))
    assert (opened["value_minor"], opened["expected_loss_minor"], opened["verdicts_needed"]) == (20_000, 5_000, 2)
    assert (opened["opened_time_ms"], opened["due_time_ms"]) == (NOW_MS, NOW_MS + HOUR_MS)
    assert (opened["decision_partition"], opened["decision_offset"]) == (P, 41)


@pytest.mark.parametrize(
    ("amount_minor", "currency", "value_minor"),
    [(1_000, "EUR", 1_000), (1_000, "JPY", 600), (1_000, "KWD", 310), (1_000, "USD", 1_000)],
)
def test_amounts_are_compared_in_one_currency(amount_minor: int, currency: str, value_minor: int) -> None:
    """1,000 yen at 0.006 are 6.00 EUR; one dinar has 1,000 fils; a currency without a rate counts one to one."""
    assert ReviewRules(rates={"JPY": 0.006, "KWD": 3.1}).value_minor(amount_minor, currency) == value_minor


@pytest.mark.parametrize(
    ("said", "resolution", "verdict"),
    [
        ({"label_source": "chargeback"}, "elsewhere", "fraud"),
        ({"label_source": "analyst", "outcome_id": "o-9"}, "elsewhere", "fraud"),
        ({"label_source": "analyst", "outcome_id": f"review-{case_id_of('c-1', 'e-1')}-ab"}, "verdict", "fraud"),
        ({"label_source": "matured", "outcome_id": None, "label": "genuine"}, "matured", "genuine"),
    ],
)
def test_a_label_ends_its_case_once(said: dict[str, Any], resolution: str, verdict: str) -> None:
    on = book()
    decide(on, "e-1")
    told: Any = label("e-1", 0, **said)
    (move,) = on.label(P, told, NOW_MS)
    assert (move.review["move"], move.review["resolution"], move.review["verdict"]) == ("closed", resolution, verdict)
    assert on.label(P, told, NOW_MS) == []
    assert not on.cases


def test_a_label_that_comes_first_opens_and_closes_the_case_and_the_decision_nothing() -> None:
    on = book()
    told: Any = label("e-1", 0)
    assert [kind for kind, _ in kinds(on.label(P, told, NOW_MS))] == ["opened", "closed"]
    assert on.label(P, told | {"label_version": 2}, NOW_MS) == []
    found: Any = decision("e-1")
    assert on.decide(P, 0, NOW_MS, found) == []
    assert on.label(P, told | {"label_version": 3}, NOW_MS) == []


def test_the_least_costly_overflow() -> None:
    on = book(ReviewRules(open_max=2, per_day=0))
    for offset, amount_minor in enumerate((300, 100, 200, 400)):
        decide(on, f"e-{amount_minor}", amount_minor, offset)
    moves = on.overflow(NOW_MS)
    assert kinds(moves) == [("overflowed", "e-100"), ("overflowed", "e-200")]
    assert moves[0].review["default_action"] == "challenge"
    assert on.overflow(NOW_MS) == []


def test_who_is_at_work_keeps_the_case_and_so_does_who_has_judged_it() -> None:
    on = book(ReviewRules(open_max=1, per_day=0))
    first, second = decide(on, "e-1", 100), decide(on, "e-2", 200, 1)
    decide(on, "e-3", 300, 2)
    on.spared = frozenset({first})
    judgement: Any = type("J", (), {"verdict": "fraud", "time_ms": 1, "analyst": "vera", "why": "seen"})
    on.hear(opinion_move(on.cases[second], judgement))
    assert kinds(on.overflow(NOW_MS)) == [("overflowed", "e-3")]


def test_a_day_has_room_for_so_many_whatever_becomes_of_them() -> None:
    on = book(ReviewRules(per_day=2))
    for offset, amount_minor in enumerate((300, 100)):
        decide(on, f"e-{amount_minor}", amount_minor, offset)
    told: Any = label("e-300", 0)
    on.label(P, told, NOW_MS)  # done, and the day's room is used all the same
    assert on.overflow(NOW_MS) == []
    decide(on, "e-200", 200, 2)
    assert kinds(on.overflow(NOW_MS)) == [("overflowed", "e-100")]
    decide(on, "e-1", 1, 3, at_ms=NOW_MS + DAY_MS)
    assert on.overflow(NOW_MS + DAY_MS) == []


def test_what_overflowed_leaves_its_room_to_the_next() -> None:
    on = book(ReviewRules(per_day=2))
    for offset, amount_minor in enumerate((300, 100, 200)):
        decide(on, f"e-{amount_minor}", amount_minor, offset)
    assert kinds(on.overflow(NOW_MS)) == [("overflowed", "e-100")]
    decide(on, "e-50", 50, 3)
    assert kinds(on.overflow(NOW_MS)) == [("overflowed", "e-50")]


def test_an_instance_has_its_share_of_the_limits() -> None:
    on = book(ReviewRules(open_max=8, per_day=0), owned=2, partitions=8)
    for offset in range(4):
        decide(on, f"e-{offset}", 100 + offset, offset)
    assert len(on.overflow(NOW_MS)) == 2


def test_overdue_cases_go_to_supervisors_once() -> None:
    on = book(ReviewRules(sla_ms=HOUR_MS))
    decide(on, "e-1")
    decide(on, "e-2", offset=1, at_ms=NOW_MS + 1)
    assert on.overdue(NOW_MS + HOUR_MS - 1) == []
    (move,) = on.overdue(NOW_MS + HOUR_MS)
    assert (move.review["event_id"], move.review["escalation"]) == ("e-1", "overdue")
    assert kinds(on.overdue(NOW_MS + HOUR_MS + 1)) == [("escalated", "e-2")]
    assert on.overdue(NOW_MS + 9 * HOUR_MS) == []


def test_what_nobody_will_ever_end_expires() -> None:
    on = book(ReviewRules(expiry_ms=DAY_MS))
    decide(on, "e-1")
    assert on.expire(NOW_MS + DAY_MS - 1) == []
    (move,) = on.expire(NOW_MS + DAY_MS)
    assert (move.review["resolution"], move.review["verdict"]) == ("expired", None)
    assert on.expire(NOW_MS + DAY_MS) == []


def test_the_newest_event_is_not_moved_by_looking() -> None:
    on = book()
    on.pass_by(P, 7)
    assert on.newest_event_time_ms == 0
    assert EVENT_MS < NOW_MS


DEEDS = st.lists(st.tuples(st.sampled_from(["decide", "label", "overflow", "overdue"]), st.integers(0, 5)), max_size=30)


@given(DEEDS, st.integers(0, 30))
def test_whoever_reads_the_log_knows_what_was_known(deeds: list[tuple[str, int]], begun_at: int) -> None:
    """The book that made the moves, and one that read them, at any committed offset in between."""
    rules = ReviewRules(open_max=2, per_day=3, sla_ms=HOUR_MS)
    on, log, offset = book(rules), list[Move](), 0
    seen: set[str] = set()
    at: Any = None
    for number, (deed, event) in enumerate(deeds):
        name = f"e-{event}"
        now_ms = NOW_MS + number * HOUR_MS // 3
        if deed == "decide" and name not in seen:
            seen.add(name)
            found: Any = decision(name, 100 + event)
            log += on.decide(P, offset, now_ms, found)
            offset += 1
        elif deed == "label" and name in seen:
            case = on.cases.get(case_id_of("c-1", name))
            told: Any = label(name, case.opened["decision_offset"] if case else 0)
            log += on.label(P, told, now_ms)
        elif deed == "overflow":
            log += on.overflow(now_ms)
        elif deed == "overdue":
            log += on.overdue(now_ms)
        if number == begun_at:
            at = (len(log), offset)
    reader = Book(rules, 1)
    reader.begin(P, offset if at is None else at[1])
    endings: dict[str, Ending] = {}
    for move in log:
        ending = reader.read(P, move.review)
        if ending is not None:
            endings[move.review["case_id"]] = ending
    assert reader.cases == on.cases
    closed: list[Review] = [move.review for move in log if move.review["move"] == "closed"]
    assert {move["case_id"]: move["verdict"] for move in closed} == {i: one.verdict for i, one in endings.items()}
    assert reader._kept == on._kept
