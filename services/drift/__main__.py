"""``python -m services.drift``: the only place where drift's real parts meet."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import faust

from services.drift.application import follow
from services.drift.settings import DriftSettings
from services.mesh.adapters.faust_worker import committed_app
from services.mesh.adapters.health_server import HealthServer
from services.mesh.adapters.process import EXIT_CONFIG, ProcessSettings
from services.mesh.adapters.system_clock import SystemClock
from services.mesh.errors import Fatal
from services.mesh.settings import Environment
from services.mesh.telemetry import StageTelemetry
from services.mesh.topology import DRIFT

_BESIDE_THE_DATA_PLANE = 10  # niceness: derived data delays no decision


def main() -> None:
    """Read the settings, serve health, run the worker until SIGTERM."""
    environment, clock = Environment(os.environ), SystemClock()
    process, settings = ProcessSettings.read(environment), DriftSettings.read(environment)
    environment.check()
    os.nice(_BESIDE_THE_DATA_PLANE)
    settings.directory.mkdir(parents=True, exist_ok=True)
    telemetry = StageTelemetry(DRIFT.name, clock)
    health = HealthServer(telemetry, clock, process.health_host, process.health_port)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = committed_app(DRIFT.name, process.kafka, str(settings.directory))
    follow(app, telemetry)
    logging.info("drift health=http://%s:%d", process.health_host, health.port)
    try:
        faust.Worker(app, loop=loop, quiet=True, redirect_stdouts=False).execute_from_commandline()
    finally:
        health.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    try:
        main()
    except Fatal as fatal:
        logging.error("fatal: %s", fatal)
        sys.exit(EXIT_CONFIG)
