"""What became of an event: from notes, from the index, and the word when neither can tell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.gateway.bodies import event_in
from services.gateway.finding import Finder
from services.gateway.recent import Recent, Where
from services.gateway.verdicts import Decided, DecisionReader, Refused, problem_of_refusal, refusal_in
from services.mesh.codec import Codec
from services.mesh.errors import Poison, Transient
from services.mesh.lookup_entries import Place
from services.mesh.partitioner import Partitioner
from services.mesh.topics import DEAD_LETTERS, DECISIONS

EXAMPLES = Path(__file__).parents[3] / "schemas/examples/decision.v1"
DECISION = json.loads((EXAMPLES / "ordinary.json").read_text()) | {"vector": b"1234"}
CODEC = Codec("decision.v1.avsc")
EVENT_ID, CUSTOMER = DECISION["event_id"], DECISION["customer_id"]
PARTITION = Partitioner(8).partition_of(CUSTOMER.encode())
D, L = (DECISIONS.name, PARTITION), (DEAD_LETTERS.name, PARTITION)
SENT = ("event_id", "customer_id", "terminal_id", "event_time_ms", "amount_minor", "currency")
OPTIONAL = ("channel", "country", "device_id")


def body(**changed: Any) -> bytes:
    """The event of the example's decision, as its sender wrote it."""
    fields = {name: DECISION[name] for name in SENT} | {n: DECISION[n] for n in OPTIONAL if DECISION[n] is not None}
    return json.dumps(fields | changed).encode()


class Log:
    """Records by place, an index over some of them, and notes of others."""

    def __init__(self) -> None:
        self.records: dict[Place, Any] = {}
        self.indexed: list[Place] = []
        self.progress: dict[Where, int] = {D: 100, L: 100}
        self.recent = Recent()
        self.recent.begin({D: 100, L: 100})
        self.is_away = False

    def put(self, where: Where, offset: int, value: bytes, headers: Any = (), *, noted: bool = False) -> None:
        place = Place(*where, offset)
        self.records[place] = SimpleNamespace(value=value, headers=headers)
        if noted:
            self.recent.note(where, offset, (EVENT_ID.encode(), CUSTOMER.encode()))
        else:
            self.indexed.append(place)

    def refuse(self, offset: int, value: bytes, code: str = "late", *, noted: bool = False) -> None:
        headers = [
            ("error_code", code.encode()), ("error_message", b"too late"), ("stage", b"ingestion"),
            ("origin_topic", b"events.raw.v1"),
        ]  # fmt: skip
        self.put(L, offset, value, headers, noted=noted)

    async def read(self, place: Place) -> Any:
        return self.records.get(place)

    async def find(self, event_id: str, customer_id: str) -> tuple[list[Place], Mapping[Where, int]]:
        if self.is_away:
            raise Transient("no index")
        return sorted(self.indexed), self.progress

    def ask(self) -> Decided | Refused | None:
        finder = Finder(cast(Any, self), cast(Any, self), self.recent, 8)
        return asyncio.run(finder.find(EVENT_ID, CUSTOMER))


def test_a_decision_is_told_as_it_lies_in_the_log() -> None:
    decided = DecisionReader().read(CODEC.encode(DECISION))
    assert decided.told == {name: DECISION[name] for name in decided.told}
    assert {"action", "score", "reasons", "model_version", "policy_version"} <= decided.told.keys()
    assert decided.body_hash == event_in(body()).body_hash
    assert decided.body_hash != event_in(body(amount_minor=DECISION["amount_minor"] + 1)).body_hash
    with pytest.raises(Poison):
        DecisionReader().read(b"\x00\x00\x00\x00\x01nonsense")


@pytest.mark.parametrize("noted", [True, False])
def test_it_is_found_in_notes_and_in_the_index(noted: bool) -> None:
    log = Log()
    log.put(D, 150 if noted else 50, CODEC.encode(DECISION), noted=noted)
    found = log.ask()
    assert isinstance(found, Decided)
    assert found.told["action"] == DECISION["action"]


def test_what_is_noted_needs_no_index() -> None:
    log = Log()
    log.put(D, 150, CODEC.encode(DECISION), noted=True)
    log.is_away = True
    assert isinstance(log.ask(), Decided)


def test_the_latest_of_several_decisions_is_told() -> None:
    log = Log()
    for offset, action in ((10, "approve"), (20, "decline")):
        log.put(D, offset, CODEC.encode(DECISION | {"action": action}))
    found = log.ask()
    assert isinstance(found, Decided)
    assert found.told["action"] == "decline"


def test_a_decision_outweighs_refusals_of_other_bodies() -> None:
    log = Log()
    log.put(D, 10, CODEC.encode(DECISION))
    log.refuse(60, body(amount_minor=1), "conflict")
    log.refuse(160, body(amount_minor=2), "conflict", noted=True)
    assert isinstance(log.ask(), Decided)


def test_the_latest_refusal_is_told_when_nothing_was_decided() -> None:
    log = Log()
    log.refuse(60, body(event_time_ms=1), "late")
    log.refuse(160, body(event_time_ms=2), "clock_ahead", noted=True)
    found = log.ask()
    assert isinstance(found, Refused)
    assert (found.code, found.message, found.stage) == ("clock_ahead", "too late", "ingestion")
    assert found.is_of(body(event_time_ms=2))
    assert not found.is_of(body(event_time_ms=3))


def test_a_strangers_record_with_the_same_hash_is_none_of_it() -> None:
    log = Log()
    log.put(D, 10, CODEC.encode(DECISION | {"customer_id": "stranger"}))
    log.refuse(60, body(customer_id="stranger"))
    log.put(L, 70, b"", ())
    assert log.ask() is None


def test_a_refused_outcome_says_nothing_of_its_event() -> None:
    log = Log()
    outcome = {"event_id": EVENT_ID, "customer_id": CUSTOMER}
    headers = [("error_code", b"late"), ("origin_topic", b"outcomes.raw.v1")]
    log.put(L, 60, json.dumps(outcome).encode(), headers)
    assert log.ask() is None


def test_between_index_and_notes_nobody_says_that_there_is_nothing() -> None:
    log = Log()
    assert log.ask() is None
    log.progress = {D: 99, L: 100}
    with pytest.raises(Transient, match=rf"decisions\.v1\[{PARTITION}\] is indexed to 99"):
        log.ask()
    log.progress = {D: 100, L: 99}
    with pytest.raises(Transient, match=rf"dead-letters\.v1\[{PARTITION}\] is indexed to 99"):
        log.ask()


def test_a_record_that_the_log_has_dropped_is_no_answer() -> None:
    log = Log()
    log.indexed = [Place(*D, 3)]
    assert log.ask() is None


def test_headers_of_senders_do_not_hide_the_cause() -> None:
    headers = [("error_code", b"sender's own"), ("error_code", b"late"), ("origin_topic", b"events.raw.v1")]
    refused = refusal_in(b"{}", headers)
    assert refused.code == "late"
    assert problem_of_refusal(refused).code == "late"
