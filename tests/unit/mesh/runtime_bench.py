"""A stage's loop on the twin broker, with a handler that notes everything it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.mesh.adapters.memory import ManualClock, MemoryBroker, MemoryLog
from services.mesh.errors import Poison, RejectCode
from services.mesh.headers import WEIR, Hop, pack_hop
from services.mesh.ports import CommittedOffset, InRecord
from services.mesh.runtime import StageRuntime
from services.mesh.stage import Emit, dead_letter
from services.mesh.telemetry import StageTelemetry
from services.mesh.topology import SCORING, Stage
from services.mesh.watermark import Marks

TOPIC, OUTPUT = SCORING.consumes.name, "scores.v1"


class Echo:
    """Emits each record's value, twice where it is b"twice", and notes everything that it is told."""

    def __init__(self, notes: list[object]) -> None:
        self.notes = notes
        self.fails: Exception | None = None

    def assign(self, partition: int, committed: CommittedOffset, marks: Marks) -> None:
        self.notes.append(("assign", partition, committed.offset, marks))

    def revoke(self, partition: int) -> None:
        self.notes.append(("revoke", partition))

    def step(self, batch: Sequence[InRecord]) -> list[Emit]:
        self.notes.append(("step", [record.value for record in batch]))
        if self.fails is not None:
            error, self.fails = self.fails, None
            raise error
        emits = []
        for source, record in enumerate(batch):
            if record.value == b"bad":
                poison = Poison(RejectCode.UNDECODABLE, "bad", "field")
                emits.append(dead_letter(record, source, "scoring", poison))
                continue
            for _ in range(2 if record.value == b"twice" else 1):
                emits.append(Emit(OUTPUT, record.key, record.value, record.partition, source))
        return emits

    def committed(self, offsets: dict[int, CommittedOffset]) -> None:
        self.notes.append(("committed", {p: c.offset for p, c in offsets.items()}))

    def idle(self) -> bool | None:
        self.notes.append("idle")
        return None


class Bench:
    """One stage on a twin broker with two partitions."""

    def __init__(self, stage: Stage = SCORING) -> None:
        self.clock = ManualClock()
        self.broker = MemoryBroker(2, self.clock)
        self.notes: list[object] = []
        self.handlers: list[Echo] = []
        self.crash: Callable[[str], None] = lambda point: None
        self.stage = stage
        self.previous = 0
        self.telemetry = StageTelemetry(stage.name, self.clock)

    def feed(self, *values: bytes | None, partition: int = 0, header: bytes | None = None) -> None:
        for value in values:
            hop = pack_hop(Hop(7, 70 + self.previous, 5, self.previous, 0)) if header is None else header
            self.previous += 1
            self.broker.produce(TOPIC, b"k", value, partition, [("traceparent", b"00-t"), (WEIR, hop)])

    def runtime(self, slot: str = "0", log: MemoryLog | None = None) -> StageRuntime:
        log = log or MemoryLog(self.broker, self.stage.name, TOPIC, slot, lambda point: self.crash(point))
        return StageRuntime(self.stage, log, self._handler, self.clock, self.telemetry)

    def started(self, slot: str = "0") -> StageRuntime:
        runtime = self.runtime(slot)
        runtime.begin()
        return runtime

    def out(self, topic: str = OUTPUT) -> list[bytes | None]:
        return [record.value for record in self.broker.all_records(topic)]

    def _handler(self) -> Echo:
        self.handlers.append(Echo(self.notes))
        return self.handlers[-1]


def once(point: str, error: BaseException) -> Callable[[str], None]:
    armed = [error]

    def crash(at: str) -> None:
        if at == point and armed:
            raise armed.pop()

    return crash
