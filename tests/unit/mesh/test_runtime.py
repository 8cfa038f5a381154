"""The loop of every stage: the order of effects, and what is left when one of them fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from runtime_bench import OUTPUT, TOPIC, Bench, Echo, once

from services.mesh.adapters.memory import Crash, MemoryLog
from services.mesh.errors import Transient
from services.mesh.headers import LANE, WEIR, Hop, find, unpack_hop
from services.mesh.pace import AT_ONCE
from services.mesh.ports import InRecord, OutRecord
from services.mesh.runtime import StageRuntime
from services.mesh.stage import Emit
from services.mesh.topics import DEAD_LETTERS
from services.mesh.topology import SCORING
from services.mesh.watermark import Marks


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
    assert waits == [AT_ONCE.batch_wait_ms, 0, 0, AT_ONCE.batch_wait_ms]


def test_the_time_that_a_batch_took_counts_as_waiting_for_the_next() -> None:
    waits: list[int] = []

    class Watched(MemoryLog):
        def poll(self, records_max: int, wait_ms: int) -> list[InRecord]:
            waits.append(wait_ms)
            return super().poll(records_max, wait_ms)

    class Slow(Echo):
        def step(self, batch: Sequence[InRecord]) -> list[Emit]:
            bench.clock.advance_ms(18)
            return super().step(batch)

    bench = Bench()
    bench.feed(b"a")
    log = Watched(bench.broker, bench.stage.name, TOPIC)
    runtime = StageRuntime(bench.stage, log, lambda: Slow(bench.notes), bench.clock, bench.telemetry)
    runtime.begin()
    for _ in range(3):
        runtime.turn()
    assert waits == [10, 4, 10]


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
