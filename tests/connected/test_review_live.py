"""People in a running mesh: from a decision to a case, to a verdict, to a label, to what the terminal is known for.

The mesh is a real ``weir up``; its review service is killed and its Redis emptied on the way.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from cli_mesh import Weir, read_json, refused, until
from confluent_kafka import Producer
from weir_process import ROOT, Up

from services.cli.__main__ import main
from services.mesh.adapters.aiokafka_records import AsyncRecordSender
from services.mesh.adapters.kafka_records import RecordSender
from services.mesh.adapters.log_reader import LogReader
from services.mesh.adapters.redis_review import RedisReviewQueue
from services.mesh.adapters.redis_store import connect
from services.mesh.codec import Codec
from services.mesh.errors import Transient
from services.mesh.ports import OutRecord
from services.mesh.review import Person
from services.mesh.review_desk import ReviewDesk
from services.mesh.topics import AUDIT, EVENTS_RAW, LABELS, OUTCOMES
from services.platform.endpoints import Endpoints

pytestmark = [pytest.mark.connected, pytest.mark.timeout(240)]

START_MS = 1_790_000_000_000
WAIT_S_MAX = 60.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    data = tmp_path_factory.mktemp("review") / "data"
    with Up(data, "--no-input", "--without", "gateway,console,drift,retraining,webhooks") as up:
        up.wait_ready()
        yield data
        up.interrupt(signal.SIGTERM, group=False)


@pytest.fixture
def kafka(data: Path) -> str:
    return Endpoints.read(data).kafka


@pytest.fixture
def weir(data: Path, capsys: pytest.CaptureFixture[str]) -> Weir:
    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([*arguments, "--data-dir", str(data)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def pay(kafka: str, event_id: str, amount_minor: int, terminal_id: str) -> None:
    event = {
        "event_id": event_id, "event_time_ms": START_MS + int(event_id.rpartition("-")[2]) * 60_000,
        "customer_id": f"c-{event_id}", "terminal_id": terminal_id, "amount_minor": amount_minor,
    }  # fmt: skip
    producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random"})
    producer.produce(EVENTS_RAW.name, json.dumps(event), event["customer_id"])
    assert producer.flush(10) == 0


def case_of(weir: Weir, event_id: str, shelf: str = "open") -> dict[str, Any]:
    """The case of an event, once it stands on ``shelf``."""

    def find() -> list[dict[str, Any]]:
        cases = read_json(weir("review", "list", "--shelf", "all", "--limit", "99", "--json"))["cases"]
        return [case for case in cases if case["event_id"] == event_id and case["shelf"] == shelf]

    until(WAIT_S_MAX, lambda: len(find()) == 1)
    return find()[0]


def labels_of(kafka: str, event_id: str) -> list[tuple[str, str]]:
    log, codec = LogReader(kafka), Codec(LABELS.schemas[0])
    found = [codec.decode(record.value) for record in log.read(log.starts(LABELS), log.ends(LABELS))]
    return [(label["label"], label["label_source"]) for label in found if label["event_id"] == event_id]


def known_labels(weir: Weir, terminal_id: str) -> tuple[float, float]:
    status, out, _ = weir("features", "get", "terminal", terminal_id, "--json")
    if status != 0:
        return -1.0, -1.0  # being rebuilt
    features = json.loads(out)["features"]
    return features["terminal_known_labels_7d"], features["terminal_known_fraud_rate_7d"]


def test_a_verdict_becomes_a_label_and_changes_what_its_terminal_is_known_for(weir: Weir, kafka: str) -> None:
    pay(kafka, "e-1", 250_000, "t-1")
    case = case_of(weir, "e-1")
    case_id = case["case_id"]
    assert (case["value_minor"], case["verdicts_needed"], case["held_by"]) == (250_000, 1, None)
    assert case["due_time_ms"] - case["opened_time_ms"] == 4 * 3_600_000
    assert known_labels(weir, "t-1") == (0, 0)
    assert "is not vera's" in refused(weir("review", "verdict", case_id, "fraud", "--why", "seen", "--as", "vera"))
    assert read_json(weir("review", "claim", "--as", "vera", "--json"))["held_by"] == "vera"
    assert "is vera's for another" in refused(weir("review", "claim", case_id, "--as", "omar"))
    told = read_json(weir("review", "verdict", case_id, "fraud", "--why", "card stolen", "--as", "vera", "--json"))
    assert told["shelf"] == "judged"
    done = case_of(weir, "e-1", "closed")
    assert (done["resolution"], done["verdict"]) == ("verdict", "fraud")
    assert labels_of(kafka, "e-1") == [("fraud", "analyst")]
    until(WAIT_S_MAX, lambda: known_labels(weir, "t-1") == (1, 1))
    entries = read_json(weir("audit", "list", "--subject", f"case:{case_id}", "--json"))
    assert [(entry["actor"], entry["action"]) for entry in entries] == [
        ("vera", "review.claim"), ("vera", "review.verdict"),
    ]  # fmt: skip
    assert entries[1]["why"] == "card stolen"
    assert entries[1]["detail"]["outcome_id"] == done["outcome_id"]
    assert f"case:{case_id}" in weir("audit", "list")[1]


def test_four_eyes_outlive_a_killed_service_and_a_lost_redis(weir: Weir, kafka: str, data: Path) -> None:
    pay(kafka, "e-2", 5_000_000, "t-2")
    case_id = case_of(weir, "e-2")["case_id"]
    assert read_json(weir("review", "claim", case_id, "--as", "vera", "--json"))["verdicts_needed"] == 2
    first = read_json(weir("review", "verdict", case_id, "fraud", "--why", "seen", "--as", "vera", "--json"))
    assert (first["shelf"], [one["analyst"] for one in first["opinions"]]) == ("open", ["vera"])
    pid = json.loads((data / "run" / "review-0.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    with redis.Redis.from_url(Endpoints.read(data).redis) as client:
        client.flushall()
    pay(kafka, "e-3", 300_000, "t-2")
    assert [one["analyst"] for one in case_of(weir, "e-2")["opinions"]] == ["vera"]
    case_of(weir, "e-3")
    assert "has judged it" in refused(weir("review", "claim", case_id, "--as", "vera"))
    read_json(weir("review", "claim", case_id, "--as", "omar", "--json"))
    read_json(weir("review", "verdict", case_id, "fraud", "--why", "so do I", "--as", "omar", "--json"))
    assert case_of(weir, "e-2", "closed")["verdict"] == "fraud"
    assert labels_of(kafka, "e-2") == [("fraud", "analyst")]
    until(WAIT_S_MAX, lambda: known_labels(weir, "t-2") == (1, 1))


def test_a_console_judges_the_same_way_and_a_repeat_counts_once(weir: Weir, kafka: str, data: Path) -> None:
    """The asynchronous sender, and an analyst whose answer was lost."""
    pay(kafka, "e-4", 260_000, "t-4")
    case_id = case_of(weir, "e-4")["case_id"]
    desk = ReviewDesk(RedisReviewQueue(connect(Endpoints.read(data).redis, 5.0)), "console")
    nina, now_ms = Person("nina"), time.time_ns() // 1_000_000

    async def judge() -> None:
        sender = AsyncRecordSender(kafka, "test.console")
        try:
            await sender.send(desk.claim(case_id, nina, now_ms).records)
            step = desk.judge(case_id, nina, "genuine", "called back", now_ms)
            await sender.send(step.records)
            again = desk.judge(case_id, nina, "genuine", "called back", now_ms + 5)
            assert again.records[0].value == step.records[0].value
            await sender.send(again.records)
            desk.finish(again)
        finally:
            await sender.close()

    asyncio.run(judge())
    assert case_of(weir, "e-4", "closed")["verdict"] == "genuine"
    assert labels_of(kafka, "e-4") == [("genuine", "analyst")]
    log, codec = LogReader(kafka), Codec(OUTCOMES.schemas[0])
    accepted = [codec.decode(record.value) for record in log.read(log.starts(OUTCOMES), log.ends(OUTCOMES))]
    assert [outcome["event_id"] for outcome in accepted].count("e-4") == 1
    assert read_json(weir("dead-letters", "list", "--json")) == []


def test_what_is_sent_for_a_person_is_there_whole_or_not_at_all(kafka: str) -> None:
    good = OutRecord("audit.v1", b"k", b"1", 0, [])
    too_large = OutRecord("audit.v1", b"k", b"2" * 2_000_000, 0, [])
    log = LogReader(kafka)
    before = log.ends(AUDIT)
    with RecordSender(kafka, "test.sender") as sender, pytest.raises(Transient, match="repeat it"):
        sender.send([good, too_large])
    assert list(log.read(before, log.ends(AUDIT))) == []


def test_the_log_agrees_with_the_queue(weir: Weir) -> None:
    found = read_json(weir("status", "--verify", "--json"))
    cases = found["verified_cases"]
    assert {name: cases[name] for name in ("reviews", "cases", "closed", "missing", "duplicates", "strangers")} == {
        "reviews": 4, "cases": 4, "closed": 3, "missing": 0, "duplicates": 0, "strangers": 0,
    }  # fmt: skip
    assert (found["review"]["open"], found["review"]["claimed"]) == (1, 0)
    assert "review: 1 open, 0 claimed" in weir("status")[1]


def test_a_queue_that_was_thrown_away_is_back_at_once(weir: Weir) -> None:
    read_json(weir("review", "rebuild", "--json"))
    case = case_of(weir, "e-3")
    _, out, _ = weir("review", "show", case["case_id"])
    assert "one verdict is enough" in out
    assert "the queue has none" in refused(weir("review", "show", "nothing"))


def test_what_people_do_elsewhere_is_in_the_trail_too(weir: Weir, kafka: str) -> None:
    producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random"})
    producer.produce(EVENTS_RAW.name, "broken", "c-1")
    assert producer.flush(10) == 0
    until(WAIT_S_MAX, lambda: len(read_json(weir("dead-letters", "list", "--json"))) == 1)
    assert weir("dead-letters", "requeue", "--all")[0] == 0
    policy = str(ROOT / "schemas/payments/policy.yaml")
    version = read_json(weir("policy", "publish", policy, "--why", "once more", "--author", "rosa", "--json"))[
        "policy_version"
    ]
    entries = read_json(weir("audit", "list", "--json"))
    found = {(entry["action"], entry["subject"]): entry for entry in entries if entry["role"] == "operator"}
    assert found["dead_letter.requeue", "topic:dead-letters.v1"]["detail"]["sent"] == {"malformed_json": 1}
    moved = found["policy.publish", f"policy:{version}"]
    assert (moved["actor"], moved["why"], moved["detail"]["percent"]) == ("rosa", "once more", 100)
