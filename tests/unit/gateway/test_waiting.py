"""Waiters, and the memory of bodies."""

from __future__ import annotations

from services.gateway.memory import Memory
from services.gateway.waiting import Waiters

A, B = (b"a", b"c"), (b"b", b"c")


def test_everybody_who_waits_for_a_key_hears_and_nobody_else() -> None:
    waiters, heard = Waiters(), []
    waiters.add(A, lambda said: heard.append(("first", said)))
    waiters.add(A, lambda said: heard.append(("second", said)))
    waiters.add(B, lambda said: heard.append(("other", said)))
    assert waiters.wants(A)
    waiters.tell(A, 7)
    assert heard == [("first", 7), ("second", 7)]


def test_who_has_left_hears_nothing_and_leaves_nothing_behind() -> None:
    waiters, heard = Waiters(), []
    waiters.add(A, heard.append)
    waiters.remove(A, heard.append)
    waiters.remove(A, heard.append)
    waiters.tell(A, 7)
    assert heard == []
    assert not waiters.wants(A)
    assert len(waiters) == 0


def test_a_waiter_may_leave_while_all_are_told() -> None:
    waiters, heard = Waiters(), []

    def leave(said: int) -> None:
        heard.append(said)
        waiters.remove(A, leave)

    waiters.add(A, leave)
    waiters.add(B, heard.append)
    waiters.tell_all(7)
    assert heard == [7, 7]
    assert len(waiters) == 1


def test_memory_tells_other_bodies_apart_until_it_forgets() -> None:
    memory = Memory(identities_max=2)
    assert not memory.differs(b"1", 10)
    memory.note(b"1", 10)
    assert memory.differs(b"1", 11)
    assert not memory.differs(b"1", 10)
    memory.note(b"2", 20)
    memory.note(b"1", 10)  # the latest again
    memory.note(b"3", 30)
    assert [memory.knows(identity) for identity in (b"1", b"2", b"3")] == [True, False, True]
    memory.forget(b"1")
    assert not memory.differs(b"1", 11)
