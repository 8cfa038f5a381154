"""One signal stops the mesh, at whatever moment; the 10 s are divided once."""

from __future__ import annotations

import os
import signal

import pytest

from services.platform import interrupt
from services.platform.interrupt import Interrupt

STEPS = (
    interrupt.SENDERS_BY_S, interrupt.DRAIN_BY_S, interrupt.STAGES_BY_S, interrupt.SCAN_BY_S, interrupt.SERVERS_BY_S,
)  # fmt: skip


def test_steps_follow_each_other_and_end_within_ten_seconds() -> None:
    assert list(STEPS) == sorted(set(STEPS))
    assert STEPS[-1] < 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_starting_the_first_signal_ends_it_and_no_other_disturbs_the_end(number: signal.Signals) -> None:
    with Interrupt() as interrupted:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert interrupted


def test_later_a_signal_is_noted() -> None:
    with Interrupt() as interrupted:
        interrupted.noting()
        assert not interrupted
        assert interrupted.left_s(1.0) == float("inf")
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupted
        at_s = interrupted.at_s
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted.at_s == at_s
        assert 0 < interrupted.left_s(5.0) <= 5.0
        assert interrupted.left_s(0.0) == 0.0


def test_the_handlers_of_before_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Interrupt():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
