"""A mesh with people in the loop: analysts who crash as well, a queue that gets lost, and what must hold after all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from test_mesh_outcomes import LoopMesh
from whole_mesh import Faults, _Reader

from services.mesh.adapters.memory import MemoryBroker, MemoryLog
from services.mesh.adapters.memory_review import MemoryReviewQueue
from services.mesh.codec import Codec
from services.mesh.errors import StoreUnreachable
from services.mesh.ports import InRecord
from services.mesh.records import Review
from services.mesh.review import Case, Filed, Person, Refused, Shelf
from services.mesh.review_desk import ReviewDesk
from services.mesh.review_records import follow, review_of
from services.mesh.stage import Handler
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import LABELS, OUTCOMES_RAW, REVIEWS
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
