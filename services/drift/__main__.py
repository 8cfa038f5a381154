"""``python -m services.drift``: the only place where drift's real parts meet."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from contextlib import closing

from services.drift.application import Worker, follow
from services.drift.intake import READ
from services.drift.settings import DriftSettings
from services.mesh.adapters.faust_worker import committed_app, run_worker
from services.mesh.adapters.health_server import HealthServer
from services.mesh.adapters.kafka_ends import CommittedEnds
from services.mesh.adapters.kafka_follower import TopicFollower
from services.mesh.adapters.kafka_reader import KafkaReader
from services.mesh.adapters.process import EXIT_CONFIG, ProcessSettings, write_port
from services.mesh.adapters.system_clock import SystemClock
from services.mesh.adapters.watchdog import watch
from services.mesh.codec import Codec
from services.mesh.errors import Fatal
from services.mesh.niceness import LAST
from services.mesh.records import DriftAlert
from services.mesh.settings import Environment
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DRIFT_ALERTS
from services.mesh.topology import DRIFT


def published_on(kafka: str) -> Callable[[], list[DriftAlert]]:
    """Every alert in ``drift-alerts.v1``, those of one subject in order."""
    codec = Codec(DRIFT_ALERTS.schemas[0])

    def published() -> list[DriftAlert]:
        with closing(TopicFollower(kafka, DRIFT_ALERTS.name, "drift.published")) as follower:
            alerts: list[DriftAlert] = [codec.decode(value) for value in follower.to_end()]  # type: ignore[misc]
        return sorted(alerts, key=lambda alert: alert["window_end_ms"])

    return published


def main() -> None:
    """Read the settings, serve health, run the worker until SIGTERM."""
    environment, clock = Environment(os.environ), SystemClock()
    process, settings = ProcessSettings.read(environment), DriftSettings.read(environment)
    environment.check()
    os.nice(LAST)
    settings.directory.mkdir(parents=True, exist_ok=True)
    telemetry = StageTelemetry(DRIFT.name, clock)
    watch(telemetry)
    health = HealthServer(telemetry, clock, process.health_host, process.health_port)
    if process.health_file:
        write_port(process.health_file, health.port)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = committed_app(DRIFT.name, process.kafka, str(settings.directory / "faust"))
    worker = Worker(
        app,
        settings,
        telemetry,
        past_of=lambda topic: KafkaReader(process.kafka, topic, "drift.past"),
        published=published_on(process.kafka),
        ends=CommittedEnds(process.kafka, [topic.name for topic in READ]),
    )
    follow(app, worker)
    logging.info("drift health=http://%s:%d", process.health_host, health.port)
    run_worker(app, loop, at_end=health.close)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    try:
        main()
    except Fatal as fatal:
        logging.error("fatal: %s", fatal)
        sys.exit(EXIT_CONFIG)
