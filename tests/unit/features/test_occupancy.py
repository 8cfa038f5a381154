"""How full windows are, and from when on that leaves room for single events."""

from __future__ import annotations

from random import Random

import pytest
from feature_streams import CUSTOMER, DAY, FEATURES_TEXT, HOUR, START, TERMINAL, squeezed

from services.features.definitions import load_feature_set
from services.features.occupancy import NEVER_MS, QUARTER_MS, Occupancy
from services.features.stored_mark import mark_text, read_mark
from services.mesh.headers import Hop
from services.mesh.watermark import Marks

SPAN_MS = 31 * DAY


def filled(events_max: int, *times_ms: int) -> Occupancy:
    occupancy = Occupancy(SPAN_MS, events_max)
    for time_ms in times_ms:
        occupancy.add(time_ms)
    return occupancy


def test_while_all_fit_nothing_is_folded() -> None:
    occupancy = filled(3, START, START + DAY, START + 2 * DAY)
    assert (occupancy.events, occupancy.exact_after_ms) == (3, NEVER_MS)


def test_one_too_many_folds_the_oldest_quarter_of_a_day() -> None:
    occupancy = filled(3, START, START + 1, START + DAY, START + 2 * DAY)
    assert (occupancy.events, occupancy.exact_after_ms) == (4, START + QUARTER_MS - 1)


def test_the_newest_quarter_is_never_asked_for() -> None:
    occupancy = filled(3, START, *[START + DAY] * 50)
    assert occupancy.exact_after_ms == START + DAY - 1


def test_a_late_event_counts_where_it_belongs() -> None:
    occupancy = filled(3, START + 2 * DAY, START + 3 * DAY, START + 4 * DAY, START)
    assert occupancy.exact_after_ms == START + QUARTER_MS - 1


def test_what_has_left_the_span_makes_room_again() -> None:
    occupancy = filled(2, START, START, START, START + DAY, START + SPAN_MS)
    assert occupancy.exact_after_ms > NEVER_MS
    occupancy.add(START + SPAN_MS + 2 * QUARTER_MS)
    occupancy.add(START)  # too old to count
    assert occupancy.events == 3
    occupancy.add(START + DAY + SPAN_MS + 2 * QUARTER_MS)
    assert (occupancy.events, occupancy.exact_after_ms > NEVER_MS) == (3, True)
    occupancy.add(START + 90 * DAY)
    assert (occupancy.events, occupancy.exact_after_ms) == (1, NEVER_MS)


def test_tiles_get_fuller_with_the_events() -> None:
    assert filled(10, *[START] * 10).tile_events_min == 6
    assert filled(10, *[START] * 11).tile_events_min == 7
    assert filled(10, *[START] * 100).tile_events_min == 60


@pytest.mark.parametrize("seed", range(20))
def test_what_the_text_gives_back_goes_on_as_before(seed: int) -> None:
    random = Random(seed)
    occupancy, clock_ms = Occupancy(SPAN_MS, random.choice((5, 20, 60))), START
    for _ in range(300):
        clock_ms += random.choice((0, 1, HOUR, HOUR, 5 * HOUR, DAY if random.random() < 0.2 else 0))
        occupancy.add(clock_ms - random.choice((0, 0, HOUR, 10 * DAY)))
        again = Occupancy.from_text(SPAN_MS, occupancy.events_max, occupancy.to_text())
        assert (again.events, again.exact_after_ms) == (occupancy.events, occupancy.exact_after_ms)
        if random.random() < 0.1:
            occupancy = again


@pytest.mark.parametrize("text", ["x", "AAAA", "AAAAAAAAAAA=", Occupancy(38 * DAY, 1).to_text()])
def test_a_text_of_another_span_or_of_nobody_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"base64|padding|cut short|counts|item size"):
        Occupancy.from_text(SPAN_MS, 1, text)


def test_a_view_shares_its_memory_out_over_its_partitions() -> None:
    assert squeezed(CUSTOMER, 80).new_occupancy(8).events_max == 10
    assert squeezed(CUSTOMER, 3).new_occupancy(8).events_max == 1


def test_a_mark_is_read_by_the_view_and_feature_set_that_wrote_it_alone() -> None:
    marks, occupancy = Marks(), CUSTOMER.new_occupancy(2)
    marks.admit(Hop(1, 2, 1, 2, 0))
    occupancy.add(START)
    text = mark_text(CUSTOMER, marks.to_metadata(), occupancy)
    going = read_mark(CUSTOMER, 2, text)
    assert going is not None
    assert (going.marks, going.occupancy.to_text()) == (marks, occupancy.to_text())
    other = load_feature_set(FEATURES_TEXT.replace("delay: 7d", "delay: 8d"), "f").view("customer")
    assert read_mark(other, 2, text) is None
    assert read_mark(TERMINAL, 2, text) is None


@pytest.mark.parametrize("text", ["", "none of ours", f"{CUSTOMER.store_mark.hex()} ~ ~", CUSTOMER.store_mark.hex()])
def test_a_mark_that_nobody_wrote_counts_as_none(text: str) -> None:
    assert read_mark(CUSTOMER, 2, text) is None
