"""The loop of every stage from session to session: stop, reopen, fight, halt."""

from __future__ import annotations

import pytest
from runtime_bench import TOPIC, Bench, once

from services.mesh.adapters.memory import MemoryLog
from services.mesh.errors import Fatal, Fenced, Transient
from services.mesh.flood import REJECTS_MAX
from services.mesh.ports import InRecord
from services.mesh.runtime import FENCES_MAX, StageRuntime
from services.mesh.topics import DEAD_LETTERS


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
