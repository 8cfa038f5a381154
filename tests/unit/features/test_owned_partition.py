"""A partition's state between memory, store and log: what is served stays exact, whatever the store does.

Each test feeds a handler whose store misbehaves and one whose store never does, and compares what they emit.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from random import Random

import pytest
from owned_bench import OTHER_FEATURES, WAIT_MS, Bench, check_exact, check_stored, statuses

from services.features.handler import LOOK_AT_STORE_S
from services.features.owned import RETRY_S_MAX, STEP_ENTITIES_MAX, in_steps
from services.mesh.adapters.memory import MemoryLog
from services.mesh.errors import Fenced
from services.mesh.headers import WEIR
from services.mesh.ports import CommittedOffset, InRecord, StoreMark


def test_the_next_owner_goes_on_where_the_store_stands() -> None:
    bench = Bench()
    bench.process().take(bench.feed("a", "b", "a"))
    process = bench.process()
    assert process.phases() == {"ready"}
    records = bench.feed("a", "b", "c")
    check_exact(bench, records, process.take(records))
    assert process.replayed() == 0
    check_stored(bench)


def test_state_that_is_let_go_of_is_in_no_cycle() -> None:
    """Garbage collection does not look at old state (``adapters/garbage_collector.py``): it would stay for ever."""
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        bench = Bench()
        process = bench.process()
        process.take(bench.feed("a", "b", "c"))
        bench.redis.lose_all()
        process.take(bench.feed("a"))
        process.catch_up()  # from the log: what it builds takes the place of what there was
        assert process.replayed() == 4
        process.handler.revoke(0)
        del process
        gc.collect()
        kept = {type(thing).__name__ for thing in gc.garbage if type(thing).__module__.startswith("services.features")}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert kept == set()


def test_a_crash_between_commit_and_save_is_replayed() -> None:
    bench = Bench()
    bench.process().take(bench.feed("a", "b"))
    dead = bench.process()
    records = bench.feed("a", "c")
    dead.handler.step(records)
    dead.handler.committed = lambda offsets: None  # type: ignore[method-assign]
    dead.commit(records)
    process = bench.process()
    records = bench.feed("a", "b", "c")
    emits = process.take(records)
    check_exact(bench, records, emits)
    assert process.replayed() == 2
    check_stored(bench)


def test_an_outage_serves_what_memory_holds_and_falls_back_for_the_rest() -> None:
    bench = Bench()
    process = bench.process()
    process.take(bench.feed("a", "b"))
    bench.redis.reachable = False
    first, second = bench.feed("a", "new", "b"), bench.feed("new", "a")
    emits = process.take(first) + process.take(second)
    assert statuses(emits) == ["ok", "fallback", "ok", "fallback", "ok"]
    known = [record for record in first + second if record.key != b"new"]
    check_exact(bench, known, [emit for emit, status in zip(emits, statuses(emits), strict=True) if status == "ok"])
    bench.redis.reachable = True
    process.catch_up()
    assert process.replayed() == 5
    records = bench.feed("new", "a", "b")
    check_exact(bench, records, process.take(records))
    check_stored(bench)


def test_the_wait_for_state_is_bounded_once_for_all_partitions() -> None:
    bench = Bench(partitions=8)
    process = bench.process()
    process.take([record for p in range(8) for record in bench.feed("a", partition=p)])
    bench.redis.reachable = False
    started_s = bench.clock.monotonic_s()
    emits = process.take([record for p in range(8) for record in bench.feed("new", partition=p)])
    waited_s = bench.clock.monotonic_s() - started_s
    assert set(statuses(emits)) == {"fallback"}
    assert waited_s <= WAIT_MS / 1000 + 1.0, "the wait, and one try that ran into its end"
    started_s = bench.clock.monotonic_s()
    process.take([record for p in range(8) for record in bench.feed("newer", partition=p)])
    assert bench.clock.monotonic_s() - started_s <= 0.5, "who has waited for this outage waits no more"


def test_a_store_that_is_away_is_asked_by_one_for_all() -> None:
    bench = Bench(partitions=8)
    process = bench.process()
    process.take([record for p in range(8) for record in bench.feed("a", partition=p)])
    bench.redis.reachable = False
    process.take([record for p in range(8) for record in bench.feed("a", partition=p)])
    process.store.calls = 0
    for _ in range(600):
        process.handler.idle()
        bench.clock.advance_ms(100)
    assert process.store.calls <= 60 / RETRY_S_MAX + 4


def test_a_total_loss_is_rebuilt_while_memory_goes_on() -> None:
    bench = Bench(entities_max=4)
    process = bench.process()
    for _ in range(30):
        process.take(bench.feed("a", "b", "c", "d", "e", "f", "a"))
    bench.redis.lose_all()
    records = bench.feed("a", "c", "a", "g", "b")
    emits = process.take(records)
    for record, emit, status in zip(records, emits, statuses(emits), strict=True):
        if status != "fallback":
            check_exact(bench, [record], [emit])
    process.catch_up()
    records = bench.feed("a", "b", "c", "d", "e", "f", "g")
    check_exact(bench, records, process.take(records))
    check_stored(bench)


def test_a_loss_is_noticed_before_an_entity_is_taken_for_new() -> None:
    """The store is empty and says so with None: served as a customer's first payment, it would be wrong and ``ok``."""
    bench = Bench(wait_ms_max=0)
    bench.process().take(bench.feed("a", "a"))
    process = bench.process()
    bench.redis.lose_all()
    emits = process.take(bench.feed("a"))
    assert statuses(emits) == ["fallback"]
    process.catch_up()
    records = bench.feed("a")
    check_exact(bench, records, process.take(records))
    check_stored(bench)


def test_a_short_loss_is_waited_for() -> None:
    bench = Bench()
    bench.process().take(bench.feed("a", "a"))
    process = bench.process()
    bench.redis.lose_all()
    records = bench.feed("a")
    check_exact(bench, records, process.take(records))
    check_stored(bench)


def test_the_end_of_a_replay_moves_with_the_log() -> None:
    bench = Bench(wait_ms_max=0)
    bench.process().take(bench.feed(*"ab" * 600))
    bench.redis.lose_all()
    process = bench.process()
    assert process.phases() == {"behind"}
    turns = 0
    while process.phases() != {"ready"}:
        process.take(bench.feed("a", "x"))
        process.handler.idle()
        turns += 1
        assert turns < 20
    assert turns > 2, "several batches came while it was replayed"
    records = bench.feed("a", "b", "x")
    check_exact(bench, records, process.take(records))
    check_stored(bench)


def test_an_outage_in_the_middle_of_a_replay_goes_on_from_where_the_store_came() -> None:
    bench = Bench(wait_ms_max=0)
    bench.process().take(bench.feed(*"abc" * 300))
    bench.redis.lose_all()
    process = bench.process()
    process.handler.idle()
    before = process.replayed()
    assert 0 < before < 900
    bench.redis.reachable = False
    process.handler.idle()
    assert process.phases() == {"unreachable"}
    bench.redis.reachable = True
    process.catch_up()
    assert process.replayed() <= 900 + 100, "not from the start again"
    check_stored(bench)


def test_a_loss_in_the_middle_of_a_replay_starts_it_again() -> None:
    bench = Bench(wait_ms_max=0)
    bench.process().take(bench.feed(*"abc" * 300))
    bench.redis.lose_all()
    process = bench.process()
    process.handler.idle()
    bench.redis.lose_all()
    process.catch_up()
    check_stored(bench)


def test_a_store_that_comes_back_with_an_older_tail_is_caught_up() -> None:
    bench = Bench()
    process = bench.process()
    process.take(bench.feed("a", "b"))
    values, marks = dict(bench.redis.values), dict(bench.redis.marks)
    process.take(bench.feed("a", "c"))
    bench.redis.values, bench.redis.marks = values, marks
    records = bench.feed("c", "a")
    check_exact(bench, records, process.take(records))
    process.catch_up()
    assert process.replayed() == 4, "from the tail, not from the start"
    check_stored(bench)


def test_a_value_that_vanished_means_a_rebuild_from_the_start() -> None:
    bench = Bench()
    process = bench.process()
    process.take(bench.feed("a", "b", "a"))
    del bench.redis.values[0, "a"]
    process.take(bench.feed("a"))
    assert process.phases() == {"unreachable"}
    process.catch_up()
    assert process.replayed() == 4
    check_stored(bench)


def test_a_mark_ahead_of_the_log_is_of_another_log() -> None:
    bench = Bench()
    bench.process().take(bench.feed("a", "b"))
    bench.redis.marks[0] = StoreMark(offset=99, metadata="")
    process = bench.process()
    process.catch_up()
    records = bench.feed("a", "b")
    check_exact(bench, records, process.take(records))
    check_stored(bench)


def test_a_quiet_partition_notices_a_loss_and_rebuilds() -> None:
    bench = Bench(partitions=2)
    process = bench.process()
    process.take([record for p in range(2) for record in bench.feed("a", "b", partition=p)])
    bench.redis.lose_all()
    process.handler.idle()
    assert process.phases() == {"ready"}, "not at every turn"
    bench.clock.advance_ms(int(LOOK_AT_STORE_S * 1_000))
    process.handler.idle()
    process.catch_up()
    assert process.replayed() == 4
    check_stored(bench)


def test_a_quiet_partition_notices_an_outage_and_goes_on_with_what_it_holds() -> None:
    bench = Bench()
    process = bench.process()
    process.take(bench.feed("a"))
    bench.redis.reachable = False
    bench.clock.advance_ms(int(LOOK_AT_STORE_S * 1_000))
    process.handler.idle()
    assert process.phases() == {"unreachable"}
    bench.redis.reachable = True
    process.catch_up()
    assert process.replayed() == 0
    check_stored(bench)


def test_state_of_another_feature_set_is_rebuilt_from_the_log() -> None:
    bench = Bench(wait_ms_max=0)
    bench.process(features=OTHER_FEATURES).take(bench.feed("a", "b", "a"))
    process = bench.process()
    assert statuses(process.take(bench.feed("a"))) == ["fallback"]
    process.catch_up()
    assert process.replayed() == 4
    records = bench.feed("a", "b", "c")
    check_exact(bench, records, process.take(records))
    check_stored(bench)


def test_a_save_whose_answer_was_lost_needs_no_replay() -> None:
    bench = Bench()
    process = bench.process()
    process.take(bench.feed("a"))
    process.store.loses_answers = 1
    process.take(bench.feed("a", "b"))
    assert process.phases() == {"unreachable"}
    process.catch_up()
    assert process.replayed() == 0
    records = bench.feed("a", "b")
    check_exact(bench, records, process.take(records))
    check_stored(bench)


def test_one_partitions_loss_is_not_the_others() -> None:
    bench = Bench(partitions=3)
    process = bench.process()
    process.take([record for p in range(3) for record in bench.feed("a", partition=p)])
    del bench.redis.marks[1]
    process.take([record for p in range(3) for record in bench.feed("a", partition=p)])
    assert [process.handler._owned[p].phase for p in range(3)] == ["ready", "unreachable", "ready"]
    process.catch_up()
    check_stored(bench)


def test_a_former_owner_is_fenced_at_its_next_save() -> None:
    bench = Bench()
    old = bench.process()
    old.take(bench.feed("a"))
    new = bench.process()
    records = bench.feed("a")
    old.handler.step(records)
    with pytest.raises(Fenced):
        old.handler.committed({0: CommittedOffset(2, "")})
    check_exact(bench, records, new.take(records))
    check_stored(bench)


def test_a_revoked_partition_lets_go_of_its_reader_and_writes_nothing_more() -> None:
    bench = Bench(wait_ms_max=0)
    bench.process().take(bench.feed(*"ab" * 600))
    bench.redis.lose_all()
    closed = []
    log = MemoryLog(bench.broker, "g", "events.v1")

    def read(partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        try:
            yield from log.read(partition, start, end)
        finally:
            closed.append(partition)

    process = bench.process(read)
    process.handler.idle()
    assert closed == []
    process.handler.revoke(0)
    assert closed == [0]
    stored = dict(bench.redis.marks)
    process.handler.idle()
    assert bench.redis.marks == stored
    bench.process().catch_up()
    check_stored(bench)


def test_an_outage_at_assignment_is_no_reason_to_wait_longer() -> None:
    bench = Bench()
    bench.process().take(bench.feed("a"))
    bench.redis.reachable = False
    process = bench.process()
    started_s = bench.clock.monotonic_s()
    emits = process.take(bench.feed("a"))
    assert statuses(emits) == ["fallback"]
    assert bench.clock.monotonic_s() - started_s <= WAIT_MS / 1000 + 0.6
    bench.redis.reachable = True
    process.catch_up()
    records = bench.feed("a")
    check_exact(bench, records, process.take(records))
    check_stored(bench)


def test_records_that_were_refused_are_refused_again_in_a_replay() -> None:
    bench = Bench()
    records = bench.feed("a", "a")
    stranger = bench.broker.produce("events.v1", b"a", records[0].value, 0, [(WEIR, b"none of ours")])
    process = bench.process()
    process.take(records)
    bench.committed[0] = CommittedOffset(stranger.offset + 1, bench.committed[0].metadata)
    bench.redis.lose_all()
    again = bench.process()
    again.catch_up()
    assert again.replayed() == 2


def test_memory_stays_bounded() -> None:
    bench = Bench(entities_max=10)
    process = bench.process()
    for n in range(60):
        process.take(bench.feed(*(f"c{n}-{m}" for m in range(5))))
    assert len(process.handler._owned[0].entities) <= 15
    records = bench.feed("c0-0", "c30-2", "c59-4")
    check_exact(bench, records, process.take(records))


def test_a_replay_writes_at_most_so_many_entities_in_one_step_and_leaves_nothing_out() -> None:
    random = Random(3)
    keys = [random.choice((b"hot", b"%d" % random.randrange(2_000))) for _ in range(3_000)]
    records = [InRecord("events.v1", 0, offset, 0, key, b"", ()) for offset, key in enumerate(keys)]
    parts = list(in_steps(records))
    assert [record for part in parts for record in part] == records
    assert [len({record.key for record in part}) for part in parts[:-1]] == [STEP_ENTITIES_MAX] * (len(parts) - 1)
    assert list(in_steps([])) == []
