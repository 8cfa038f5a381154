"""Half of the latest records refused is a flood; some are not."""

from __future__ import annotations

from services.mesh.flood import RejectGuard


def test_the_limit_is_reached_exactly() -> None:
    guard = RejectGuard(rejects_max=10, window_records=20)
    assert not guard.count(9, 9)
    assert guard.count(1, 1)


def test_a_share_below_the_limit_never_halts() -> None:
    guard = RejectGuard(rejects_max=10, window_records=20)
    assert not any(guard.count(2, 0) or guard.count(3, 1) for _ in range(1_000))


def test_old_rejects_are_forgotten() -> None:
    guard = RejectGuard(rejects_max=10, window_records=20)
    assert not guard.count(9, 9)
    assert not guard.count(20, 0)
    assert not guard.count(9, 9)
    assert guard.count(1, 1)


def test_one_batch_may_be_a_flood() -> None:
    assert RejectGuard(rejects_max=10, window_records=20).count(500, 10)
