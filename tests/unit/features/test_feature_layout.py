from __future__ import annotations

import pytest
from feature_streams import CUSTOMER, DAY, FEATURES_TEXT, HOUR, START, TERMINAL, limited

from services.features.definitions import load_feature_set
from services.features.kernel import View
from services.features.layout import Append, Rewrite, pack, unpack
from services.features.state import EntityState
from services.mesh.errors import Fatal


def some_state(view: View, events: int = 10, limit: int | None = None) -> EntityState:
    state = view.new_state()
    owner = limited(view, limit or view.exact_events_max)
    for number in range(events):
        owner.apply_event(state, START + number * HOUR, 100 + number, 2, number)
    return state


def test_a_new_entity_is_written_whole_and_an_event_then_costs_16_bytes() -> None:
    for view in (CUSTOMER, TERMINAL):
        state = some_state(view)
        whole = state.take_delta()
        assert isinstance(whole, Rewrite)
        assert len(whole.data) == 33 + 10 * 16
        assert state.take_delta() is None
        view.apply_event(state, START + 10 * HOUR, 1, 2, 10)
        appended = state.take_delta()
        assert isinstance(appended, Append)
        assert (len(appended.data), appended.offset) == (16, len(whole.data))


def test_a_late_event_and_a_label_are_appended_too() -> None:
    state = some_state(TERMINAL)
    stored = state.take_delta()
    assert isinstance(stored, Rewrite)
    TERMINAL.apply_event(state, START + 1, 1, 2, 99)
    TERMINAL.apply_label(state, START, 0, "fraud")
    TERMINAL.apply_label(state, START, 0, "genuine")
    TERMINAL.apply_label(state, START, 0, "genuine")  # changes nothing and writes nothing
    delta = state.take_delta()
    assert isinstance(delta, Append)
    assert len(delta.data) == 3 * 16
    assert pack(unpack(TERMINAL, stored.data + delta.data)) == pack(state)


def test_a_delta_is_whole_again_after_a_compaction_and_leaves_out_what_is_gone() -> None:
    state = some_state(CUSTOMER)
    state.take_delta()
    for number in range(20):
        CUSTOMER.apply_event(state, START + 40 * DAY + number, 1, 2, number)
    delta = state.take_delta()
    assert isinstance(delta, Rewrite)
    assert len(delta.data) == 33 + 20 * 16


@pytest.mark.parametrize("view", [CUSTOMER, TERMINAL], ids=lambda view: view.name)
def test_tiles_survive_the_store(view: View) -> None:
    state = some_state(view, events=100, limit=20)
    assert state.tiles is not None
    again = unpack(view, pack(state))
    assert again.tiles is not None
    assert list(again.tiles) == list(state.tiles)
    assert view.read(again, START + 100 * HOUR) == view.read(state, START + 100 * HOUR)


@pytest.mark.parametrize("view", [CUSTOMER, TERMINAL], ids=lambda view: view.name)
def test_no_bit_of_a_value_written_whole_can_flip_unseen(view: View) -> None:
    value = pack(some_state(view, events=30, limit=20))
    for bit in range(0, len(value) * 8, 7):
        broken = bytearray(value)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Fatal):
            unpack(view, bytes(broken))


def test_no_truncation_of_a_value_written_whole_goes_unseen() -> None:
    value = pack(some_state(CUSTOMER))
    for length in range(len(value)):
        with pytest.raises(Fatal):
            unpack(CUSTOMER, value[:length])


def entry(time_ms: int, word: int) -> bytes:
    return time_ms.to_bytes(8, "little") + word.to_bytes(8, "little", signed=True)


@pytest.mark.parametrize(
    "appended",
    [
        entry(START, 77 << 4 | 0b0110),  # a label of an event that is not there
        entry(START, 0 << 4 | 0b0111),  # a label of no kind
        entry(START, 0 << 4 | 0b0100),
        entry(START, 77 << 4 | 0b0001),  # an event that had its label when it came
        entry(START, -1),
        entry(START - 40 * DAY, 77 << 4),  # an event that would not have been kept
        entry(START, 77 << 4)[:15],  # half an entry
        b"\0",
    ],
)
def test_an_appended_entry_that_follows_from_nothing_is_refused(appended: bytes) -> None:
    value = pack(some_state(TERMINAL))
    unpack(TERMINAL, value + entry(START, 77 << 4))
    with pytest.raises(Fatal, match=r"stored state of wf:3:t17 of view terminal: .*rebuilt from the log"):
        unpack(TERMINAL, value + appended, "wf:3:t17")


def test_an_appended_label_that_says_what_is_known_is_refused() -> None:
    state = some_state(TERMINAL)
    TERMINAL.apply_label(state, START, 0, "fraud")
    with pytest.raises(Fatal, match="follows from nothing before"):
        unpack(TERMINAL, pack(state) + entry(START, 0b0110))


def test_reversals_without_end_leave_the_stored_value_short() -> None:
    state, stored = some_state(TERMINAL), b""
    for number in range(500):
        TERMINAL.apply_label(state, START, 0, "genuine" if number % 2 else "fraud")
        delta = state.take_delta()
        assert delta is not None
        stored = stored + delta.data if isinstance(delta, Append) else delta.data
        assert len(stored) <= 32 + (10 + 16) * 16
    assert pack(unpack(TERMINAL, stored)) == pack(state)


@pytest.mark.parametrize("value", [b"", b"0", b"\0" * 32, b"not a state at all, but long enough to be one"])
def test_what_is_no_state_is_refused(value: bytes) -> None:
    with pytest.raises(Fatal):
        unpack(CUSTOMER, value)


def test_state_of_another_view_or_feature_set_is_refused() -> None:
    other = load_feature_set(FEATURES_TEXT.replace("30d]", "29d]", 1), "f").view("customer")
    for view in (TERMINAL, other):
        with pytest.raises(Fatal, match=f"it has mark .*; {view.name} of this feature set has"):
            unpack(view, pack(some_state(CUSTOMER)))
