"""The simulated world: always the same, in a human rhythm, with its truth apart."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import orjson
import pytest

from services.mesh.errors import Fatal
from services.simulator.delays import Delays
from services.simulator.fraud import USUAL_PATTERNS, Kind, Shift
from services.simulator.payments import ONLINE, Payments, Truth, join_payments, join_truth
from services.simulator.rhythm import DAY_MS, HOUR_MS
from services.simulator.world import World, WorldSettings
from services.simulator.world_source import WorldSource

WEEK_MS = 7 * DAY_MS
SETTINGS = WorldSettings(seed=3, customers=3_000, terminals=3_000)


def source(settings: WorldSettings = SETTINGS, days: int = 3) -> WorldSource:
    return WorldSource(World(settings), Delays(label_delay_ms=WEEK_MS), days=days)


def values(of: WorldSource, position: int = 0) -> list[bytes]:
    return [value for chunk in of.chunks(position) for value in chunk.values]


@pytest.fixture(scope="module")
def weeks() -> tuple[Payments, Truth]:
    """Eight weeks whose middle is the beginning of a shift."""
    world = World(dataclasses.replace(SETTINGS, shift=Shift(day=28, ramp_days=1)))
    days = [world.day(day) for day in range(56)]
    return join_payments([day[0] for day in days]), join_truth([day[1] for day in days])


def test_one_seed_makes_the_same_bytes() -> None:
    assert values(source()) == values(source())


def test_another_seed_makes_another_world() -> None:
    one, other = World(SETTINGS).day(0)[0], World(dataclasses.replace(SETTINGS, seed=4)).day(0)[0]
    n = min(len(one), len(other))
    for name in ("event_time_ms", "customer", "terminal", "amount_minor"):
        assert np.mean(getattr(one, name)[:n] == getattr(other, name)[:n]) < 0.1


def test_a_day_does_not_depend_on_the_days_made_before_it() -> None:
    forwards, alone = World(SETTINGS), World(SETTINGS)
    for day in range(9):
        forwards.day(day)
    for one, other in zip(forwards.day(9), alone.day(9), strict=True):
        for name in one.__slots__:
            assert np.array_equal(getattr(one, name), getattr(other, name))


def test_a_day_is_sorted_and_lies_within_itself() -> None:
    world = World(SETTINGS)
    times = world.day(5)[0].event_time_ms
    assert np.all(np.diff(times) >= 0)
    assert world.day_start_ms(5) <= times[0] <= times[-1] < world.day_start_ms(6)


def test_the_default_world_makes_about_9_600_payments_a_day() -> None:
    world = World(WorldSettings())
    mean = np.mean([len(world.day(day)[0]) for day in range(20, 27)])
    assert mean == pytest.approx(9_600, rel=0.03)


def test_nights_are_quiet_and_weekends_full(weeks: tuple[Payments, Truth]) -> None:
    payments, truth = weeks
    times = payments.event_time_ms[truth.kind == Kind.GENUINE]
    hour = times % DAY_MS // HOUR_MS
    assert np.sum(hour < 6) / len(hour) < 0.05
    weekday = (times // DAY_MS + 3) % 7
    per_weekday, per_weekend_day = np.sum(weekday < 5) / 5, np.sum(weekday >= 5) / 2
    assert per_weekend_day / per_weekday == pytest.approx(1.15, abs=0.03)


def test_one_payment_in_a_hundred_is_fraud_and_every_usual_kind_happens(weeks: tuple[Payments, Truth]) -> None:
    payments, truth = weeks
    before = truth.kind[payments.event_time_ms < SETTINGS.first_day_ms + 28 * DAY_MS]
    assert np.mean(before > 0) == pytest.approx(0.010, abs=0.002)
    assert set(before.tolist()) == {Kind.GENUINE, *(pattern.kind for pattern in USUAL_PATTERNS)}


def test_people_pay_near_home(weeks: tuple[Payments, Truth]) -> None:
    payments, truth = weeks
    genuine = truth.kind == Kind.GENUINE
    neighbourhood = World(SETTINGS).people.neighbourhood
    near = (payments.terminal[genuine, None] == neighbourhood[payments.customer[genuine]]).any(axis=1)
    assert near.mean() == pytest.approx(0.96, abs=0.01)


def test_card_testing_begins_small_and_ends_big_at_one_terminal(weeks: tuple[Payments, Truth]) -> None:
    payments, truth = weeks
    day = payments.event_time_ms // DAY_MS
    testing = truth.kind == Kind.CARD_TESTING
    campaigns = 0
    for customer in np.unique(payments.customer[testing]):
        rows = np.flatnonzero(testing & (payments.customer == customer))
        if len(np.unique(truth.campaign[rows])) > 1 or len(np.unique(day[rows])) > 1 or len(rows) < 6:
            continue
        amounts = payments.amount_minor[rows].tolist()
        assert amounts[0] <= 200 < amounts[-1]
        big = [amount > 200 for amount in amounts]
        assert all(earlier <= later for earlier, later in pairwise(big)), "a try after the theft"
        assert len(np.unique(payments.terminal[rows])) == 1
        campaigns += 1
    assert campaigns > 10


def test_a_taken_over_account_pays_online_from_one_strange_device_abroad(weeks: tuple[Payments, Truth]) -> None:
    payments, truth = weeks
    rows = truth.kind == Kind.ACCOUNT_TAKEOVER
    assert np.all(payments.channel[rows] == ONLINE)
    assert np.all(payments.device[rows] < 0)
    home = World(SETTINGS).people.home_country[payments.customer[rows]]
    assert np.all(payments.country[rows] != home)


def test_a_shift_changes_amounts_and_fraud_from_its_day_on(weeks: tuple[Payments, Truth]) -> None:
    payments, truth = weeks
    day = (payments.event_time_ms - SETTINGS.first_day_ms) // DAY_MS
    genuine = truth.kind == Kind.GENUINE
    before, after = payments.amount_minor[genuine & (day < 28)], payments.amount_minor[genuine & (day >= 28)]
    assert np.median(after) / np.median(before) == pytest.approx(1.8, rel=0.03)
    assert not np.any(truth.kind[day < 28] == Kind.LOW_AND_SLOW)
    assert np.any(truth.kind[day >= 28] == Kind.LOW_AND_SLOW)
    takeovers_before = np.mean(truth.kind[day < 28] == Kind.ACCOUNT_TAKEOVER)
    assert np.mean(truth.kind[day >= 28 + 15] == Kind.ACCOUNT_TAKEOVER) < takeovers_before / 2


def test_a_shift_leaves_the_days_before_it_alone() -> None:
    shifted = source(dataclasses.replace(SETTINGS, shift=Shift(day=2)))
    assert values(shifted)[:2_000] == values(source())[:2_000]
    assert values(shifted) != values(source())


def test_the_truth_never_travels_inside_an_event() -> None:
    for value in values(source()):
        event = orjson.loads(value)
        assert set(event) == {
            "event_id", "event_time_ms", "customer_id", "terminal_id", "amount_minor", "channel", "country", "device_id"
        }  # fmt: skip


def test_a_stranger_s_device_is_named_like_anybody_s() -> None:
    devices = {orjson.loads(value)["device_id"] for value in values(source(days=5))}
    assert {(name[0], name[1:].isdigit(), len(name)) for name in devices} == {("d", True, 8)}


def test_event_ids_are_unique() -> None:
    ids = [orjson.loads(value)["event_id"] for value in values(source())]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"customers": 0},
        {"fraud_share": 1.0},
        {"first_day_ms": 1},
        {"patterns": (dataclasses.replace(USUAL_PATTERNS[0], share=0.5),)},
        {"patterns": (dataclasses.replace(USUAL_PATTERNS[0], share=1.0, span_h=(1.0, 500.0)),)},
    ],
)
def test_impossible_worlds_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Fatal):
        WorldSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("customers", "terminals"), [(1, 1), (7, 3), (40, 30_000)])
def test_worlds_of_any_size_run(customers: int, terminals: int) -> None:
    world = World(WorldSettings(customers=customers, terminals=terminals, fraud_share=0.3))
    for day in range(3):
        payments, _ = world.day(day)
        assert np.all((payments.customer >= 0) & (payments.customer < customers))
        assert np.all((payments.terminal >= 0) & (payments.terminal < terminals))
        assert np.all(payments.amount_minor >= 1)
