"""A drain ends when nothing is left, or when nothing moves and nobody is on the way back."""

from __future__ import annotations

from services.platform.stillness import STILL_S_MAX, STILL_S_MAX_RESTARTING, Stillness


def test_nothing_left_is_believed_the_second_time() -> None:
    stillness = Stillness(0.0)
    assert not stillness.is_over(0.1, 0, 5, all_ready=True)
    assert not stillness.is_over(0.2, 3, 5, all_ready=True)  # a transaction became visible in between
    assert not stillness.is_over(0.3, 0, 8, all_ready=True)
    assert stillness.is_over(0.4, 0, 8, all_ready=True)


def test_movement_keeps_it_waiting_for_ever() -> None:
    stillness = Stillness(0.0)
    for second in range(1_000):
        assert not stillness.is_over(float(second), 1_000 - second, second, all_ready=True)


def test_decisions_are_movement_too() -> None:
    stillness = Stillness(0.0)
    for second in range(100):
        assert not stillness.is_over(float(second), 7, second, all_ready=True)


def test_what_does_not_move_is_given_up_later_while_a_stage_restarts() -> None:
    assert _given_up_after(all_ready=True) > STILL_S_MAX
    assert _given_up_after(all_ready=False) > STILL_S_MAX_RESTARTING > STILL_S_MAX


def _given_up_after(*, all_ready: bool) -> int:
    stillness = Stillness(0.0)
    return next(second for second in range(1_000) if stillness.is_over(float(second), 7, 0, all_ready=all_ready))
