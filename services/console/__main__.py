"""``python -m services.console``: serves the page until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn

from services.console.app import Parts, console_app
from services.console.assets import read_assets
from services.console.backtests import Backtests
from services.console.doorkeeper import Doorkeeper
from services.console.following import Follower
from services.console.journals import Alerts, AuditTrail, Models, Policies
from services.console.live import Live
from services.console.look import KafkaLook
from services.console.lookups import Lookups
from services.console.processes import Processes
from services.console.redis_look import RedisLook
from services.console.reviews import Reviews
from services.console.settings import ConsoleSettings
from services.console.users import Users
from services.mesh.adapters.aiokafka_records import AsyncRecordSender
from services.mesh.adapters.health_server import HealthServer
from services.mesh.adapters.process import EXIT_CONFIG, ProcessSettings, write_port
from services.mesh.adapters.redis_review import RedisReviewQueue
from services.mesh.adapters.redis_store import connect
from services.mesh.adapters.system_clock import SystemClock
from services.mesh.adapters.uvicorn_server import Server
from services.mesh.adapters.watchdog import watch
from services.mesh.errors import Fatal
from services.mesh.niceness import LAST
from services.mesh.review_desk import ReviewDesk
from services.mesh.settings import Environment
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import AUDIT, DRIFT_ALERTS, MODELS, POLICIES

_LAST_ANSWERS_S = 1


async def serve(process: ProcessSettings, settings: ConsoleSettings, telemetry: StageTelemetry) -> None:
    """Until stopped."""
    clock = SystemClock()
    models, policies, alerts = Models(), Policies(), Alerts()
    trail = AuditTrail()
    sender = AsyncRecordSender(process.kafka, "weir.console")
    queue = connect(settings.redis)
    reviews = Reviews(ReviewDesk(RedisReviewQueue(queue), origin="console"), sender, clock)
    log, store = KafkaLook(process.kafka), RedisLook(settings.redis, reviews.counts)
    offsets = KafkaLook(process.kafka)  # of its own: who waits for a trace must not wait for the picture
    live = Live(
        Processes(settings.run_dir, settings.processes),
        log,
        store,
        lambda: {
            "model": models.told()["champion"],
            "policy": policies.told()["in_force"],
            "alerts_open": alerts.open,
        },
        clock,
        telemetry,
    )
    parts = Parts(
        door=Doorkeeper(Users(settings.users_file), clock, secrets.token_bytes, is_secure=settings.is_secure),
        live=live,
        models=models,
        policies=policies,
        alerts=alerts,
        trail=trail,
        reviews=reviews,
        lookups=Lookups(process.kafka, settings.lookup_file, settings.drift_dir, offsets),
        backtests=Backtests(settings.backtests_dir, settings.data_dir),
        assets=read_assets(settings.chart_file),
        telemetry=telemetry,
        is_secure=settings.is_secure,
    )
    config = uvicorn.Config(
        console_app(parts),
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,  # what a client says about itself is not where it comes from
        limit_concurrency=400,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_LAST_ANSWERS_S,
        lifespan="off",
    )
    listening = _listen(settings.host, settings.port)
    logging.info("console http://%s:%d", *listening.getsockname()[:2])
    follows = [
        Follower(process.kafka, topic, take).run()
        for topic, take in (
            (MODELS, models.take),
            (POLICIES, policies.take),
            (DRIFT_ALERTS, alerts.take),
            (AUDIT, trail.take),
        )
    ]
    tasks = [asyncio.ensure_future(work) for work in (live.run(), *follows)]
    try:
        await _until_one_ends(Server(config), live, listening, tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in (log, offsets, store, sender):
            await client.close()
        queue.close()


async def _until_one_ends(
    server: Server, live: Live, listening: socket.socket, tasks: Sequence[asyncio.Future[Any]]
) -> None:
    """A loop that has died takes the process with it: nobody should look at a picture that stands still."""

    def stop() -> None:
        live.stop()  # open streams first: the server waits for them
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    done, _ = await asyncio.wait([serving, *tasks], return_when=asyncio.FIRST_COMPLETED)
    stop()
    await serving
    for ended in done:
        ended.result()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=100)
    except OSError as error:
        raise Fatal(f"WEIR_CONSOLE_PORT={port}: {error}; choose a free port, or 0 for any") from error


def main() -> None:
    """Read the settings, serve health, serve the page."""
    environment = Environment(os.environ)
    process, settings = ProcessSettings.read(environment), ConsoleSettings.read(environment)
    environment.check()
    os.nice(LAST)
    clock = SystemClock()
    telemetry = StageTelemetry("console", clock)
    health = HealthServer(telemetry, clock, process.health_host, process.health_port)
    if process.health_file:
        write_port(process.health_file, health.port)
    watch(telemetry)
    try:
        asyncio.run(serve(process, settings, telemetry))
    finally:
        health.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    # While a broker is away it says so several times a second; we say it once a look.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        main()
    except Fatal as fatal:
        logging.error("fatal: %s", fatal)
        sys.exit(EXIT_CONFIG)
