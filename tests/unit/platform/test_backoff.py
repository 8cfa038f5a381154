"""How long to wait before a dead child is started again."""

from __future__ import annotations

from services.platform.backoff import Backoff


def test_delays_double_up_to_their_limit() -> None:
    backoff = Backoff(delay_s_min=0.2, delay_s_max=5.0)
    assert [backoff.delay_s(0.0) for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_thousand_deaths_still_wait_the_limit() -> None:
    backoff = Backoff()
    assert [backoff.delay_s(0.0) for _ in range(2_000)][-1] == backoff.delay_s_max


def test_a_healthy_stretch_starts_over() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.delay_s(0.0)
    assert backoff.delay_s(29.9) == 5.0
    assert backoff.delay_s(30.0) == 0.2


def test_config_deaths_are_counted_in_a_row() -> None:
    backoff = Backoff()
    counts = []
    for config_error in (True, True, False, True):
        backoff.delay_s(0.0, config_error=config_error)
        counts.append(backoff.config_deaths)
    assert counts == [1, 2, 0, 1]
