"""The three servers that everything else needs: broker, Redis, schema registry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from services.platform import class_archive, endpoints, jars, kafka_server, redis_server, registry_server
from services.platform.data_dir import DataDir
from services.platform.endpoints import Endpoints
from services.platform.jars import Jars
from services.platform.ports import HOST, Ports
from services.platform.supervisor import STOP_S_MAX, Supervisor

NAMES = ("kafka", "redis", "registry")
START_S_MAX = 60.0  # measured: 4 s; a broker that recovers a large log after a crash takes its time


Sharing = Callable[[Jars, str], tuple[str, ...]]  # options of Java for the server of that name


class Servers:
    """Starts the servers of one data directory under a supervisor and knows where they answer.

    ``environ`` may hold ``WEIR_CACHE`` and ``WEIR_KAFKA_PORT``, ``WEIR_CONTROLLER_PORT``, ``WEIR_REDIS_PORT``,
    ``WEIR_REGISTRY_PORT``.
    """

    def __init__(
        self,
        data: DataDir,
        supervisor: Supervisor,
        environ: Mapping[str, str] = os.environ,
        sharing: Sharing = class_archive.sharing,
    ) -> None:
        self.data = data
        self.supervisor = supervisor
        self._environ = environ
        self._sharing = sharing
        self._ports = Ports(environ)

    def start(self, limit_s: float = START_S_MAX) -> Endpoints:
        """Start all three at once, wait until they are healthy, and write ``endpoints.json`` (not yet ``ready``).

        Raises:
            Fatal: something is missing, taken or damaged; or not healthy after ``limit_s``.
        """
        endpoints.remove(self.data.path)  # an earlier run may have been killed
        self.supervisor.start()  # before the ports are asked for: what that run left behind may hold them
        self.jars = found = jars.ensure(jars.cache_dir(self._environ))
        registry_port = self._ports.lease("registry", registry_server.USUAL_PORT)
        redis_port = self._ports.lease("redis", redis_server.USUAL_PORT)
        kafka_port = self._ports.lease("kafka", kafka_server.USUAL_PORT)
        controller_port = self._ports.lease("controller", kafka_server.USUAL_CONTROLLER_PORT)
        shared = {name: self._sharing(found, name) for name in class_archive.programs(found)}
        self.supervisor.add(registry_server.prepare(self.data, found, registry_port, shared["registry"]))
        self.supervisor.add(redis_server.prepare(self.data, redis_port))
        self.supervisor.poll()
        # Behind the others: on the first start it formats its storage, which takes a second that they can use.
        self.supervisor.add(kafka_server.prepare(self.data, found, kafka_port, controller_port, shared["kafka"]))
        self.supervisor.wait_healthy(NAMES, limit_s)
        self.endpoints = Endpoints(
            kafka=f"{HOST}:{kafka_port}",
            redis=f"redis://{HOST}:{redis_port}/0",
            schema_registry=f"http://{HOST}:{registry_port}{registry_server.CONFLUENT_API}",
        )
        self.endpoints.write(self.data.path)
        return self.endpoints

    def lease(self, name: str, usual: int) -> int:
        """A port for somebody else under the same supervisor; see ``Ports.lease``."""
        return self._ports.lease(name, usual)

    def stop(self, deadline_s: float = STOP_S_MAX) -> None:
        """Stop everything under the supervisor, give the ports back, and say that nothing runs here."""
        self.supervisor.stop(deadline_s)
        endpoints.remove(self.data.path)
        self._ports.release()


@contextmanager
def running(
    path: Path,
    on_event: Callable[[str, str], None] | None = None,
    environ: Mapping[str, str] = os.environ,
    sharing: Sharing = class_archive.sharing,
) -> Iterator[Servers]:
    """Run the three servers on the data directory ``path`` for the length of a ``with``; others may join them under
    ``servers.supervisor``.

    Raises:
        Fatal: as ``DataDir.open`` and ``Servers.start``.
    """
    with DataDir.open(path) as data:
        servers = Servers(data, Supervisor(data.logs, data.pids, on_event), environ, sharing)
        try:
            servers.start()
            yield servers
        finally:
            servers.stop()
