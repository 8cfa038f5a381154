"""The loop of every stage: the order of effects, and what is left when one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from services.mesh.adapters.memory import Crash, ManualClock, MemoryBroker, MemoryLog
from services.mesh.errors import Fatal, Fenced, Poison, RejectCode, Transient
from services.mesh.flood import REJECTS_MAX
from services.mesh.headers import LANE, WEIR, Hop, find, pack_hop, unpack_hop
from services.mesh.ports import CommittedOffset, InRecord, OutRecord
from services.mesh.runtime import BATCH_WAIT_MS, FENCES_MAX, StageRuntime
from services.mesh.stage import Emit, dead_letter
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DEAD_LETTERS
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


def test_the_order_of_effects() -> None:
    bench = Bench()
    bench.feed(b"a", b"b")
    runtime = bench.started()
    bench.crash = lambda point: bench.notes.append(point)
    assert runtime.turn() == 2
    nothing = Marks()
    assert bench.notes == [
        ("assign", 0, None, nothing),
        ("assign", 1, None, nothing),
        ("step", [b"a", b"b"]),
        "before_commit",
        "after_commit",
        ("committed", {0: 2}),
        "idle",
    ]
    assert bench.out() == [b"a", b"b"]


def test_a_handler_that_has_more_to_catch_up_is_not_kept_waiting_for_records() -> None:
    waits: list[int] = []

    class Patient(MemoryLog):
        def poll(self, records_max: int, wait_ms: int) -> list[InRecord]:
            waits.append(wait_ms)
            return super().poll(records_max, wait_ms)

    class Behind(Echo):
        slices = 2

        def idle(self) -> bool:
            self.slices -= 1
            return self.slices >= 0

    bench = Bench()
    log = Patient(bench.broker, bench.stage.name, TOPIC)
    runtime = StageRuntime(bench.stage, log, lambda: Behind(bench.notes), bench.clock, bench.telemetry)
    runtime.begin()
    for _ in range(4):
        runtime.turn()
    assert waits == [BATCH_WAIT_MS, 0, 0, BATCH_WAIT_MS]


def test_outputs_say_where_they_come_from() -> None:
    bench = Bench(replace(SCORING, lane=1))
    bench.feed(b"a", b"twice", partition=1)
    bench.started().turn()
    hops = [unpack_hop(find(record.headers, WEIR) or b"") for record in bench.broker.all_records(OUTPUT)]
    first, second = Hop(7, 70, LANE + 1, 0, 0), Hop(7, 71, LANE + 1, 1, 0)
    assert hops == [first, second, second._replace(ordinal=1)]
    assert {find(record.headers, "traceparent") for record in bench.broker.all_records(OUTPUT)} == {b"00-t"}


def test_an_unmarked_stage_is_the_origin() -> None:
    bench = Bench(replace(SCORING, marked=False))
    bench.broker.produce(TOPIC, b"k", b"a", 1, [])
    bench.started().turn()
    assert unpack_hop(find(bench.broker.all_records(OUTPUT)[0].headers, WEIR) or b"") == Hop(1, 0, 1, 0, 0)


def test_outputs_out_of_the_order_of_their_sources_are_a_bug_of_ours() -> None:
    bench = Bench()
    bench.feed(b"a", b"b")
    runtime = bench.started()
    bench.handlers[-1].step = lambda batch: [  # type: ignore[method-assign]
        Emit(OUTPUT, b"k", b"b", 0, 1),
        Emit(OUTPUT, b"k", b"a", 0, 0),
    ]
    with pytest.raises(AssertionError, match="after its turn"):
        runtime.turn()


def test_watermarks_travel_with_the_offsets() -> None:
    bench = Bench()
    bench.feed(b"a", b"b")
    first = bench.started()
    first.turn()
    first.end()
    bench.notes.clear()
    bench.started().turn()
    assert bench.notes[0] == ("assign", 0, 2, Marks({5: (1, 0)}))


def test_a_repeat_from_the_hop_before_is_dropped_and_its_offset_committed() -> None:
    bench = Bench()
    bench.feed(b"a", b"b")
    bench.previous = 0
    bench.feed(b"a again", b"b again", b"c")
    bench.started().turn()
    assert bench.out() == [b"a", b"b", b"c"]
    assert bench.broker.groups["scoring"].offsets[0].offset == 5


def test_a_poll_of_repeats_alone_moves_on_without_a_step() -> None:
    bench = Bench()
    bench.feed(b"a")
    runtime = bench.started()
    runtime.turn()
    bench.previous = 0
    bench.feed(b"a again")
    bench.notes.clear()
    runtime.turn()
    assert bench.notes == [("committed", {0: 2}), "idle"]


@pytest.mark.parametrize("header", [b"", b"\x02" + bytes(22), b"\x01short"])
def test_a_record_that_no_stage_produced_is_refused_with_its_bytes(header: bytes) -> None:
    bench = Bench()
    bench.feed(b"a")
    bench.feed(b"stranger", header=header)
    bench.feed(b"b")
    bench.started().turn()
    assert bench.out() == [b"a", b"b"]
    (letter,) = bench.broker.all_records(DEAD_LETTERS.name)
    assert letter.value == b"stranger"
    headers = dict(letter.headers)
    assert (headers["error_code"], headers["error_field"]) == (b"undecodable", b"weir")
    assert (headers["origin_topic"], headers["origin_partition"], headers["origin_offset"]) == (
        TOPIC.encode(),
        b"0",
        b"1",
    )


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
@pytest.mark.parametrize("error", [Transient("unclear"), Crash()])
def test_an_unclear_commit_leaves_every_output_once(point: str, error: BaseException) -> None:
    bench = Bench()
    bench.feed(b"a", b"b")
    runtime = bench.started()
    bench.crash = once(point, error)
    with pytest.raises(type(error)):
        runtime.turn()
    assert "idle" not in bench.notes
    assert not [note for note in bench.notes if note[0] == "committed"]  # type: ignore[index]
    again = bench.started()
    bench.feed(b"c")
    again.turn()
    assert bench.out() == [b"a", b"b", b"c"]
    assert len(bench.handlers) == 2, "no handler outlives its session"


def test_a_step_that_raises_transient_commits_nothing_and_is_repeated() -> None:
    bench = Bench()
    bench.feed(b"a")
    runtime = bench.started()
    bench.handlers[-1].fails = Transient("later")
    with pytest.raises(Transient):
        runtime.turn()
    assert bench.out() == []
    assert bench.broker.groups["scoring"].offsets == {}
    runtime.end()
    bench.started().turn()
    assert bench.out() == [b"a"]


def test_partitions_that_leave_are_let_go_of_before_the_batch() -> None:
    bench = Bench()
    first = bench.started("0")
    first.turn()
    second = bench.started("1")
    bench.feed(b"a", partition=0)
    bench.feed(b"b", partition=1)
    bench.notes.clear()
    assert first.turn() == 1
    kinds = [note[:2] if note[0] != "assign" else note[0] for note in bench.notes]  # type: ignore[index]
    assert kinds[:4] == [("revoke", 0), ("revoke", 1), "assign", ("step", [b"a"])], "all of them, then what comes back"
    assert second.turn() == 1
    assert sorted(bench.out()) == [b"a", b"b"]


def test_partitions_that_come_are_known_before_their_first_batch() -> None:
    bench = Bench()
    bench.feed(b"a", partition=1)
    bench.started().turn()
    kinds = [note[0] for note in bench.notes]  # type: ignore[index]
    assert kinds == ["assign", "assign", "step", "committed", "i"]


class Stopping(MemoryLog):
    """Stops its runtime after some turns, as a signal does at any moment."""

    runtime: StageRuntime
    turns = 0
    stop_after = 5
    failures: int = 0
    error: type[Transient] = Transient

    def poll(self, records_max: int, wait_ms: int) -> list[InRecord]:
        self.turns += 1
        if self.turns >= self.stop_after:
            self.runtime.stop.set()
        if self.failures:
            self.failures -= 1
            raise self.error("out of luck")
        return super().poll(records_max, wait_ms)


def stopping(bench: Bench) -> tuple[StageRuntime, Stopping]:
    log = Stopping(bench.broker, bench.stage.name, TOPIC, "0", lambda point: bench.crash(point))
    log.runtime = bench.runtime(log=log)
    log.runtime.stop.wait = lambda timeout=None: bool(bench.clock.sleep_s(timeout or 0))  # type: ignore[method-assign]
    return log.runtime, log


def test_stopping_finishes_the_batch_and_leaves() -> None:
    bench = Bench()
    bench.feed(b"a")
    runtime, log = stopping(bench)
    log.stop_after = 1
    runtime.run()
    assert bench.out() == [b"a"]
    assert bench.notes[-2:] == [("committed", {0: 1}), "idle"]
    assert bench.broker.groups["scoring"].members == {}
    assert not bench.telemetry.health.ready
    assert bench.telemetry.health.partitions == []


def test_run_opens_anew_after_a_transient_and_goes_on() -> None:
    bench = Bench()
    bench.feed(b"a", b"b")
    bench.crash = once("before_commit", Transient("a moment"))
    runtime, _ = stopping(bench)
    runtime.run()
    assert bench.out() == [b"a", b"b"]
    assert bench.telemetry.health.last_error == "a moment"


def test_waits_between_reopenings_grow_and_the_loop_counts_as_alive() -> None:
    bench = Bench()
    runtime, log = stopping(bench)
    log.failures, log.stop_after = 6, 7
    started_s = bench.clock.monotonic_s()
    runtime.run()
    assert bench.clock.monotonic_s() - started_s == pytest.approx(0.4 + 0.8 + 1.6 + 3.2 + 5 + 5, abs=0.1)
    assert bench.clock.monotonic_s() - bench.telemetry.health.last_turn_s < 0.1


def test_two_processes_with_one_slot_end_in_a_clear_error() -> None:
    bench = Bench()
    runtime, log = stopping(bench)
    log.failures, log.stop_after, log.error = FENCES_MAX, 99, Fenced
    with pytest.raises(Fatal, match="does another process hold this slot"):
        runtime.run()


def test_being_fenced_now_and_then_is_no_fight() -> None:
    """Rebalances of a quiet stage, hours apart: no batch in between, and no reason to give up."""
    bench = Bench()
    runtime, log = stopping(bench)
    log.failures, log.stop_after, log.error = FENCES_MAX + 2, FENCES_MAX + 3, Fenced
    begin = runtime.begin

    def long_session() -> None:
        begin()
        bench.clock.advance_ms(3_600_000)

    runtime.begin = long_session  # type: ignore[method-assign]
    runtime.run()


def test_a_flood_of_rejects_halts_the_stage() -> None:
    bench = Bench()
    bench.feed(*[b"bad"] * (3 * REJECTS_MAX))
    runtime = bench.started()
    for _ in range(20):
        runtime.turn()
    refused = len(bench.out(DEAD_LETTERS.name))
    assert REJECTS_MAX <= refused < REJECTS_MAX + 500, "the batch that reaches the limit is the last"
    assert not bench.telemetry.health.ready
    assert "weir dead-letters list" in bench.telemetry.health.halted


def test_a_halt_outlasts_reopenings_and_rebalances() -> None:
    bench = Bench()
    bench.feed(*[b"bad"] * (2 * REJECTS_MAX))
    runtime = bench.started()
    for _ in range(6):
        runtime.turn()
    refused = len(bench.out(DEAD_LETTERS.name))
    runtime.end()
    runtime.begin()
    for _ in range(6):
        runtime.turn()
    other = bench.started("1")
    other.end()
    bench.feed(b"fine", partition=1)
    for _ in range(6):
        runtime.turn()
    assert len(bench.out(DEAD_LETTERS.name)) == refused
    assert bench.out() == []
    assert not bench.telemetry.health.ready
    assert bench.telemetry.health.halted


def test_some_rejects_halt_nothing() -> None:
    bench = Bench()
    bench.feed(*[b"bad", b"a", b"a"] * 1_000)
    runtime = bench.started()
    for _ in range(8):
        runtime.turn()
    assert len(bench.out()) == 2_000
    assert bench.telemetry.health.ready


def test_dead_letters_take_no_ordinal() -> None:
    bench = Bench()
    bench.feed(b"bad", b"a")
    bench.started().turn()
    (out,) = bench.broker.all_records(OUTPUT)
    assert unpack_hop(find(out.headers, WEIR) or b"").ordinal == 0


def test_spans_are_recorded_only_for_what_was_committed() -> None:
    bench = Bench()
    bench.feed(b"a")
    spans: list[Sequence[OutRecord]] = []
    log = MemoryLog(bench.broker, "scoring", TOPIC, "0", once("before_commit", Transient("no")))
    runtime = StageRuntime(
        SCORING,
        log,
        bench._handler,
        bench.clock,
        bench.telemetry,
        record_spans=lambda outputs, a, b: spans.append(outputs),
    )
    runtime.begin()
    with pytest.raises(Transient):
        runtime.turn()
    assert spans == []
    runtime.end()
    runtime.begin()
    runtime.turn()
    assert [[out.value for out in outputs] for outputs in spans] == [[b"a"]]
