"""A TCP proxy that can lose one answer, stop answering, or refuse: the faults that no client can simulate."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Event, Thread


class TcpProxy:
    """Forwards to ``host:port``; each connection is two threads."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._closed = False
        self._forwards = Event()  # cleared: bytes are taken and kept
        self._forwards.set()
        self._refuses = False
        self._swallow = b""
        self.swallowed = 0
        Thread(target=self._accept, daemon=True).start()

    def swallow_answer_to(self, request: bytes) -> None:
        """Deliver the next request that contains ``request``, lose its answer, and break the connection."""
        self._swallow = request

    def refuse(self) -> None:
        """Break all connections and accept none."""
        self._refuses = True
        self._break()

    def hang(self) -> None:
        """Take bytes and pass nothing on."""
        self._forwards.clear()

    def heal(self) -> None:
        """Forward again; what was kept is passed on now."""
        self._refuses = False
        self._forwards.set()

    def close(self) -> None:
        self._closed = True
        self._forwards.set()
        self._listener.close()
        self._break()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                near.close()
                continue
            far = socket.create_connection(self._target)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [near, far]
            lost = Event()  # this connection's next answer
            Thread(target=self._pump, args=(near, far, lost, True), daemon=True).start()
            Thread(target=self._pump, args=(far, near, lost, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, lost: Event, is_request: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._forwards.wait()
                if is_request and self._swallow and self._swallow in data:
                    self._swallow = b""
                    lost.set()
                elif not is_request and lost.is_set():
                    self.swallowed += 1
                    break
                target.sendall(data)
        for end in (source, target):
            _end(end)

    def _break(self) -> None:
        for end in self._sockets:
            _end(end)
        self._sockets.clear()


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
