"""A 202 is a promise: it is kept when gateway, broker and a service are killed in turn."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from aiokafka import AIOKafkaProducer
from gateway_client import GatewayProcess, caller, new_token, payment, records_of
from weir_process import Up

from services.gateway import following
from services.gateway.following import Follower
from services.gateway.recent import Recent
from services.gateway.verdicts import Decided
from services.gateway.waiting import Waiters
from services.mesh.adapters.system_clock import SystemClock
from services.mesh.codec import Codec
from services.mesh.partitioner import Partitioner
from services.mesh.prefix import ids_of
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DATA_PARTITIONS_DEFAULT, DEAD_LETTERS, DECISIONS, EVENTS_RAW
from services.platform.deploy import deploy
from services.platform.servers import Servers, running

pytestmark = [pytest.mark.connected, pytest.mark.faults, pytest.mark.timeout(300)]

DECISION = Codec("decision.v1.avsc")
EXAMPLES = Path(__file__).parents[2] / "schemas/examples/decision.v1"
EXAMPLE = json.loads((EXAMPLES / "ordinary.json").read_text()) | {"vector": b"1234"}
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
    with Up(tmp_path / "data", "--no-input", "--without", "console,review,drift,retraining,webhooks") as up:
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
        up.wait_idle()
        account = up.verified()  # an independent look at the whole log
        up.process.terminate()
        up.end(30)
    assert len(client.accepted) >= 100
    assert client.answers.total() > len(client.accepted), "nothing was felt: were they killed at all?"
    assert set(client.answers) <= {202, 503, "ConnectError", "ReadError", "RemoteProtocolError", "WriteError"}
    assert {event_id: decided[event_id] for event_id in client.accepted} == dict.fromkeys(client.accepted, 1)
    assert refused == []
    assert (account["missing"], account["duplicates"], account["strangers"], account["undecided"]) == (0, 0, 0, 0)
    assert account["decisions"] == account["accepted"] >= len(client.accepted)


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A broker that may be frozen."""
    environ = {name: value for name, value in os.environ.items() if not re.fullmatch("WEIR_[A-Z]+_PORT", name)}
    with running(tmp_path_factory.mktemp("frozen") / "data", environ=environ) as servers:
        deploy(servers.endpoints.kafka, servers.endpoints.schema_registry, DATA_PARTITIONS_DEFAULT)
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


def decision(event_id: str) -> bytes:
    """A decision of customer ``c``."""
    return DECISION.encode(EXAMPLE | {"event_id": event_id, "customer_id": "c"})


async def until(is_true: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 15
    while not is_true():
        assert time.monotonic() < end_s
        await asyncio.sleep(0.02)


def test_following_begins_where_the_index_ends_and_falls_asleep_when_nobody_asks(
    own_servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "ASLEEP_AFTER_S", 1.0)
    kafka, where = (
        own_servers.endpoints.kafka,
        (DECISIONS.name, Partitioner(DATA_PARTITIONS_DEFAULT).partition_of(b"c")),
    )
    indexed: dict[tuple[str, int], int] = {}

    async def progress() -> dict[tuple[str, int], int]:
        return indexed

    async def work() -> None:
        recent, waiters, heard = Recent(), Waiters(), list[Decided]()
        telemetry = StageTelemetry("gateway", SystemClock())
        follower = Follower(kafka, DATA_PARTITIONS_DEFAULT, progress, recent, waiters, telemetry)

        def is_noted(event_id: str) -> bool:
            return recent.place(DECISIONS.name, (event_id.encode(), b"c")) is not None

        async with AIOKafkaProducer(bootstrap_servers=kafka, enable_idempotence=True) as producer:

            async def decide(event_id: str) -> int:
                sent = await producer.send_and_wait(where[0], decision(event_id), key=b"c", partition=where[1])
                return int(sent.offset)

            first = await decide("indexed")
            indexed[where] = first + 1
            await decide("before")
            running = asyncio.create_task(follower.run())
            await follower.wake(10)
            assert is_noted("before")
            waiters.add((b"waited", b"c"), heard.append)
            await decide("waited")
            await until(lambda: bool(heard))
            assert heard[0].told["event_id"] == "waited"
            assert not is_noted("indexed")
            assert recent.covers(where, first + 1)
            assert not recent.covers(where, first)
            waiters.remove((b"waited", b"c"), heard.append)
            await until(lambda: not follower.is_awake)
            await decide("asleep")
            await asyncio.sleep(0.5)
            assert not is_noted("asleep")
            await follower.wake(10)
            assert is_noted("asleep")
            assert recent.covers(where, first + 1)
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    asyncio.run(work())
