"""A redis-server of a test's own, for tests that change its settings or end it."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from services.platform.redis_server import find_server


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def redis_server(directory: Path) -> Iterator[int]:
    """Runs for the length of a ``with``; gives its port."""
    port = free_port()
    argv = [find_server(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield port
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int) -> None:
    deadline_s = time.monotonic() + 10
    with redis.Redis(port=port) as client:
        while True:
            try:
                client.ping()
                return
            except redis.ConnectionError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.01)
