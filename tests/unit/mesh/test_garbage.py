"""What garbage collection costs a stage while it processes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from services.mesh.adapters.process import collecting_rarely
from services.mesh.stage import Emit, Handler, Stateless

BATCH_RECORDS = 500


class Nothing(Stateless):
    def step(self, batch: object) -> list[Emit]:
        return []


@pytest.fixture
def python_collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def batch() -> list[object]:
    """About as many containers as a stage holds for 500 records: record, headers, fields, emit, output."""
    return [
        [number, [(b"a", number), (b"b", number)], {"x": [number]}, (number, [])] for number in range(BATCH_RECORDS)
    ]


def passes() -> list[int]:
    return [generation["collections"] for generation in gc.get_stats()]


@pytest.mark.usefixtures("python_collector")
def test_state_is_never_walked_while_batches_pass() -> None:
    state = [[number] for number in range(200_000)]
    collecting_rarely(Nothing)()
    before = passes()
    for _ in range(200):
        batch()
    assert passes() == before
    assert len(state) == 200_000


@pytest.mark.usefixtures("python_collector")
def test_state_that_grows_is_walked_while_young_but_not_whole() -> None:
    collecting_rarely(Nothing)()
    whole_before = passes()[2]
    state = [[number] for number in range(300_000)]
    assert passes()[2] == whole_before
    assert len(state) == 300_000


@pytest.mark.usefixtures("python_collector")
def test_what_a_session_left_in_circles_is_gone_when_the_next_begins() -> None:
    make = collecting_rarely(Nothing)
    former: Handler = make()
    former.__dict__["myself"] = former
    gone = weakref.ref(former)
    gc.freeze()  # as far as a session that lasts
    del former
    make()
    assert gone() is None
