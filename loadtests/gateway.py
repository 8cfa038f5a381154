"""What a decision costs over HTTP: ``python -m loadtests.gateway --help``.

Callers ask for decisions (``POST /v1/decide``), open loop, of a mesh and a gateway that run here. Beside the round trip
of each request, from the moment at which it was due to the last byte of the answer, stands the mesh's own latency of
the same events in the same run: from the broker's append to ``events.raw.v1`` to visible at a consumer in another
process. The difference is what HTTP, the broker's acknowledgement and the gateway's own following add.

Exit status 1 when a request goes undecided, or a target is missed.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtests.chains import START_S_MAX, Chain, start_mesh
from loadtests.processor import seconds_used
from loadtests.runs import HEAD_START_S, READY_S_MAX, Helper
from loadtests.timing import merged, percentiles_ms
from loadtests.verdict import latency_table
from services.mesh.adapters.token_file import FILE_NAME
from services.mesh.errors import Fatal
from services.mesh.topics import DATA_PARTITIONS_DEFAULT
from services.mesh.topology import GATEWAY, LOOKUP
from services.platform.deploy import deploy
from services.platform.ports import HOST
from services.platform.servers import Servers, running
from services.platform.stages import gateway_spec, lookup_spec
from services.platform.up import GATEWAY_PORT

# What a caller pays above the mesh's own latency, p50 and p99: an acknowledgement (2 ms), two requests' worth of Python
# and a second consumer that shares two cores with the mesh.
ADDED_MS_MAX = {"p50": 30.0, "p99": 100.0}
_TURN_S = 0.02


class Trial:
    """A mesh with its gateway, and what was asked for."""

    def __init__(self, given: argparse.Namespace, servers: Servers) -> None:
        self._given, self._servers = given, servers
        self._place = (0, 0)
        self._runs = 0

    def measure(self) -> dict[str, Any]:
        """Warm up, then ask."""
        given, servers = self._given, self._servers
        deploy(servers.endpoints.kafka, servers.endpoints.schema_registry, given.partitions)
        chain = start_mesh(servers, given.partitions, 1, {})
        port = self._start_gateway()
        chain = replace(chain, beside={**chain.beside, GATEWAY.name: [GATEWAY.name], LOOKUP.name: [LOOKUP.name]})
        secret = _token(servers.data.path / FILE_NAME)
        self._ask(chain, port, secret, given.warm_up_s, 0.0)
        return self._ask(chain, port, secret, given.skip_s + given.measure_s, given.skip_s)

    def _start_gateway(self) -> int:
        servers, port = self._servers, self._servers.lease("gateway", GATEWAY_PORT)
        extra = {"WEIR_RATE_PER_TOKEN": str(10 * self._given.rate)}
        servers.supervisor.add(lookup_spec(servers.data, servers.endpoints))
        servers.supervisor.add(gateway_spec(servers.data, servers.endpoints, port, self._given.partitions, extra))
        servers.supervisor.poll()
        servers.supervisor.wait_healthy([LOOKUP.name, GATEWAY.name], START_S_MAX)
        return port

    def _ask(self, chain: Chain, port: int, secret: str, seconds: float, skip_s: float) -> dict[str, Any]:
        given = self._given
        self._runs += 1
        count = round(seconds * given.rate)
        limit_s = seconds + 60.0
        shared = (
            "--run", f"g{self._runs}", "--count", str(count), "--rate", str(given.rate), "--skip-s", str(skip_s)
        )  # fmt: skip
        door = ("--host", HOST, "--port", str(port), "--token", secret, "--deadline-ms", str(given.deadline_ms))
        watch = ("--kafka", self._servers.endpoints.kafka, "--topic", chain.target, "--chain", chain.name)
        place = ("--place", *map(str, self._place))
        caller = Helper("loadtests.gateway_caller", *shared, *door, *place)
        meter = Helper("loadtests.meter", *shared, *watch, "--limit-s", str(limit_s))
        try:
            ready = caller.next(READY_S_MAX)
            meter.next(READY_S_MAX)
            begin_s = time.time() + HEAD_START_S
            caller.tell(begin_s)
            meter.tell(begin_s)
            used_from = self._used(chain)
            called, seen = self._until_both(caller, meter, begin_s + limit_s + READY_S_MAX)
            used = {name: seconds - used_from[name] for name, seconds in self._used(chain).items()}
        finally:
            caller.close()
            meter.close()
        self._place = tuple(ready["next_place"])
        return {
            "requests": count,
            "answers": called["answers"],
            "missing": seen["missing"],
            "round_trip_ms": percentiles_ms(merged([called["round_trips"].encode()])),
            "mesh_ms": percentiles_ms(merged([seen["appended"].encode()])),
            "gateway_cpu_us": 1e6 * used[GATEWAY.name] / count,
        }

    def _until_both(self, caller: Helper, meter: Helper, end_s: float) -> tuple[dict[str, Any], dict[str, Any]]:
        called: dict[str, Any] | None = None
        seen: dict[str, Any] | None = None
        while called is None or seen is None:
            self._servers.supervisor.poll()
            called = called or caller.take()
            facts = meter.take()
            seen = seen or (facts or {}).get("result")
            if time.time() > end_s:
                raise Fatal("callers or meter have not answered; see their output above")
            time.sleep(_TURN_S)
        return called, seen

    def _used(self, chain: Chain) -> dict[str, float]:
        return seconds_used(self._servers.supervisor, {**chain.hops, **chain.beside})


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.gateway",
        description="Round trips of decide-and-wait beside the mesh's own latency of the same events.",
        epilog="example: python -m loadtests.gateway --rate 200",
    )
    add = parser.add_argument
    add("--rate", type=float, default=200.0, help="requests a second (default: 200)")
    add("--deadline-ms", type=int, default=10_000, help="of each request (default: 10000)")
    add("--warm-up-s", type=float, default=40.0)
    add("--skip-s", type=float, default=5.0, help="of the measured run, not measured (default: 5)")
    add("--measure-s", type=float, default=60.0)
    add("--partitions", type=int, default=DATA_PARTITIONS_DEFAULT)
    add("--quick", action="store_true", help="everything small: shows that it works, not how fast")
    add("--no-gate", action="store_true", help="print, and end with status 0 whatever was found")
    add("--json", action="store_true", help="figures as JSON on standard output")
    given = parser.parse_args(arguments)
    if given.quick:
        given.warm_up_s, given.skip_s, given.measure_s = 5.0, 1.0, 5.0
    return given


def main(arguments: list[str] | None = None) -> int:
    """0 when every request was decided and the targets are met, or none was to be."""
    given = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that the platform stops
    try:
        with (
            tempfile.TemporaryDirectory(prefix="weir-gateway-") as directory,
            running(Path(directory) / "data", lambda name, what: _say(f"{name}: {what}")) as servers,
        ):
            found = Trial(given, servers).measure()
    except Fatal as fatal:
        _say(f"loadtests.gateway: {fatal}")
        return 2
    added = {name: found["round_trip_ms"][name] - found["mesh_ms"][name] for name in ADDED_MS_MAX}
    if given.json:
        print(json.dumps(found | {"added_ms": added}, indent=2))
    else:
        print(_text(given, found, added))
    is_good = found["answers"] == {"200": found["requests"]} and found["missing"] == 0
    is_good = is_good and all(added[name] <= limit for name, limit in ADDED_MS_MAX.items())
    return 0 if is_good or given.no_gate else 1


def _text(given: argparse.Namespace, found: dict[str, Any], added: dict[str, float]) -> str:
    answers = ", ".join(f"{count:,} x {status}" for status, count in sorted(found["answers"].items()))
    lines = [f"{found['requests']:,} requests at {given.rate:g}/s: {answers}; {found['missing']} decisions missing"]
    lines += latency_table(
        {
            "decide-and-wait, due to answered": found["round_trip_ms"],
            "the mesh, raw append to visible": found["mesh_ms"],
        }
    )
    for name, limit in ADDED_MS_MAX.items():
        word = "met   " if added[name] <= limit else "MISSED"
        lines.append(f"{word} added to the mesh's {name}: {added[name]:,.1f} ms (<= {limit:g})")
    lines.append(f"CPU of the gateway: {found['gateway_cpu_us']:,.0f} us a request")
    return "\n".join(lines)


def _token(file: Path) -> str:
    argv = [sys.executable, "-m", "services.cli.tokens", "create", "load", "--scopes", "decide", "--file", str(file)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
