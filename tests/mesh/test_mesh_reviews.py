"""People in the loop: whatever crashes, tears or is lost, every review has one case, and what people say counts."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from history import play
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reviewed_mesh import PEOPLE, ReviewMesh, check_reviews, moves
from test_mesh_outcomes import LoopMesh, account
from verdict import check
from whole_mesh import Process

from services.mesh.adapters.memory import Crash
from services.mesh.audit import audit_of
from services.mesh.codec import Codec
from services.mesh.errors import Transient
from services.mesh.review import Case, Filed
from services.mesh.review_desk import ReviewDesk
from services.mesh.topics import AUDIT, DECISIONS, LABELS
from services.mesh.topology import REVIEW
from services.review.settings import ReviewRules


def history(seed: int, steps: int, torn: bool = False) -> tuple[dict[str, Case], ReviewMesh]:
    random = Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        mesh = ReviewMesh(Path(directory), random, random.randint(1, 3))
        try:
            play(mesh, random, steps, torn)
            mesh.settle()
            check(mesh, torn)
            cases = check_reviews(mesh)
            ledger = account(mesh)
        finally:
            mesh.close()
    assert ledger.is_good, ledger
    told = Codec(LABELS.schemas[0])
    joined = {told.decode(record.value)["outcome_id"] for record in mesh.broker.all_records(LABELS.name)}
    assert mesh.verdicts.keys() <= joined
    return cases, mesh


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32), steps=st.integers(20, 120), torn=st.booleans())
def test_every_review_has_one_case_and_every_verdict_counts(seed: int, steps: int, torn: bool) -> None:
    history(seed, steps, torn)


def test_the_histories_reach_every_end() -> None:
    played = [history(seed, 150) for seed in range(4)]
    cases = [case for found, _ in played for case in found.values()]
    ends = Counter(case.resolution for case in cases)
    assert min(ends["verdict"], ends["elsewhere"], ends["matured"]) > 0
    assert sum(case.default_action is not None for case in cases) > 0
    assert sum(case.is_overdue for case in cases) > 0
    assert sum(len(case.opinions) for case in cases) > 0
    assert sum(mesh.verdicts.total() for _, mesh in played) > 3


@pytest.fixture
def mesh(tmp_path: Path) -> Any:
    made = ReviewMesh(tmp_path, Random(1), 2, ReviewRules(four_eyes_minor=1_000_000))
    made.busy = 0.0
    yield made
    made.close()


def pay(mesh: ReviewMesh, event_id: str, amount_minor: int, customer_id: str = "c-1") -> None:
    mesh.send(
        {
            "event_id": event_id, "customer_id": customer_id, "terminal_id": "t-1",
            "event_time_ms": 1_790_000_000_000, "amount_minor": amount_minor,
        }
    )  # fmt: skip
    mesh.settle()


def only_case(mesh: ReviewMesh) -> Filed:
    (filed,) = [filed for shelf in ("open", "escalated", "judged", "closed") for filed in mesh.queue.page(shelf, 0, 9)]
    return filed


def labels(mesh: ReviewMesh) -> list[str]:
    codec = Codec(LABELS.schemas[0])
    return [codec.decode(record.value)["label"] for record in mesh.broker.all_records(LABELS.name)]


def test_a_verdict_closes_its_case_through_the_log(mesh: ReviewMesh) -> None:
    pay(mesh, "e-1", 300_000)
    assert only_case(mesh).shelf == "open"
    mesh.work(verdict="fraud", who=PEOPLE[0], slips=0.0)
    assert only_case(mesh).shelf == "judged"
    mesh.settle()
    done = only_case(mesh)
    assert (done.shelf, done.case.resolution, done.case.verdict, labels(mesh)) == (
        "closed",
        "verdict",
        "fraud",
        ["fraud"],
    )
    actions = [audit_of(record.value)["action"] for record in mesh.broker.all_records(AUDIT.name)]
    assert actions == ["review.verdict"]


class Stop(BaseException):
    """The analyst's tool died here."""


@pytest.mark.parametrize("dies", ["before sending", "before finishing"])
@pytest.mark.parametrize("queue_is_lost", [False, True])
def test_a_verdict_that_was_cut_short_is_repeated_without_harm(
    mesh: ReviewMesh, dies: str, queue_is_lost: bool
) -> None:
    pay(mesh, "e-1", 300_000)
    desk, vera = ReviewDesk(mesh.queue, "test"), PEOPLE[0]
    case_id = desk.claim(None, vera, mesh.clock.now_ms()).filed.case.case_id
    first = desk.judge(case_id, vera, "fraud", "seen", mesh.clock.now_ms())
    sent = [] if dies == "before sending" else [*first.records]
    for record in sent:
        mesh.broker.produce(*record[:4], record.headers)
    if queue_is_lost:
        mesh.queue.clear()
    if queue_is_lost or dies == "before finishing":
        mesh.settle()
    if not sent:
        if queue_is_lost:
            desk.claim(case_id, vera, mesh.clock.now_ms())
        again = desk.judge(case_id, vera, "fraud", "seen", mesh.clock.now_ms())
        assert queue_is_lost or [record.value for record in again.records] == [record.value for record in first.records]
        for record in again.records:
            mesh.broker.produce(*record[:4], record.headers)
        desk.finish(again)
        mesh.settle()
    for record in first.records if sent else ():  # whoever did not see it through sends it again
        mesh.broker.produce(*record[:4], record.headers)
    mesh.settle()
    assert (only_case(mesh).case.resolution, labels(mesh)) == ("verdict", ["fraud"])
    check_reviews(mesh)


def test_the_first_of_two_opinions_survives_the_loss_of_the_queue(mesh: ReviewMesh) -> None:
    pay(mesh, "e-1", 2_000_000)
    mesh.work(verdict="fraud", who=PEOPLE[0], slips=0.0)
    assert labels(mesh) == []
    mesh.queue.clear()
    mesh.settle()
    assert [one.analyst for one in only_case(mesh).case.opinions] == ["vera"]
    assert mesh.work(who=PEOPLE[0]) == ""  # not twice the same person
    mesh.work(verdict="fraud", who=PEOPLE[1], slips=0.0)
    mesh.settle()
    assert labels(mesh) == ["fraud"]


def test_an_opinion_whose_analyst_died_before_finishing_counts(mesh: ReviewMesh) -> None:
    pay(mesh, "e-1", 2_000_000)
    desk, vera = ReviewDesk(mesh.queue, "test"), PEOPLE[0]
    case_id = desk.claim(None, vera, mesh.clock.now_ms()).filed.case.case_id
    for record in desk.judge(case_id, vera, "fraud", "seen", mesh.clock.now_ms()).records:
        mesh.broker.produce(*record[:4], record.headers)
    mesh.settle()
    assert [one.analyst for one in only_case(mesh).case.opinions] == ["vera"]


def test_a_label_that_comes_before_its_decision_opens_and_closes_one_case(mesh: ReviewMesh) -> None:
    (review,) = mesh.processes.pop(REVIEW.name)
    mesh.send(
        {"event_id": "e-1", "customer_id": "c-1", "terminal_id": "t-1", "event_time_ms": 1_790_000_000_000,
         "amount_minor": 300_000}
    )  # fmt: skip
    mesh.settle()
    outcome = {"event_id": "e-1", "customer_id": "c-1", "label": "genuine", "observed_time_ms": 1_790_000_001_000}
    LoopMesh.label(mesh, outcome | {"label_version": 1})
    mesh.settle()
    label, decision = (mesh.broker.all_records(topic.name)[0] for topic in (LABELS, DECISIONS))
    where = (DECISIONS.name, decision.partition)
    held_back, mesh.broker.records[where] = mesh.broker.records[where], []
    mesh.processes[REVIEW.name] = [review]
    mesh.settle()
    assert [move["move"] for move in moves(mesh)] == ["opened", "closed"]
    assert label.partition == decision.partition
    mesh.broker.records[where] = held_back
    mesh.settle()
    assert [move["move"] for move in moves(mesh)] == ["opened", "closed"]
    check_reviews(mesh)


def test_what_overflows_is_audited_and_keeps_its_default_action(tmp_path: Path) -> None:
    mesh = ReviewMesh(tmp_path, Random(1), 2, ReviewRules(open_max=2, four_eyes_minor=0))
    mesh.busy = 0.0
    try:
        for number, amount_minor in enumerate((300_000, 500_000, 400_000)):
            pay(mesh, f"e-{number}", amount_minor, f"c-{number}")
        assert {shelf: count for shelf, count in mesh.queue.counts().items() if count} == {"open": 2, "overflowed": 1}
        (gone,) = mesh.queue.page("overflowed", 0, 9)
        assert (gone.case.event_id, gone.case.default_action) == ("e-0", "challenge")
        entries = [audit_of(record.value) for record in mesh.broker.all_records(AUDIT.name)]
        assert [(entry["actor"], entry["action"], entry["subject"]) for entry in entries] == [
            ("review", "review.overflow", "queue:review")
        ]
        assert gone.case.case_id in entries[0]["detail"]
        mesh.work(gone.case.case_id, PEOPLE[2], "fraud", slips=0.0)  # a supervisor still can
        mesh.settle()
        check_reviews(mesh)
        assert mesh.queue.counts()["closed"] == 1
    finally:
        mesh.close()


def test_a_case_that_closed_as_its_service_died_is_closed_in_the_queue(mesh: ReviewMesh) -> None:
    pay(mesh, "e-1", 300_000)
    outcome = {"event_id": "e-1", "customer_id": "c-1", "label": "genuine", "observed_time_ms": 1_790_000_001_000}
    LoopMesh.label(mesh, outcome | {"label_version": 1})
    (review,) = mesh.processes[REVIEW.name]
    while not review.faults.struck:
        review.faults.armed["before_save"] = Crash()
        for running in mesh.processes.values():
            running[0].turn()
        mesh.clock.advance_ms(1_000)
    assert [move["move"] for move in moves(mesh)] == ["opened", "closed"]
    assert only_case(mesh).shelf == "open"
    mesh.settle()
    assert (only_case(mesh).shelf, only_case(mesh).case.verdict) == ("closed", "genuine")


def test_a_commit_that_is_unclear_opens_nothing_twice(mesh: ReviewMesh) -> None:
    process: Process = mesh.processes[REVIEW.name][0]
    for number in range(6):
        mesh.send(
            {"event_id": f"e-{number}", "customer_id": "c-1", "terminal_id": "t-1",
             "event_time_ms": 1_790_000_000_000 + number, "amount_minor": 300_000}
        )  # fmt: skip
        for running in mesh.processes.values():
            running[0].turn()
        process.faults.armed["torn" if number % 2 else "after_commit"] = Transient("unclear")
        for _ in range(8):
            for running in mesh.processes.values():
                running[0].turn()
    mesh.settle()
    assert len(check_reviews(mesh)) == 6
