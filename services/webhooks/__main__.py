"""``python -m services.webhooks``: serves the subscriptions of its file until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress
from ssl import SSLContext
from typing import TYPE_CHECKING, Final

from services.mesh.adapters.health_server import HealthServer
from services.mesh.adapters.process import EXIT_CONFIG, ProcessSettings, write_port
from services.mesh.adapters.system_clock import SystemClock
from services.mesh.adapters.watchdog import watch
from services.mesh.errors import Fatal
from services.mesh.niceness import AFTER_DECISIONS
from services.mesh.settings import Environment
from services.mesh.telemetry import StageTelemetry
from services.mesh.topology import WEBHOOKS
from services.webhooks.settings import WebhookSettings
from services.webhooks.subscription import Subscription
from services.webhooks.subscription_file import SubscriptionFile
from services.webhooks.tls import trust

if TYPE_CHECKING:
    from services.webhooks.running import Runner

LOOK_EVERY_S: Final = 1.0


class Supervisor:
    """Starts, changes and stops a runner for each subscription, as the file says."""

    def __init__(
        self, settings: WebhookSettings, kafka: str, telemetry: StageTelemetry, clock: SystemClock, tls: SSLContext
    ) -> None:
        self._settings, self._kafka, self._telemetry, self._clock = settings, kafka, telemetry, clock
        self._tls = tls
        self._file = SubscriptionFile(settings.file)
        self._wanted: dict[str, Subscription] = {}
        self._running: dict[str, tuple[Runner, asyncio.Task[None]]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``. Raises what a bug in a runner raises."""
        try:
            while not stop.is_set():
                self._telemetry.alive()
                self._look()
                self._match()
                is_open = all(runner.is_open for runner, _ in self._running.values())
                self._telemetry.ready(is_open)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), LOOK_EVERY_S if is_open else LOOK_EVERY_S / 10)
        finally:
            self._telemetry.ready(False)
            for runner, _ in self._running.values():
                runner.stop()
            await asyncio.gather(*(task for _, task in self._running.values()))

    def _look(self) -> None:
        try:
            found = self._file.changed()
        except Fatal as fatal:
            self._telemetry.health.last_error = str(fatal)
            logging.error("what was in force stays so: %s", fatal)
            return
        if found is not None:
            self._wanted = {one.name: one for one in found.all if not one.paused}
            logging.info("webhooks: %s", ", ".join(self._wanted) or "none")

    def _match(self) -> None:
        """One step towards what is wanted: a runner that is to end is replaced when it has ended."""
        for name, (runner, task) in list(self._running.items()):
            if task.done():
                task.result()
                del self._running[name]
            elif self._wanted.get(name) != runner.subscription:
                runner.stop()
        for name in self._wanted.keys() - self._running.keys():
            self._running[name] = self._started(self._wanted[name])

    def _started(self, subscription: Subscription) -> tuple[Runner, asyncio.Task[None]]:
        # Clients for HTTP and Kafka: a mesh that tells nobody anything does not pay for them.
        from services.webhooks.running import Runner
        from services.webhooks.telling import Teller

        teller = Teller(subscription.name, self._telemetry, self._clock)
        runner = Runner(subscription, self._kafka, self._settings, teller, self._tls)
        return runner, asyncio.create_task(runner.run(), name=subscription.group)


def main() -> None:
    """Read the settings, serve health, serve."""
    environment, clock = Environment(os.environ), SystemClock()
    process, settings = ProcessSettings.read(environment), WebhookSettings.read(environment)
    environment.check()
    os.nice(AFTER_DECISIONS)
    tls = trust(settings.ca_file)
    telemetry = StageTelemetry(WEBHOOKS.name, clock)
    health = HealthServer(telemetry, clock, process.health_host, process.health_port)
    if process.health_file:
        write_port(process.health_file, health.port)
    watch(telemetry)
    logging.info("webhooks file=%s health=http://%s:%d", settings.file, process.health_host, health.port)
    try:
        asyncio.run(_serve(Supervisor(settings, process.kafka, telemetry, clock, tls)))
    finally:
        health.close()
    logging.info("webhooks stopped")


async def _serve(supervisor: Supervisor) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await supervisor.run(stop)
    if len(asyncio.all_tasks()) > 1:
        # Clients whose broker is away do not always end when they are told to; what matters is written or will be
        # repeated, and nobody waits for the rest.
        logging.info("webhooks stopped, without its broker")
        logging.shutdown()
        os._exit(0)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it says a broker's absence ten times a second; we once
    try:
        main()
    except Fatal as fatal:
        logging.error("fatal: %s", fatal)
        sys.exit(EXIT_CONFIG)
