"""How long a death is felt: ``python -m loadtests.recovery --help``.

Under an open-loop load, one process of each service is killed with SIGKILL, one after the other. A service has
recovered when the p99 of the events *sent* in each half second is again below twice its level before the kill, and
stays there for two seconds; the supervisor restarts the process, as in ``weir up``. Then, on a new data directory, the
time from ``weir up`` to the first decision.

Exit status 1 when a target of the design (section 6) is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition

from loadtests.chains import Chain, start_mesh
from loadtests.runs import Plan, carry_out
from loadtests.timing import WINDOW_S
from services.mesh.adapters.kafka_reader import reader_settings
from services.mesh.errors import Fatal
from services.mesh.topics import DATA_PARTITIONS_DEFAULT, DECISIONS
from services.platform.deploy import deploy
from services.platform.endpoints import Endpoints
from services.platform.servers import Servers, running

RECOVERY_S_MAX = 10.0
FIRST_DECISION_S_MAX = 40.0
FIRST_DECISION_S_LIMIT = 120.0
CALM_S = 2.0

Window = tuple[float, int, float, float]  # begin_s, events, p99_ms, max_ms


def level_before(windows: Sequence[Window], since_s: float, kill_s: float) -> float:
    """The usual p99 in milliseconds: the median over the windows that ended before the kill."""
    found = [p99 for begin_s, _, p99, _ in windows if since_s <= begin_s and begin_s + WINDOW_S <= kill_s - 1.0]
    if not found:
        raise ValueError(f"no window between {since_s} s and {kill_s} s")
    return statistics.median(found)


def recovered_after_s(windows: Sequence[Window], kill_s: float, limit_ms: float) -> float | None:
    """Seconds from the kill to the beginning of ``CALM_S`` seconds in which every p99 is below ``limit_ms``."""
    calm = round(CALM_S / WINDOW_S)
    after = [window for window in windows if window[0] + WINDOW_S > kill_s]
    for place in range(len(after) - calm + 1):
        if all(p99 < limit_ms for _, _, p99, _ in after[place : place + calm]):
            return max(0.0, after[place][0] - kill_s)
    return None


def first_decision_s(partitions: int) -> float:
    """Start ``weir up`` on a new data directory with its default input; seconds to the first decision."""
    with tempfile.TemporaryDirectory(prefix="weir-first-") as directory:
        data = Path(directory) / "data"
        began_s = time.monotonic()
        argv = [sys.executable, "-m", "services.cli", "up", "--data-dir", str(data), "--partitions", str(partitions)]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        try:
            while (elapsed_s := time.monotonic() - began_s) < FIRST_DECISION_S_LIMIT:
                if process.poll() is not None:
                    raise Fatal(f"weir up ended with status {process.returncode} before it decided anything")
                if _has_decided(data, partitions):
                    return elapsed_s
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    raise Fatal(f"no decision within {FIRST_DECISION_S_LIMIT:.0f} s of weir up")


def _has_decided(data: Path, partitions: int) -> bool:
    try:
        kafka = Endpoints.read(data).kafka
    except Fatal:
        return False  # not that far yet
    consumer = Consumer(reader_settings(kafka, "loadtests.first"))
    try:
        ends = (
            consumer.get_watermark_offsets(TopicPartition(DECISIONS.name, partition), timeout=2)
            for partition in range(partitions)
        )
        return any(end > 0 for _, end in ends)
    except KafkaException:
        return False  # the topic is not there yet
    finally:
        consumer.close()


class Trial:
    """Kills under load on a running platform."""

    def __init__(self, given: argparse.Namespace, servers: Servers) -> None:
        self._given = given
        self._servers = servers
        self._place = (0, 0)
        self._runs = 0

    def recoveries(self) -> dict[str, dict[str, float | None]]:
        """For each hop: its usual p99 and the time that its death was felt."""
        given, servers = self._given, self._servers
        deploy(servers.endpoints.kafka, servers.endpoints.schema_registry, given.partitions)
        mesh = start_mesh(servers, given.partitions, given.instances, {})
        self._send(mesh, given.warm_up_s, None)
        found: dict[str, dict[str, float | None]] = {}
        for hop in mesh.hops:
            found[hop] = self._kill(mesh, hop)
            _say(f"{hop}: {found[hop]}")
        return found

    def _kill(self, mesh: Chain, hop: str) -> dict[str, float | None]:
        given = self._given
        seconds = given.before_s + given.after_s
        kill_s, windows = self._send(mesh, seconds, hop)
        assert kill_s is not None
        usual_ms = level_before(windows, given.before_s / 3, kill_s)
        felt_s = recovered_after_s(windows, kill_s, 2 * usual_ms)
        return {"p99_ms_before": usual_ms, "p99_ms_worst": max(p99 for _, _, p99, _ in windows), "recovered_s": felt_s}

    def _send(self, mesh: Chain, seconds: float, hop: str | None) -> tuple[float | None, list[Window]]:
        given, supervisor = self._given, self._servers.supervisor
        self._runs += 1
        killed_s: float | None = None

        def meanwhile(elapsed_s: float) -> None:
            nonlocal killed_s
            if hop is not None and killed_s is None and elapsed_s >= given.before_s:
                pid = supervisor.pid(mesh.hops[hop][0])
                if pid is not None:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                    killed_s = elapsed_s

        plan = Plan(
            chain=mesh, run=f"k{self._runs}", count=int(seconds * given.rate), rate=given.rate, place=self._place
        )
        outcome = carry_out(self._servers, [plan], meanwhile)[0]
        self._place = outcome.next_place
        if outcome.missing or outcome.repeated:
            raise Fatal(f"{hop or 'warm-up'}: {outcome.missing} decisions missing, {outcome.repeated} repeated")
        return killed_s, outcome.windows


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.recovery",
        description="Kill one process of each service under load, and measure how long it is felt.",
        epilog="example: python -m loadtests.recovery --rate 2000",
    )
    add = parser.add_argument
    add("--rate", type=float, default=1_000.0, help="events/s (default: 1000)")
    add("--warm-up-s", type=float, default=30.0)
    add("--before-s", type=float, default=9.0, help="of load before each kill (default: 9)")
    add("--after-s", type=float, default=25.0, help="of load after each kill (default: 25)")
    add("--partitions", type=int, default=DATA_PARTITIONS_DEFAULT)
    add("--instances", type=int, default=1)
    add("--quick", action="store_true", help="everything small: shows that it works, not how fast")
    add("--no-gate", action="store_true", help="print, and end with status 0 whatever was found")
    add("--json", action="store_true", help="figures as JSON on standard output")
    given = parser.parse_args(arguments)
    if given.quick:
        given.rate, given.warm_up_s, given.before_s, given.after_s = 300.0, 8.0, 6.0, 15.0
    return given


def main(arguments: list[str] | None = None) -> int:
    """0 when every target is met, or none was to be."""
    given = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that the platform stops
    try:
        with (
            tempfile.TemporaryDirectory(prefix="weir-recovery-") as directory,
            running(Path(directory) / "data", lambda name, what: _say(f"{name}: {what}")) as servers,
        ):
            recoveries = Trial(given, servers).recoveries()
        first_s = first_decision_s(given.partitions)
    except Fatal as fatal:
        _say(f"loadtests.recovery: {fatal}")
        return 2
    print(
        json.dumps({"recoveries": recoveries, "first_decision_s": first_s}, indent=2)
        if given.json
        else _text(recoveries, first_s)
    )
    felt = [found["recovered_s"] for found in recoveries.values()]
    is_good = all(s is not None and s <= RECOVERY_S_MAX for s in felt) and first_s <= FIRST_DECISION_S_MAX
    return 0 if is_good or given.no_gate else 1


def _text(recoveries: dict[str, dict[str, float | None]], first_s: float) -> str:
    lines = [f"{'killed':<22}{'p99 before ms':>15}{'worst ms':>12}{'felt for s':>12}   (target {RECOVERY_S_MAX:g} s)"]
    for hop, found in recoveries.items():
        felt_s = found["recovered_s"]
        felt = "not over" if felt_s is None else f"{felt_s:.1f}"
        lines.append(f"{hop:<22}{found['p99_ms_before']:>15.1f}{found['p99_ms_worst']:>12.1f}{felt:>12}")
    lines.append(f"weir up to the first decision: {first_s:.1f} s (target {FIRST_DECISION_S_MAX:g} s)")
    return "\n".join(lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
