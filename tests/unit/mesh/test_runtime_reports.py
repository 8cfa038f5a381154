"""What a stage tells beside its outputs: with the batch that it counted, between batches, and when it stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.mesh.adapters.memory import ManualClock, MemoryBroker, MemoryLog
from services.mesh.codec import Codec
from services.mesh.headers import WEIR, Hop, pack_hop
from services.mesh.ports import CommittedOffset, InRecord, OutRecord
from services.mesh.profile import TELL_EVERY_S, Cells, ProfileWriter
from services.mesh.runtime import StageRuntime
from services.mesh.stage import Emit, Stateless
from services.mesh.telemetry import StageTelemetry
from services.mesh.topology import SCORING
from services.mesh.watermark import Marks

CODEC = Codec("profile.v1.avsc")


class Counting(Stateless):
    """Passes records on and covers them with profiles."""

    def __init__(self) -> None:
        self.writer = ProfileWriter("scoring", "0", lambda: Cells([], 1), lambda: 0)

    def assign(self, partition: int, committed: CommittedOffset, marks: Marks) -> None:
        self.writer.assign(partition, committed.offset or 0)

    def step(self, batch: Sequence[InRecord]) -> list[Emit]:
        return [Emit("scores.v1", r.key, r.value, r.partition, source) for source, r in enumerate(batch)]

    def report(self, now_s: float, ends: Mapping[int, int], *, last: bool) -> list[OutRecord]:
        return self.writer.report(now_s, ends, last=last)


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.broker = MemoryBroker(1, self.clock)
        self.fails_at = ""
        self.fed = 0
        self.telemetry = StageTelemetry("scoring", self.clock)
        log = MemoryLog(self.broker, "scoring", SCORING.consumes.name, "0", self.crash)
        self.runtime = StageRuntime(SCORING, log, Counting, self.clock, self.telemetry)

    def crash(self, point: str) -> None:
        if point == self.fails_at:
            self.fails_at = ""
            raise RuntimeError("died")

    def feed(self, count: int) -> None:
        for _ in range(count):
            hop = pack_hop(Hop(0, self.fed, 0, self.fed, 0))
            self.broker.produce(SCORING.consumes.name, b"k", b"v", 0, [(WEIR, hop)])
            self.fed += 1

    def pass_time(self) -> None:
        self.clock.advance_ms(int(TELL_EVERY_S * 1_000) + 1)

    def spans(self) -> list[tuple[int, int]]:
        told = [CODEC.decode(record.value) for record in self.broker.all_records("profiles.v1")]
        return [(span["from_offset"], span["to_offset"]) for profile in told for span in profile["covered"]]


def test_what_is_due_goes_with_the_batch_or_alone_when_it_is_quiet() -> None:
    bench = Bench()
    bench.runtime.begin()
    bench.feed(3)
    bench.runtime.turn()
    assert bench.spans() == []
    bench.pass_time()
    bench.feed(2)
    bench.runtime.turn()
    assert bench.spans() == [(0, 5)]
    bench.feed(1)
    bench.runtime.turn()
    bench.pass_time()
    bench.runtime.turn()
    assert bench.spans() == [(0, 5), (5, 6)]
    bench.pass_time()
    bench.runtime.turn()
    assert bench.spans() == [(0, 5), (5, 6)], "nothing new, nothing told"


def test_a_stage_that_stops_tells_the_rest() -> None:
    bench = Bench()
    bench.feed(4)

    class Stopping(Counting):
        def step(self, batch: Sequence[InRecord]) -> list[Emit]:
            bench.runtime.stop.set()  # as SIGTERM does, while a batch is at hand
            return super().step(batch)

    bench.runtime._make_handler = Stopping
    bench.runtime.run()
    assert bench.spans() == [(0, 4)]


def test_counts_of_an_aborted_batch_are_never_told_and_those_of_a_crash_show_as_a_hole() -> None:
    bench = Bench()
    bench.runtime.begin()
    bench.feed(3)
    bench.runtime.turn()  # committed, not told yet
    bench.pass_time()
    bench.feed(2)
    bench.fails_at = "before_commit"
    try:
        bench.runtime.turn()
    except RuntimeError:
        bench.runtime.end()
    bench.runtime.begin()
    bench.runtime.turn()
    bench.runtime.tell(last=True)
    assert bench.spans() == [(3, 5)], "0 to 3 was counted by a handler that died before it told"
