"""``python -m services.gateway``: serves until SIGTERM, then answers what is at work and leaves."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
from contextlib import suppress
from typing import Final

import uvicorn

from services.gateway.app import make_app
from services.gateway.desk import Desk
from services.gateway.door import Door
from services.gateway.finding import Finder, Index, OneByOne
from services.gateway.following import Follower
from services.gateway.gate import Gate
from services.gateway.limits import AtWork, Rates
from services.gateway.memory import Memory
from services.gateway.publishing import Publisher
from services.gateway.recent import Recent
from services.gateway.settings import GatewaySettings
from services.gateway.waiting import Waiters
from services.mesh.adapters.health_server import HealthServer
from services.mesh.adapters.process import EXIT_CONFIG, ProcessSettings, write_port
from services.mesh.adapters.system_clock import SystemClock
from services.mesh.adapters.token_file import TokenFile
from services.mesh.adapters.uvicorn_server import Server
from services.mesh.adapters.watchdog import watch
from services.mesh.errors import Fatal, Transient
from services.mesh.settings import Environment
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import EVENTS_RAW, OUTCOMES_RAW
from services.mesh.topology import GATEWAY

# Its parent allows 3 s: requests at work are answered at once when it stops, and this is for their last bytes.
STOP_S_MAX: Final = 2
BURST_S: Final = 2.0  # of a token's rate, at once
HEADER_BYTES_MAX: Final = 16_384
IDLE_CONNECTION_S: Final = 30
LOOK_EVERY_S: Final = 1.0


def main() -> None:
    """Read the settings, serve health, serve."""
    environment, clock = Environment(os.environ), SystemClock()
    process, settings = ProcessSettings.read(environment), GatewaySettings.read(environment)
    environment.check()
    telemetry = StageTelemetry(GATEWAY.name, clock)
    health = HealthServer(telemetry, clock, process.health_host, process.health_port)
    if process.health_file:
        write_port(process.health_file, health.port)
    watch(telemetry)
    logging.info(
        "gateway http://%s:%d health=http://%s:%d", settings.host, settings.port, process.health_host, health.port
    )
    try:
        asyncio.run(serve(settings, process.kafka, telemetry, clock))
    finally:
        health.close()


async def serve(settings: GatewaySettings, kafka: str, telemetry: StageTelemetry, clock: SystemClock) -> None:
    """Until SIGTERM or SIGINT. Raises Fatal."""
    recent, waiters, index, records = Recent(), Waiters(), Index(settings.lookup_file), OneByOne(kafka)
    publisher = Publisher(kafka, settings.partitions, settings.ack_wait_ms / 1_000)
    follower = Follower(kafka, settings.partitions, index.progress, recent, waiters, telemetry)
    desk = Desk(
        publisher=publisher, follower=follower, finder=Finder(index, records, recent, settings.partitions),
        waiters=waiters, telemetry=telemetry, clock=clock, events=Memory(), outcomes=Memory(),
    )  # fmt: skip
    rates = Rates(settings.rate_per_token, BURST_S * settings.rate_per_token)
    door = Door(TokenFile(settings.tokens_file).book, rates, clock)
    gate = Gate(
        make_app(desk, door, settings), AtWork(settings.at_work_max), telemetry, clock, lambda: secrets.token_hex(8)
    )
    server = Server(_config(gate, settings))

    def stop() -> None:
        server.should_exit = True
        desk.stop_waiting()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    tasks = [asyncio.create_task(follower.run()), asyncio.create_task(_look(publisher, telemetry, server))]
    try:
        await server.serve()
    finally:
        telemetry.ready(False)
        await _ended(tasks)
        await publisher.close()
        await records.close()
        index.close()
    logging.info("gateway stopped")


async def _look(publisher: Publisher, telemetry: StageTelemetry, server: Server) -> None:
    """Alive while the loop turns; ready while the broker answers. A wrong partition count ends the process."""
    checked = False
    while not server.should_exit:
        telemetry.alive()
        try:
            if not checked:
                await publisher.open((EVENTS_RAW, OUTCOMES_RAW))
                checked = True
            elif not publisher.is_reachable:
                await publisher.ask()
        except Transient as error:
            telemetry.health.last_error = str(error)
        except Fatal:
            server.should_exit = True
            raise
        telemetry.ready(checked and publisher.is_reachable)
        await asyncio.sleep(LOOK_EVERY_S if checked else LOOK_EVERY_S / 10)


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    """Cancelled, unless one has failed: that is raised."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


def _config(gate: Gate, settings: GatewaySettings) -> uvicorn.Config:
    return uvicorn.Config(
        gate,
        host=settings.host,
        port=settings.port,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_CONNECTION_S,
        timeout_graceful_shutdown=STOP_S_MAX,
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        # Connections, of which those in the gate are a part; what is beyond is refused without a word of ours.
        limit_concurrency=2 * settings.at_work_max,
        backlog=1_024,
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it says a broker's absence several times a second
    try:
        main()
    except Fatal as fatal:
        logging.error("fatal: %s", fatal)
        sys.exit(EXIT_CONFIG)
