"""A registry with nothing in it yet, once for the whole run: ids are pinned from 1, and the shared one has guests.

A plugin (``pytest_plugins = ["fresh_registry"]``), so that the modules which name it share one process.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.platform import class_archive, registry_server
from services.platform.data_dir import DataDir
from services.platform.ports import HOST, Ports
from services.platform.servers import START_S_MAX, Servers
from services.platform.supervisor import Supervisor


@pytest.fixture(scope="session")
def fresh_registry(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of its Confluent-compatible API."""
    with DataDir.open(tmp_path_factory.mktemp("registry") / "data") as data:
        supervisor, ports = Supervisor(data.logs, data.pids), Ports({})
        supervisor.start()
        try:
            port = ports.lease("registry", registry_server.USUAL_PORT)
            sharing = class_archive.sharing(servers.jars, "registry")
            supervisor.add(registry_server.prepare(data, servers.jars, port, sharing))
            supervisor.wait_healthy(("registry",), START_S_MAX)
            yield f"http://{HOST}:{port}{registry_server.CONFLUENT_API}"
        finally:
            supervisor.stop()
            ports.release()
