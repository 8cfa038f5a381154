"""Pacing, from settings to allowances."""

from __future__ import annotations

import math

import pytest

from services.mesh.errors import Fatal
from services.simulator.speed import Factor, Pacer, PerSecond, Speed, Unpaced, parse_duration_s, parse_speed


@pytest.mark.parametrize(
    ("text", "speed"),
    [
        ("max", Unpaced()),
        ("60", Factor(60.0)),
        ("60x", Factor(60.0)),
        ("0.5", Factor(0.5)),
        ("500/s", PerSecond(500.0)),
    ],
)
def test_a_speed_is_read(text: str, speed: Speed) -> None:
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["", "fast", "-1", "0", "0/s", "60y", "500/m", "1e3"])
def test_what_is_no_speed_is_refused_with_its_value(text: str) -> None:
    with pytest.raises(Fatal, match=f"SPEED={text!r}"):
        parse_speed(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("240", 240.0), ("30s", 30.0), ("10m", 600.0), ("1.5h", 5_400.0), ("7d", 604_800.0), ("250ms", 0.25)],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration_s(text, "FOR") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "d", "7 days", "-3", "7y"])
def test_what_is_no_duration_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(Fatal, match=f"LABEL_DELAY={text!r}"):
        parse_duration_s(text, "LABEL_DELAY")


def test_max_allows_everything_at_once() -> None:
    assert Pacer(Unpaced(), 0.0, 0).allowance(0.0) == (math.inf, math.inf)


def test_a_factor_runs_event_time_that_much_faster() -> None:
    pacer = Pacer(Factor(60.0), 100.0, 5_000)
    assert pacer.allowance(100.0).event_time_ms == 5_000
    assert pacer.allowance(102.0).event_time_ms == 5_000 + 2 * 60_000


def test_events_a_second_are_counted_from_the_start() -> None:
    assert Pacer(PerSecond(500.0), 100.0, 0).allowance(100.5).events == 250


def test_after_a_stall_at_most_a_second_is_caught_up() -> None:
    by_rate, by_time = Pacer(PerSecond(500.0), 0.0, 0), Pacer(Factor(60.0), 0.0, 0)
    by_rate.stalled(10.0, 0, 100)
    by_time.stalled(10.0, 60_000, 0)
    assert by_rate.allowance(10.0).events == pytest.approx(100 + 500)
    assert by_time.allowance(10.0).event_time_ms == pytest.approx(60_000 + 60_000)


def test_who_keeps_up_is_not_held_back() -> None:
    pacer = Pacer(PerSecond(500.0), 0.0, 0)
    pacer.stalled(10.0, 0, 4_990)
    assert pacer.allowance(10.0).events == 5_000
