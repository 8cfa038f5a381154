"""A receiver that does what a test tells it to, decisions as the mesh makes them, and the processes between the two."""

from __future__ import annotations

import importlib.util
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple, Self

import httpx
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from services.mesh.codec import Codec
from services.mesh.topics import DATA_PARTITIONS_DEFAULT, DECISIONS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "schemas/examples/decision.v1"
EXAMPLE = json.loads((EXAMPLES / "ordinary.json").read_text()) | {"vector": b"\0" * 100}
DECISION = Codec("decision.v1.avsc")
READY_S_MAX = 30.0
# Quick enough for a test: a second between two tries at most.
QUICK = {
    "WEIR_WEBHOOKS_TIMEOUT": "700ms",
    "WEIR_WEBHOOKS_FIRST_WAIT": "50ms",
    "WEIR_WEBHOOKS_WAIT_MAX": "500ms",
    "WEIR_WEBHOOKS_PROBE_WAIT_MAX": "300ms",
}


class Call(NamedTuple):
    """One request, and what it was answered."""

    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    number: int  # how often this message or key has come, 1: the first time
    at_s: float

    @property
    def data(self) -> dict[str, Any]:
        found = json.loads(self.body)
        return dict(found.get("data", found))

    @property
    def event_id(self) -> str:
        return str(self.data.get("event_id"))

    @property
    def id(self) -> str:
        return self.headers.get("webhook-id") or self.headers["idempotency-key"]


class Reply(NamedTuple):
    """What a call is answered, after how long; status 0: the connection is cut without an answer."""

    status: int = 204
    retry_after: str = ""
    after_s: float = 0.0


class Receiver:
    """An HTTP server that asks ``behave`` what to do, and remembers."""

    def __init__(
        self, behave: Callable[[Call], Reply] = lambda call: Reply(), tls: ssl.SSLContext | None = None
    ) -> None:
        self.behave = behave
        self.calls: list[tuple[Call, Reply]] = []
        self._turn = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                body = self.rfile.read(size)
                if len(body) < size:  # who was sending was killed
                    self.close_connection = True
                    return
                reply = receiver.hear(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                time.sleep(reply.after_s)
                if not reply.status:
                    self.close_connection = True
                    return
                try:
                    self.send_response(reply.status)
                    if reply.retry_after:
                        self.send_header("Retry-After", reply.retry_after)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except OSError:
                    self.close_connection = True  # who asked has hung up

            do_PUT = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                """No news."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Somebody was killed in the middle of a request."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
            self.url = f"https://localhost:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def hear(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        with self._turn:
            seen = sum(1 for call, _ in self.calls if call.path == path and call.id == _id_in(headers))
            call = Call(path, headers, body, seen + 1, time.monotonic())
            reply = self.behave(call)
            self.calls.append((call, reply))
            return reply

    def heard(self, path: str) -> list[Call]:
        """Everything that came to ``path``, in order."""
        with self._turn:
            return [call for call, _ in self.calls if call.path == path]

    def taken(self, path: str) -> list[Call]:
        """What was answered 2xx in time."""
        with self._turn:
            return [
                call for call, reply in self.calls
                if call.path == path and 200 <= reply.status < 300 and reply.after_s < 0.5
            ]  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


class Running:
    """One process with its log; killed at the end."""

    def __init__(self, argv: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        with log.open("a") as file:
            self.process = subprocess.Popen(
                [sys.executable, *argv], cwd=ROOT, env=os.environ | dict(environment), stdout=file, stderr=file
            )

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()


class Webhooks(Running):
    """``module`` as the webhooks of the mesh at ``kafka``."""

    def __init__(self, kafka: str, file: Path, module: str = "services.webhooks", **settings: str) -> None:
        self._health = file.with_name(f"health-{time.monotonic_ns()}.json")
        env = {"WEIR_KAFKA": kafka, "WEIR_WEBHOOKS_FILE": str(file), "WEIR_HEALTH_FILE": str(self._health)}
        super().__init__(["-m", module], file.with_name("webhooks.log"), QUICK | env | settings)

    def wait_ready(self) -> Self:
        """Until it reads and writes the log for every subscription."""
        until(lambda: self._ask("/health/ready") is not None, lambda: self.log.read_text(), READY_S_MAX)
        return self

    def metrics(self) -> str:
        return self._ask("/metrics") or ""

    def _ask(self, path: str) -> str | None:
        try:
            port = json.loads(self._health.read_text())["port"]
            answer = httpx.get(f"http://127.0.0.1:{port}{path}")
        except (OSError, ValueError, httpx.HTTPError):
            return None
        return answer.text if answer.status_code == 200 else None


class Decider:
    """Makes decisions, as the decisions stage does: keyed by customer, in transactions."""

    def __init__(self, kafka: str, name: str) -> None:
        self.name = name
        self._producer = Producer(
            {"bootstrap.servers": kafka, "transactional.id": f"decider-{name}", "partitioner": "murmur2_random"}
        )
        self._producer.init_transactions(20)
        self._number = 0

    def next_id(self, behind: int = 0) -> str:
        """The event id of the decision that is made next, or of one ``behind`` it."""
        return f"{self.name}-{self._number + behind:04d}"

    def decide(self, count: int, *, action: str = "decline", customers: int = 5, committed: bool = True) -> list[str]:
        """So many more; their event ids, in order."""
        made = []
        self._producer.begin_transaction()
        for _ in range(count):
            event_id, customer_id = self.next_id(), f"{self.name}-c{self._number % customers}"
            fields = {"event_id": event_id, "customer_id": customer_id, "action": action}
            self._producer.produce(DECISIONS.name, DECISION.encode(EXAMPLE | fields), customer_id)
            made.append(event_id)
            self._number += 1
        if committed:
            self._producer.commit_transaction(20)
        else:
            self._producer.flush(20)
            self._producer.abort_transaction(20)
        return made


def partitions_of_the_mesh(kafka: str) -> int:
    """As many as another test has deployed on the shared broker, if one has."""
    found = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=20).topics
    return len(found[DECISIONS.name].partitions) if DECISIONS.name in found else DATA_PARTITIONS_DEFAULT


def until(is_true: Callable[[], bool], say: Callable[[], object] = str, limit_s: float = 20.0) -> None:
    end_s = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < end_s, say()
        time.sleep(0.02)


def reference_receiver() -> ModuleType:
    """The receiver that users copy."""
    spec = importlib.util.spec_from_file_location("webhook_receiver", ROOT / "infra/consumers/webhook_receiver.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _id_in(headers: Mapping[str, str]) -> str:
    return headers.get("webhook-id") or headers.get("idempotency-key", "")
