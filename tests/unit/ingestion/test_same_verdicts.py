"""Any interleaving of batches, crashes, losses and hand-overs accepts what a plain dict accepts over the whole log."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ingestion import keeper, rebuild
from services.ingestion.event_clock import ClockRules
from services.ingestion.seen import SeenIdentities
from services.mesh.adapters.memory import Crash
from services.mesh.ports import InRecord
from services.mesh.topics import EVENTS_RAW
from tests.unit.ingestion.world import NOW_MS, World, payment

LATENESS_MS, AHEAD_MS, JUMP_MS = 6_000, 500, 20_000
BUCKET_MS = LATENESS_MS // 6
RULES = ClockRules(lateness_ms=LATENESS_MS, ahead_ms=AHEAD_MS, jump_ms=JUMP_MS)
OLD_MS = NOW_MS - 600_000

times = st.one_of(
    st.integers(-9_000, 3_000),  # around the clock
    st.integers(15_000, 60_000),  # around and beyond the jump
    st.just(900_000),  # ahead of the wall clock
)
sends = st.tuples(
    st.just("send"),
    st.integers(0, 5),  # event id
    st.integers(0, 7),  # customer
    times,
    st.integers(1, 2),  # amount
    st.sampled_from(["valid"] * 6 + ["astray", "broken"]),
)
resend = st.tuples(st.just("resend"), st.integers(1, 12))
drain = st.tuples(st.just("drain"), st.integers(1, 9), st.sampled_from(["0", "1"]))
crash = st.tuples(st.just("crash"), st.integers(1, 25), st.integers(1, 9))
others = st.sampled_from([("lose",), ("away",), ("back",), ("drop_a_key",)])
shift = st.tuples(st.just("shift"), st.integers(0, 30_000))
# A stretch that resumes later with everybody: what a jump of the clock needs.
histories = st.lists(st.one_of(sends, sends, sends, sends, sends, resend, drain, crash, others, shift), max_size=90)


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a short history reaches."""
    monkeypatch.setattr(keeper, "STEP_ROWS_MAX", 3)
    monkeypatch.setattr(keeper, "REWRITE_ROWS_MAX", 2)
    monkeypatch.setattr(keeper, "WAITING_ROWS_MAX", 8)
    monkeypatch.setattr(keeper, "RETRY_WAIT_S_FIRST", 0.0)
    monkeypatch.setattr(rebuild, "_LOOK_BACK_FIRST", 2)
    monkeypatch.setattr(SeenIdentities.__init__, "__defaults__", (4,))


class Killer:
    """Dies at the n-th effect."""

    def __init__(self, effects: int) -> None:
        self.left = effects

    def __call__(self, point: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash(point)


def play(world: World, history: list[tuple[Any, ...]]) -> None:
    base_ms = OLD_MS
    sent: list[tuple[dict[str, Any] | bytes, dict[str, Any]]] = []
    for action, *told in history:
        if action == "send":
            event_id, customer, time_ms, amount, kind = told
            event = payment(f"e-{event_id}", f"c-{customer}", event_time_ms=base_ms + time_ms, amount_minor=amount)
            record: dict[str, Any] = {}
            if kind == "astray":
                record = {"partition": (world.broker.partitioner.partition_of(f"c-{customer}".encode()) + 1) % 2}
            body = b"{" if kind == "broken" else event
            sent.append((body, record))
            world.send(body, **record)
            base_ms += 150
        elif action == "resend":
            for body, record in sent[-told[0] :]:
                world.send(body, **record)
        elif action == "drain":
            world.drain(batch_records_max=told[0], slot=told[1])
        elif action == "crash":
            world.drain(Killer(told[0]), batch_records_max=told[1])
        elif action == "lose":
            world.redis.lose_all()
        elif action == "drop_a_key" and world.redis.values:
            del world.redis.values[min(world.redis.values)]
        elif action == "shift":
            base_ms += told[0]
        else:
            world.redis.reachable = action == "back"
    world.drain(batch_records_max=5)


def reference(world: World, log: list[InRecord]) -> tuple[list[tuple[int, int]], list[tuple[int, int, str]], int]:
    """Accepted, refused and moved records of one partition's whole log, by the rules as written."""
    accepted, refused, moved = [], [], 0
    clock = 0
    seen: dict[tuple[str, str], tuple[dict[str, Any], int]] = {}
    voices: list[tuple[str, str, int]] = []
    for record in log:
        place = (record.partition, record.offset)
        try:
            event = json.loads(record.value or b"")
        except ValueError:
            refused.append((*place, "malformed_json"))
            continue
        if world.broker.partitioner.partition_of(event["customer_id"].encode()) != record.partition:
            moved += 1
            continue
        time_ms = event["event_time_ms"]
        if time_ms > record.append_time_ms + AHEAD_MS:
            refused.append((*place, "clock_ahead"))
            continue
        if time_ms < clock - LATENESS_MS:
            refused.append((*place, "late"))
            continue
        if clock and time_ms > clock + JUMP_MS:
            voice = (event["customer_id"], event["event_id"], time_ms)
            span = [t for _, _, t in voices] + [time_ms]
            if max(span) - min(span) > JUMP_MS:
                voices = []
            voices.append(voice)
            if len({who for who, _, _ in voices}) < 5:
                refused.append((*place, "clock_jump"))
                continue
        known = seen.get((event["customer_id"], event["event_id"]))
        if known is not None and known[1] // BUCKET_MS >= (clock - LATENESS_MS) // BUCKET_MS:
            if known[0] != event:
                refused.append((*place, "conflict"))
            continue
        seen[(event["customer_id"], event["event_id"])] = (event, time_ms)
        clock, voices = max(clock, time_ms), []
        accepted.append(place)
    return accepted, refused, moved


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories, st.integers(1, 2))
def test_any_interleaving_gives_the_verdicts_of_one_pass_over_the_log(
    history: list[tuple[Any, ...]], partitions: int
) -> None:
    world = World(partitions, RULES)
    play(world, history if partitions == 2 else [a for a in history if "astray" not in a])
    accepted, refused, moved = [], [], 0
    for partition in range(partitions):
        found = reference(world, world.broker.records.get((EVENTS_RAW.name, partition), []))
        accepted += found[0]
        refused += found[1]
        moved += found[2]
    assert world.accepted() == accepted
    assert sorted(world.rejects()) == sorted(refused)
    rekeyed = [record for record in world.broker.all_records(EVENTS_RAW.name) if record.headers]
    assert len(rekeyed) == moved


def test_the_histories_reach_every_verdict() -> None:
    """One long fixed history: if the generator above went quiet about something, this one does not."""
    world = World(2, RULES)
    history: list[tuple[Any, ...]] = []
    for n in range(60):
        history.append(("send", n % 6, n % 8, (n * 37) % 3_000, 1, "valid"))
        history.append(("send", n % 6, n % 8, -9_000 * (n % 7 == 0), 1 + n % 2, "broken" if n % 11 == 0 else "valid"))
        history.append(("send", n % 6, 7 - n % 8, 900_000 * (n % 13 == 0), 1, "astray" if n % 5 == 0 else "valid"))
        history += [("resend", 3)] * (n % 9 == 0) + [("crash", n % 6 + 1, 3)] * (n % 4 == 0)
        history += [("lose",)] * (n == 30) + [("away",)] * (n == 40) + [("back",)] * (n == 48)
        history += [("shift", 60_000)] * (n == 50)
    play(world, history)
    expected = [reference(world, world.broker.records[(EVENTS_RAW.name, p)]) for p in range(2)]
    assert world.accepted() == expected[0][0] + expected[1][0]
    assert sorted(world.rejects()) == sorted(expected[0][1] + expected[1][1])
    assert set(world.codes()) == {"malformed_json", "clock_ahead", "late", "clock_jump", "conflict"}
    assert world.crashes > 5
