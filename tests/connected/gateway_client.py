"""A caller of the gateway, and a gateway of its own where a test wants no mesh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from services.cli.__main__ import main
from services.mesh.adapters.log_reader import LogReader
from services.mesh.ports import InRecord
from services.mesh.topics import Topic

READY_S_MAX = 30.0


def payment(event_id: str, customer_id: str = "c-1", **fields: Any) -> dict[str, Any]:
    """An event of this moment."""
    return {
        "event_id": event_id,
        "customer_id": customer_id,
        "terminal_id": "t-1",
        "event_time_ms": time.time_ns() // 1_000_000 - 1_000,
        "amount_minor": 1_250,
        **fields,
    }


def records_of(kafka: str, topic: Topic) -> list[InRecord]:
    """Everything in ``topic``, as a read_committed consumer sees it."""
    log = LogReader(kafka)
    return list(log.read(log.starts(topic), log.ends(topic)))


def new_token(file: Path, name: str, scopes: str) -> str:
    """The secret of a token that is made as a person makes it."""
    argv = [
        sys.executable,
        "-m",
        "services.cli.tokens",
        "create",
        name,
        "--scopes",
        scopes,
        "--file",
        str(file),
        "--json",
    ]
    made = subprocess.run(argv, capture_output=True, text=True, check=True)
    secret: str = json.loads(made.stdout)["secret"]
    return secret


def caller(url: str, secret: str) -> httpx.Client:
    """Sends that token with every request."""
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.Client(base_url=url, headers=headers, timeout=20, limits=httpx.Limits(max_connections=100))


def revoke(data: Path, name: str) -> None:
    """As a person does it."""
    assert main(["tokens", "revoke", name, "--data-dir", str(data)]) == 0


class GatewayProcess:
    """``module`` as a gateway on a free port, with one token that may do everything."""

    def __init__(self, kafka: str, directory: Path, module: str = "services.gateway", **settings: str) -> None:
        directory.mkdir(exist_ok=True)
        tokens, health = directory / "tokens.json", directory / "health.json"
        scopes = "events:write,decide,decisions:read,outcomes:write"
        self.secret = new_token(tokens, "all", scopes)
        self.port = _free_port()
        env = {
            "WEIR_KAFKA": kafka,
            "WEIR_GATEWAY_PORT": str(self.port),
            "WEIR_TOKENS_FILE": str(tokens),
            "WEIR_LOOKUP_FILE": str(directory / "lookup.sqlite"),
            "WEIR_HEALTH_FILE": str(health),
            **settings,
        }
        self._log = (directory / "gateway.log").open("w")
        self.log = directory / "gateway.log"
        self._health = health
        self.process = subprocess.Popen(
            [sys.executable, "-m", module], env=os.environ | env, stdout=self._log, stderr=subprocess.STDOUT
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_ready(self) -> Self:
        """Until its health says so."""
        end_s = time.monotonic() + READY_S_MAX
        while not self._is_ready():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end_s, self.log.read_text()
            time.sleep(0.05)
        return self

    def _is_ready(self) -> bool:
        try:
            port = json.loads(self._health.read_text())["port"]
            return httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
        except (OSError, ValueError, httpx.HTTPError):
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
