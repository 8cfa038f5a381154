"""People in the loop: whatever crashes, tears or is lost, every review has one case, and what people say counts."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from history import play
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_mesh_outcomes import LoopMesh, account
from verdict import check
from whole_mesh import Faults, Process, _Reader

from services.mesh.adapters.memory import Crash, MemoryBroker, MemoryLog
from services.mesh.adapters.memory_review import MemoryReviewQueue
from services.mesh.audit import audit_of
from services.mesh.codec import Codec
from services.mesh.errors import StoreUnreachable, Transient
from services.mesh.ports import InRecord
from services.mesh.records import Review
from services.mesh.review import Case, Filed, Person, Refused, Shelf
from services.mesh.review_desk import ReviewDesk
from services.mesh.review_records import follow, review_of
from services.mesh.stage import Handler
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import AUDIT, DECISIONS, LABELS, OUTCOMES_RAW, REVIEWS
from services.mesh.topology import REVIEW, STAGES, Stage
from services.platform.case_account import CaseLedger, settle_cases
from services.review.filing import Filing
from services.review.handler import ReviewHandler
from services.review.settings import ReviewRules, ReviewSettings

PEOPLE = (Person("vera"), Person("omar"), Person("rosa", "supervisor"), Person("ruth", "supervisor"))
RULES = ReviewRules(sla_ms=5_000, open_max=4, per_day=0, four_eyes_minor=600_000, expiry_ms=10**11)


class ShakyQueue(MemoryReviewQueue):
    """The queue as one process sees it: out of reach at times, and its writer may die around a write."""

    def __init__(
        self, kept: MemoryReviewQueue, mesh: ReviewMesh, faults: Callable[[str], None] = lambda point: None
    ) -> None:
        self._kept = kept
        self._mesh = mesh
        self._faults = faults

    def _there(self) -> MemoryReviewQueue:
        if not self._mesh.queue_answers:
            raise StoreUnreachable("the queue is away")
        return self._kept

    def page(self, shelf: Shelf, start: int, count: int) -> list[Filed]:
        return self._there().page(shelf, start, count)

    def find(self, case_ids: Sequence[str]) -> list[Filed | None]:
        return self._there().find(case_ids)

    def swap(self, changes: Sequence[Filed]) -> list[bool]:
        self._faults("before_save")
        done = self._there().swap(changes)
        self._faults("after_save")
        return done

    def drop(self, case_ids: Sequence[str]) -> None:
        self._there().drop(case_ids)

    def held(self) -> dict[str, tuple[str, int]]:
        return self._there().held()

    def counts(self) -> dict[Shelf, int]:
        return self._there().counts()

    def marks(self) -> dict[str, str]:
        return self._there().marks()

    def set_marks(self, marks: Mapping[str, str]) -> None:
        self._there().set_marks(marks)

    def clear(self) -> None:
        self._there().clear()


class WrittenReader(_Reader):
    def since(self, partition: int, time_ms: int) -> int:
        found = self._broker.records.get((self._topic, partition), [])
        return next((record.offset for record in found if record.append_time_ms >= time_ms), self.ends(partition)[1])


class MemoryTail:
    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._next: dict[int, int] = {}

    def follow(self, partition: int, offset: int) -> None:
        self._next[partition] = offset

    def leave(self, partition: int) -> None:
        self._next.pop(partition, None)

    def poll(self) -> list[InRecord]:
        found = []
        for partition, offset in self._next.items():
            records = self._broker.after(REVIEWS.name, partition, offset, 1_000)
            found += records
            if records:
                self._next[partition] = records[-1].offset + 1
        return found


class ReviewMesh(LoopMesh):
    """All stages, and analysts who crash as well."""

    stages = STAGES

    def __init__(self, directory: Path, random: Random, partitions: int, rules: ReviewRules = RULES) -> None:
        self.queue = MemoryReviewQueue()
        self.queue_answers = True
        self.random = random
        self.busy = 0.2  # how often an analyst sits down when a payment comes
        self.rules = rules
        self.verdicts: Counter[str] = Counter()
        self._tokens = 0
        super().__init__(directory, partitions)

    def handlers(
        self, stage: Stage, log: MemoryLog, telemetry: StageTelemetry, faults: Faults
    ) -> Callable[[], Handler]:
        if stage is not REVIEW:
            return super().handlers(stage, log, telemetry, faults)
        return lambda: self._review(telemetry, faults)

    def label(self, update: dict[str, Any]) -> None:
        """The world says something: an outcome, or an analyst sits down."""
        chance = self.random.random()
        if chance < 0.3:
            super().label(update)
        elif chance < 0.35:
            self.queue.clear()
        elif chance < 0.4:
            self.queue_answers = not self.queue_answers
        else:
            self.work()

    def send(self, event: dict[str, Any]) -> None:
        if self.random.random() < self.busy:
            self.work()
        super().send(event)

    def settle(self) -> None:
        self.queue_answers = True
        super().settle()

    def work(
        self, case_id: str | None = None, who: Person | None = None, verdict: Any = None, slips: float = 0.15
    ) -> str:
        """Claim, judge, send, finish; each may be the last thing that this analyst does. The case, if there was one."""
        desk = ReviewDesk(ShakyQueue(self.queue, self), "test", claim_ms=20_000)
        random, now_ms = self.random, self.clock.now_ms()
        who = who or random.choice(PEOPLE)
        try:
            step = desk.claim(case_id, who, now_ms)
            if random.random() < slips:
                return step.filed.case.case_id
            step = desk.judge(
                step.filed.case.case_id, who, verdict or random.choice(("fraud", "genuine")), "seen", now_ms
            )
            if random.random() < slips:
                return step.filed.case.case_id
            for record in step.records:
                self.broker.produce(record.topic, record.key, record.value, record.partition, record.headers)
                if record.topic == OUTCOMES_RAW.name:
                    self.verdicts[Codec(OUTCOMES_RAW.schemas[0]).decode(record.value)["outcome_id"]] += 1
            if random.random() >= slips:
                desk.finish(step)
        except (Refused, StoreUnreachable):
            return ""
        return step.filed.case.case_id

    def _review(self, telemetry: StageTelemetry, faults: Faults) -> ReviewHandler:
        self._tokens += 1
        return ReviewHandler(
            ReviewSettings(redis="", partitions=self.partitions, rules=self.rules),
            filing=Filing(ShakyQueue(self.queue, self, faults), self.clock, f"token-{self._tokens}"),
            written=WrittenReader(self.broker, REVIEWS.name),
            tail=MemoryTail(self.broker),
            clock=self.clock,
            telemetry=telemetry,
        )


class _Message:
    def __init__(self, record: InRecord) -> None:
        self._record = record

    def value(self) -> bytes | None:
        return self._record.value

    def partition(self) -> int:
        return self._record.partition

    def offset(self) -> int:
        return self._record.offset


def moves(mesh: ReviewMesh) -> list[Review]:
    return [review_of(record.value) for record in mesh.broker.all_records(REVIEWS.name)]


def cases_of(found: Sequence[Review]) -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for move in found:
        case = follow(cases.get(move["case_id"]), move)
        assert case is not None, f"{move['move']} before its beginning"
        cases[move["case_id"]] = case
    return cases


def ledger_of(mesh: ReviewMesh) -> CaseLedger:
    taken = dict.fromkeys(range(9), 1 << 40)
    return settle_cases(lambda topic, starts: map(_Message, mesh.broker.all_records(topic.name)), taken)


def check_reviews(mesh: ReviewMesh) -> dict[str, Case]:
    """Raises AssertionError: cases against decisions and labels, and the queue against the log."""
    found = moves(mesh)
    ledger = ledger_of(mesh)
    assert ledger.is_good, ledger
    cases = cases_of(found)
    assert Counter(move["move"] for move in found)["opened"] == ledger.reviews
    codec = Codec(LABELS.schemas[0])
    labelled = {
        (label["customer_id"], label["event_id"])
        for label in (codec.decode(record.value) for record in mesh.broker.all_records(LABELS.name))
        if label["action"] == "review"
    }
    ended = {(case.customer_id, case.event_id) for case in cases.values() if case.resolution is not None}
    assert ended == labelled
    queued = {
        filed.case.case_id: filed for shelf in ("open", "escalated", "overflowed", "judged")
        for filed in mesh.queue.page(shelf, 0, 10**6)
    }  # fmt: skip
    live = {case_id: case for case_id, case in cases.items() if case.resolution is None}
    assert queued.keys() == live.keys()
    for case_id, case in live.items():
        filed = queued[case_id]
        assert filed.case == case
        assert filed.shelf in ("judged", Filed(case=case).shelf)
    return cases


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
