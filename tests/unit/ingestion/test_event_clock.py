from __future__ import annotations

import pytest

from services.ingestion.event_clock import JUMP_CUSTOMERS, JUMP_EVENTS, ClockRules, EventClock

RULES = ClockRules(lateness_ms=1_000, ahead_ms=10, jump_ms=5_000)
FAR_MS = 10**12


def clock_at(now_ms: int) -> EventClock:
    return EventClock(RULES, now_ms)


def verdict(clock: EventClock, time_ms: int, who: int = 0, event: int = 0, append_ms: int = FAR_MS) -> str:
    poison = clock.refuse(time_ms, append_ms, b"c%d" % who, b"e%d" % event)
    return "" if poison is None else poison.code.value


@pytest.mark.parametrize(
    ("time_ms", "expected"), [(99_000, ""), (98_999, "late"), (105_000, ""), (105_001, "clock_jump"), (100_000, "")]
)
def test_edges(time_ms: int, expected: str) -> None:
    assert verdict(clock_at(100_000), time_ms) == expected


@pytest.mark.parametrize(("time_ms", "expected"), [(100_010, ""), (100_011, "clock_ahead")])
def test_ahead_of_the_append_time(time_ms: int, expected: str) -> None:
    assert verdict(clock_at(100_000), time_ms, append_ms=100_000) == expected


def test_the_first_event_sets_the_clock() -> None:
    clock = EventClock(RULES)
    assert verdict(clock, 77) == ""
    clock.accept(77)
    assert clock.now_ms == 77


def test_the_clock_never_steps_back() -> None:
    clock = clock_at(100)
    clock.accept(40)
    assert clock.now_ms == 100


def test_customers_agree_on_a_jump() -> None:
    clock = clock_at(1)
    said = [verdict(clock, 50_000 + n, who=n, event=n) for n in range(JUMP_CUSTOMERS)]
    assert said == ["clock_jump"] * (JUMP_CUSTOMERS - 1) + [""]


def test_one_customer_needs_many_events_and_repeating_itself_is_none() -> None:
    clock = clock_at(1)
    assert {verdict(clock, 50_000) for _ in range(3 * JUMP_EVENTS)} == {"clock_jump"}
    said = [verdict(clock, 50_000, event=n) for n in range(JUMP_EVENTS)]
    assert said == ["clock_jump"] * (JUMP_EVENTS - 1) + [""]


def test_voices_further_apart_than_a_jump_do_not_agree() -> None:
    clock = clock_at(1)
    said = [verdict(clock, 50_000 + 5_001 * n, who=n, event=n) for n in range(20)]
    assert set(said) == {"clock_jump"}


def test_an_accepted_event_silences_the_voices() -> None:
    clock = clock_at(1)
    for n in range(20):
        assert verdict(clock, 50_000, who=n, event=n) == "clock_jump"
        if n % 4 == 3:
            clock.accept(2)


def test_state_survives_packing() -> None:
    clock = clock_at(1)
    for n in range(JUMP_CUSTOMERS - 1):
        verdict(clock, 50_000 + n, who=n, event=n)
    again = EventClock.unpack(RULES, clock.pack())
    assert again.pack() == clock.pack()
    assert verdict(again, 50_000, who=99, event=99) == ""


@pytest.mark.parametrize("state", [b"", b"x" * 25, EventClock(RULES).pack() + b"x", EventClock(RULES).pack()[:-1]])
def test_foreign_bytes_are_refused(state: bytes) -> None:
    with pytest.raises(ValueError, match="a clock of"):
        EventClock.unpack(RULES, state)


def test_the_message_says_how_far_and_what_to_do() -> None:
    poison = EventClock(ClockRules(), 10 * 86_400_000).refuse(1, FAR_MS, b"c", b"e")
    assert str(poison) == (
        "event_time_ms=1 is 9 d 23 h behind the partition's clock 864000000; 1 h are allowed; send sooner, or raise "
        "WEIR_LATENESS"
    )
