from __future__ import annotations

import pytest
from feature_streams import CUSTOMER, DAY, HOUR, START, TERMINAL, limited

from services.features.state import EntityState
from services.features.tiles import Tile, Tiles

# START is a full hour: tiles of 1 h begin there.
assert START % HOUR == 0


def folded(*times_ms: int) -> EntityState:
    """A terminal's state whose events (tags 0, 1, ...) are folded but for the last three."""
    state = TERMINAL.new_state()
    for tag, time_ms in enumerate(times_ms):
        view = limited(TERMINAL, 4) if tag == len(times_ms) - 1 else TERMINAL
        view.apply_event(state, time_ms, 100, 2, tag)
    assert state.exact_events == 3
    return state


def tiles_of(state: EntityState) -> list[Tile]:
    return list(state.tiles or ())


def test_events_of_one_hour_share_a_tile_that_stands_for_its_newest() -> None:
    state = folded(START, START + 1, START + HOUR - 1, START + HOUR, *[START + DAY] * 3)
    assert tiles_of(state) == [Tile(START + HOUR - 1, 3, 0, 0, 0), Tile(START + HOUR, 1, 0, 0, 0)]


def test_a_late_event_joins_the_tile_of_its_hour_or_begins_one_between() -> None:
    state = folded(START, START + 5 * HOUR, *[START + DAY] * 3)
    for time_ms in (START + 1, START + 2 * HOUR, START + 5 * HOUR - 1):
        TERMINAL.apply_event(state, time_ms, 100, 2, time_ms)
    assert [(tile.newest_ms - START, tile.count) for tile in tiles_of(state)] == [
        (1, 2),
        (2 * HOUR, 1),
        (5 * HOUR - 1, 1),
        (5 * HOUR, 1),
    ]


def test_an_event_of_the_newest_folded_time_stays_exact() -> None:
    state = folded(*[START] * 5)
    TERMINAL.apply_event(state, START, 100, 2, 9)
    assert (state.exact_events, tiles_of(state)) == (4, [Tile(START, 2, 0, 0, 0)])


def test_a_tile_behind_the_horizon_takes_in_no_late_event_of_its_hour() -> None:
    state = folded(START, START + DAY, *[START + 2 * DAY] * 3)
    TERMINAL.apply_event(state, START + TERMINAL.kept_span_ms, 100, 2, 7)
    TERMINAL.apply_event(state, START + 1, 100, 2, 8)
    assert tiles_of(state) == [Tile(START + 1, 1, 0, 0, 0), Tile(START + DAY, 1, 0, 0, 0)]


def test_a_tile_behind_the_horizon_takes_in_no_event_that_is_folded() -> None:
    state = folded(START, START, *[START + 1] * 3)
    limited(TERMINAL, 3).apply_event(state, START + TERMINAL.kept_span_ms, 100, 2, 7)
    assert tiles_of(state) == [Tile(START + 1, 2, 0, 0, 0)]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["fraud"], (0, 1)),
        (["genuine", "fraud"], (1, 1)),
        (["genuine", "genuine", "genuine"], (2, 0)),  # more labels than events: a repeat
        (["genuine", "genuine", "fraud"], (1, 1)),  # all had one: this one replaces
        (["genuine", "fraud!"], (0, 1)),  # a revision replaces
        (["fraud", "genuine!", "fraud!"], (0, 1)),
        (["fraud!"], (0, 1)),  # a revision of a label that never came
    ],
)
def test_labels_of_folded_events(labels: list[str], expected: tuple[int, int]) -> None:
    state = folded(START, START + 1, *[START + DAY] * 3)
    for label in labels:
        assert TERMINAL.apply_label(state, START, 0, label.rstrip("!"), label.endswith("!"))  # type: ignore[arg-type]
    assert [(tile.genuine, tile.fraud) for tile in tiles_of(state)] == [expected]


def test_a_label_that_no_tile_covers_is_refused() -> None:
    state = folded(START, START + 3 * HOUR, *[START + DAY] * 3)
    assert not TERMINAL.apply_label(state, START + 1, 0, "fraud")
    assert not TERMINAL.apply_label(state, START + HOUR, 0, "fraud")


def test_labels_given_before_an_event_is_folded_stay() -> None:
    state = TERMINAL.new_state()
    for tag in range(5):
        TERMINAL.apply_event(state, START + tag, 100, 2, tag)
    for tag in range(5):
        TERMINAL.apply_label(state, START + tag, tag, "fraud" if tag % 2 else "genuine")
    limited(TERMINAL, 4).apply_event(state, START + 9, 100, 2, 9)
    assert tiles_of(state) == [Tile(START + 2, 3, 0, 2, 1)]
    known = TERMINAL.read(state, START + 9)
    assert (known["terminal_known_labels_1d"], known["terminal_known_fraud_rate_1d"]) == (5, pytest.approx(0.4))


def test_amounts_of_a_tile_may_outgrow_64_bits() -> None:
    state = CUSTOMER.new_state()
    largest = 2**63 - 1
    for number in range(5):
        limited(CUSTOMER, 4).apply_event(state, START + number, largest, 4, number)
    assert tiles_of(state) == [Tile(START + 1, 2, 2 * largest, 0, 0)]


def test_tiles_written_out_and_taken_in_are_the_same() -> None:
    tiles = Tiles(HOUR)
    for hour in (3, 0, 2, 0, 3):
        tiles.add(START + hour * HOUR, 10 + hour, hour % 2, 0)
    again = Tiles(HOUR)
    for tile in tiles:
        again.append(tile)
    assert list(again) == list(tiles)
    assert again.amounts == tiles.amounts == [0, 20, 32, 58]
