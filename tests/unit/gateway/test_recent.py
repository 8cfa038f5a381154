"""What was followed lately, beside an index that takes it in."""

from __future__ import annotations

from services.gateway.recent import Recent
from services.mesh.lookup_entries import Place

D0, D1, L0 = ("decisions.v1", 0), ("decisions.v1", 1), ("dead-letters.v1", 0)
A, B, C = (b"a", b"c"), (b"b", b"c"), (b"x", b"y")


def begun(places_max: int = 100) -> Recent:
    recent = Recent(places_max)
    recent.begin({D0: 10, D1: 20, L0: 0})
    return recent


def test_the_latest_record_of_a_key_in_a_topic() -> None:
    recent = begun()
    recent.note(D0, 10, A)
    recent.note(L0, 3, A)
    recent.note(D0, 12, A)
    assert recent.place("decisions.v1", A) == Place("decisions.v1", 0, 12)
    assert recent.place("dead-letters.v1", A) == Place("dead-letters.v1", 0, 3)
    assert recent.place("decisions.v1", B) is None


def test_what_the_index_has_taken_in_is_dropped_and_nothing_is_uncovered() -> None:
    recent = begun()
    for offset, key in ((10, A), (11, B), (12, A)):
        recent.note(D0, offset, key)
    recent.drop_before({D0: 12, D1: 20})
    assert recent.place("decisions.v1", B) is None
    assert recent.place("decisions.v1", A) == Place("decisions.v1", 0, 12)
    assert recent.covers(D0, 12)
    assert not recent.covers(D0, 11)


def test_an_index_that_is_behind_leaves_a_gap_that_is_told() -> None:
    recent = begun(places_max=2)
    for offset, key in ((10, A), (11, B), (12, C)):
        recent.note(D0, offset, key)
    assert recent.place("decisions.v1", A) is None
    assert not recent.covers(D0, 10)  # offset 10 is in neither
    assert recent.covers(D0, 11)
    recent.drop_before({D0: 11})
    assert recent.place("decisions.v1", B) == Place("decisions.v1", 0, 11)


def test_before_it_follows_it_covers_nothing() -> None:
    assert not Recent().covers(D0, 1 << 40)


def test_beginning_again_forgets() -> None:
    recent = begun()
    recent.note(D0, 10, A)
    recent.begin({D0: 50})
    assert recent.place("decisions.v1", A) is None
    assert not recent.covers(D0, 10)
    assert not recent.covers(D1, 1 << 40)
    assert recent.covers(D0, 50)
