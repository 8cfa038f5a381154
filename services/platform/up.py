"""``weir up``: the whole mesh on one machine, from nothing to a summary.

Order: servers, deploy step, stages, then whoever brings events in. It ends when the input is decided, the time is up,
or on Ctrl-C or SIGTERM, which stop everything within 10 s (``interrupt`` divides them).

Exit status: 0 when everything accepted is decided exactly once, also after Ctrl-C, whose undecided events the next
start goes on with; 1 when not, or when the input could not be sent; 130 when interrupted before the mesh was ready.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.console import Console

from services.decisions.evaluate import BOOTSTRAP_MODEL
from services.mesh.errors import Fatal, Transient
from services.mesh.signing import generate_signing_key
from services.mesh.topology import CONSOLE, DRIFT, GATEWAY, RETRAINING, STAGES, owner_of
from services.platform import interrupt
from services.platform.deploy import deploy
from services.platform.files import write_atomically
from services.platform.first_admin import where_the_page_is
from services.platform.interrupt import Interrupt
from services.platform.jars import CHART_FILE
from services.platform.logbook import Logbook
from services.platform.news import changes, news_of
from services.platform.observe import Observer
from services.platform.parent import Parent
from services.platform.ports import HOST
from services.platform.releases import promoted_models
from services.platform.scan import Ledger, scan
from services.platform.sender_report import latest_report, phase_of
from services.platform.servers import NAMES as SERVERS
from services.platform.servers import Servers, running
from services.platform.stages import (
    console_spec,
    drift_spec,
    gateway_spec,
    health_file,
    lookup_spec,
    retraining_spec,
    simulator_spec,
    stage_specs,
    webhooks_spec,
)
from services.platform.stillness import Stillness
from services.platform.summary import ServedModel, Summary, to_json, to_text
from services.platform.supervisor import State
from services.platform.tail import DecisionTail
from services.platform.view import Snapshot, View

if TYPE_CHECKING:
    from services.platform.quality import Quality

EXIT_INTERRUPTED = 130
_TURN_S = 0.05
GATEWAY_PORT, CONSOLE_PORT = 8088, 8600  # the usual ones
_DRAIN_TURN_S = 0.1
STAGES_START_S_MAX = 120.0  # measured: 2.5; a state that is rebuilt from a long log takes longer
# Somebody else may go on sending after our own input has ended.
DRAIN_S_MAX = 300.0
_TAIL_STILL_S = 0.3
_TAIL_WAIT_S_MAX = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UpSettings:
    """What ``weir up`` was asked for."""

    data_dir: Path
    input: bool  # False: servers and stages only
    for_s: float | None  # the sender looks after it where there is one
    simulator_arguments: tuple[str, ...]
    label_delay: str
    partitions: int
    instances: int
    judged: str | None  # the input, when its scores are to be judged at the end
    record: bool  # leave decisions and moments in files
    without: frozenset[str]  # services left out, of OPTIONAL; without drift the schedule alone trains
    environment: Mapping[str, str]  # further settings of the stages


def up(settings: UpSettings, console: Console) -> int:
    """Run; the exit status, see above."""
    # What a person waits for began when the command was typed, not when its imports were done.
    started_s = time.monotonic() - (time.time() - psutil.Process().create_time())
    view, logbook = View(console, started_s), Logbook()
    ready: list[str] = []

    def tell(name: str, what: str) -> None:
        logbook.note(name, what)
        line = news_of(name, what, is_server=name in SERVERS, is_ready=bool(ready))
        if line is not None:
            view.happened(line)

    with Interrupt() as interrupted:
        try:
            view.happened(f"starting on {settings.data_dir}; logs in {settings.data_dir / 'logs'}")
            with running(settings.data_dir, tell) as servers:
                logbook.open(servers.data.log("weir"))
                mesh = _Mesh(settings, servers, view, interrupted, started_s)
                try:
                    mesh.start()
                    ready.append("ready")
                    interrupted.noting()
                    return mesh.run(console)
                finally:
                    servers.supervisor.stop(min(interrupt.SERVERS_BY_S, interrupted.left_s(interrupt.SERVERS_BY_S)))
        except KeyboardInterrupt:
            view.happened("stopped before it was ready")
            return EXIT_INTERRUPTED
        finally:
            view.close()
            logbook.close()


class _Mesh:
    def __init__(
        self, settings: UpSettings, servers: Servers, view: View, interrupted: Interrupt, started_s: float
    ) -> None:
        self._settings = settings
        self._data, self._endpoints = servers.data, servers.endpoints
        self._lease = servers.lease
        self._chart_file = servers.jars.chart / CHART_FILE
        self._supervisor = servers.supervisor
        self._view = view
        self._interrupted = interrupted
        self._started_s = started_s
        stages = [stage for stage in STAGES if stage.name not in settings.without]
        self._observer = Observer(self._endpoints.kafka, servers.data.path / "run", stages)
        self._since_s = time.time()
        self._look_at_s = 0.0
        self._versions: dict[str, str] = {}
        self._standing: dict[str, str] = {}  # stage -> why it was halted when last seen
        self._parent = Parent()
        self._failure = ""
        self._stage_names: list[str] = []

    def start(self) -> None:
        """Deploy step and stages. Raises Fatal."""
        settings, endpoints = self._settings, self._endpoints
        began_s = time.monotonic()
        deploy(endpoints.kafka, endpoints.schema_registry, settings.partitions)
        self._view.happened(f"topics and schemas after {time.monotonic() - began_s:.1f} s")
        self._signing_key, public_key = _keys(self._data.path / "keys")
        extra = {"WEIR_MODEL_KEYS": str(public_key), **settings.environment}
        for name in (DRIFT.name, RETRAINING.name):  # they start later; where they answered in an earlier run is no news
            health_file(self._data, name).unlink(missing_ok=True)
        specs = stage_specs(self._data, endpoints, settings.partitions, settings.instances, extra)
        specs.append(lookup_spec(self._data, endpoints))
        specs.append(webhooks_spec(self._data, endpoints, settings.environment))
        gateway_port = self._lease(GATEWAY.name, GATEWAY_PORT)
        specs.append(gateway_spec(self._data, endpoints, gateway_port, settings.partitions, settings.environment))
        console_port = self._lease(CONSOLE.name, CONSOLE_PORT)
        specs.append(console_spec(self._data, endpoints, console_port, self._chart_file, settings.environment))
        specs = [spec for spec in specs if owner_of(spec.name) not in settings.without]
        for spec in specs:
            self._supervisor.add(spec)
        self._stage_names = [spec.name for spec in specs]
        began_s = time.monotonic()
        self._supervisor.poll()
        self._supervisor.wait_healthy(self._stage_names, STAGES_START_S_MAX)
        self._view.happened(f"{len(specs)} services after {time.monotonic() - began_s:.1f} s")
        gateway = f"http://{HOST}:{gateway_port}" if GATEWAY.name in self._stage_names else None
        console = f"http://{HOST}:{console_port}" if CONSOLE.name in self._stage_names else None
        self._endpoints = endpoints = replace(endpoints, gateway=gateway, console=console, ready=True)
        endpoints.write(self._data.path)
        door = f", gateway {gateway}" if gateway else ""
        self._view.happened(
            f"ready: Kafka {endpoints.kafka}, {endpoints.redis}, schemas {endpoints.schema_registry}{door}"
        )
        if console:
            for line in where_the_page_is(console, self._data.path):
                self._view.happened(line)

    def run(self, console: Console) -> int:
        """Send, look, drain, sum up; the exit status."""
        tail = DecisionTail(self._endpoints.kafka, self._settings.partitions)
        try:
            self._start_senders()
            self._send(tail)
            self._stop_senders()
            self._drain(tail)
            self._look(tail)
            # Drift may read on while the account is settled, but in the seconds after Ctrl-C the servers need the rest.
            late = [DRIFT.name] if self._interrupted and self._state_of(DRIFT.name) else []
            self._supervisor.stop_children(self._stage_names + late, self._interrupted.left_s(interrupt.STAGES_BY_S))
            return self._finish(tail, console)
        finally:
            tail.close()
            self._observer.close()

    def _start_senders(self) -> None:
        if not self._settings.input:
            return
        self._supervisor.add(simulator_spec(self._data, self._endpoints, self._settings.simulator_arguments))
        self._supervisor.poll()

    def _start_learning(self) -> None:
        """After the first decision, which its imports would delay."""
        settings, endpoints = self._settings, self._endpoints
        specs = [
            retraining_spec(self._data, endpoints, self._signing_key, settings.label_delay, settings.environment),
            drift_spec(self._data, endpoints, settings.environment),
        ]
        for spec in specs:
            if spec.name not in settings.without:
                self._supervisor.add(spec)

    def _send(self, tail: DecisionTail) -> None:
        """Until the input is sent, the time is up, or somebody wants an end."""
        for_s = None if self._settings.input else self._settings.for_s
        end_s = float("inf") if for_s is None else time.monotonic() + for_s
        has_decided = False
        while not self._wants_stop() and not self._input_is_sent() and time.monotonic() < end_s:
            self._poll()
            if not has_decided and tail.decisions:
                has_decided = True
                self._view.happened("first decision")
                self._start_learning()
            self._look_now_and_then(tail)
            time.sleep(_TURN_S)

    def _wants_stop(self) -> bool:
        """Ctrl-C, SIGTERM, or a make that was told to end and cannot pass it on."""
        if self._parent.wants_stop():
            self._interrupted.now()
        return bool(self._interrupted)

    def _input_is_sent(self) -> bool:
        return bool(self._failure) or self._state_of("simulator") is State.DONE

    def _poll(self) -> None:
        """A sender that cannot go on ends the sending, not the deciding. Raises Fatal for any other process."""
        try:
            self._supervisor.poll()
        except Fatal as fatal:
            if self._state_of("simulator") is not State.FAILED:
                raise
            self._failure = str(fatal)  # it has been said
            self._supervisor.stop_child("simulator")

    def _look_now_and_then(self, tail: DecisionTail) -> None:
        if time.monotonic() >= self._look_at_s:
            self._look_at_s = time.monotonic() + self._view.every_s
            self._look(tail)

    def _look(self, tail: DecisionTail) -> None:
        if self._state_of("kafka") is not State.HEALTHY:
            return  # to wait for its answer would be to wait with its restart
        try:
            stages = self._observer.stages()
        except Transient as error:
            self._view.happened(str(error))
            return
        report = latest_report(self._data.log("simulator"), self._since_s)
        sent = int(report.get("sent_in_all", 0))
        for line in changes(self._versions, versions := {k: v for stage in stages for k, v in stage.versions.items()}):
            self._view.happened(line)
        self._versions = versions
        halted = {stage.stage: stage.halted for stage in stages if stage.halted}
        for name in halted.keys() - self._standing.keys():
            self._view.happened(f"{name} halted: {halted[name]}")
        self._standing = halted
        self._view.show(
            Snapshot(
                stages=stages,
                decisions=tail.decisions,
                latency_ms=tail.recent_percentiles(),
                actions=dict(tail.actions),
                event_time_ms=max(tail.newest_event_time_ms, int(report.get("event_time_ms", 0))),
                sent=sent,
                total=sent if report.get("done") else report.get("total"),  # before the end some sources estimate
                phase=phase_of(report),
                seconds=time.monotonic() - self._started_s,
            )
        )

    def _stop_senders(self) -> None:
        if self._interrupted:
            self._view.happened("stopping: what is on its way is decided first, as far as 10 s reach")
        names = [
            name
            for name in ("simulator", GATEWAY.name, RETRAINING.name)
            if self._state_of(name) not in (None, State.DONE)
        ]
        self._supervisor.stop_children(names, self._interrupted.left_s(interrupt.SENDERS_BY_S))

    def _drain(self, tail: DecisionTail) -> None:
        """Until every stage has committed its input, none moves any more, or the time to stop is up."""
        end_s = time.monotonic() + DRAIN_S_MAX
        stillness = Stillness(time.monotonic())
        while self._interrupted.left_s(interrupt.DRAIN_BY_S) and time.monotonic() < end_s:
            self._wants_stop()
            self._poll()
            lag = self._lag()
            if stillness.is_over(
                time.monotonic(), lag, tail.decisions, all_ready=self._supervisor.healthy(self._stage_names)
            ):
                return
            self._look_now_and_then(tail)
            time.sleep(_DRAIN_TURN_S)

    def _lag(self) -> int:
        """Records that some stage has not committed; more than none while the broker does not answer."""
        if self._state_of("kafka") is not State.HEALTHY:
            return 1
        try:
            return sum(self._observer.lags().values())
        except Transient:
            return 1

    def _finish(self, tail: DecisionTail, console: Console) -> int:
        self._wait_for(tail)
        ledger = self._settled()
        summary = Summary(
            ledger=ledger,
            rate_per_s=tail.rate_per_s,
            latency_ms=tail.percentiles(),
            models=self._served(tail),
            seconds=time.monotonic() - self._started_s,
            quality=self._quality(),
        )
        write_atomically(self._data.summary, to_json(summary))
        self._view.close()
        console.print(f"\n{to_text(summary)}", markup=False, highlight=False, soft_wrap=True, end="")
        return self._exit_status(ledger)

    def _quality(self) -> Quality | None:
        """Of the scores, where somebody asked for labels; a record for whoever asked for that."""
        from services.platform.judging import judge_file, record  # xgboost: 2 s that the start need not wait for

        settings = self._settings
        if self._interrupted or self._state_of("kafka") is not State.HEALTHY:
            return None
        if settings.record:
            record(self._endpoints.kafka, self._data.path)
        if settings.judged is None:
            return None
        self._view.happened("judging the scores of the last three weeks")
        return judge_file(self._endpoints.kafka, settings.judged, settings.label_delay)

    def _settled(self) -> Ledger | None:
        """The account, None when there was no time or no broker to settle it."""
        deadline_s = time.monotonic() + self._interrupted.left_s(interrupt.SCAN_BY_S)
        try:
            if self._state_of("kafka") is not State.HEALTHY:
                raise Transient("the broker is away")
            return scan(self._endpoints.kafka, self._observer.committed(), deadline_s)
        except Transient as error:
            self._view.happened(f"no account: {error}")
            return None

    def _wait_for(self, tail: DecisionTail) -> None:
        """The last decisions reach the tail a moment after they are visible."""
        end_s = time.monotonic() + min(_TAIL_WAIT_S_MAX, self._interrupted.left_s(interrupt.STAGES_BY_S))
        before = -1
        while tail.decisions != before and time.monotonic() < end_s:
            before = tail.decisions
            time.sleep(_TAIL_STILL_S)

    def _served(self, tail: DecisionTail) -> list[ServedModel]:
        """In the order in which they served, each with the reason in its release."""
        reasons = {BOOTSTRAP_MODEL: "no model yet"}
        try:
            if tail.served.keys() - reasons.keys() and self._state_of("kafka") is State.HEALTHY:
                reasons |= promoted_models(self._endpoints.kafka)
        except Transient as error:
            self._view.happened(str(error))
        return [
            ServedModel(version=version, from_event_time_ms=since_ms, why=reasons.get(version, "unknown"))
            for version, since_ms in tail.served.items()
        ]

    def _exit_status(self, ledger: Ledger | None) -> int:
        if self._failure:
            return 1
        if ledger is None:
            return 0 if self._interrupted else 1
        unfinished = (ledger.undecided or ledger.unjudged) and not self._interrupted
        return 1 if ledger.is_wrong or unfinished else 0

    def _state_of(self, name: str) -> State | None:
        return next((child.state for child in self._supervisor.status() if child.name == name), None)


def _keys(directory: Path) -> tuple[Path, Path]:
    """The key that signs models here and its public half, made on the first start."""
    signing_key = directory / "signing.pem"
    if not signing_key.exists():
        directory.mkdir(mode=0o700, exist_ok=True)
        generate_signing_key(signing_key)
    return signing_key, Path(f"{signing_key}.pub")
