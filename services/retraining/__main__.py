"""``python -m services.retraining``: the controller, the only place where retraining's real parts meet."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from services.mesh.adapters.faust_worker import committed_app, run_worker
from services.mesh.adapters.health_server import HealthServer
from services.mesh.adapters.process import EXIT_CONFIG, EXIT_LATER, ProcessSettings, write_port
from services.mesh.adapters.system_clock import SystemClock
from services.mesh.errors import Fatal, Transient
from services.mesh.feature_set import pinned_feature_set
from services.mesh.niceness import LAST
from services.mesh.settings import Environment
from services.mesh.telemetry import StageTelemetry
from services.mesh.topology import RETRAINING
from services.retraining.application import Loop, follow
from services.retraining.settings import RetrainingSettings


def main() -> None:
    """Read the settings, serve health, catch up, run the worker until SIGTERM."""
    environment, clock, features = Environment(os.environ), SystemClock(), pinned_feature_set()
    process = ProcessSettings.read(environment)
    settings = RetrainingSettings.read(environment, features.content_hash)
    environment.check()
    os.nice(LAST)
    settings.directory.mkdir(parents=True, exist_ok=True)
    telemetry = StageTelemetry(RETRAINING.name, clock)
    telemetry.health.idle = False
    health = HealthServer(telemetry, clock, process.health_host, process.health_port)
    if process.health_file:
        write_port(process.health_file, health.port)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    desk = Loop(process.kafka, settings, features, telemetry)
    desk.restore()
    app = committed_app(RETRAINING.name, process.kafka, str(settings.directory / "faust"))
    follow(app, desk)
    logging.info("retraining health=http://%s:%d champion=%s", process.health_host, health.port, desk.state.champion)
    run_worker(app, loop, at_end=health.close)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    try:
        main()
    except Fatal as fatal:
        logging.error("fatal: %s", fatal)
        sys.exit(EXIT_CONFIG)
    except Transient as transient:
        logging.error("not started: %s; start it again", transient)
        sys.exit(EXIT_LATER)
