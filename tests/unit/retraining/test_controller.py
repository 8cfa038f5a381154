"""The controller from outside: what it is told, what it does. Its journal is the real fold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pytest

from services.mesh.bundle_parts import Bundle
from services.mesh.model_registry import BOOTSTRAP, Registry
from services.retraining import records
from services.retraining.controller import step
from services.retraining.events import (
    Action,
    Alerted,
    Counts,
    Event,
    Move,
    State,
    Tick,
    Train,
    Trained,
    TrainingFailed,
)
from services.retraining.evidence import Standing
from services.retraining.settings import Rules

DAY = 86_400_000
RULES = Rules(feature_set="fs-1")
ENOUGH = Counts(rows=50_000, frauds=500, oldest_ms=0, new_frauds=100)
BETTER = Standing(
    blocks=9,
    rows=9_000,
    frauds=90,
    log_wealth=5.0,
    log_wealth_worse=-4.0,
    precision_a=0.6,
    precision_b=0.7,
    skill_a=0.4,
    skill_b=0.5,
    expected_per_fraud_a=1.0,
    expected_per_fraud_b=1.0,
    segment_frauds=(30, 30, 30),
    segment_gain=(0.0, 0.0, 0.0),
)
WORSE = dataclasses.replace(BETTER, log_wealth=-4.0, log_wealth_worse=5.0)
GOOD = {
    "average_precision": 0.7,
    "validation_rows": 5_000.0,
    "validation_frauds": 50.0,
    "low_half_fraud_share": 0.001,
    "score_ms": 1.0,
}


class World:
    """A controller with its journal: moves come back as releases, the way they do in the application."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules = rules
        self.state = State()
        self.registry = Registry()
        self.journal: list[Move] = []
        self.trainings: list[Train] = []

    def tell(self, event: Event) -> list[Action]:
        self.state, actions = step(self.state, event, self.rules)
        for action in actions:
            match action:
                case Move():
                    self.journal.append(action)
                    self.echo(action)
                case Train():
                    self.trainings.append(action)
        return actions

    def echo(self, move: Move) -> None:
        bundle = None
        if move.folder and move.move != "note":
            bundle = Bundle(manifest=b"{}", signature=b"s", model=move.model_version.encode(), fallback=b"f")
        found = records.released(records.release(move, bundle), self.registry)
        self.state, _ = step(self.state, found, self.rules)

    def tick(self, day: float, counts: Counts = ENOUGH, **standings: Standing) -> list[str]:
        """What happened on ``day``, until nothing more does."""
        found: list[str] = []
        while actions := self.tell(Tick(clock_ms=int(day * DAY), counts=counts, standings=standings)):
            found += said(actions)
            assert len(found) < 10, found
        return found

    def trained(self, version: str, measures: dict[str, float] = GOOD, feature_set: str = "fs-1") -> list[str]:
        return said(
            self.tell(Trained(model_version=version, feature_set=feature_set, folder=f"/{version}", measures=measures))
        )

    def with_champion(self, version: str = "m1") -> World:
        assert self.tick(30) == ["note training_started", "train"]
        assert self.trained(version) == [f"promote {version}"]
        return self

    def with_challenger(self, version: str = "m2", day: float = 37) -> World:
        assert self.tick(day) == ["note training_started", "train"]
        assert self.trained(version) == [f"challenge {version}"]
        return self


def said(actions: Sequence[Action]) -> list[str]:
    found = []
    for action in actions:
        match action:
            case Train():
                found.append("train")
            case Move(move="note"):
                found.append(f"note {action.evidence['kind']}")
            case Move():
                found.append(f"{action.move} {action.model_version}")
    return found


def harm(alert_id: str = "h1", *, is_raised: bool = True, is_harm: bool = True) -> Alerted:
    return Alerted(alert_id=alert_id, is_raised=is_raised, is_harm=is_harm, event_time_ms=0, text="precision fell")


def test_the_first_model_serves_as_soon_as_there_is_one() -> None:
    world = World()
    assert world.tick(30) == ["note training_started", "train"]
    assert world.trainings[0].cut_off_ms == 30 * DAY
    assert world.tick(31) == [], "one at a time"
    assert world.trained("m1") == ["promote m1"]
    move = world.journal[-1]
    assert (move.expects, move.folder, world.state.champion) == (BOOTSTRAP, "/m1", "m1")
    assert move.evidence["measures"] == GOOD


@pytest.mark.parametrize(
    ("counts", "day", "why"),
    [
        (dataclasses.replace(ENOUGH, rows=1_999), 30, "1999 rows and 500 frauds have matured"),
        (dataclasses.replace(ENOUGH, frauds=59), 30, "50000 rows and 59 frauds have matured"),
        (ENOUGH, 20, "they span 20.0 days, 23.0 are needed"),
    ],
)
def test_a_refused_trigger_is_noted_once_with_its_evidence(counts: Counts, day: int, why: str) -> None:
    world = World()
    assert world.tick(day, counts) == ["note trigger_refused"]
    note = world.journal[-1]
    assert why in note.why
    assert (note.evidence["rows"], note.evidence["frauds"]) == (counts.rows, counts.frauds)
    assert world.tick(day + 0.2, counts) == []
    assert not world.trainings


def test_the_schedule_is_event_time_since_the_last_training() -> None:
    world = World().with_champion()
    assert world.tick(36.9) == []
    assert world.tick(37) == ["note training_started", "train"]
    assert "schedule: 7.0 days" in world.journal[-1].why


def test_without_new_frauds_there_is_nothing_new_to_learn() -> None:
    world = World().with_champion()
    assert world.tick(37, dataclasses.replace(ENOUGH, new_frauds=9)) == ["note trigger_refused"]
    assert world.tick(38) == ["note training_started", "train"]


def test_harm_is_answered_after_the_cool_down_and_drift_alone_never() -> None:
    world = World().with_champion()
    world.tell(harm("d1", is_harm=False))
    assert world.tick(30.5) == []
    world.tell(harm())
    assert world.tick(31) == ["note trigger_refused"]
    assert "cool-down: the last training was 1.0 days ago" in world.journal[-1].why
    assert world.tick(32) == ["note training_started", "train"]
    assert world.journal[-1].why == "harm: precision fell"
    assert world.journal[-1].evidence["alerts"] == {"h1": "precision fell"}


def test_one_alert_is_answered_once_while_it_holds_and_again_when_it_comes_back() -> None:
    world = World().with_champion()
    world.tell(harm())
    world.tick(32)
    world.trained("m2")
    assert world.tick(34.1) == [], "hysteresis: it was answered"
    assert world.tick(36) == ["note training_started", "train"], "and has not ended in twice the cool-down"
    world.trained("m3")
    world.tell(harm(is_raised=False))
    assert world.tick(38.5) == []
    world.tell(harm())
    assert world.tick(38.6) == ["note training_started", "train"]


def test_who_wants_the_schedule_alone_gets_it() -> None:
    world = World(dataclasses.replace(RULES, answers_harm=False)).with_champion()
    world.tell(harm())
    assert world.tick(33) == []
    assert world.tick(37) == ["note training_started", "train"]


def test_a_cleared_alert_asks_for_nothing() -> None:
    world = World().with_champion()
    world.tell(harm())
    world.tell(harm(is_raised=False))
    assert world.tick(33) == []


def test_the_budget_ends_what_a_broken_signal_could_spend() -> None:
    world = World(dataclasses.replace(RULES, budget=2)).with_champion()
    world.tell(harm("h1"))
    assert world.tick(32)[-1] == "train"
    world.trained("m2")
    world.tell(harm("h2"))
    assert world.tick(34.5) == ["note trigger_refused"]
    assert "budget: 2 trainings in 28 days" in world.journal[-1].why


def test_a_better_challenger_goes_through_the_canary_and_the_one_before_is_watched() -> None:
    world = World().with_champion().with_challenger()
    assert world.tick(45, m2=dataclasses.replace(BETTER, log_wealth=2.9)) == ["note training_started", "train"]
    world.tell(TrainingFailed(why="for this test"))
    assert world.tick(46, m2=BETTER) == ["canary m2"]
    move = world.journal[-1]
    assert (move.canary_percent, move.expects) == (10, "m1")
    assert move.evidence["e_value"] == pytest.approx(math.exp(5.0), abs=1e-3)
    assert world.tick(46.9, m2=BETTER) == []
    assert world.tick(47, m2=BETTER) == ["promote m2", "challenge m1"]
    assert (world.state.champion, world.registry.running) == ("m2", ["m1"])
    assert [trial.is_watched for trial in world.state.trials] == [True]


def test_of_two_that_are_better_the_newer_one_is_taken() -> None:
    world = World().with_champion().with_challenger("m2", 37).with_challenger("m3", 44)
    assert world.tick(45, m2=BETTER, m3=BETTER) == ["canary m3"]


def test_a_gate_keeps_a_better_challenger_waiting_and_says_so_once() -> None:
    world = World().with_champion().with_challenger()
    off = dataclasses.replace(BETTER, expected_per_fraud_b=3.0)
    assert world.tick(40, m2=off) == ["note gate"]
    assert "calibration" in world.journal[-1].why
    assert world.tick(41, m2=off) == []
    assert world.tick(42, m2=BETTER) == ["canary m2"]


def test_a_challenger_that_is_worse_or_shows_nothing_is_retired() -> None:
    world = World().with_champion().with_challenger()
    assert world.tick(40, m2=WORSE) == ["retire m2"]
    world = World(dataclasses.replace(RULES, every_ms=400 * DAY)).with_champion()
    world.tell(harm())
    world.tick(33)
    world.trained("m2")
    world.tell(harm(is_raised=False))
    assert world.tick(33 + 34.9, m2=Standing()) == []
    assert world.tick(33 + 35, m2=Standing()) == ["retire m2"]


def test_a_canary_that_turns_out_worse_is_retired() -> None:
    world = World().with_champion().with_challenger()
    world.tick(40, m2=BETTER)
    assert world.tick(40.5, m2=WORSE) == ["retire m2"]
    assert world.state.canary == ""


def promoted() -> World:
    world = World().with_champion().with_challenger()
    world.tick(40, m2=BETTER)
    assert world.tick(41, m2=BETTER) == ["promote m2", "challenge m1"]
    return world


def test_the_one_before_comes_back_when_it_would_have_been_better() -> None:
    world = promoted()
    assert world.tick(43, m1=dataclasses.replace(BETTER, log_wealth=2.9)) == []
    assert world.tick(43.5, m1=BETTER) == ["rollback m1"]
    move = world.journal[-1]
    assert move.expects == "m2"
    assert "m1 was better than m2 all along" in move.why
    assert world.state.champion == "m1"
    assert world.registry.promoted == ["m1"]


def test_the_watch_begins_with_the_promotion() -> None:
    """Before it the challenger had won: that evidence would keep a bad champion."""
    world = promoted()
    (watched,) = world.state.trials
    assert world.state.since_ms(watched) == 41 * DAY
    assert world.state.since_ms(dataclasses.replace(watched, is_watched=False)) == 0


def test_the_next_promotion_ends_the_watch_before_it() -> None:
    world = promoted()
    assert world.tick(44, m1=Standing()) == ["note training_started", "train"]
    world.trained("m3")
    world.tick(46, m3=BETTER)
    assert world.tick(47, m3=BETTER) == ["promote m3", "challenge m2", "retire m1"]
    assert (world.registry.promoted, world.registry.running) == (["m2", "m3"], ["m2"])


@pytest.mark.parametrize(
    ("measures", "feature_set", "why"),
    [
        (GOOD | {"low_half_fraud_share": 0.05}, "fs-1", "labels: 5.0% of the half"),
        (GOOD | {"average_precision": 0.015}, "fs-1", "where chance has 0.010"),
        (GOOD, "fs-2", "trained on feature set fs-2"),
    ],
)
def test_a_bad_bundle_is_refused_and_the_champion_goes_on(
    measures: dict[str, float], feature_set: str, why: str
) -> None:
    world = World().with_champion()
    world.tick(37)
    assert world.trained("m2", measures, feature_set) == ["note training_refused"]
    assert why in world.journal[-1].why
    assert (world.state.champion, world.registry.running, world.state.training) == ("m1", [], "")


def test_a_failed_training_is_noted_and_the_schedule_goes_on() -> None:
    world = World().with_champion()
    world.tick(37)
    assert said(world.tell(TrainingFailed(why="the trainer ended with signal 9"))) == ["note training_refused"]
    assert "m1 goes on: the trainer ended with signal 9" in world.journal[-1].why
    assert world.tick(38) == []
    assert world.tick(44) == ["note training_started", "train"]


def test_a_first_model_that_was_refused_is_tried_again_a_day_later() -> None:
    world = World()
    world.tick(30)
    world.tell(TrainingFailed(why="train part has 12 frauds"))
    assert world.tick(30.5) == []
    assert world.tick(31) == ["note training_started", "train"]


def test_a_person_who_moves_first_wins_and_the_controller_goes_on_from_there() -> None:
    world = World().with_champion().with_challenger()
    world.tick(40, m2=BETTER)
    by_hand = Move(model_version="m9", move="promote", why="by hand", event_time_ms=40 * DAY, folder="/m9")
    world.echo(by_hand)
    assert world.state.champion == "m9"
    move = Move(model_version="m2", move="promote", why="late", event_time_ms=41 * DAY, expects="m1")
    world.echo(move)
    assert world.state.champion == "m9", "void: it expected m1"


def test_when_all_places_are_taken_who_has_least_to_show_makes_room() -> None:
    world = World().with_champion().with_challenger("m2", 37).with_challenger("m3", 44).with_challenger("m4", 51)
    some, less = dataclasses.replace(BETTER, log_wealth=1.0), dataclasses.replace(BETTER, log_wealth=-1.0)
    assert world.tick(58, m2=some, m3=less) == ["retire m3", "note training_started", "train"]
    world.trained("m5")
    assert world.tick(65, m2=some) == ["retire m5", "note training_started", "train"], "the youngest of equals"


def test_a_restart_makes_the_same_state_out_of_the_journal() -> None:
    world = promoted()
    again = World()
    for move in world.journal:
        again.state = dataclasses.replace(again.state, clock_ms=move.event_time_ms)
        again.echo(move)
    forgotten = {"clock_ms": 0, "training": "", "noted": ()}
    assert dataclasses.replace(again.state, **forgotten) == dataclasses.replace(world.state, **forgotten)  # type: ignore[arg-type]


def test_a_training_that_the_restart_killed_is_asked_for_again() -> None:
    world = World().with_champion()
    world.tick(37)
    world.state = dataclasses.replace(world.state, training="")
    assert world.tick(37) == ["note training_interrupted", "note training_started", "train"]


def test_a_dry_run_notes_what_it_would_do_and_moves_nothing() -> None:
    world = World(dataclasses.replace(RULES, is_dry_run=True))
    assert world.tick(30) == ["note dry_run"]
    assert not world.trainings
    assert "dry run: would train now" in world.journal[-1].why
    for move in ("m1", "m2"):
        world.trained(move)
    assert world.registry.champion == BOOTSTRAP
    assert "dry run: would promote m1" in world.journal[-2].why
