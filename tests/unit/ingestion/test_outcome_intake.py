"""Outcomes at the door: the checks of events, on their own fields and their own clock."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from services.ingestion.event_clock import ClockRules
from services.ingestion.intake import OUTCOMES_INTAKE
from services.ingestion.settings import IngestionSettings
from services.mesh.codec import Codec, schema
from services.mesh.errors import Fatal
from services.mesh.headers import TRACEPARENT, find, traceparent_of
from services.mesh.identity import identity_of
from services.mesh.settings import Environment
from services.mesh.topics import OUTCOMES, OUTCOMES_RAW
from tests.unit.ingestion.world import DAY_MS, NOW_MS, World, customers_of

LATENESS_MS = 45 * DAY_MS
RULES = ClockRules(
    lateness_ms=LATENESS_MS, jump_ms=LATENESS_MS, field="observed_time_ms", setting="WEIR_OUTCOME_LATENESS"
)


def outcome(outcome_id: str | None = "o-1", days: float = 0.0, **fields: Any) -> dict[str, Any]:
    """A valid outcome, observed so many days ago; without its id for None."""
    said: dict[str, Any] = {
        "outcome_id": outcome_id,
        "event_id": "e-1",
        "customer_id": "c-1",
        "label": "fraud",
        "source": "chargeback",
        "observed_time_ms": NOW_MS - int(days * DAY_MS),
        **fields,
    }
    if outcome_id is None:
        del said["outcome_id"]
    return said


@pytest.fixture
def world() -> World:
    return World(rules=RULES, intake=OUTCOMES_INTAKE)


def accepted(world: World) -> list[str]:
    return [str(event["outcome_id"]) for event in world.events()]  # type: ignore[typeddict-item]


def test_json_and_avro_are_accepted_in_the_same_form(world: World) -> None:
    world.send(outcome("o-1"))
    world.send(outcome("o-2", revises="o-1", label="genuine", source="customer"))
    avro = Codec("payments/outcome_raw.v1.avsc").encode(outcome("o-3") | {"revises": None})
    world.send(avro, key=b"c-1")
    world.drain()
    first, second, third = world.events()
    assert first == {
        **outcome("o-1"), "revises": None, "source_partition": first["source_partition"], "source_offset": 0,
        "raw_append_time_ms": NOW_MS,
    }  # fmt: skip
    assert (second["revises"], second["label"], second["source"]) == ("o-1", "genuine", "customer")  # type: ignore[typeddict-item]
    assert {**third, "outcome_id": "o-1", "source_offset": 0} == first
    assert world.rejects() == []


def test_a_trace_is_the_events(world: World) -> None:
    world.send(outcome())
    world.drain()
    (record,) = world.broker.all_records(OUTCOMES.name)
    assert find(record.headers, TRACEPARENT) == traceparent_of(identity_of("c-1", "e-1"))


@pytest.mark.parametrize(
    ("value", "code", "field"),
    [
        (None, "tombstone", ""),
        (b"{", "malformed_json", ""),
        (b"\x00\x00\x00\x00\x63x", "unknown_schema", ""),
        (outcome(amount=5), "unknown_field", "amount"),
        ({k: v for k, v in outcome().items() if k != "label"}, "missing_field", "label"),
        (outcome(label="maybe"), "out_of_range", "label"),
        (outcome(label=1), "wrong_type", "label"),
        (outcome(source="rumour"), "out_of_range", "source"),
        (outcome(observed_time_ms="1"), "wrong_type", "observed_time_ms"),
        (outcome(observed_time_ms=0), "out_of_range", "observed_time_ms"),
        (outcome(event_id=""), "out_of_range", "event_id"),
        (outcome(revises="o-1"), "out_of_range", "revises"),
        (outcome("x" * 129), "out_of_range", "outcome_id"),
        (outcome(observed_time_ms=NOW_MS + 400_000), "clock_ahead", "observed_time_ms"),
    ],
)  # fmt: skip
def test_what_is_refused_says_why(world: World, value: Any, code: str, field: str) -> None:
    world.send(value, key=b"c-1")
    world.drain()
    (letter,) = world.broker.all_records("dead-letters.v1")
    headers = dict(letter.headers)
    assert (headers["error_code"], headers["error_field"]) == (code.encode(), field.encode())
    assert headers["stage"] == b"ingestion-outcomes"
    assert letter.value == (orjson.dumps(value) if isinstance(value, dict) else value)
    assert world.events() == []


def test_an_id_left_out_is_derived_from_the_rest(world: World) -> None:
    world.send(outcome(None))
    world.send(outcome(None))
    world.send(outcome(None, label="genuine"))
    world.send(outcome(None, revises="o-9"))
    world.drain()
    ids = accepted(world)
    assert len(ids) == len(set(ids)) == 3
    assert all(name.startswith("derived-") for name in ids)


def test_a_repeat_is_dropped_and_a_conflict_refused(world: World) -> None:
    world.send(outcome("o-1"))
    world.send(outcome("o-1"))
    world.send(outcome("o-1", label="genuine"))
    world.send(outcome("o-1", customer_id="c-2"))
    world.drain()
    assert len(world.events()) == 2, "another customer's outcome is another outcome"
    assert world.codes() == ["conflict"]


def test_an_event_and_an_outcome_of_one_id_do_not_collide(world: World) -> None:
    world.send(outcome("e-1"))
    world.send(outcome("o-1", event_id="o-1"))
    world.drain()
    assert accepted(world) == ["e-1", "o-1"]


def test_how_late_is_told_by_observations_not_by_events(world: World) -> None:
    world.send(outcome("o-1"))
    world.send(outcome("o-2", days=30))
    world.send(outcome("o-3", days=44.9))
    world.send(outcome("o-4", days=45.1))
    world.drain()
    assert accepted(world) == ["o-1", "o-2", "o-3"]
    assert world.codes() == ["late"]


def test_days_between_two_observations_are_no_jump(world: World) -> None:
    for number, days in enumerate((80, 60, 30, 0)):
        world.send(outcome(f"o-{number}", days=days))
    world.drain()
    assert len(world.events()) == 4


def test_a_record_under_a_wrong_key_is_sent_once_more(world: World) -> None:
    (mine,), (other,) = customers_of(0, 2, 1), customers_of(1, 2, 1)
    world.send(outcome(customer_id=mine), key=other.encode())
    world.drain()
    assert [event["customer_id"] for event in world.events()] == [mine]
    raw = world.broker.all_records(OUTCOMES_RAW.name)
    assert [(record.partition, record.key) for record in raw] == [(0, mine.encode()), (1, other.encode())]


@pytest.mark.parametrize("seed", range(4))
def test_restarts_and_lost_stores_change_no_verdict(seed: int) -> None:
    """The same records, once in one go and once through crashes and losses of the store."""
    random_ = random.Random(seed)
    said = [
        outcome(f"o-{random_.randrange(60)}", days=random_.choice([0, 1, 20, 44, 50]), label="fraud")
        for _ in range(150)
    ]
    calm, stormy = (World(1, RULES, OUTCOMES_INTAKE) for _ in range(2))
    for number, one in enumerate(said):
        calm.send(one)
        stormy.send(one)
        if number % 30 == 29:
            stormy.drain(batch_records_max=7)
            if random_.random() < 0.5:
                stormy.redis.lose_all()
    calm.drain()
    stormy.drain()
    assert sorted(stormy.accepted()) == [(0, offset) for _, offset in sorted(calm.accepted())]
    assert sorted(stormy.rejects()) == sorted(calm.rejects())


def test_settings_of_the_second_door() -> None:
    def read(**variables: str) -> IngestionSettings:
        environment = Environment({"WEIR_INTAKE": "outcomes", **variables})
        settings = IngestionSettings.read(environment)
        environment.check()
        return settings

    assert read().rules == RULES
    rules = read(WEIR_OUTCOME_LATENESS="10d").rules
    assert (rules.lateness_ms, rules.jump_ms) == (10 * DAY_MS, 10 * DAY_MS)
    with pytest.raises(Fatal, match="WEIR_INTAKE='windows': must be one of events, outcomes"):
        read(WEIR_INTAKE="windows")


def test_the_contract_is_the_one_that_senders_are_given() -> None:
    fields = {field["name"] for field in schema("payments/outcome_raw.v1.avsc").fields}
    assert fields == OUTCOMES_INTAKE.fields
