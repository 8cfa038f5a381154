"""The gateway before a whole mesh: what callers are told is what the log holds."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
from confluent_kafka import Producer
from gateway_client import caller, new_token, payment, records_of, revoke
from weir_process import Up, weir

from services.mesh.codec import Codec
from services.mesh.topics import DEAD_LETTERS, DECISIONS, EVENTS_RAW, LABELS

pytestmark = [pytest.mark.connected, pytest.mark.timeout(200)]

DECISION = Codec("decision.v1.avsc")
WAIT_MS = {"weir-deadline-ms": "20000"}
SETTLE_S_MAX = 20.0


class Mesh:
    """A running one, and a caller who may do everything."""

    def __init__(self, up: Up, endpoints: dict[str, Any]) -> None:
        self.up, self.data = up, up.data
        self.url: str = endpoints["gateway"]
        self.kafka: str = endpoints["kafka"]
        self.secret = new_token(up.data / "tokens.json", "all", "events:write,decide,decisions:read,outcomes:write")
        self.http = caller(self.url, self.secret)

    def decide(self, event: dict[str, Any], **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post("/v1/decide", json=event, headers=WAIT_MS | given)

    def decisions(self, event_id: str) -> list[dict[str, Any]]:
        found = (DECISION.decode(record.value) for record in records_of(self.kafka, DECISIONS))
        return [decision for decision in found if decision["event_id"] == event_id]

    def process(self, name: str) -> psutil.Process:
        rows = json.loads((self.data / "pids.json").read_text())
        return psutil.Process(next(row["pid"] for row in rows if row["name"] == name))

    def get(self, event_id: str, customer_id: str, wanted: int) -> httpx.Response:
        """The answer once its status is ``wanted``."""
        end_s = time.monotonic() + SETTLE_S_MAX
        while True:
            try:
                answer = self.http.get(f"/v1/decisions/{event_id}", params={"customer_id": customer_id})
                if answer.status_code == wanted:
                    return answer
                said = answer.text
            except httpx.TransportError as error:
                said = repr(error)
            assert time.monotonic() < end_s, said
            time.sleep(0.1)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with Up(
        tmp_path_factory.mktemp("gateway") / "data", "--no-input", "--without", "console,review,drift,webhooks"
    ) as up:
        mesh = Mesh(up, up.wait_ready())
        with mesh.http:
            yield mesh
        up.process.terminate()
        up.end(30)


def test_decide_tells_what_the_log_holds_and_what_trace_finds(mesh: Mesh) -> None:
    event = payment("told", "c-told", amount_minor=70_000, channel="web", country="FR")
    answer = mesh.decide(event)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    (held,) = mesh.decisions("told")
    assert told.pop("decided") is True
    trace_id = told.pop("trace_id")
    assert told == {name: held[name] for name in told}
    assert {"action", "score", "reasons", "policy_version", "model_version", "source_offset"} <= told.keys()
    traced = weir("trace", "told", "--json", "--data-dir", mesh.data)
    hops = json.loads(traced.stdout)["events"][0]["hops"]
    assert {hop["traceparent"].split("-")[1] for hop in hops if hop["traceparent"]} == {trace_id}
    assert answer.headers["traceparent"].split("-")[1] == trace_id


def test_the_record_is_the_callers_bytes_in_his_customers_partition_under_his_tokens_name(mesh: Mesh) -> None:
    text = json.dumps(payment("bytes", "c-bytes"), indent=3)
    headers = {"content-type": "application/json"}
    assert mesh.http.post("/v1/events", content=text, headers=headers).status_code == 202
    (record,) = [record for record in records_of(mesh.kafka, EVENTS_RAW) if record.key == b"c-bytes"]
    assert record.value == text.encode()
    assert dict(record.headers) == {"sender": b"all"}
    mesh.get("bytes", "c-bytes", 200)
    assert (
        len([r for r in records_of(mesh.kafka, EVENTS_RAW) if r.key == b"c-bytes"]) == 1
    )  # nothing was sent once more


def test_decided_once_however_often_it_is_asked_and_another_body_is_a_conflict(mesh: Mesh) -> None:
    event = payment("once", "c-once")
    first = mesh.decide(event)
    assert [mesh.decide(event).json() for _ in range(3)] == [first.json()] * 3
    assert len(mesh.decisions("once")) == 1
    conflict = mesh.decide(event | {"amount_minor": 1})
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflict")


def test_a_conflict_that_only_the_mesh_knows_of_is_told_too(mesh: Mesh) -> None:
    event = payment("foreign", "c-foreign")
    producer = Producer({"bootstrap.servers": mesh.kafka, "partitioner": "murmur2_random"})
    producer.produce(EVENTS_RAW.name, json.dumps(event), "c-foreign")
    assert producer.flush(20) == 0
    found = mesh.get("foreign", "c-foreign", 200).json()
    conflict = mesh.decide(event | {"amount_minor": 1})
    assert (conflict.status_code, conflict.json()["code"], conflict.json()["decided"]) == (409, "conflict", False)
    again = mesh.decide(event)
    assert (again.status_code, again.json()) == (200, found)


def test_an_event_that_the_mesh_refuses_is_told_with_its_code_and_can_be_mended(mesh: Mesh) -> None:
    assert mesh.decide(payment("first", "c-late")).status_code == 200
    late = payment("late", "c-late", event_time_ms=1_600_000_000_000)
    refused = mesh.decide(late)
    assert (refused.status_code, refused.json()["code"], refused.json()["refused_by"]) == (422, "late", "ingestion")
    assert refused.json()["field"] == "event_time_ms"
    gone = mesh.get("late", "c-late", 404).json()
    assert (gone["type"], gone["code"]) == ("/docs#no-decision", "late")
    mended = mesh.decide(payment("late", "c-late"))
    assert mended.status_code == 200, mended.text
    assert mesh.get("late", "c-late", 200).json() == mended.json()


def test_each_of_many_at_once_hears_its_own_decision(mesh: Mesh) -> None:
    events = [payment(f"many-{n}", f"c-{n % 7}", amount_minor=n + 1) for n in range(60)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(mesh.decide, events))
    assert Counter(answer.status_code for answer in answers) == {200: 60}
    assert [answer.json()["event_id"] for answer in answers] == [event["event_id"] for event in events]


def test_a_deadline_that_passes_leads_to_the_decision_all_the_same(mesh: Mesh) -> None:
    answer = mesh.http.post("/v1/decide", json=payment("short", "c-short"), headers={"weir-deadline-ms": "15"})
    assert answer.status_code in (202, 503), answer.text  # the broker, too, may take longer than that
    assert (answer.json()["decided"], answer.json()["action"]) == (False, "challenge")
    decided = mesh.http.get("/v1/decisions/short?customer_id=c-short")
    assert decided.status_code in (200, 202)
    assert mesh.get("short", "c-short", 200).json()["decided"] is True


def test_a_batch_is_decided_item_by_item(mesh: Mesh) -> None:
    items = [payment(f"batch-{n}", "c-batch", amount_minor=n) for n in range(-1, 50)]
    answer = mesh.http.post("/v1/events:batch", json=items)
    assert (answer.status_code, answer.json()["accepted"], answer.json()["refused"]) == (207, 50, 1)
    for number in range(50):
        mesh.get(f"batch-{number}", "c-batch", 200)


def test_an_event_without_an_id_is_found_by_the_one_it_was_given(mesh: Mesh) -> None:
    event = payment("", "c-none")
    del event["event_id"]
    accepted = mesh.http.post("/v1/events", json=event).json()
    assert accepted["event_id"].startswith("derived-")
    assert mesh.get(accepted["event_id"], "c-none", 200).json()["trace_id"] == accepted["trace_id"]


def test_an_outcome_becomes_a_label(mesh: Mesh) -> None:
    mesh.decide(payment("fraud", "c-fraud"))
    outcome = {"event_id": "fraud", "customer_id": "c-fraud", "label": "fraud", "source": "chargeback"}
    accepted = mesh.http.post("/v1/outcomes", json=outcome | {"observed_time_ms": time.time_ns() // 1_000_000})
    assert accepted.status_code == 202, accepted.text
    end_s = time.monotonic() + SETTLE_S_MAX
    codec, labels = Codec("labelled.v1.avsc"), []
    while not labels and time.monotonic() < end_s:
        found = [codec.decode(record.value) for record in records_of(mesh.kafka, LABELS)]
        labels = [label for label in found if label["event_id"] == "fraud"]
    assert [(label["label"], label["outcome_id"]) for label in labels] == [("fraud", accepted.json()["outcome_id"])]


def test_nothing_is_known_of_what_was_never_sent(mesh: Mesh) -> None:
    answer = mesh.http.get("/v1/decisions/never?customer_id=c-1")
    assert (answer.status_code, answer.json()["type"]) == (404, "/docs#unknown-event")


def test_nothing_that_was_refused_at_the_door_is_in_the_log(mesh: Mesh) -> None:
    ends = {topic: len(records_of(mesh.kafka, topic)) for topic in (EVENTS_RAW, DEAD_LETTERS)}
    for body in (b"", b"{", b"[]", b'{"a":1}', json.dumps(payment("x", amount_minor=-1)).encode(), b"x" * 70_000):
        headers = {"content-type": "application/json"}
        assert mesh.http.post("/v1/events", content=body, headers=headers).status_code in (400, 413, 422)
    assert mesh.http.post("/v1/events", json=payment("x"), headers={"authorization": "Bearer no"}).status_code == 401
    assert {topic: len(records_of(mesh.kafka, topic)) for topic in ends} == ends


def raw_answer(url: str, *parts: bytes) -> bytes:
    """What comes back on a plain connection."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80), timeout=20) as connection:
        answer = b""
        try:
            for part in parts:
                connection.sendall(part)
            while piece := connection.recv(65_536):
                answer += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
        return answer


def test_malformed_http_is_refused_and_the_gateway_lives(mesh: Mesh) -> None:
    line = b"POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + mesh.secret.encode() + b"\r\n"
    for request in (
        b"nonsense\r\n\r\n",
        line + b"content-length: -5\r\n\r\n{}",
        line + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        line + b"content-length: 99999999999999999999\r\n\r\n{}",
        line + b"x: " + b"y" * 200_000 + b"\r\n\r\n",
        line + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/decisions/%ff%fe?customer_id=%00 HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer "
        + mesh.secret.encode() + b"\r\n\r\n",
    ):  # fmt: skip
        answer = raw_answer(mesh.url, request)
        assert answer == b"" or answer.split(b" ")[1][:1] == b"4", (request[:80], answer[:200])
    assert mesh.decide(payment("alive", "c-alive")).status_code == 200


def test_a_token_that_is_revoked_opens_nothing_any_more(mesh: Mesh) -> None:
    secret = new_token(mesh.data / "tokens.json", "passing", "decisions:read")
    end_s = time.monotonic() + 5
    with caller(mesh.url, secret) as passing:
        while passing.get("/v1/decisions/never?customer_id=c-1").status_code != 404:
            assert time.monotonic() < end_s
        revoke(mesh.data, "passing")
        while passing.get("/v1/decisions/never?customer_id=c-1").status_code != 401:
            assert time.monotonic() < end_s
    assert passing.is_closed
    log = (mesh.data / "logs" / "gateway.log").read_text()
    assert secret not in log
    assert mesh.secret not in log


def test_its_successor_knows_what_was_decided_before(mesh: Mesh) -> None:
    event = payment("before", "c-before")
    before = mesh.decide(event)
    mesh.process("gateway").kill()
    assert mesh.get("before", "c-before", 200).json() == before.json()
    assert mesh.decide(event).json() == before.json()
    assert len(mesh.decisions("before")) == 1


def test_who_waits_when_it_stops_is_told_so(mesh: Mesh) -> None:
    """Last: the gateway has to stop while somebody waits, so a stage is frozen that he waits for."""
    scoring = mesh.process("scoring-0")
    scoring.suspend()
    try:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(mesh.decide, payment("waits", "c-waits"))
            end_s = time.monotonic() + SETTLE_S_MAX
            while not any(r.key == b"c-waits" for r in records_of(mesh.kafka, EVENTS_RAW)):
                assert time.monotonic() < end_s
            mesh.process("gateway").terminate()
            answer = waiting.result(10)
    finally:
        scoring.resume()
    assert (answer.status_code, answer.json()["why"], answer.json()["decided"]) == (202, "stopping", False)
    assert mesh.get("waits", "c-waits", 200).json()["decided"] is True
