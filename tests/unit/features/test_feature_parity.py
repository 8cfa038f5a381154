"""The kernel, with its state going through the store at random, says what the brute-force oracle says, bit for bit."""

from __future__ import annotations

import struct
from random import Random

import pytest
from feature_streams import (
    CUSTOMER,
    TERMINAL,
    EventStep,
    LabelStep,
    Step,
    StoreStep,
    limited,
    squeezed,
    stream,
    streams,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from services.features.kernel import View
from services.features.layout import Append, Rewrite, pack, unpack
from services.features.occupancy import Occupancy
from services.features.state import EntityState
from tests.oracle.feature_oracle import NAMES, FeatureOracle, served


class Owner:
    """The least that an owner of state does: entities in memory, their values in a store."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.occupancy = view.new_occupancy(1)
        self.states: dict[str, EntityState] = {}
        self.stored: dict[str, bytes] = {}

    def state(self, entity: str) -> EntityState:
        if entity not in self.states:
            value = self.stored.get(entity)
            self.states[entity] = self.view.new_state() if value is None else unpack(self.view, value, entity)
        return self.states[entity]

    def event(self, step: EventStep) -> tuple[bytes, str]:
        return self.view.apply_event(
            self.state(step.entity), step.time_ms, step.amount_minor, step.exponent, step.tag, self.occupancy
        )

    def replayed(self, step: EventStep) -> None:
        self.view.absorb_event(
            self.state(step.entity), step.time_ms, step.amount_minor, step.exponent, step.tag, self.occupancy
        )

    def label(self, step: LabelStep) -> bool:
        state = self.state(step.entity)
        return self.view.apply_label(state, step.time_ms, step.tag, step.label, step.is_revision)  # type: ignore[arg-type]

    def store(self, step: StoreStep) -> None:
        for entity, state in self.states.items():
            match state.take_delta():
                case Rewrite(data):
                    self.stored[entity] = data
                case Append(data, offset):
                    assert offset == len(self.stored[entity])
                    self.stored[entity] += data
            assert content(unpack(self.view, self.stored[entity], entity)) == content(state)
        text = self.occupancy.to_text()
        restored = self.view.new_occupancy(1, text)
        assert described_occupancy(restored) == described_occupancy(self.occupancy)
        if step.forgets:
            self.states.clear()
            self.occupancy = restored


def content(state: EntityState) -> tuple[bytes, int, int, int]:
    """Everything that decides what a state will say and do."""
    return pack(state), state.log_entries, state.compact_at, state.stored_bytes


def described_occupancy(occupancy: Occupancy) -> tuple[object, ...]:
    """Everything that decides what an occupancy will say."""
    return occupancy.to_text(), occupancy.events, occupancy._held, occupancy._cut, occupancy.exact_after_ms


def play(view: View, steps: list[Step], exact_events_max: int, partition_events_max: int = 10**6) -> dict[str, int]:
    """Play ``steps`` on kernel and oracle, compare every answer; how often each status came."""
    owner = Owner(squeezed(limited(view, exact_events_max), partition_events_max))
    oracle = FeatureOracle(view.name, exact_events_max, partition_events_max)  # type: ignore[arg-type]
    statuses: dict[str, int] = {}
    for number, step in enumerate(steps):
        match step:
            case EventStep(entity, time_ms, amount_minor, exponent, tag):
                vector, status = owner.event(step)
                values, expected_status = oracle.event(entity, time_ms, amount_minor, exponent, tag)
                assert status == expected_status, (number, step)
                assert vector == served(values), (
                    number,
                    step,
                    described(view, vector),
                    described(view, served(values)),
                )
                statuses[status] = statuses.get(status, 0) + 1
                if status == "saturated":
                    assert_within_bound(oracle, step, vector)
            case LabelStep(entity, time_ms, tag, label, is_revision):
                if view is TERMINAL:
                    expected = oracle.label(entity, time_ms, tag, label, is_revision)
                    assert owner.label(step) == expected, (number, step)
            case StoreStep():
                owner.store(step)
    return statuses


def assert_within_bound(oracle: FeatureOracle, step: EventStep, vector: bytes) -> None:
    values = struct.unpack(f"<{len(vector) // 4}f", vector)
    for place, true, bound in oracle.bounds(oracle.entities[step.entity], step.time_ms):
        assert abs(values[place] - true) <= bound, (NAMES[oracle.view][place], step)


def described(view: View, vector: bytes) -> dict[str, float]:
    return dict(zip(view.names, struct.unpack(f"<{view.count}f", vector), strict=True))


@pytest.mark.parametrize("view", [CUSTOMER, TERMINAL], ids=lambda view: view.name)
@given(steps=streams, exact_events_max=st.integers(1, 30), partition_events_max=st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_a_replay_leaves_what_the_live_path_left(
    view: View, steps: list[Step], exact_events_max: int, partition_events_max: int
) -> None:
    small = squeezed(limited(view, exact_events_max), partition_events_max)
    live, replay = Owner(small), Owner(small)
    for step in steps:
        if isinstance(step, EventStep):
            live.event(step)
            replay.replayed(step)
        elif isinstance(step, LabelStep) and view is TERMINAL:
            assert live.label(step) == replay.label(step)
    assert described_occupancy(live.occupancy) == described_occupancy(replay.occupancy)
    assert {name: content(state) for name, state in live.states.items()} == {
        name: content(state) for name, state in replay.states.items()
    }


@pytest.mark.parametrize("view", [CUSTOMER, TERMINAL], ids=lambda view: view.name)
@given(steps=streams)
@settings(max_examples=60, deadline=None)
def test_any_interleaving_equals_the_oracle(view: View, steps: list[Step]) -> None:
    play(view, steps, exact_events_max=4096)


@pytest.mark.parametrize("view", [CUSTOMER, TERMINAL], ids=lambda view: view.name)
@given(steps=streams, exact_events_max=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_hot_entities_follow_the_tile_rule_and_stay_within_its_bound(
    view: View, steps: list[Step], exact_events_max: int
) -> None:
    play(view, steps, exact_events_max)


@pytest.mark.parametrize("view", [CUSTOMER, TERMINAL], ids=lambda view: view.name)
@given(steps=streams, exact_events_max=st.integers(1, 100), partition_events_max=st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_full_memory_follows_the_tile_rule_and_stays_within_its_bound(
    view: View, steps: list[Step], exact_events_max: int, partition_events_max: int
) -> None:
    play(view, steps, exact_events_max, partition_events_max)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("view", [CUSTOMER, TERMINAL], ids=lambda view: view.name)
def test_a_long_stream_with_full_memory_equals_the_oracle(view: View, seed: int) -> None:
    """Long enough that tiles are widened, dropped and begun again."""
    statuses = play(view, stream(Random(seed), 900, 2, quick=True), 4_096, (25, 40, 60, 150)[seed])
    assert statuses["saturated"] >= 10, statuses


@pytest.mark.parametrize("view", [CUSTOMER, TERMINAL], ids=lambda view: view.name)
def test_a_long_stream_meets_every_status_and_equals_the_oracle(view: View) -> None:
    steps = stream(Random(7), steps=1200, entities=3, quick=True)
    statuses = play(view, steps, exact_events_max=60)
    assert set(statuses) == {"ok", "saturated", "stale"}, statuses
    assert min(statuses.values()) >= 10, statuses


def test_names_are_the_designs() -> None:
    assert list(CUSTOMER.names) == NAMES["customer"]
    assert list(TERMINAL.names) == NAMES["terminal"]
