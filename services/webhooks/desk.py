"""One subscription's thinking: which decision is sent next, what its answer leads to, what may be committed. Pure.

The order of effects is the runner's: it sends what ``next`` hands out, tells ``answered``, and writes ``settlement`` in
one transaction. When that fails it forgets this desk and begins anew at what is committed, so what was settled here and
not written is sent again, with the same id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from services.mesh.errors import Poison, RejectCode
from services.mesh.ports import InRecord
from services.mesh.stage import Emit, dead_letter
from services.mesh.topology import WEBHOOKS
from services.webhooks.circuit import Circuit
from services.webhooks.lanes import Delivery, Lanes
from services.webhooks.progress import Mark, Progress
from services.webhooks.schedule import Schedule
from services.webhooks.verdict import Answer, Verdict

# Of a dead letter: whose receiver it was, and when the decision was made, which is part of what is sent. They stand
# before the cause, behind the record's own headers.
WEBHOOK_HEADER: Final = "webhook"
DECIDED_HEADER: Final = "decision_append_time_ms"
_TOO_MANY: Final = 429


class Settlement(NamedTuple):
    """What one transaction writes."""

    marks: Mapping[int, Mark]  # by partition
    letters: list[Emit]


class Desk:
    """Times are of a clock that never steps back, in seconds; ``fraction`` is chance, in [0, 1)."""

    def __init__(
        self, name: str, marks: Mapping[int, Mark], schedule: Schedule, circuit: Circuit, gone: Answer | None = None
    ) -> None:
        self._name, self._schedule = name, schedule
        self._progress = {partition: Progress(mark) for partition, mark in marks.items()}
        self._letters: list[Emit] = []
        self._lanes = Lanes()
        self._at_work = 0
        self.circuit = circuit
        self.gone = gone  # the answer that ended the subscription

    @property
    def at_work(self) -> int:
        """Requests on their way."""
        return self._at_work

    @property
    def waiting(self) -> int:
        """Decisions that were read and are not settled."""
        return sum(progress.waiting for progress in self._progress.values())

    def positions(self) -> dict[int, int]:
        """By partition, the first offset that was not read."""
        return {partition: progress.position for partition, progress in self._progress.items()}

    def oldest_append_ms(self) -> int | None:
        """When the oldest decision that is not over was made; None when there is none."""
        return min((delivery.record.append_time_ms for delivery in self._lanes), default=None)

    def room(self, partition: int) -> int:
        """How many more decisions of ``partition`` may be read."""
        return self._progress[partition].room

    def read(self, record: InRecord, *, wanted: bool, now_s: float) -> None:
        """The next record of its partition; ``wanted``: the subscription asks for its action."""
        progress = self._progress[record.partition]
        if not progress.read(record.offset):
            return
        if wanted:
            self._lanes.add(Delivery(record, record.key or b""), now_s)
        else:
            progress.settled(record.offset)

    def passed(self, partition: int, position: int) -> None:
        """Nothing lies before ``position`` that was not read."""
        self._progress[partition].passed(position)

    def next(self, now_s: float) -> Delivery | None:
        """What is sent now; None when nothing is. ``answered`` or ``given_up`` follows."""
        if self.gone is not None or self._at_work >= self.circuit.at_once or now_s < self.circuit.not_before_s:
            return None
        delivery = self._lanes.take(now_s)
        if delivery is not None:
            self._at_work += 1
            delivery.first_s = now_s if delivery.first_s is None else delivery.first_s
        return delivery

    def next_s(self) -> float | None:
        """When ``next`` may hand something out again; None: not before something else happens."""
        due_s = self._lanes.due_s()
        if due_s is None or self.gone is not None or self._at_work >= self.circuit.at_once:
            return None
        return max(due_s, self.circuit.not_before_s)

    def answered(self, delivery: Delivery, answer: Answer, now_s: float, fraction: float) -> None:
        """What came back for a decision that ``next`` handed out."""
        match answer.verdict:
            case Verdict.TAKEN:
                self._at_work -= 1
                self.circuit.took()
                self._over(delivery, now_s)
            case Verdict.GONE:
                self._at_work -= 1
                self.gone = answer
                self._lanes.again(delivery, now_s)
            case Verdict.REFUSED if self.circuit.refused(now_s, fraction):
                poison = Poison(RejectCode.WEBHOOK_REFUSED, f"{self._name} answered {answer}; mend it, then redeliver")
                self.given_up(delivery, poison, now_s)
            case Verdict.REFUSED | Verdict.FAILED:
                self._failed(delivery, answer, now_s, fraction)

    def given_up(self, delivery: Delivery, poison: Poison, now_s: float) -> None:
        """It becomes a dead letter."""
        self._at_work -= 1
        record = delivery.record
        whose = ((WEBHOOK_HEADER, self._name.encode()), (DECIDED_HEADER, str(record.append_time_ms).encode()))
        marked = record._replace(headers=(*record.headers, *whose))
        self._letters.append(dead_letter(marked, 0, WEBHOOKS.name, poison))
        self._over(delivery, now_s)

    def settlement(self) -> Settlement | None:
        """What is to be written; None when nothing has changed since the last time."""
        marks = {partition: mark for partition, one in self._progress.items() if (mark := one.changed()) is not None}
        letters, self._letters = self._letters, []
        return Settlement(marks, letters) if marks or letters else None

    def _failed(self, delivery: Delivery, answer: Answer, now_s: float, fraction: float) -> None:
        told = answer.retry_after_s
        if answer.verdict is Verdict.FAILED and (answer.status != _TOO_MANY or told is None):
            self.circuit.failed(now_s, fraction)
        if told is not None:
            self.circuit.asked_to_wait(now_s + told)
        # A receiver that is down, or takes nothing at the moment, uses up no decision's attempts.
        if not self.circuit.is_open and answer.status != _TOO_MANY:
            delivery.attempts += 1
        age_s = 0.0 if delivery.first_s is None else now_s - delivery.first_s
        if self._schedule.is_over(delivery.attempts, age_s):
            said = f"{self._name} did not take it in {delivery.attempts} attempts over {age_s:.0f} s, last {answer}"
            self.given_up(delivery, Poison(RejectCode.WEBHOOK_NOT_TAKEN, f"{said}; mend it, then redeliver"), now_s)
            return
        self._at_work -= 1
        # While the circuit is open whoever has waited longest is the next to try, so nobody is tried for ever.
        wait_s = 0.0 if self.circuit.is_open else self._schedule.wait_s(max(1, delivery.attempts), fraction)
        self._lanes.again(delivery, now_s + wait_s)

    def _over(self, delivery: Delivery, now_s: float) -> None:
        self._lanes.done(delivery, now_s)
        self._progress[delivery.record.partition].settled(delivery.record.offset)
