"""The mesh beside as many bare hops, in one run on one platform: ``python -m loadtests.mesh --help``.

1. the embedded platform, all stages; a primer, from which the bare hops learn the mesh's payload sizes;
2. warm-up of both chains, because a cold broker is far worse for a minute;
3. throughput: a flood of as many records as take about ``--flood-s`` seconds, into one chain and then the other;
4. the sustained rate: an open-loop run at the target, then at what the flood promised: no lag may grow;
5. latencies of both chains at half of the sustained rate, alternating, so that noise of the machine hits both.

Each run begins when no stage has anything left to do of the one before. Exit status 1 when a target of the design
(section 6) is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests import model
from loadtests.chains import Chain, payload_bytes, start_bare, start_mesh
from loadtests.runs import Outcome, Plan, carry_out
from loadtests.timing import merged, percentiles_ms
from loadtests.verdict import Target, cpu_table, latency_table, read_budgets, targets
from services.mesh.errors import Fatal
from services.mesh.signing import generate_signing_key
from services.mesh.topics import DATA_PARTITIONS_DEFAULT
from services.platform.deploy import deploy
from services.platform.observe import Observer
from services.platform.servers import NAMES, Servers, running
from services.platform.stages import RUN

PRIMER_EVENTS = 3_000
PILOT_EVENTS = 15_000
SUSTAINED_SHARES = (0.95, 0.85, 0.75, 0.6)  # of the flood's throughput, tried in this order
IDLE_S_MAX = 120.0
_LOOK_S = 0.5


@dataclass(slots=True, kw_only=True)
class Figures:
    """Everything measured."""

    machine: dict[str, Any]
    payload_bytes: list[int] = field(default_factory=list)
    per_s: dict[str, float] = field(default_factory=dict)  # chain -> throughput of the flood
    tried: list[dict[str, Any]] = field(default_factory=list)
    sustained_per_s: float = 0.0
    latency_rate: float = 0.0
    latency_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    cpu_us: dict[str, dict[str, float]] = field(default_factory=dict)
    late_ms_max: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Bench:
    """One whole measurement on a running platform."""

    def __init__(self, given: argparse.Namespace, servers: Servers) -> None:
        self._given = given
        self._servers = servers
        self._places: dict[str, tuple[int, int]] = {}
        self._runs = 0
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        self.figures = Figures(machine={"cores": os.cpu_count(), "load_before": round(load, 1)})

    def measure(self) -> None:
        """Steps 1 to 5."""
        given, servers, figures = self._given, self._servers, self.figures
        endpoints = servers.endpoints
        deploy(endpoints.kafka, endpoints.schema_registry, given.partitions)
        signing_key = servers.data.path / "loadtest.key"
        key = generate_signing_key(signing_key)
        extra = {"WEIR_MODEL_KEYS": f"{signing_key}.pub"}
        self.mesh = start_mesh(servers, given.partitions, given.instances, extra)
        self._run(self._plan(self.mesh, model.EVENTS_MIN if given.model else PRIMER_EVENTS, 0.0))
        if given.model:
            _say("training a model")
            model.release(endpoints.kafka, given.partitions, key)
        figures.payload_bytes = payload_bytes(endpoints.kafka)
        self.bare = start_bare(servers, given.partitions, given.instances, figures.payload_bytes)
        _say(f"warm-up, {given.warm_up_s:.0f} s")
        self._run(
            *(self._open_loop(chain, given.warm_up_rate, given.warm_up_s, 0.0) for chain in (self.mesh, self.bare))
        )
        for chain in (self.bare, self.mesh):
            figures.per_s[chain.name] = self._flood(chain)
        self._find_sustained()
        self._latencies()

    def _flood(self, chain: Chain) -> float:
        pilot = self._run(self._plan(chain, PILOT_EVENTS, 0.0))[0]
        count = max(PILOT_EVENTS, int(pilot.per_s * self._given.flood_s))
        outcome = self._run(self._plan(chain, count, 0.0))[0]
        self.figures.cpu_us[f"{chain.name} flood"] = outcome.cpu_us
        _say(f"flood of {count:,} into {chain.name}: {outcome.per_s:,.0f}/s")
        return outcome.per_s

    def _find_sustained(self) -> None:
        given, flood = self._given, self.figures.per_s["mesh"]
        holds_target = flood >= given.target_rate
        rates = [given.target_rate] if holds_target else []
        rates += [
            round(share * flood, -2)
            for share in SUSTAINED_SHARES
            if share * flood > given.target_rate or not holds_target
        ]
        # The target first; then downwards from what the flood promised, until one holds or the target is reached.
        for rate in rates:
            outcome = self._run(self._open_loop(self.mesh, rate, given.sustain_s, given.lead_in_s))[0]
            _say(f"{rate:,.0f}/s for {given.sustain_s:.0f} s: {'keeps up' if outcome.keeps_up else 'lag grows'}")
            self.figures.tried.append({"rate": rate, "keeps_up": outcome.keeps_up})
            # A run that lags has full batches, which make each event cheap: it must not stand for one that keeps up.
            name = "mesh sustained" if outcome.keeps_up else "mesh lagging"
            self.figures.cpu_us.setdefault(name, outcome.cpu_us)
            if outcome.keeps_up:
                self.figures.sustained_per_s = max(self.figures.sustained_per_s, rate)
                if rate != given.target_rate:
                    break

    def _latencies(self) -> None:
        given, figures = self._given, self.figures
        # Where nothing was sustained, the flood is all there is to go by; the gate fails anyway.
        rate = given.rate or (figures.sustained_per_s or SUSTAINED_SHARES[-1] * figures.per_s["mesh"]) / 2
        figures.latency_rate = rate
        outcomes: dict[str, list[Outcome]] = {"bare": [], "mesh": []}
        for _ in range(given.rounds):
            for chain in (self.bare, self.mesh):
                outcome = self._run(self._open_loop(chain, rate, given.measure_s, given.lead_in_s))[0]
                outcomes[chain.name].append(outcome)
                figures.late_ms_max = max(figures.late_ms_max, outcome.late_ms_max)
        for name, found in outcomes.items():
            appended = percentiles_ms(merged([outcome.appended for outcome in found]))
            figures.latency_ms[f"{name}, raw append to visible"] = appended
            intended = percentiles_ms(merged([outcome.intended for outcome in found]))
            figures.latency_ms[f"{name}, intended sending to visible"] = intended
            figures.cpu_us[f"{name} {rate:,.0f}/s"] = {
                hop: sum(outcome.cpu_us[hop] for outcome in found) / len(found) for hop in found[0].cpu_us
            }

    def _open_loop(self, chain: Chain, rate: float, seconds: float, skip_s: float) -> Plan:
        return self._plan(chain, int(rate * (seconds + skip_s)), rate, skip_s)

    def _plan(self, chain: Chain, count: int, rate: float, skip_s: float = 0.0) -> Plan:
        self._runs += 1
        return Plan(
            chain=chain,
            run=f"r{self._runs}",
            count=count,
            rate=rate,
            skip_s=skip_s,
            place=self._places.get(chain.name, (0, 0)),
            seed=self._given.seed,
            drain_s_max=self._given.drain_s,
        )

    def _wait_until_idle(self) -> None:
        """Stages that no event waits for lag behind in a flood: what is left would be charged to the next run."""
        observer = Observer(self._servers.endpoints.kafka, self._servers.data.path / RUN)
        try:
            end_s = time.monotonic() + IDLE_S_MAX
            while any(observer.lags().values()):
                if time.monotonic() > end_s:
                    raise Fatal(
                        f"after {IDLE_S_MAX:.0f} s without input there is still something to do: {observer.lags()}"
                    )
                self._servers.supervisor.poll()
                time.sleep(_LOOK_S)
        finally:
            observer.close()

    def _run(self, *plans: Plan) -> list[Outcome]:
        self._wait_until_idle()
        outcomes = carry_out(self._servers, plans)
        for outcome in outcomes:
            plan = outcome.plan
            self._places[plan.chain.name] = outcome.next_place
            if outcome.missing or outcome.repeated:
                what = f"{outcome.missing} of {plan.count} missing, {outcome.repeated} repeated"
                self.figures.wrong.append(f"{plan.chain.name} {plan.run}: {what}")
                _say(self.figures.wrong[-1])
        return outcomes


def judge(figures: Figures, hops: list[str]) -> list[Target]:
    """The targets, from the figures."""
    latency = figures.latency_ms
    bare_p99 = latency["bare, raw append to visible"]["p99"]
    return targets(
        sustained_per_s=figures.sustained_per_s,
        p99_ratio=latency["mesh, raw append to visible"]["p99"] / bare_p99 if bare_p99 else float("inf"),
        throughput_ratio=figures.per_s["mesh"] / figures.per_s["bare"] if figures.per_s["bare"] else 0.0,
        mesh_cpu_us=sum(figures.cpu_us["mesh sustained"][hop] for hop in hops)
        if "mesh sustained" in figures.cpu_us
        else float("inf"),  # nothing was sustained, so nothing was measured
    )


def text(figures: Figures, hops: list[str], beside: list[str], found: list[Target]) -> str:
    """The report for people; ``beside``: stages that no event waits for, which share the machine."""
    budgets = read_budgets()
    # Both chains in one table: the n-th bare hop stands beside the n-th stage.
    columns: dict[str, dict[str, float]] = {}
    others = (*beside, *NAMES, "generator", "meter")
    for name, cpu in figures.cpu_us.items():
        columns[name] = {
            **{hop: cpu.get(hop, cpu.get(f"bare-{number}", 0.0)) for number, hop in enumerate(hops, 1)},
            **{other: cpu.get(other, 0.0) for other in others},
        }
        columns[name]["all hops"] = sum(columns[name][hop] for hop in hops)
    budgets["all hops"] = sum(budgets.values())
    lines = [
        f"machine: {figures.machine}; payload bytes after each hop: {figures.payload_bytes}",
        "flood: " + ", ".join(f"{name} {rate:,.0f}/s" for name, rate in figures.per_s.items()),
        "open loop: "
        + ", ".join(f"{t['rate']:,.0f}/s {'keeps up' if t['keeps_up'] else 'LAGS'}" for t in figures.tried),
        "",
        f"latencies at {figures.latency_rate:,.0f}/s (the generator was at most {figures.late_ms_max:.1f} ms late)",
        *latency_table(figures.latency_ms),
        "",
        *cpu_table(columns, [*hops, "all hops", *others], budgets),
        "",
        *(target.line() for target in found),
        *(f"WRONG {what}" for what in figures.wrong),
    ]
    return "\n".join(lines)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.mesh",
        description="Measure the mesh beside as many bare transactional hops, open loop, on the embedded platform.",
        epilog="example: python -m loadtests.mesh --rounds 3 --json > figures.json",
    )
    add = parser.add_argument
    add("--rate", type=float, help="of the latency runs, events/s (default: half of the sustained rate found)")
    add("--target-rate", type=float, default=4_000.0, help="rate that must hold (default: 4000)")
    add("--warm-up-s", type=float, default=60.0)
    add("--warm-up-rate", type=float, default=1_000.0, help="of each chain, both at once (default: 1000)")
    add("--flood-s", type=float, default=10.0, help="how long a flood should take to drain (default: 10)")
    add("--sustain-s", type=float, default=30.0, help="of each try at a sustained rate (default: 30)")
    add("--measure-s", type=float, default=30.0, help="of each latency run (default: 30)")
    add("--lead-in-s", type=float, default=3.0, help="at the start of a run, not measured (default: 3)")
    add("--rounds", type=int, default=2, help="latency runs of each chain, alternating (default: 2)")
    add("--drain-s", type=float, default=60.0, help="longest wait for the last record of a run (default: 60)")
    add("--partitions", type=int, default=DATA_PARTITIONS_DEFAULT)
    add("--instances", type=int, default=1, help="processes of each hop (default: 1)")
    add("--seed", type=int, default=1)
    add("--model", action="store_true", help="score with a trained model, not with the bootstrap's constant")
    add("--quick", action="store_true", help="everything small: shows that it works, not how fast")
    add("--no-gate", action="store_true", help="print, and end with status 0 whatever was found")
    add("--json", action="store_true", help="figures as JSON on standard output; the report goes to standard error")
    given = parser.parse_args(arguments)
    if given.quick:
        given.warm_up_s, given.flood_s, given.sustain_s, given.measure_s, given.rounds = 10.0, 3.0, 8.0, 8.0, 1
    return given


def main(arguments: list[str] | None = None) -> int:
    """0 when every target is met, or none was to be."""
    given = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that the platform stops
    with tempfile.TemporaryDirectory(prefix="weir-loadtest-") as directory:
        try:
            with running(Path(directory) / "data", lambda name, what: _say(f"{name}: {what}")) as servers:
                bench = Bench(given, servers)
                bench.measure()
        except Fatal as fatal:
            _say(f"loadtests.mesh: {fatal}")
            return 2
    hops = list(bench.mesh.hops)
    found = judge(bench.figures, hops)
    report = text(bench.figures, hops, list(bench.mesh.beside), found)
    if given.json:
        _say(report)
        facts = {name: getattr(bench.figures, name) for name in Figures.__slots__}
        met = {
            target.what: {"measured": target.measured, "limit": target.limit, "met": target.is_met} for target in found
        }
        print(json.dumps({"figures": facts, "targets": met}, indent=2))
    else:
        print(report)
    is_good = all(target.is_met for target in found) and not bench.figures.wrong
    return 0 if is_good or given.no_gate else 1


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
