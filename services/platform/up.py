"""``weir up``: the whole mesh on one machine, from nothing to a summary.

Order: servers, deploy step, stages, then whoever brings events in. It ends when the input is decided, the time is up,
or on Ctrl-C or SIGTERM, which stop everything within 10 s.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from services.mesh.adapters.kafka_journal import KafkaJournal
from services.mesh.codec import Codec
from services.mesh.errors import Transient
from services.mesh.signing import generate_signing_key
from services.mesh.topics import MODELS
from services.platform.deploy import deploy
from services.platform.files import write_atomically
from services.platform.observe import Observer
from services.platform.parent import Parent
from services.platform.scan import Ledger, scan
from services.platform.servers import Servers, running
from services.platform.stages import lookup_spec, simulator_spec, stage_specs, trainer_spec
from services.platform.summary import ServedModel, summary_of, to_json, to_text
from services.platform.supervisor import State
from services.platform.tail import DecisionTail
from services.platform.view import Snapshot, View

_TURN_S = 0.05
_LOOK_EVERY_S = 1.0
STAGES_START_S_MAX = 60.0
# Input ended: the mesh has what is in flight to decide, 6 virtual hours at most.
DRAIN_S_MAX = 120.0
DRAIN_STILL_S = 3.0  # no stage moved for so long: what is left is not going to be decided
# Ctrl-C: everything within 10 s; the servers need 2 to 3 of them.
INTERRUPTED_DRAIN_S_MAX = 2.0
INTERRUPTED_SCAN_S_MAX = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UpSettings:
    """What ``weir up`` was asked for."""

    data_dir: Path
    input: bool  # False: servers and stages only
    simulator_arguments: tuple[str, ...]
    label_delay: str
    partitions: int
    instances: int
    environment: Mapping[str, str]  # further settings of the stages


def up(settings: UpSettings, console: Console) -> int:
    """Run; the exit status: 0 when everything accepted is decided exactly once."""
    interrupted = Interrupted()
    view = View(console)
    try:
        with running(settings.data_dir, view.happened) as servers:
            return _Run(settings, servers, view, interrupted, console).run()
    finally:
        view.close()


class Interrupted:
    """Set by the first Ctrl-C or SIGTERM; further ones change nothing, stopping is under way."""

    def __init__(self) -> None:
        self.at_s: float | None = None
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGTERM, self._note)

    def __bool__(self) -> bool:
        return self.at_s is not None

    def now(self) -> None:
        """Stop, whoever asked for it."""
        if self.at_s is None:
            self.at_s = time.monotonic()

    def _note(self, signum: int, frame: Any) -> None:
        self.now()


class _Run:
    def __init__(
        self, settings: UpSettings, servers: Servers, view: View, interrupted: Interrupted, console: Console
    ) -> None:
        self._settings = settings
        self._servers = servers
        self._supervisor = servers.supervisor
        self._view = view
        self._interrupted = interrupted
        self._console = console
        self._kafka = servers.endpoints.kafka
        self._started_s = time.monotonic()
        self._observer = Observer(self._kafka, servers.data.path / "run")
        self._look_at_s = 0.0
        self._last: Snapshot | None = None
        self._parent = Parent()

    def run(self) -> int:
        self._start_stages()
        tail = DecisionTail(self._kafka, self._settings.partitions)
        try:
            self._start_senders()
            while not self._wants_stop() and not self._input_is_sent():
                self._turn(tail)
            self._stop_senders()
            self._drain(tail)
            self._look(tail)
            return self._finish(tail)
        finally:
            tail.close()

    def _start_stages(self) -> None:
        settings, endpoints = self._settings, self._servers.endpoints
        deploy(endpoints.kafka, endpoints.schema_registry, settings.partitions)
        signing_key, public_key = _keys(self._servers.data.path / "keys")
        extra = {"WEIR_MODEL_KEYS": str(public_key), **settings.environment}
        specs = stage_specs(self._servers.data, endpoints, settings.partitions, settings.instances, extra)
        specs.append(lookup_spec(self._servers.data, endpoints))
        for spec in specs:
            self._supervisor.add(spec)
        self._supervisor.poll()
        self._supervisor.wait_healthy([spec.name for spec in specs], STAGES_START_S_MAX)
        self._signing_key = signing_key
        replace(endpoints, ready=True).write(self._servers.data.path)
        self._view.happened("mesh", f"ready after {time.monotonic() - self._started_s:.1f} s more; {endpoints.kafka}")

    def _start_senders(self) -> None:
        if not self._settings.input:
            return
        endpoints = self._servers.endpoints
        self._supervisor.add(simulator_spec(self._servers.data, endpoints, self._settings.simulator_arguments))
        if not _has_trained(self._kafka):
            self._supervisor.add(trainer_spec(endpoints, self._signing_key, self._settings.label_delay))
        self._supervisor.poll()

    def _wants_stop(self) -> bool:
        """Ctrl-C, SIGTERM, or a make that was told to end and cannot pass it on."""
        if self._parent.wants_stop():
            self._interrupted.now()
        return bool(self._interrupted)

    def _input_is_sent(self) -> bool:
        return self._state_of("simulator") is State.DONE

    def _turn(self, tail: DecisionTail) -> None:
        self._supervisor.poll()
        if time.monotonic() >= self._look_at_s:
            self._look_at_s = time.monotonic() + _LOOK_EVERY_S
            self._look(tail)
        time.sleep(_TURN_S)

    def _look(self, tail: DecisionTail) -> None:
        try:
            stages = self._observer.stages()
        except Transient as error:
            self._view.happened("mesh", str(error))
            return
        sender = _last_json_line(self._servers.data.log("simulator")) if self._settings.input else {}
        self._last = Snapshot(
            stages=stages,
            decisions=tail.decisions,
            latency_ms=tail.percentiles(),
            actions=dict(tail.actions),
            event_time_ms=max(tail.newest_event_time_ms, int(sender.get("event_time_ms", 0))),
            sent=int(sender.get("sent_in_all", 0)),
            total=sender.get("total"),
            sender=" ".join(str(sender.get(name)) for name in ("phase", "waiting") if sender.get(name)) or "idle",
            seconds=time.monotonic() - self._started_s,
        )
        self._view.show(self._last)

    def _stop_senders(self) -> None:
        for name in ("simulator", "retraining"):
            if self._state_of(name) not in (None, State.DONE):
                self._supervisor.stop_child(name)

    def _drain(self, tail: DecisionTail) -> None:
        """Until every stage has committed its input, or none moves any more."""
        started_s = time.monotonic()
        moved_s, before = started_s, (-1, -1)
        while True:
            limit_s = INTERRUPTED_DRAIN_S_MAX if self._interrupted else DRAIN_S_MAX
            now_s = time.monotonic()
            if now_s - started_s > limit_s or now_s - moved_s > DRAIN_STILL_S:
                return
            self._supervisor.poll()
            lag = sum(self._observer.lags().values())
            if lag == 0 and before[0] == 0:
                return  # twice in a row: between two looks a record can be in no stage's input
            if (lag, tail.decisions) != before:
                moved_s, before = now_s, (lag, tail.decisions)
            time.sleep(0.1)

    def _finish(self, tail: DecisionTail) -> int:
        if not self._interrupted:
            time.sleep(0.2)  # the last decisions reach the tail
        deadline_s = None if not self._interrupted else time.monotonic() + INTERRUPTED_SCAN_S_MAX
        try:
            ledger = scan(self._kafka, self._observer.committed(), deadline_s)
        except Transient as error:
            self._console.print(f"no summary: {error}", markup=False)
            return 1
        seconds = time.monotonic() - self._started_s
        summary = summary_of(ledger, tail.rate_per_s, tail.percentiles(), self._served(tail), seconds)
        write_atomically(self._servers.data.summary, to_json(summary))
        self._view.close()
        self._console.print(to_text(summary), markup=False, highlight=False)
        return _exit_status(ledger, bool(self._interrupted))

    def _served(self, tail: DecisionTail) -> list[ServedModel]:
        reasons = _releases(self._kafka)
        return [
            ServedModel(version=version, from_event_time_ms=since_ms, why=reasons.get(version, "no model yet"))
            for version, since_ms in tail.served.items()
        ]

    def _state_of(self, name: str) -> State | None:
        return next((child.state for child in self._supervisor.status() if child.name == name), None)


def _exit_status(ledger: Ledger, interrupted: bool) -> int:
    wrong = ledger.missing or ledger.duplicates or ledger.strangers
    return 1 if wrong or ((ledger.undecided or ledger.unjudged) and not interrupted) else 0


def _keys(directory: Path) -> tuple[Path, Path]:
    """The key that signs models here and its public half, made on the first start."""
    signing_key = directory / "signing.pem"
    if not signing_key.exists():
        directory.mkdir(mode=0o700, exist_ok=True)
        generate_signing_key(signing_key)
    return signing_key, Path(f"{signing_key}.pub")


def _releases(bootstrap: str) -> dict[str, str]:
    """Model version -> why it was promoted."""
    journal, codec = KafkaJournal(bootstrap, MODELS.name, "weir.up.models"), Codec("model_release.v1.avsc")
    try:
        releases = [codec.decode(record.value) for record in journal.read_to_end()]
    finally:
        journal.close()
    return {release["model_version"]: release["why"] for release in releases if release["move"] == "promote"}


def _has_trained(bootstrap: str) -> bool:
    return bool(_releases(bootstrap))


def _last_json_line(file: Path) -> dict[str, Any]:
    """The sender's latest report; empty before the first."""
    try:
        with file.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - 4_096))
            lines = log.read().splitlines()
    except FileNotFoundError:
        return {}
    for line in reversed(lines):
        if line.startswith(b"{") and line.endswith(b"}"):
            found: dict[str, Any] = json.loads(line)
            return found
    return {}
