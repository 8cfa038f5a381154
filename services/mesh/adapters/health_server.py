"""Health and metrics of one process over HTTP, on loopback unless told otherwise.

``/health/alive`` the process answers and its loop turns; ``/health/ready`` it owns its share and is not halted;
``/health/progress`` numbers as JSON; ``/metrics`` Prometheus text. 200 for yes, 503 for no.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.mesh.errors import Fatal
from services.mesh.ports import Clock
from services.mesh.telemetry import StageTelemetry

# The loop turns at least four times a second; this long without a turn is a hang (a catch-up slice takes well below).
TURN_WAIT_S_MAX = 20.0


class HealthServer:
    """Serves one StageTelemetry until closed."""

    def __init__(self, telemetry: StageTelemetry, clock: Clock, host: str, port: int) -> None:
        answers = _Answers(telemetry, clock)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = answers.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Scrapes are not news."""

        try:
            self._server = _Server((host, port), Handler)
        except OSError as error:
            raise Fatal(f"WEIR_HEALTH_PORT={port}: {error}; choose a free port, or 0 for any") from error
        self.port = int(self._server.server_address[1])
        Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asks and does not wait for the answer knows it: no news for our log. Anything else is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Answers:
    def __init__(self, telemetry: StageTelemetry, clock: Clock) -> None:
        self._telemetry = telemetry
        self._clock = clock

    def answer(self, path: str) -> tuple[int, str, bytes]:
        routes: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/health/alive": self._alive,
            "/health/ready": self._ready,
            "/health/progress": self._progress,
            "/metrics": self._metrics,
        }
        route = routes.get(path)
        return route() if route else (404, "text/plain", b"try " + b" ".join(sorted(p.encode() for p in routes)))

    def _alive(self) -> tuple[int, str, bytes]:
        stood_still_s = self._clock.monotonic_s() - self._telemetry.health.last_turn_s
        turning = stood_still_s < TURN_WAIT_S_MAX
        return (200 if turning else 503), "text/plain", f"last turn {stood_still_s:.1f} s ago\n".encode()

    def _ready(self) -> tuple[int, str, bytes]:
        health = self._telemetry.health
        text = health.halted or ("ready" if health.ready else f"not ready; {health.last_error}")
        return (200 if health.ready else 503), "text/plain; charset=utf-8", f"{text}\n".encode()

    def _progress(self) -> tuple[int, str, bytes]:
        return 200, "application/json", json.dumps(asdict(self._telemetry.health)).encode()

    def _metrics(self) -> tuple[int, str, bytes]:
        return 200, CONTENT_TYPE_LATEST, generate_latest(self._telemetry.metrics.registry)
