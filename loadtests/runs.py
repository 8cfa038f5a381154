"""One run: a generator and a meter around one chain, in processes of their own, and what the chain's hops used."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from loadtests.backlog import Sample, keeps_up
from loadtests.chains import Chain
from loadtests.processor import seconds_used
from services.mesh.errors import Fatal
from services.platform.servers import Servers

READY_S_MAX = 120.0
HEAD_START_S = 0.3  # both helpers have read the moment to begin before it comes
_TURN_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to send."""

    chain: Chain
    run: str  # begins every event id of the run; unique
    count: int
    rate: float  # events a second; 0: all at once
    skip_s: float = 0.0  # not measured
    place: tuple[int, int] = (0, 0)  # see payloads.payments
    seed: int = 1
    drain_s_max: float = 60.0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came out."""

    plan: Plan
    begin_s: float  # Unix time
    next_place: tuple[int, int]
    missing: int
    repeated: int
    seconds: float  # from the first to the last record at the end of the chain, by the broker's clock
    intended: bytes  # encoded histograms
    appended: bytes
    windows: list[tuple[float, int, float, float]]  # see timing.Windows.rows
    samples: list[Sample]
    late_ms_max: float  # the generator's own worst lateness
    cpu_us: dict[str, float] = field(default_factory=dict)  # per event, by hop, server, generator and meter

    @property
    def per_s(self) -> float:
        """Records a second at the end of the chain."""
        return (self.plan.count - self.missing) / self.seconds if self.seconds else 0.0

    @property
    def keeps_up(self) -> bool:
        """See ``backlog.keeps_up``; a run that lost something does not."""
        plan = self.plan
        return not self.missing and bool(plan.rate) and keeps_up(self.samples, plan.rate, plan.count, plan.skip_s)


class Run:
    """A run under way. ``turn`` again and again until ``outcome`` is there; ``close`` in any case."""

    def __init__(self, servers: Servers, plan: Plan) -> None:
        self._supervisor = servers.supervisor
        self._plan = plan
        self.outcome: Outcome | None = None
        kafka, chain = servers.endpoints.kafka, plan.chain
        self._limit_s = (plan.count / plan.rate if plan.rate else 0.0) + plan.drain_s_max
        shared = ("--kafka", kafka, "--run", plan.run, "--count", str(plan.count), "--rate", str(plan.rate))
        world = ("--place", *map(str, plan.place), "--seed", str(plan.seed))
        limits = ("--skip-s", str(plan.skip_s), "--limit-s", str(self._limit_s))
        self._generator = Helper("loadtests.generator", *shared, *world, "--topic", chain.source)
        self._meter = Helper("loadtests.meter", *shared, *limits, "--topic", chain.target, "--chain", chain.name)
        self._begin_s = 0.0
        self._loaded: dict[str, Any] = {}
        self._sent: dict[str, Any] = {}
        self._samples: list[Sample] = []
        self._cpu_from: dict[str, float] = {}
        self._cpu_to: dict[str, float] = {}
        self._events = 0.0

    def wait_ready(self) -> None:
        """Wait until everything is encoded and both helpers are connected."""
        end_s = time.monotonic() + READY_S_MAX
        self._loaded = self._generator.next(end_s - time.monotonic())
        self._meter.next(end_s - time.monotonic())

    def begin(self, at_s: float) -> None:
        """Tell both helpers when to begin (Unix seconds)."""
        self._begin_s = at_s
        self._generator.tell(self._begin_s)
        self._meter.tell(self._begin_s)

    def turn(self) -> None:
        """Take in what the helpers say; sample processor time at the edges of what is measured."""
        plan, elapsed_s = self._plan, time.time() - self._begin_s
        if not self._cpu_from and elapsed_s >= plan.skip_s:
            self._cpu_from = self._used()
        if plan.rate and not self._cpu_to and elapsed_s >= plan.count / plan.rate:
            self._cpu_to = self._used()
            self._events = plan.count - plan.skip_s * plan.rate
        if not self._sent:
            self._sent = self._generator.take() or {}
        facts = self._meter.take()
        if facts is not None and "seen" in facts:
            self._samples.append((facts["at_s"], facts["seen"]))
        elif facts is not None:
            self._finish(facts["result"])
        elif elapsed_s > self._limit_s + 30:
            raise Fatal(f"run {plan.run}: the meter has not answered; see its output above")

    def close(self) -> None:
        """End both helpers."""
        self._generator.close()
        self._meter.close()

    def _used(self) -> dict[str, float]:
        chain = self._plan.chain
        return seconds_used(self._supervisor, {**chain.hops, **chain.beside})

    def _finish(self, result: dict[str, Any]) -> None:
        plan = self._plan
        if not self._cpu_to:
            self._cpu_to, self._events = self._used(), plan.count
        sent = self._sent or self._generator.next(READY_S_MAX)
        cpu_us = {name: 1e6 * (used - self._cpu_from[name]) / self._events for name, used in self._cpu_to.items()}
        cpu_us["generator"] = 1e6 * sent["cpu_s"] / plan.count
        cpu_us["meter"] = 1e6 * result["cpu_s"] / plan.count
        self.outcome = Outcome(
            plan=plan,
            begin_s=self._begin_s,
            next_place=tuple(self._loaded["next_place"]),
            missing=result["missing"],
            repeated=result["repeated"],
            seconds=result["seconds"],
            intended=result["intended"].encode(),
            appended=result["appended"].encode(),
            windows=[tuple(row) for row in result["windows"]],
            samples=self._samples,
            late_ms_max=sent["late_ms_max"],
            cpu_us=cpu_us,
        )


def carry_out(
    servers: Servers, plans: Sequence[Plan], meanwhile: Callable[[float], None] | None = None
) -> list[Outcome]:
    """All of ``plans`` at the same time; ``meanwhile`` is called with the seconds since the beginning."""
    runs: list[Run] = []
    try:
        for plan in plans:
            runs.append(Run(servers, plan))
        for run in runs:
            run.wait_ready()
        began_s = time.time() + HEAD_START_S
        for run in runs:
            run.begin(began_s)
        while any(run.outcome is None for run in runs):
            servers.supervisor.poll()
            for run in runs:
                if run.outcome is None:
                    run.turn()
            if meanwhile is not None:
                meanwhile(time.time() - began_s)
            time.sleep(_TURN_S)
    finally:
        for run in runs:
            run.close()
    return [run.outcome for run in runs if run.outcome is not None]


class Helper:
    """A helper process that talks JSON lines."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lines: SimpleQueue[str] = SimpleQueue()
        Thread(target=self._read, name=module, daemon=True).start()

    def take(self) -> dict[str, Any] | None:
        """The next line, if there is one; Fatal when the process ended without it."""
        try:
            line = self._lines.get_nowait()
        except Empty:
            return None
        return self._parsed(line)

    def next(self, limit_s: float) -> dict[str, Any]:
        """The next line, waiting for it."""
        try:
            return self._parsed(self._lines.get(timeout=max(limit_s, 0.1)))
        except Empty:
            raise Fatal(f"{self._module}: silent for {limit_s:.0f} s") from None

    def tell(self, begin_s: float) -> None:
        """The moment to begin."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{begin_s!r}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _parsed(self, line: str) -> dict[str, Any]:
        if not line:
            raise Fatal(f"{self._module}: ended early with status {self._process.wait()}; see its output above")
        facts: dict[str, Any] = json.loads(line)
        return facts

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        if self._process.wait():
            self._lines.put("")
