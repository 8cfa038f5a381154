"""Each accepted outcome is in one place once; what is nowhere must have a reason to wait."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.mesh.codec import Codec
from services.mesh.headers import WEIR
from services.mesh.prefix import prefix_of
from services.mesh.topics import DECISIONS, LABELS, OUTCOMES, OUTCOMES_ORPHAN, OUTCOMES_RAW, Topic
from services.platform.outcome_account import OutcomeLedger, settle_outcomes

EXAMPLES = Path(__file__).parents[3] / "schemas/examples"
DECISION = {**json.loads((EXAMPLES / "decision.v1/ordinary.json").read_text()), "vector": b"1234"}
OUTCOME: dict[str, Any] = {
    "outcome_id": "o", "event_id": "e", "customer_id": "c", "label": "fraud", "source": "analyst",
    "observed_time_ms": 5, "revises": None, "source_partition": 0, "source_offset": 0, "raw_append_time_ms": 6,
}  # fmt: skip


@dataclass(frozen=True)
class Message:
    body: bytes
    at: int = 0
    told: tuple[tuple[str, bytes], ...] = ()

    def value(self) -> bytes:
        return self.body

    def headers(self) -> tuple[tuple[str, bytes], ...]:
        return self.told

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at


def decided(event: str, at: int = 0) -> Message:
    return Message(Codec("decision.v1.avsc").encode({**DECISION, "event_id": event, "customer_id": "c"}), at)


def accepted(name: str, event: str, at: int = 0, revises: str | None = None) -> Message:
    said = {**OUTCOME, "outcome_id": name, "event_id": event, "revises": revises}
    return Message(Codec("payments/outcome.v1.avsc").encode(said), at)


def label(name: str | None, event: str) -> Message:
    own = {
        "event_id": event, "customer_id": "c", "decision_append_time_ms": 1, "decision_offset": 2, "label": "fraud",
        "label_version": 1, "label_source": "analyst", "outcome_id": name, "revises": None, "observed_time_ms": 5,
        "label_age_ms": 1, "outcome_append_time_ms": 3,
    }  # fmt: skip
    return Message(Codec("labelled.v1.avsc").encode({**DECISION, **own}))


def orphan(name: str, event: str) -> Message:
    own = {"outcome_id": name, "event_id": event, "orphan_reason": "no_decision", "orphaned_time_ms": 9}
    return Message(Codec("outcome_orphan.v1.avsc").encode({**OUTCOME, **own}))


def account(log: Mapping[Topic, list[Message]], taken: int = 1 << 40, decisions_taken: int = 1 << 40) -> OutcomeLedger:
    def read(topic: Topic, starts: Mapping[int, int] | None) -> Iterable[Message]:
        return [m for m in log.get(topic, []) if starts is None or m.at >= starts.get(0, 1 << 62)]

    unfinished = {OUTCOMES.name: {0: taken}, DECISIONS.name: {0: decisions_taken}, OUTCOMES_RAW.name: {0: 1}}
    return settle_outcomes(read, unfinished, {prefix_of(m.body) for m in log.get(DECISIONS, [])})


def test_joined_waiting_and_orphans_add_up() -> None:
    ledger = account(
        {
            DECISIONS: [decided("e-1"), decided("e-2")],
            LABELS: [label("o-1", "e-1"), label(None, "e-2")],
            OUTCOMES_ORPHAN: [orphan("o-2", "x")],
            OUTCOMES: [accepted("o-1", "e-1"), accepted("o-2", "x"), accepted("o-3", "y"), Message(b"junk")],
            OUTCOMES_RAW: [Message(b"1"), Message(b"2", 1), Message(b"3", 2, ((WEIR, b"hop"),))],
        }
    )
    assert ledger == OutcomeLedger(
        outcomes_in=2, accepted=3, labels=2, matured=1, joined=1, orphans=Counter({"no_decision": 1}), pending=1,
        unjudged=2, unreadable=1,
    )  # fmt: skip
    assert ledger.is_good


def test_an_outcome_of_a_decided_event_that_is_nowhere_is_lost() -> None:
    log = {DECISIONS: [decided("e-1", at=7)], OUTCOMES: [accepted("o-1", "e-1", at=3)]}
    assert (account(log).lost, account(log).is_good) == (1, False)
    assert account(log, taken=3).pending == 1, "feedback has not come to it"
    assert account(log, decisions_taken=7).pending == 1, "nor to the decision"


def test_a_reversal_waits_for_what_it_reverses() -> None:
    log = {DECISIONS: [decided("e-1")], OUTCOMES: [accepted("o-2", "e-1", revises="o-1")]}
    assert (account(log).pending, account(log).lost) == (1, 0)
    log |= {OUTCOMES: [accepted("o-1", "e-1"), *log[OUTCOMES]], LABELS: [label("o-1", "e-1")]}
    assert (account(log).pending, account(log).lost) == (0, 1)


def test_two_places_and_none_are_told() -> None:
    twice = {OUTCOMES: [accepted("o-1", "e-1")], LABELS: [label("o-1", "e-1"), label("o-1", "e-1")]}
    both = {OUTCOMES: [accepted("o-1", "e-1")], LABELS: [label("o-1", "e-1")], OUTCOMES_ORPHAN: [orphan("o-1", "e-1")]}
    assert (account(twice).doubled, account(both).doubled) == (1, 1)
    assert not account(both).is_good
    assert account({LABELS: [label("o-1", "e-1")]}).strangers == 1


def test_a_repeat_in_the_accepted_topic_is_one_outcome() -> None:
    log = {
        DECISIONS: [decided("e-1")],
        LABELS: [label("o-1", "e-1")],
        OUTCOMES: [accepted("o-1", "e-1"), accepted("o-1", "e-1", at=1), accepted("o-2", "x"), accepted("o-2", "x")],
    }
    ledger = account(log)
    assert (ledger.accepted, ledger.joined, ledger.pending) == (2, 1, 1)
    assert ledger.is_good
