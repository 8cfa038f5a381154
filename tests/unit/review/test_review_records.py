"""Records about cases: what adds up to a case, and what a verdict says to the mesh."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from review_cases import NOW_MS, case, filed, opened

from services.mesh.codec import Codec
from services.mesh.outcome_fields import valid_outcome
from services.mesh.records import Review
from services.mesh.review import Case, Claim, Judgement
from services.mesh.review_records import (
    closed_move,
    escalated_move,
    follow,
    is_outcome_of,
    opened_move,
    opinion_move,
    outcome_of,
    outcome_record,
    overflowed_move,
    packed,
    review_of,
    review_record,
    unpacked,
)
from services.mesh.topics import OUTCOMES_RAW, REVIEWS

JUDGEMENT = Judgement(
    analyst="vera", role="analyst", verdict="fraud", why="seen", time_ms=NOW_MS, observed_time_ms=NOW_MS - 5,
    is_final=True,
)  # fmt: skip


def life() -> list[Review]:
    start = case()
    return [
        opened_move("c-1", "e-1", opened()),
        escalated_move(start, "overdue", NOW_MS, "late"),
        opinion_move(start, JUDGEMENT),
        overflowed_move(start, "challenge", NOW_MS, "full"),
        closed_move(start, "verdict", "fraud", "review-x-1", NOW_MS, "fraud, says analyst"),
    ]


def added_up(moves: list[Review]) -> Case | None:
    found: Case | None = None
    for move in moves:
        found = follow(found, move)
    return found


def test_a_case_is_what_its_records_add_up_to() -> None:
    found = added_up(life())
    assert found is not None
    assert (found.case_id, found.opened) == (case().case_id, opened())
    assert (found.is_overdue, found.default_action, found.resolution) == (True, "challenge", "verdict")
    assert [(one.analyst, one.verdict) for one in found.opinions] == [("vera", "fraud")]
    assert (found.verdict, found.outcome_id, found.closed_time_ms) == ("fraud", "review-x-1", NOW_MS)


@given(st.lists(st.integers(0, 4), max_size=12))
def test_a_record_that_comes_again_changes_nothing(extra: list[int]) -> None:
    moves = life()
    again = moves + [moves[number] for number in extra]
    assert added_up(again) == added_up(moves)


def test_without_its_beginning_a_case_is_unknown() -> None:
    assert added_up(life()[1:]) is None


def test_every_step_survives_the_wire_under_its_customers_key() -> None:
    for move in life():
        record = review_record(move, 3)
        assert (record.topic, record.key, record.partition) == (REVIEWS.name, b"c-1", 3)
        assert review_of(record.value) == move


def test_a_verdict_is_an_outcome_that_ingestion_accepts() -> None:
    outcome: Any = outcome_of(case(), JUDGEMENT)
    assert valid_outcome(outcome) == outcome
    assert (outcome["source"], outcome["label"], outcome["observed_time_ms"]) == ("analyst", "fraud", NOW_MS - 5)
    record = outcome_record(outcome)
    assert (record.topic, record.key, record.partition) == (OUTCOMES_RAW.name, b"c-1", None)
    assert Codec(OUTCOMES_RAW.schemas[0]).decode(record.value) == outcome


def test_the_same_verdict_has_the_same_id_and_any_other_has_another() -> None:
    def id_of(**change: Any) -> str:
        fields = {name: getattr(JUDGEMENT, name) for name in Judgement.__slots__} | change
        return outcome_of(case(), Judgement(**fields))["outcome_id"]

    assert id_of() == id_of(time_ms=1)  # when it was typed is not what it says
    others = {id_of(verdict="genuine"), id_of(analyst="omar"), id_of(observed_time_ms=1)}
    assert len(others | {id_of()}) == 4


def test_an_outcome_knows_its_case() -> None:
    outcome_id = outcome_of(case(), JUDGEMENT)["outcome_id"]
    assert is_outcome_of(case().case_id, outcome_id)
    assert not is_outcome_of(case("e-2").case_id, outcome_id)
    assert not is_outcome_of(case().case_id, None)


def test_the_queues_document_holds_everything() -> None:
    found = added_up(life())
    assert found is not None
    claim = Claim(analyst="vera", since_ms=1, until_ms=2)
    for each in (filed(), filed(claim=claim, judgement=JUDGEMENT, version=3)):
        assert unpacked(packed(each)) == each
    assert unpacked(packed(type(filed())(case=found))).case == found
