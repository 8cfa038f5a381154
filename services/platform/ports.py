"""Ports on the loopback address: the usual one, else a free one, else the one demanded or a clear refusal."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from services.mesh.errors import Fatal

HOST = "127.0.0.1"
# Below the range from which kernels take the ports of outgoing connections (Linux: 32768 up).
FREE_PORTS = range(20_000, 30_000)
TRIES_MAX = 200


class Ports:
    """Leases ports. Two meshes that start at once must not both find one free: a lease is a lock on a file.

    ``environ`` may demand a port: ``WEIR_<NAME>_PORT``.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._locks: list[IO[bytes]] = []
        self._directory = Path(tempfile.gettempdir()) / f"weir-ports-{os.getuid()}"

    def lease(self, name: str, usual: int) -> int:
        """Return a port that nobody listens on, held until ``release``.

        Raises:
            Fatal: the demanded port is taken or is no port.
        """
        variable = f"WEIR_{name.upper()}_PORT"
        if demanded := self._environ.get(variable):
            if not demanded.isdecimal() or not 0 < int(demanded) < 65_536:
                raise Fatal(f"{variable}={demanded}: must be a port from 1 to 65535, or unset for a free one")
            if not self._take(int(demanded)):
                raise Fatal(f"{variable}={demanded}: the port is taken: stop what listens there, or unset {variable}")
            return int(demanded)
        generator = random.Random()
        for port in (usual, *(generator.choice(FREE_PORTS) for _ in range(TRIES_MAX))):
            if self._take(port):
                return port
        raise Fatal(f"no free port for {name} after {TRIES_MAX} tries from {FREE_PORTS}: demand one by {variable}")

    def release(self) -> None:
        """Give all leases back."""
        for lock in self._locks:
            lock.close()
        self._locks.clear()

    def _take(self, port: int) -> bool:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        lock = (self._directory / str(port)).open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        if not _is_free(port):
            lock.close()
            return False
        self._locks.append(lock)
        return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do it: a port in TIME_WAIT is free, one with a listener is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
