"""Large state is not looked at by the collector of cycles; what dies in a cycle still goes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from services.mesh.adapters import garbage_collector

MANY = 100_000


class Node:
    def __init__(self) -> None:
        self.other: Node | None = None


@pytest.fixture
def freezing() -> Iterator[None]:
    gc.collect()
    garbage_collector.freeze_survivors()
    yield
    gc.callbacks.remove(garbage_collector._freeze)
    gc.unfreeze()


def cycle() -> Node:
    node = Node()
    node.other = node
    return node


@pytest.mark.usefixtures("freezing")
def test_what_has_lived_for_a_while_is_not_looked_at() -> None:
    before = gc.get_freeze_count()
    state = [Node() for _ in range(MANY)]
    gc.collect(1)
    assert gc.get_freeze_count() - before >= MANY
    assert len(gc.get_objects()) < MANY * 0.1
    one = weakref.ref(state[0])
    del state
    assert one() is None  # reference counts free it all the same


@pytest.mark.usefixtures("freezing")
def test_a_cycle_that_dies_young_goes() -> None:
    dead = weakref.ref(cycle())
    gc.collect(0)
    assert dead() is None


@pytest.mark.usefixtures("freezing")
def test_a_cycle_that_dies_later_goes_when_thawed() -> None:
    node = cycle()
    dead = weakref.ref(node)
    gc.collect(1)  # survives, and is frozen
    del node
    gc.collect()
    assert dead() is not None
    garbage_collector.thaw()
    assert dead() is None


@pytest.mark.usefixtures("freezing")
def test_asking_twice_is_asking_once() -> None:
    garbage_collector.freeze_survivors()
    assert gc.callbacks.count(garbage_collector._freeze) == 1
