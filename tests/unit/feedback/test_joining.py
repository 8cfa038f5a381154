"""What becomes of an outcome, whatever comes first, and of an event that nobody says anything about."""

from __future__ import annotations

from pathlib import Path

import pytest
from feedback_world import DAY_MS, World, at, decision, outcome

from services.feedback.settings import JoinRules
from services.mesh.headers import LANE, WEIR, find, unpack_hop
from services.mesh.topics import LABELS, UPDATES_TERMINAL


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_outcome_thirty_days_later_is_joined_to_its_decision(world: World) -> None:
    world.decide(decision("e-1"))
    world.settle()
    world.observe(outcome("o-1", "e-1", 30))
    world.settle()
    (label,) = world.labels()
    assert {name: label[name] for name in ("label", "label_version", "label_source", "outcome_id", "revises")} == {
        "label": "fraud",
        "label_version": 1,
        "label_source": "chargeback",
        "outcome_id": "o-1",
        "revises": None,
    }
    assert (label["observed_time_ms"], label["label_age_ms"]) == (at(30), 30 * DAY_MS)
    assert (label["decision_offset"], label["outcome_append_time_ms"]) == (0, 1_900_000_000_000)
    whole = decision("e-1")
    assert {name: label[name] for name in whole if name not in ("score",)} == {
        name: value for name, value in whole.items() if name not in ("score",)
    }
    assert world.orphans() == []


def test_an_outcome_before_its_decision_waits(world: World) -> None:
    world.observe(outcome("o-1", "e-1", 0.5))
    world.settle()
    assert world.waiting() == 1
    world.decide(decision("e-1"))
    world.settle()
    assert world.label_marks() == [("e-1", "o-1", "fraud", 1)]
    assert (world.waiting(), world.orphans()) == (0, [])


def test_an_outcome_that_waited_in_vain_is_an_orphan(world: World) -> None:
    world.observe(outcome("o-1", "nobody", 1))
    world.decide(decision("e-1", 1.9))
    world.settle()
    assert world.orphans() == []
    world.decide(decision("e-2", 2.1))
    world.settle()
    assert world.orphans() == [("o-1", "no_decision")]
    assert world.waiting() == 0


def test_an_outcome_that_came_when_its_time_had_passed_does_not_wait(world: World) -> None:
    world.decide(decision("e-1", 5))
    world.settle()
    world.observe(outcome("o-1", "nobody", 1))
    world.settle()
    assert world.orphans() == [("o-1", "no_decision")]


def test_an_outcome_told_twice_counts_once(world: World) -> None:
    world.observe(outcome("o-0", "e-0", 1), outcome("o-0", "e-0", 1))
    world.decide(decision("e-1"))
    world.observe(outcome("o-1", "e-1", 1), outcome("o-1", "e-1", 1))
    world.settle()
    world.observe(outcome("o-1", "e-1", 1))
    world.decide(decision("e-2", 9))
    world.settle()
    world.observe(outcome("o-0", "e-0", 1))
    world.settle()
    assert world.label_marks() == [("e-1", "o-1", "fraud", 1)]
    assert world.orphans() == [("o-0", "no_decision")]


def test_a_correction_and_a_reversal_are_new_versions(world: World) -> None:
    world.decide(decision("e-1"))
    world.observe(
        outcome("o-1", "e-1", 3),
        outcome("o-2", "e-1", 4, "fraud", source="analyst"),
        outcome("o-3", "e-1", 9, "genuine", revises="o-1"),
    )
    world.settle()
    assert world.label_marks() == [
        ("e-1", "o-1", "fraud", 1),
        ("e-1", "o-2", "fraud", 2),
        ("e-1", "o-3", "genuine", 3),
    ]
    assert world.labels()[2]["revises"] == "o-1"


def test_terminals_are_told_what_changes(world: World) -> None:
    world.decide(decision("e-1", terminal_id="t-9"))
    world.observe(
        outcome("o-1", "e-1", 3), outcome("o-2", "e-1", 4), outcome("o-3", "e-1", 9, "genuine", revises="o-1")
    )
    world.settle()
    assert world.updates() == [("e-1", "fraud", 1), ("e-1", "genuine", 2)]
    assert {record.key for record in world.broker.all_records(UPDATES_TERMINAL.name)} == {b"t-9"}


def test_a_reversal_may_come_before_what_it_reverses(world: World) -> None:
    world.decide(decision("e-1"))
    world.observe(outcome("o-2", "e-1", 4, "genuine", revises="o-1"))
    world.settle()
    assert (world.label_marks(), world.waiting()) == ([], 1)
    world.observe(outcome("o-1", "e-1", 3))
    world.settle()
    assert world.label_marks() == [("e-1", "o-1", "fraud", 1), ("e-1", "o-2", "genuine", 2)]


def test_a_reversal_of_an_outcome_that_nobody_knows_is_an_orphan(world: World) -> None:
    world.decide(decision("e-1"))
    world.observe(outcome("o-2", "e-1", 1, "genuine", revises="o-1"))
    world.settle()
    world.decide(decision("e-2", 3))
    world.settle()
    assert world.label_marks() == []
    assert world.orphans() == [("o-2", "unknown_revision")]


def test_an_event_of_another_customer_is_another_event(world: World) -> None:
    world.decide(decision("e-1", customer_id="c-1"), decision("e-1", customer_id="c-2", amount_minor=5))
    world.observe(outcome("o-1", "e-1", 1, customer_id="c-2"))
    world.settle()
    assert [(one["customer_id"], one["amount_minor"]) for one in world.labels()] == [("c-2", 5)]


def test_an_event_that_nobody_says_anything_about_matures(world: World) -> None:
    world.decide(decision("e-1"), decision("e-2", 1))
    world.observe(outcome("o-2", "e-2", 2))
    world.decide(decision("e-3", 30))
    world.settle()
    assert world.label_marks() == [("e-2", "o-2", "fraud", 1)], "the age is not reached, not passed"
    world.decide(decision("e-4", 40))
    world.settle()
    assert world.label_marks()[1:] == [("e-1", None, "genuine", 0)]
    matured = world.labels()[1]
    assert (matured["label_source"], matured["observed_time_ms"]) == ("matured", at(30))
    assert (matured["label_age_ms"], matured["outcome_append_time_ms"]) == (30 * DAY_MS, None)


def test_an_outcome_after_the_maturity_is_version_1(world: World) -> None:
    world.decide(decision("e-1"), decision("e-2", 40))
    world.settle()
    world.observe(outcome("o-1", "e-1", 45))
    world.settle()
    assert world.label_marks() == [("e-1", None, "genuine", 0), ("e-1", "o-1", "fraud", 1)]
    assert world.updates() == [("e-1", "fraud", 1)], "a window of 30 days holds no label that took 30 days"


def test_matured_labels_that_windows_can_hold_are_told(tmp_path: Path) -> None:
    world = World(tmp_path, rules=JoinRules(maturity_ms=7 * DAY_MS))
    world.decide(decision("e-1"), decision("e-2", 8))
    world.settle()
    world.observe(outcome("o-1", "e-1", 9), outcome("o-2", "e-1", 9, "fraud"))
    world.settle()
    assert world.updates() == [("e-1", "genuine", 1), ("e-1", "fraud", 2)]


def test_of_what_is_older_than_the_memory_only_the_identity_is_known(world: World) -> None:
    world.decide(decision("e-1"), decision("e-2", 60), decision("e-3", 121))
    world.settle()
    world.observe(outcome("o-1", "e-1", 100), outcome("o-2", "e-2", 100))
    world.settle()
    assert world.orphans() == [("o-1", "decision_forgotten")]
    assert world.label_marks()[-1] == ("e-2", "o-2", "fraud", 1)


def test_records_say_which_input_led_to_them(world: World) -> None:
    world.decide(decision("e-1"))
    world.observe(outcome("o-1", "e-1", 1))
    world.settle()
    world.observe(outcome("o-2", "e-2", 1))
    world.settle()
    world.decide(decision("e-2"))
    world.settle()
    hops = [unpack_hop(find(record.headers, WEIR) or b"") for record in world.broker.all_records(LABELS.name)]
    lanes = [(hop.previous_partition // LANE, hop.previous_partition_number, hop.previous_offset) for hop in hops]
    assert sorted(lanes) == [(1, 0, 1), (2, 0, 0)]
    updates = [
        unpack_hop(find(record.headers, WEIR) or b"") for record in world.broker.all_records(UPDATES_TERMINAL.name)
    ]
    assert [(hop.previous_offset, hop.ordinal) for hop in updates] == [(0, 1), (1, 1)]
