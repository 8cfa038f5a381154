"""A 202 is a promise: it is kept when gateway, broker and a service are killed in turn."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from gateway_client import GatewayProcess, caller, new_token, payment, records_of
from weir_process import Up, summary_of

from services.mesh.prefix import ids_of
from services.mesh.topics import DEAD_LETTERS, DECISIONS, EVENTS_RAW
from services.platform.deploy import deploy
from services.platform.servers import Servers, running

pytestmark = [pytest.mark.connected, pytest.mark.faults, pytest.mark.timeout(300)]

RETRY_S = 0.1
FROZEN_EVENTS = 30


class Client(threading.Thread):
    """Posts event after event until stopped; sends one again until it is accepted, as a caller should."""

    def __init__(self, url: str, secret: str) -> None:
        super().__init__(daemon=True)
        self._http = caller(url, secret)
        self.accepted: list[str] = []
        self.answers: Counter[int | str] = Counter()
        self.stop = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            event = payment(f"f-{number}", f"c-{number % 11}", amount_minor=number)
            while not self._post(event) and not self.stop.is_set():
                time.sleep(RETRY_S)
            number += 1
        self._http.close()

    def _post(self, event: dict[str, Any]) -> bool:
        try:
            status = self._http.post("/v1/events", json=event).status_code
        except httpx.TransportError as error:
            self.answers[type(error).__name__] += 1
            return False
        self.answers[status] += 1
        if status == 202:
            self.accepted.append(event["event_id"])
        return status == 202

    def goes_on(self, limit_s: float = 60.0) -> None:
        """Until twenty more are accepted."""
        end_s, before = time.monotonic() + limit_s, len(self.accepted)
        while len(self.accepted) < before + 20:
            assert time.monotonic() < end_s, self.answers
            time.sleep(0.05)


def decisions_by_event(kafka: str, accepted: list[str], limit_s: float = 60.0) -> Counter[str]:
    """How many decisions each event has, once every accepted one has some."""
    end_s = time.monotonic() + limit_s
    while True:
        found = Counter(ids_of(record.value or b"")[0].decode() for record in records_of(kafka, DECISIONS))
        if all(found[event_id] for event_id in accepted) or time.monotonic() > end_s:
            return found
        time.sleep(0.2)


def test_every_202_has_its_decision_whatever_is_killed(tmp_path: Path) -> None:
    with Up(tmp_path / "data", "--no-input") as up:
        endpoints = up.wait_ready()
        secret = new_token(up.data / "tokens.json", "client", "events:write")
        client = Client(endpoints["gateway"], secret)
        client.start()
        client.goes_on()
        for name in ("gateway", "kafka", "decisions-0", "gateway"):
            rows = json.loads((up.data / "pids.json").read_text())
            psutil.Process(next(row["pid"] for row in rows if row["name"] == name)).kill()
            up.wait_for(rf"{name}: died \(SIGKILL\)", 20)
            client.goes_on()
        client.stop.set()
        client.join(30)
        decided = decisions_by_event(endpoints["kafka"], client.accepted)
        refused = records_of(endpoints["kafka"], DEAD_LETTERS)
        up.process.terminate()
        up.end(30)
    assert len(client.accepted) >= 100
    assert client.answers.total() > len(client.accepted), "nothing was felt: were they killed at all?"
    assert set(client.answers) <= {202, 503, "ConnectError", "ReadError", "RemoteProtocolError", "WriteError"}
    assert {event_id: decided[event_id] for event_id in client.accepted} == dict.fromkeys(client.accepted, 1)
    assert refused == []
    account = summary_of(up.data)  # an independent look at the whole log
    assert (account["missing"], account["duplicates"], account["undecided_at_stop"]) == (0, 0, 0)


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A broker that may be frozen."""
    environ = {name: value for name, value in os.environ.items() if not re.fullmatch("WEIR_[A-Z]+_PORT", name)}
    with running(tmp_path_factory.mktemp("frozen") / "data", environ=environ) as servers:
        deploy(servers.endpoints.kafka, servers.endpoints.schema_registry, 8)
        yield servers


@pytest.mark.parametrize(
    ("module", "keeps_its_word"), [("services.gateway", True), ("tests.connected.hasty_gateway", False)]
)
def test_a_202_before_the_acknowledgement_would_be_broken(
    own_servers: Servers, tmp_path: Path, module: str, keeps_its_word: bool
) -> None:
    """The broker stands still, the gateway dies, the broker goes on: what was promised in between?"""
    kafka, broker = own_servers.endpoints.kafka, own_servers.supervisor.pid("kafka")
    assert broker is not None
    run = "true" if keeps_its_word else "false"
    with GatewayProcess(kafka, tmp_path / "gateway", module, WEIR_ACK_WAIT="500ms") as gateway:
        gateway.wait_ready()
        with caller(gateway.url, gateway.secret) as http:
            events = [payment(f"{run}-{n}", f"c-{n}") for n in range(2 * FROZEN_EVENTS)]
            answers = {e["event_id"]: http.post("/v1/events", json=e).status_code for e in events[:FROZEN_EVENTS]}
            assert set(answers.values()) == {202}
            os.kill(broker, signal.SIGSTOP)
            try:
                with ThreadPoolExecutor(FROZEN_EVENTS) as pool:
                    frozen = events[FROZEN_EVENTS:]
                    posted = pool.map(lambda event: http.post("/v1/events", json=event).status_code, frozen)
                    answers |= zip((event["event_id"] for event in frozen), posted, strict=True)
                gateway.process.kill()
                gateway.process.wait()
            finally:
                os.kill(broker, signal.SIGCONT)
    held = {json.loads(record.value or b"{}").get("event_id") for record in records_of(kafka, EVENTS_RAW)}
    broken = [event_id for event_id, status in answers.items() if status == 202 and event_id not in held]
    if keeps_its_word:
        assert broken == []
        assert set(answers.values()) == {202, 503}
    else:
        assert set(answers.values()) == {202}
        assert broken, "the control has to break its word, or the test above proves nothing"
