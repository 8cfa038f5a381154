"""From what processes say to the rows of the flow, and from samples to percentiles; bounded whatever comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.console.exposition import samples
from services.console.flow import Flow, numbers_of, totals
from services.console.history import POINTS_MAX, History
from services.console.live import Live
from services.console.look import Picture
from services.console.processes import Address, Answer, Processes
from services.console.sample import HOPS, TAIL_MAX, Samples, percentile
from services.mesh.errors import Transient
from services.mesh.telemetry import StageTelemetry
from services.mesh.topology import owner_of

EXAMPLE = Path(__file__).parents[3] / "schemas/examples/decision.v1/ordinary.json"


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def now_ms(self) -> int:
        return int(1_000 * self.s)

    def monotonic_s(self) -> float:
        return self.s

    def sleep_s(self, seconds: float) -> None:
        self.s += seconds


def answer(instance: str, records: int, metrics: str = "", **health: Any) -> Answer:
    return Answer(instance=instance, progress={"ready": True, "records": records, **health}, metrics=metrics)


def row(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(row for row in rows if row["name"] == name)


def actions(approve: int, decline: int) -> str:
    return (
        f'weir_actions_total{{action="approve",stage="decisions"}} {approve}.0\n'
        f'weir_actions_total{{action="decline",stage="decisions"}} {decline}.0\n'
    )


def test_rates_are_what_was_counted_since_the_look_before() -> None:
    flow = Flow()
    first = flow.rows([answer("decisions-0", 1_000, actions(900, 100))], {"decisions": 7}, 10.0)
    assert row(first, "decisions")["rate_per_s"] is None
    then = flow.rows([answer("decisions-0", 1_500, actions(1_380, 120))], {"decisions": 3}, 12.0)
    found = row(then, "decisions")
    assert (found["rate_per_s"], found["lag"]) == (250.0, 3)
    assert found["actions_per_s"] == {"approve": 240.0, "decline": 10.0}
    assert totals(then)["decided_per_s"] == 250.0
    assert totals(then)["lag"] == 3


def test_a_process_that_was_restarted_counts_from_zero_never_backwards() -> None:
    flow = Flow()
    flow.rows([answer("decisions-0", 1_000, actions(900, 100))], None, 10.0)
    found = row(flow.rows([answer("decisions-0", 40, actions(40, 0))], None, 11.0), "decisions")
    assert (found["rate_per_s"], found["actions_per_s"]) == (40.0, {"approve": 40.0, "decline": 0.0})
    assert found["lag"] is None


def test_instances_are_summed_and_one_that_is_silent_is_said() -> None:
    silent = Answer(instance="ingestion-1", progress=None, metrics=None)
    rows = Flow().rows([answer("ingestion-0", 5), silent], {}, 0.0)
    found = row(rows, "ingestion")
    assert (found["instances"], found["ready"], found["health"]) == (2, 1, "partly")
    assert row(rows, "scoring")["health"] == "absent"
    assert {"ingestion", "scoring"} <= set(totals(rows)["unwell"])


@pytest.mark.parametrize(
    ("said", "health"),
    [
        (answer("scoring-0", 1), "up"),
        (answer("scoring-0", 1, ready=False), "starting"),
        (answer("scoring-0", 1, ready=False, halted="a flood of rejects"), "halted"),
        (Answer(instance="scoring-0", progress=None, metrics=None), "down"),
    ],
)
def test_health_has_a_word_for_each_state(said: Answer, health: str) -> None:
    assert row(Flow().rows([said], {}, 0.0), "scoring")["health"] == health


def test_an_instance_belongs_to_its_stage() -> None:
    assert [owner_of(name) for name in ("features-customer-12", "drift", "ingestion-outcomes-0", "lookup")] == [
        "features-customer",
        "drift",
        "ingestion-outcomes",
        "lookup",
    ]


def test_only_wanted_series_are_read_and_labels_may_hold_anything() -> None:
    text = (
        "# HELP weir_rejects_total Records.\n# TYPE weir_rejects_total counter\n"
        'weir_rejects_total{code="a\\"},{b",stage="x"} 3.0\nweir_records_total{stage="x"} 9.0\n'
        "weir_rejects_total nonsense\nweir_rejects_total{broken 1.0\n\n"
    )
    assert [(s.labels["code"], s.value) for s in samples(text, frozenset({"weir_rejects_total"}))] == [
        ('a\\"},{b', 3.0)
    ]


def test_what_the_health_server_serves_is_what_is_read() -> None:
    from prometheus_client import generate_latest

    telemetry = StageTelemetry("decisions", Clock())
    telemetry.metrics.add("weir_actions", 3, "approve")
    telemetry.metrics.add("weir_rejects", 2, "late")
    telemetry.metrics.set("weir_input_age_seconds", 1.5)
    telemetry.metrics.observe("weir_step_seconds", 0.25)
    text = generate_latest(telemetry.metrics.registry).decode()
    found = numbers_of([answer("decisions-0", 3, text)])["decisions"]
    assert (dict(found.actions), dict(found.rejects), found.age_s) == ({"approve": 3}, {"late": 2}, 1.5)
    assert found.sums["step_s"] == 0.25


def decision(number: int, took_ms: int = 100, **more: Any) -> dict[str, Any]:
    base = json.loads(EXAMPLE.read_text())
    times = {to: base["raw_append_time_ms"] + took_ms * (at + 1) // len(HOPS) for at, (_, _, to) in enumerate(HOPS)}
    return {**base, "event_id": f"e{number}", **times, **more}


def test_percentiles_are_of_the_pooled_looks_and_hops_add_up() -> None:
    looks = Samples()
    looks.add([decision(n, took_ms=n) for n in range(1, 101)])
    assert looks.latency_ms() == {"p50": 50, "p95": 95, "p99": 99, "sampled": 100}
    looks = Samples()
    looks.add([decision(1, took_ms=500)])
    assert looks.hops_ms() == dict.fromkeys((name for name, _, _ in HOPS), 100)
    assert Samples().latency_ms() == {"p50": None, "p95": None, "p99": None, "sampled": 0}
    assert percentile([], 0.5) is None


def test_rules_are_shares_of_what_was_looked_at() -> None:
    looks = Samples()
    looks.add([decision(1, rule_hits=["spree", "far"]), decision(2, rule_hits=["spree"]), decision(3)])
    found = looks.rules()
    assert found["sampled"] == 3
    assert found["hits"] == [("spree", 2), ("far", 1)]
    assert found["reasons"] == [("no_objection", 3)]


def test_samples_and_history_stay_small() -> None:
    looks, history = Samples(), History()
    for number in range(2_000):
        looks.add([decision(number), decision(-number)])
        history.add(tick(number))
    assert len(looks.tail()) == TAIL_MAX
    assert looks.tail()[0]["event_id"] in ("e1999", "e-1999")
    assert looks.latency_ms()["sampled"] == 20
    assert len(history.told()) == POINTS_MAX
    history.add(tick(10_000_000))
    assert len(history.told()) == 1


def tick(second: int) -> dict[str, Any]:
    totals = {"decided_per_s": 1.0, "lag": 0, "actions_per_s": {}}
    return {"time_ms": second * 1_000, "totals": totals, "latency_ms": {"p50": 1}, "stages": []}


class Mesh:
    """Answers, or is away."""

    def __init__(self) -> None:
        self.broker_away = self.store_away = False

    async def ask(self) -> list[Answer]:
        return [answer("decisions-0", 5)]

    async def look(self) -> Picture:
        if self.broker_away:
            raise Transient("broker 1.2.3.4: gone")
        return Picture(lags={"decisions": 4}, decisions=[decision(1)], decided_in_all=5, dead_letters=0, partitions=8)


class Store:
    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    async def look(self) -> dict[str, Any]:
        if self._mesh.store_away:
            raise Transient("Redis does not answer: gone")
        return {"used_bytes": 1, "limit_bytes": 2, "keys": 3}


def live(mesh: Mesh) -> Live:
    clock = Clock()
    return Live(mesh, mesh, Store(mesh), lambda: {"model": "m"}, clock, StageTelemetry("console", clock))


def parsed(message: bytes | None) -> tuple[str, dict[str, Any]]:
    assert message is not None
    name, data = message.decode().removesuffix("\n\n").split("\n")
    return name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))


def test_a_page_is_sent_the_past_then_ticks_and_a_slow_one_only_the_newest() -> None:
    async def scene() -> None:
        stream = live(Mesh())
        running = asyncio.ensure_future(stream.run())
        try:
            async with stream.watch() as queue:
                assert parsed(await queue.get())[0] == "past"
                name, told = parsed(await queue.get())
                assert (name, told["model"], told["broker"]["partitions"]) == ("tick", "m", 8)
                assert queue.maxsize == 2
        finally:
            running.cancel()

    asyncio.run(scene())


def test_what_is_away_is_said_and_the_rest_is_shown() -> None:
    async def scene() -> dict[str, Any]:
        mesh = Mesh()
        mesh.broker_away = mesh.store_away = True
        stream = live(mesh)
        running = asyncio.ensure_future(stream.run())
        async with stream.watch() as queue:
            await queue.get()
            told = parsed(await queue.get())[1]
        running.cancel()
        return told

    told = asyncio.run(scene())
    assert told["broker"] == {"away": "broker 1.2.3.4: gone"}
    assert told["redis"] == {"away": "Redis does not answer: gone"}
    assert len(told["troubles"]) == 2
    assert row(told["stages"], "decisions")["health"] == "up"
    assert row(told["stages"], "decisions")["lag"] is None


def test_stopping_ends_every_stream() -> None:
    async def scene() -> list[bytes | None]:
        stream = live(Mesh())
        async with stream.watch() as queue:
            stream.stop()
            return [await queue.get(), await queue.get()]

    assert asyncio.run(scene())[-1] is None


@pytest.fixture
def silent() -> Iterator[int]:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_process_that_hangs_or_is_gone_is_an_answer_too(tmp_path: Path, silent: int) -> None:
    (tmp_path / "hangs-0.json").write_text(json.dumps({"port": silent}))
    (tmp_path / "gone-0.json").write_text(json.dumps({"port": 1}))
    (tmp_path / "broken-0.json").write_text("{")
    named = (Address(instance="elsewhere", host="127.0.0.1", port=1),)
    found = asyncio.run(Processes(tmp_path, named).ask())
    assert [(one.instance, one.progress) for one in found] == [("elsewhere", None), ("gone-0", None), ("hangs-0", None)]
