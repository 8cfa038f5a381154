from __future__ import annotations

from collections.abc import Callable

import pytest

from services.ingestion.event_clock import ClockRules
from services.mesh.adapters.memory import Crash
from services.mesh.headers import TRACEPARENT, WEIR, find, traceparent_of, unpack_hop
from services.mesh.identity import identity_of
from services.mesh.ports import CommittedOffset
from services.mesh.topics import DEAD_LETTERS, EVENTS, EVENTS_RAW
from services.mesh.watermark import Marks
from tests.unit.ingestion.world import DAY_MS, HOUR_MS, MINUTE_MS, NOW_MS, World, customers_of, payment


@pytest.fixture
def world() -> World:
    return World()


def test_accepted_event_carries_its_origin_and_keeps_its_partition(world: World) -> None:
    raw = world.send(payment(channel="pos"))
    world.drain()
    [record] = world.broker.all_records(EVENTS.name)
    [event] = world.events()
    assert event == {
        **payment(channel="pos", currency="EUR", country=None, device_id=None),
        "source_partition": raw.partition,
        "source_offset": raw.offset,
        "raw_append_time_ms": raw.append_time_ms,
    }
    assert (record.partition, record.key) == (raw.partition, b"c-1")
    assert unpack_hop(find(record.headers, WEIR) or b"")[:4] == (raw.partition, raw.offset) * 2
    assert find(record.headers, TRACEPARENT) == traceparent_of(identity_of("c-1", "e-1"))


def test_the_producers_own_trace_goes_on(world: World) -> None:
    own = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    world.send(payment(), headers=[(TRACEPARENT, own)])
    world.drain()
    assert find(world.broker.all_records(EVENTS.name)[0].headers, TRACEPARENT) == own


@pytest.mark.parametrize("broken", [b"", b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01", b"01-nonsense", None])
def test_a_broken_trace_is_replaced(world: World, broken: bytes | None) -> None:
    world.send(payment(), headers=[(TRACEPARENT, broken)])
    world.drain()
    found = find(world.broker.all_records(EVENTS.name)[0].headers, TRACEPARENT)
    assert found == traceparent_of(identity_of("c-1", "e-1"))


def test_repeat_is_dropped_and_another_body_is_a_conflict(world: World) -> None:
    first = world.send(payment())
    world.send(payment())
    other = world.send(payment(amount_minor=1))
    other_time = world.send(payment(event_time_ms=NOW_MS - 20 * MINUTE_MS))
    world.send(payment())
    world.drain()
    assert world.accepted() == [(first.partition, first.offset)]
    assert world.rejects() == [(r.partition, r.offset, "conflict") for r in (other, other_time)]
    assert world.telemetry.metrics.registry.get_sample_value("weir_duplicates_total", {"stage": "ingestion"}) == 2


@pytest.mark.parametrize("slot", ["0", "1"])
def test_repeats_and_conflicts_are_known_after_a_restart_and_in_another_process(world: World, slot: str) -> None:
    world.send(payment())
    world.drain(batch_records_max=1)
    world.send(payment())
    world.send(payment(amount_minor=1))
    world.drain(slot=slot)
    assert (len(world.accepted()), world.codes()) == (1, ["conflict"])


def test_repeats_are_known_after_the_store_lost_everything(world: World) -> None:
    world.send(payment())
    world.drain()
    world.redis.lose_all()
    world.send(payment())
    world.drain()
    assert len(world.accepted()) == 1


def test_repeats_are_known_when_the_store_was_never_reachable(world: World) -> None:
    world.redis.reachable = False
    world.send(payment())
    world.drain()
    world.send(payment())
    assert world.drain()
    assert len(world.accepted()) == 1


def test_a_store_that_comes_back_is_caught_up(world: World) -> None:
    world.redis.reachable = False
    world.send(payment())
    world.drain()
    world.redis.reachable = True
    world.clock.advance_ms(MINUTE_MS)
    world.send(payment("e-2"))
    world.drain()
    partition = world.events()[0]["source_partition"]
    assert world.redis.marks[partition].offset == 2
    assert sum(len(v) for (p, key), v in world.redis.values.items() if p == partition and key.startswith("seen:")) == 48


def test_late_beyond_the_lateness_only(world: World) -> None:
    world.send(payment("e-1"))
    world.send(payment("e-2", event_time_ms=NOW_MS - HOUR_MS))
    late = world.send(payment("e-3", event_time_ms=NOW_MS - HOUR_MS - 1))
    world.drain()
    assert (len(world.accepted()), world.rejects()) == (2, [(late.partition, late.offset, "late")])


def test_ahead_is_measured_from_the_records_own_arrival(world: World) -> None:
    world.send(payment("e-1", event_time_ms=NOW_MS + 5 * MINUTE_MS))
    world.send(payment("e-2", event_time_ms=NOW_MS + 5 * MINUTE_MS + 1))
    world.clock.advance_ms(DAY_MS)  # a replay a day later agrees
    world.drain()
    assert (len(world.accepted()), world.codes()) == (1, ["clock_ahead"])


def test_refused_records_neither_move_the_clock_nor_are_remembered(world: World) -> None:
    old_ms = NOW_MS - 30 * DAY_MS
    world.send(payment("e-1", event_time_ms=old_ms))
    world.send(payment("e-2", event_time_ms=old_ms + 2 * DAY_MS))  # a jump
    world.send(payment("e-1", event_time_ms=old_ms + 3 * HOUR_MS))  # a conflict, two hours beyond the lateness
    world.send(payment("e-2", event_time_ms=old_ms))  # on time: nothing moved; unknown: nothing was remembered
    world.drain()
    assert world.codes() == ["clock_jump", "conflict"]
    assert [event["event_id"] for event in world.events()] == ["e-1", "e-2"]


def test_the_clock_jumps_once_five_customers_in_a_row_agree() -> None:
    world = World(partitions=1)
    old_ms = NOW_MS - 30 * DAY_MS
    world.send(payment("e-0", "c-0", event_time_ms=old_ms))
    for n in range(7):
        world.send(payment(f"e-{n + 1}", f"c-{n}", event_time_ms=old_ms + 5 * DAY_MS + n))
    world.drain(batch_records_max=2)
    assert world.codes() == ["clock_jump"] * 4
    assert [event["event_id"] for event in world.events()] == ["e-0", "e-5", "e-6", "e-7"]


@pytest.mark.parametrize("headers", [[], [("source", b"till 7")]])
def test_a_record_in_the_wrong_partition_is_sent_once_more_under_its_right_key(
    world: World, headers: list[tuple[str, bytes]]
) -> None:
    owner = world.broker.partitioner.partition_of(b"c-1")
    stray = world.send(payment(), key=b"somebody", partition=1 - owner, headers=headers)
    world.drain()
    again = world.broker.records[(EVENTS_RAW.name, owner)]
    assert [(r.key, r.value) for r in again] == [(b"c-1", stray.value)]
    assert [h for h in again[0].headers if h[0] == "source"] == headers
    assert all(value for _, value in again[0].headers)
    assert world.accepted() == [(owner, again[0].offset)]
    assert world.rejects() == []


@pytest.mark.parametrize("key", [None, b"somebody"])
def test_a_strange_key_in_the_right_partition_is_taken_as_it_is(world: World, key: bytes | None) -> None:
    owner = world.broker.partitioner.partition_of(b"c-1")
    world.send(payment(), key=key, partition=owner)
    world.drain()
    assert world.accepted() == [(owner, 0)]


def test_a_record_that_was_sent_before_and_is_still_astray_is_refused(world: World) -> None:
    owner = world.broker.partitioner.partition_of(b"c-1")
    world.send(payment(), partition=1 - owner, headers=[(WEIR, b"x")])
    world.drain()
    assert (world.codes(), world.accepted()) == (["wrong_key"], [])


def test_a_dead_letter_keeps_bytes_key_and_headers_and_says_where_and_why(world: World) -> None:
    world.send(b'{"event_id": 7}', key=b"k", headers=[("source", b"till 7")])
    world.drain()
    [letter] = world.broker.all_records(DEAD_LETTERS.name)
    headers = dict(letter.headers)
    assert (letter.key, letter.value, headers["source"]) == (b"k", b'{"event_id": 7}', b"till 7")
    assert (headers["error_code"], headers["error_field"]) == (b"missing_field", b"customer_id")
    assert (headers["error_message"] or b"").startswith(
        f"events.raw.v1[{letter.partition}]@0: customer_id is missing".encode()
    )


def test_a_resend_without_id_is_the_same_event(world: World) -> None:
    event = payment()
    del event["event_id"]
    world.send(event)
    world.send(event)
    world.send({**event, "amount_minor": 7})
    world.drain()
    assert len({event["event_id"] for event in world.events()}) == 2


def test_output_order_is_log_order_within_a_partition() -> None:
    world = World(partitions=1)
    for n in range(40):
        world.send(payment(f"e-{n}", f"c-{n % 7}", event_time_ms=NOW_MS - (n * 7 % 50) * MINUTE_MS))
    world.drain(batch_records_max=7)
    assert [offset for _, offset in world.accepted()] == list(range(40))


def test_a_rebuild_looks_back_no_further_than_it_must() -> None:
    world = World(partitions=1)
    start_ms = NOW_MS - 60 * DAY_MS
    count = 12_000  # one a minute: more than eight days
    for n in range(count):
        world.send(payment(f"e-{n}", f"c-{n % 50}", event_time_ms=start_ms + n * MINUTE_MS))
    world.drain()
    world.redis.lose_all()
    world.accepted_log.looked_at = 0
    for n in range(count - 60, count):
        world.send(payment(f"e-{n}", f"c-{n % 50}", event_time_ms=start_ms + n * MINUTE_MS))
    world.drain()
    assert len(world.accepted()) == count
    assert world.accepted_log.looked_at < count / 2


def test_changed_rules_take_the_accepted_events_as_the_truth() -> None:
    world = World(partitions=1)
    world.send(payment("e-1"))
    world.drain()
    world.send(payment("late", event_time_ms=NOW_MS - 2 * HOUR_MS))
    world.drain(dies_after(2))  # committed, not stored: the next process would have to judge it anew
    milder = World(partitions=1, rules=ClockRules(lateness_ms=3 * HOUR_MS))
    milder.broker, milder.redis, milder.accepted_log = world.broker, world.redis, world.accepted_log
    milder.send(payment("late", event_time_ms=NOW_MS - 2 * HOUR_MS))
    milder.drain()
    assert [event["event_id"] for event in milder.events()] == ["e-1", "late"]


def test_a_log_that_began_anew_is_not_judged_by_an_old_store(world: World) -> None:
    world.send(payment())
    world.drain()
    world.broker.records.clear()
    world.broker.groups["ingestion"].offsets.clear()
    world.send(payment())
    world.drain()
    assert len(world.accepted()) == 1


def test_offsets_that_were_set_back_accept_nothing_twice(world: World) -> None:
    world.send(payment())
    world.drain()
    world.broker.groups["ingestion"].offsets.clear()
    world.drain()
    assert len(world.accepted()) == 1


def test_what_was_stored_is_used_and_what_is_missing_is_replayed() -> None:
    world = World(partitions=1)
    for n in range(3):
        world.send(payment(f"e-{n}"))
        world.drain()
    world.send(payment("e-3"))
    world.drain(dies_after(2))
    assert world.redis.marks[0].offset == 3
    world.accepted_log.looked_at = 0
    for n in range(4):
        world.send(payment(f"e-{n}"))
    world.drain()
    assert (len(world.accepted()), world.accepted_log.looked_at) == (4, 0)
    assert world.redis.marks[0].offset == 8


def test_a_store_that_lost_one_key_is_written_anew() -> None:
    world = World(partitions=1)
    for n in range(9):
        world.send(payment(f"e-{n}", event_time_ms=NOW_MS + (n - 9) * 5 * MINUTE_MS))
        world.drain()
    del world.redis.values[min(world.redis.values)]
    world.send(payment("e-9"))
    world.drain()
    assert world.accepted_log.looked_at == 9
    world.send(payment("e-9"))
    world.drain()
    assert (len(world.accepted()), world.accepted_log.looked_at) == (10, 9)


def test_each_accepted_event_is_written_to_the_store_once() -> None:
    world = World(partitions=1)
    handler = world.handler()
    handler.assign(0, CommittedOffset(None, ""), Marks())
    written: list[int] = []
    store = handler._keeper._store
    save = store.save
    store.save = lambda steps: (written.extend(step.mark.offset for step in steps), save(steps))[1]  # type: ignore
    for n in range(1_000):
        handler.step([world.send(payment(f"e-{n}"))])
        handler.committed({0: CommittedOffset(n + 1, "")})
        handler.idle()
    handler.idle()
    handler.idle()
    assert written == [-1, 1, 257, 513, 769, 1_000]


def test_memory_is_given_back_as_time_goes_on() -> None:
    world = World(partitions=1)
    for n in range(10_000):
        world.send(payment(f"e-{n}", event_time_ms=NOW_MS - 60 * DAY_MS + n * MINUTE_MS))
    world.drain()
    held = world.telemetry.metrics.registry.get_sample_value("weir_seen_identities", {"stage": "ingestion"})
    assert held is not None
    assert held < 5_000


def dies_after(effects: int) -> Callable[[str], None]:
    left = iter(range(effects - 1))

    def crash(point: str) -> None:
        if next(left, None) is None:
            raise Crash(point)

    return crash


def test_customers_of_is_right() -> None:
    world = World(partitions=8)
    assert {world.broker.partitioner.partition_of(c.encode()) for c in customers_of(3, 8, 20)} == {3}
