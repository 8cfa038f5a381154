"""The account of cases: what it finds when a promise is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.cli.review_status import cases_line, queue_line
from services.mesh.codec import Codec
from services.mesh.feature_set import pinned_feature_set
from services.mesh.records import Review
from services.mesh.review import case_id_of
from services.mesh.review_records import review_record
from services.mesh.topics import DECISIONS, Topic
from services.platform.case_account import CaseLedger, settle_cases

EXAMPLES = Path(__file__).parents[3] / "schemas/examples"
DECISION = json.loads((EXAMPLES / "decision.v1/ordinary.json").read_text())
OPENED: Review = json.loads((EXAMPLES / "review.v1/opened.json").read_text())
CLOSED: Review = json.loads((EXAMPLES / "review.v1/closed.json").read_text())
VECTOR = bytes(4 * len(pinned_feature_set().names))


class Message:
    def __init__(self, value: bytes | None, offset: int) -> None:
        self._value, self._offset = value, offset

    def value(self) -> bytes | None:
        return self._value

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset


def decision(event_id: str, action: str = "review") -> bytes:
    return Codec(DECISIONS.schemas[0]).encode(DECISION | {"vector": VECTOR, "event_id": event_id, "action": action})


def move(example: Review, event_id: str) -> bytes:
    case_id = case_id_of(DECISION["customer_id"], event_id)
    about: Any = {"case_id": case_id, "event_id": event_id, "customer_id": DECISION["customer_id"]}
    value = review_record(example | about).value
    assert value is not None
    return value


def ledger(decisions: list[bytes], reviews: list[bytes], taken: int = 99) -> CaseLedger:
    def read(topic: Topic, starts: Any) -> list[Message]:
        values = decisions if topic is DECISIONS else reviews
        return [Message(value, offset) for offset, value in enumerate(values)]

    return settle_cases(read, {0: taken})


def test_one_case_for_each_review_and_none_for_the_rest_is_good() -> None:
    found = ledger(
        [decision("e-1"), decision("e-2", "decline"), decision("e-3")],
        [move(OPENED, "e-1"), move(CLOSED, "e-1"), move(OPENED, "e-3")],
    )
    assert (found.reviews, found.cases, found.closed, found.is_good) == (2, 2, 1, True)


def test_a_case_that_is_missing_is_told_from_one_that_is_on_its_way() -> None:
    found = ledger([decision("e-1"), decision("e-2")], [], taken=1)
    assert (found.missing, found.waiting, found.is_good) == (1, 1, False)


@pytest.mark.parametrize("twice", [OPENED, CLOSED])
def test_what_happened_twice_is_found(twice: Review) -> None:
    values = [move(OPENED, "e-1"), move(CLOSED, "e-1"), move(twice, "e-1")]
    found = ledger([decision("e-1")], values)
    assert (found.duplicates, found.is_good) == (1, False)


def test_a_case_of_no_review_is_a_stranger() -> None:
    found = ledger([decision("e-1", "approve")], [move(OPENED, "e-1")])
    assert (found.strangers, found.is_good) == (1, False)


def test_what_cannot_be_read_is_counted() -> None:
    assert ledger([b"?"], [b"?"]).unreadable == 2


def test_people_read_it_in_a_line() -> None:
    assert cases_line(CaseLedger(reviews=1_000, cases=999, missing=1)).startswith(
        "reviews: 1,000 decisions for people, 999 cases, 0 of them closed, 0 on their way; missing 1"
    )
    counts = dict.fromkeys(("open", "claimed", "escalated", "overflowed", "judged", "closed"), 0)
    empty = {**counts, "house_currency": None, "next_due_in_ms": 0, "expected_loss_minor": 0}
    assert queue_line(empty).endswith("0 closed")
    late = empty | {"open": 2, "house_currency": "JPY", "expected_loss_minor": 12_345, "next_due_in_ms": -120_000}
    assert queue_line(late).endswith("; 12,345 JPY to be expected; the oldest was due 2 min ago")
    assert queue_line({"error": "gone"}) == "review: gone"
