"""Any interleaving of batches, crashes, losses and hand-overs accepts what a plain dict accepts over the whole log."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
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


def history_of(random: Random, length: int) -> list[tuple[Any, ...]]:
    """Few identities and a slow clock, so that repeats meet their first event in every state that it may be in."""
    history: list[tuple[Any, ...]] = []
    times: list[Callable[[], int]] = [
        *[lambda: random.randint(-2_000, 500)] * 20,
        *[lambda: random.randint(-8_000, 2_000)] * 4,
        lambda: random.randint(23_000, 60_000),  # beyond a jump
        lambda: random.choice([900_000, random.randint(15_000, 22_000)]),  # ahead of the wall clock; about a jump
    ]
    while len(history) < length:
        dice = random.random()
        if dice < 0.62:
            time_ms = random.choice(times)()
            kind = random.choice(["valid"] * 7 + ["astray", "broken"])
            amount = random.choice([1, 1, 1, 2])
            history.append(("send", random.randrange(3), random.randrange(12), time_ms, amount, kind))
        elif dice < 0.77:
            history.append(("resend", random.randint(1, 12)))
        elif dice < 0.83:
            history.append(("drain", random.randint(1, 9), random.choice("01")))
        elif dice < 0.94:
            history.append(("crash", random.randint(1, 25), random.randint(1, 9)))
        elif dice < 0.95:
            history.append(("shift", random.choice([3_000, 10_000, 30_000, 90_000])))
        else:
            history.append((random.choice(["lose", "away", "drop_a_key"]),))
        if dice < 0.2:
            history.append(("back",))
    return history


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


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(1, 200), st.integers(1, 2))
def test_any_interleaving_gives_the_verdicts_of_one_pass_over_the_log(seed: int, length: int, partitions: int) -> None:
    world = World(partitions, RULES)
    history = history_of(Random(seed), length)
    play(world, history if partitions == 2 else [action for action in history if "astray" not in action])
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
    """If the generator went quiet about something, the test above would prove nothing."""
    codes: set[str] = set()
    crashes = duplicates = 0.0
    for seed in range(8):
        world = World(2, RULES)
        play(world, history_of(Random(seed), 150))
        codes |= set(world.codes())
        crashes += world.crashes
        value = world.telemetry.metrics.registry.get_sample_value("weir_duplicates_total", {"stage": "ingestion"})
        duplicates += value or 0
    assert codes == {"malformed_json", "clock_ahead", "late", "clock_jump", "conflict"}
    assert (crashes > 20, duplicates > 60) == (True, True)
