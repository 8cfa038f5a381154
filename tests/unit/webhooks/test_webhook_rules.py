"""When to send again, when to give up, what an answer means, and how much a receiver is asked at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mesh.settings import Environment
from services.webhooks.circuit import FAILURES_MAX, REFUSALS_MAX, Circuit
from services.webhooks.schedule import RETRY_AFTER_S_MAX, Schedule, retry_after_s
from services.webhooks.settings import WebhookSettings
from services.webhooks.verdict import Answer, Verdict

SCHEDULE = Schedule(first_wait_s=1.0, wait_s_max=60.0, attempts_max=5, age_s_max=100.0)
FRACTIONS = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 10_000), FRACTIONS)
def test_a_wait_is_bounded_never_nothing_and_its_bound_doubles(failures: int, fraction: float) -> None:
    wait_s, bound_s = SCHEDULE.wait_s(failures, fraction), SCHEDULE.wait_s(failures, 0.0)
    assert 0.0 < wait_s <= bound_s <= 60.0
    assert SCHEDULE.wait_s(failures + 1, 0.0) == min(60.0, 2 * bound_s)


def test_a_decision_is_given_up_after_so_many_attempts_or_so_long() -> None:
    assert [SCHEDULE.is_over(attempts, 0.0) for attempts in (4, 5, 6)] == [False, True, True]
    assert [SCHEDULE.is_over(1, age_s) for age_s in (99.9, 100.0)] == [False, True]


def test_the_limits_hold_up_a_customer_for_less_than_half_an_hour() -> None:
    schedule = WebhookSettings.read(Environment({})).schedule
    longest_s = sum(schedule.wait_s(failures, 0.0) for failures in range(1, schedule.attempts_max))
    assert 1_200 < longest_s < 1_800


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None), ("", None), ("soon", None), ("-1", None), ("1.5", None), ("²", None),
        ("0", 0.0), (" 7 ", 7.0), ("999999999", RETRY_AFTER_S_MAX), ("9" * 30, None),
        ("Thu, 01 Jan 1970 00:16:50 GMT", 10.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", RETRY_AFTER_S_MAX), ("Thu, 99 Jan 1970 00:00:00 GMT", None),
    ],
)  # fmt: skip
def test_what_a_receiver_asks_for_is_understood(text: str | None, seconds: float | None) -> None:
    assert retry_after_s(text, 1_000.0) == seconds


@given(st.text())
def test_whatever_a_receiver_asks_for_is_bounded(text: str) -> None:
    found = retry_after_s(text, 1_000.0)
    assert found is None or 0.0 <= found <= RETRY_AFTER_S_MAX


def test_every_status_has_its_meaning() -> None:
    meanings = {status: Answer(status=status).verdict for status in (0, *range(100, 600))}
    assert {s for s, v in meanings.items() if v is Verdict.TAKEN} == set(range(200, 300))
    assert {s for s, v in meanings.items() if v is Verdict.GONE} == {410}
    assert {s for s, v in meanings.items() if v is Verdict.REFUSED} == set(range(400, 500)) - {408, 410, 425, 429}


def test_an_answer_is_one_short_line() -> None:
    assert str(Answer(status=400, text="no\ncustomer\x1b[31m " + "x" * 500)).startswith("400: no customer [31m xxx")
    assert len(str(Answer(status=400, text="x" * 5_000))) < 250
    assert str(Answer(text="none within 10 s")) == "no answer: none within 10 s"


def opened() -> Circuit:
    circuit = Circuit(SCHEDULE, 16)
    for _ in range(FAILURES_MAX):
        assert not circuit.is_open
        circuit.failed(100.0, 0.0)
    return circuit


def test_failures_in_a_row_open_it_and_then_one_at_a_time_asks_less_and_less_often() -> None:
    circuit = opened()
    assert (circuit.is_open, circuit.at_once, circuit.not_before_s) == (True, 1, 101.0)
    circuit.failed(100.5, 0.0)  # had been on its way before
    assert circuit.not_before_s == 101.0
    for now_s, wait_s in ((101.0, 2.0), (103.0, 4.0), (107.0, 8.0), (115.0, 16.0), (131.0, 32.0), (163.0, 60.0)):
        circuit.failed(now_s, 0.0)
        assert circuit.not_before_s == now_s + wait_s


def test_one_that_is_taken_closes_it() -> None:
    circuit = opened()
    circuit.took()
    assert (circuit.is_open, circuit.at_once) == (False, 16)
    for _ in range(FAILURES_MAX - 1):
        circuit.failed(200.0, 0.0)
    assert not circuit.is_open


def test_a_refusal_is_the_decisions_fault_until_there_are_too_many_in_a_row() -> None:
    circuit = Circuit(SCHEDULE, 16)
    assert [circuit.refused(1.0, 0.0) for _ in range(REFUSALS_MAX)] == [True] * (REFUSALS_MAX - 1) + [False]
    assert circuit.is_open
    assert not circuit.refused(50.0, 0.0), "while it is open nothing is given up for being refused"
    circuit.took()
    assert circuit.refused(60.0, 0.0)


def test_a_refusal_shows_that_the_receiver_answers() -> None:
    circuit = Circuit(SCHEDULE, 16)
    for _ in range(10 * FAILURES_MAX):
        circuit.failed(1.0, 0.0)
        if circuit.is_open:
            break
        circuit.took()
    assert not circuit.is_open


def test_who_asks_for_time_gets_it() -> None:
    circuit = Circuit(SCHEDULE, 16)
    circuit.asked_to_wait(50.0)
    circuit.asked_to_wait(40.0)
    assert (circuit.not_before_s, circuit.is_open) == (50.0, False)
