"""How every stage process starts, runs and ends: settings, health, signals, the loop, an exit status.

Exit status: 0 drained and stopped; 78 (EX_CONFIG) Fatal, said in one line; 75 (EX_TEMPFAIL) what it needs to start was
out of reach; 70 the watchdog's.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.mesh.adapters.health_server import HealthServer
from services.mesh.adapters.kafka_log import KafkaLog
from services.mesh.adapters.system_clock import SystemClock
from services.mesh.adapters.watchdog import watch
from services.mesh.errors import Fatal, Transient
from services.mesh.pace import AT_ONCE, Pace
from services.mesh.ports import Clock
from services.mesh.runtime import StageRuntime
from services.mesh.settings import Environment
from services.mesh.stage import Handler
from services.mesh.telemetry import StageTelemetry
from services.mesh.topology import Stage

if TYPE_CHECKING:
    from services.mesh.adapters.tracing import SpanRecorder

EXIT_CONFIG = 78
EXIT_LATER = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """What every stage process is told."""

    kafka: str
    slot: str  # stable name of this instance among its stage's; the supervisor hands it out
    health_host: str
    health_port: int  # 0: any free one, written to health_file
    health_file: str  # where the chosen port is written; empty: nowhere

    @classmethod
    def read(cls, environment: Environment) -> ProcessSettings:
        """From the environment; mistakes are collected by ``environment``."""
        return cls(
            kafka=environment.text("WEIR_KAFKA", "127.0.0.1:9092"),
            slot=environment.text("WEIR_SLOT", "0"),
            health_host=environment.text("WEIR_HEALTH_HOST", "127.0.0.1"),
            health_port=environment.integer("WEIR_HEALTH_PORT", 0, 0, 65_535),
            health_file=environment.text("WEIR_HEALTH_FILE", ""),
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """What a service's own wiring is given to build its handler from."""

    log: KafkaLog
    clock: Clock
    telemetry: StageTelemetry
    process: ProcessSettings


def run_stage(
    stage: Stage,
    wire: Callable[[Parts, Environment], Callable[[], Handler]],
    pace: Pace = AT_ONCE,
) -> None:
    """Run ``stage`` in this process until SIGTERM or SIGINT; does not return when it fails (see exit status above).

    ``wire`` reads the service's own settings and returns the factory of its handlers.
    """
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    try:
        _run(stage, wire, pace)
    except Fatal as fatal:
        logging.error("fatal: %s", fatal)
        sys.exit(EXIT_CONFIG)
    except Transient as transient:
        logging.error("not started: %s; start it again", transient)
        sys.exit(EXIT_LATER)


def _run(stage: Stage, wire: Callable[[Parts, Environment], Callable[[], Handler]], pace: Pace) -> None:
    environment = Environment(os.environ)
    clock = SystemClock()
    settings = ProcessSettings.read(environment)
    telemetry = StageTelemetry(stage.name, clock)
    watch(telemetry)
    log = KafkaLog(settings.kafka, stage.name, [topic.name for topic in stage.inputs], settings.slot, pace)
    make_handler = wire(Parts(log, clock, telemetry, settings), environment)
    environment.check()
    spans = spans_of(stage.name)
    runtime = StageRuntime(
        stage,
        log,
        make_handler,
        clock,
        telemetry,
        pace=pace,
        record_spans=spans.record if spans else None,
    )
    _stop_on_signals(runtime)
    health = HealthServer(telemetry, clock, settings.health_host, settings.health_port)
    if settings.health_file:
        write_port(settings.health_file, health.port)
    logging.info("stage=%s slot=%s health=http://%s:%d", stage.name, settings.slot, settings.health_host, health.port)
    try:
        runtime.run()
    finally:
        health.close()
        if spans:
            spans.close()
    logging.info("stage=%s drained and stopped", stage.name)


def spans_of(stage: str) -> SpanRecorder | None:
    """Who records spans, when somebody takes them: a fifth of what a stage would import is for this alone."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return None
    from services.mesh.adapters.tracing import SpanRecorder, otlp_exporter

    return SpanRecorder(stage, otlp_exporter())


def _stop_on_signals(runtime: StageRuntime) -> None:
    def stop(signum: int, frame: Any) -> None:
        runtime.stop.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def write_port(path: str, port: int) -> None:
    """Where health answers, whole or not at all: the supervisor reads it while we write."""
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump({"port": port, "pid": os.getpid()}, file)
    os.replace(temporary, path)
