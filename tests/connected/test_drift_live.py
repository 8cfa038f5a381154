"""Drift on a real broker: what was aborted is invisible, poison is skipped, repeats count once, and no restart, kill or
second worker loses, doubles or invents an alert."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from loadtests.blank_record import blank_record
from loadtests.drift_world import (
    MODEL,
    START_DAY,
    Shift,
    World,
    known_model,
    labels_of,
    profiles_of,
    release_of,
    settings,
)
from services.drift.__main__ import published_on
from services.drift.monitor import Monitor
from services.drift.report import report_of
from services.mesh.codec import Codec
from services.mesh.topics import DRIFT_ALERTS, LABELS, MODELS, PROFILES
from services.platform.servers import running

pytestmark = pytest.mark.connected

PARTITIONS = 3
EVENTS = 400
PROFILE, RELEASE = Codec(PROFILES.schemas[0]), Codec(MODELS.schemas[0])
LABEL = Codec(LABELS.schemas[0])
READY_S_MAX = 60.0


@pytest.fixture(scope="module")
def kafka() -> Iterator[str]:
    """A broker of its own: drift's group and topics have fixed names."""
    path = Path(tempfile.mkdtemp(prefix="weir-drift-"))
    environ = {name: value for name, value in os.environ.items() if not re.fullmatch("WEIR_[A-Z]+_PORT", name)}
    with running(path / "data", environ=environ) as servers:
        admin = AdminClient({"bootstrap.servers": servers.endpoints.kafka})
        made = [NewTopic(t.name, t.partition_count(PARTITIONS), 1, config=t.config())
                for t in (PROFILES, LABELS, MODELS, DRIFT_ALERTS)]  # fmt: skip
        for done in admin.create_topics(made).values():
            done.result(10)
        yield servers.endpoints.kafka


class Feeder:
    """The stages, the trainer and feedback, as far as drift sees them; beside them a monitor that sees it all once."""

    def __init__(self, kafka: str) -> None:
        self.kafka = kafka
        self.world = World(3, EVENTS, Shift("units", 100.0, START_DAY + 14))
        self.known = known_model(self.world)
        self.monitor = Monitor(settings())
        self.alerts: list[Any] = []
        self.day, self.offset = START_DAY, 0
        self.last: bytes = b""
        self._whole = blank_record(LABELS.schemas[0])
        self._plain = self._producer("plain")
        self._aborting = self._producer("aborting")

    def _producer(self, name: str) -> Producer:
        producer = Producer({"bootstrap.servers": self.kafka, "transactional.id": name, "linger.ms": 5})
        producer.init_transactions(20)
        return producer

    def release(self) -> None:
        release = release_of(self.known)
        self.monitor.take_release(release)
        self._commit([(MODELS.name, MODEL, RELEASE.encode(release))])

    def days(self, count: int) -> None:
        """So many days, each in a transaction of its own."""
        for _ in range(count):
            payments = self.world.day(self.day)
            records = []
            for profile in profiles_of(payments, self.known, self.offset):
                self.monitor.take_profile(profile)
                self.last = PROFILE.encode(profile)
                records.append((PROFILES.name, profile["subject"], self.last))
            for label in labels_of(payments, self.day)[0]:
                self.monitor.take_label(label)
                records.append((LABELS.name, label["customer_id"], LABEL.encode({**self._whole, **label})))
            self.offset += len(payments.rows)
            self.day += 1
            self._commit(records)
            self.alerts += self.monitor.due()

    def aborted(self) -> None:
        """A transaction that a stage gave up: a day in which everything is far off."""
        shifted = World(9, EVENTS, Shift("units", 1e4, 0)).day(self.day)
        self._aborting.begin_transaction()
        for profile in profiles_of(shifted, self.known, self.offset):
            self._aborting.produce(PROFILES.name, PROFILE.encode(profile), profile["subject"].encode())
        self._aborting.flush(10)
        self._aborting.abort_transaction(10)

    def repeat(self) -> None:
        """The last profile once more, as another record."""
        self._commit([(PROFILES.name, "ingestion", self.last)])

    def poison(self) -> None:
        """Nobody's bytes in every topic, beneath partitions that hold good ones."""
        self._commit(
            [(topic.name, "scoring", value) for topic in (PROFILES, LABELS, MODELS) for value in (b"", b"\xff" * 40)]
        )

    def _commit(self, records: list[tuple[str, str, bytes]]) -> None:
        self._plain.begin_transaction()
        for topic, key, value in records:
            self._plain.produce(topic, value, key.encode())
        self._plain.commit_transaction(10)


class Process:
    """``python -m services.drift``."""

    def __init__(self, kafka: str, directory: Path, name: str = "drift") -> None:
        self.directory, self._health = directory, directory / f"{name}.port"
        self._health.unlink(missing_ok=True)
        self.log = directory / f"{name}.log"
        env = {**os.environ, "WEIR_KAFKA": kafka, "WEIR_DRIFT_DIR": str(directory), "WEIR_DRIFT_BUDGET_PER_DAY": "40",
               "WEIR_HEALTH_FILE": str(self._health)}  # fmt: skip
        with self.log.open("ab") as log:
            self.child = subprocess.Popen([sys.executable, "-m", "services.drift"], env=env, stderr=log, stdout=log)

    def get(self, path: str) -> tuple[int, Any]:
        port = json.loads(self._health.read_text())["port"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def progress(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.get("/health/progress")[1])
        except (OSError, ValueError):
            return {}
        return found

    def until_idle_at(self, event_time_ms: int) -> None:
        end_s = time.monotonic() + READY_S_MAX
        while True:
            now = self.progress()
            if now.get("idle") and now["event_time_ms"] >= event_time_ms:
                return
            assert self.child.poll() is None, self.log.read_text()[-3_000:]
            assert time.monotonic() < end_s, f"{now}\n{self.log.read_text()[-3_000:]}"
            time.sleep(0.2)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.child.send_signal(number)
        return self.child.wait(15)


def seen(alerts: list[Any]) -> list[tuple[str, str]]:
    return sorted((alert["alert_id"], alert["status"]) for alert in alerts)


def until(is_so: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + READY_S_MAX
    while not is_so():
        assert time.monotonic() < end_s, what
        time.sleep(0.2)


def counted(report: dict[str, Any]) -> list[Any]:
    """What a report says of days by counts alone: labels may be checked a day later when months are read at once."""
    kinds = ("feature_shift", "score_shift", "decision_shift", "data_quality")
    return [
        (day["day"], day["records"], {k: v for k, v in day["values"].items() if k.startswith(kinds)})
        for day in report["days"]
    ]


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        if process.child.poll() is None:
            process.child.kill()
            process.child.wait()


def test_drift_survives_all_that_a_broker_and_a_supervisor_do(
    kafka: str, tmp_path: Path, processes: list[Process]
) -> None:
    feeder = Feeder(kafka)

    def start(name: str = "drift") -> Process:
        processes.append(Process(kafka, tmp_path, name))
        return processes[-1]

    def published() -> list[Any]:
        return published_on(kafka)()

    def report() -> dict[str, Any]:
        file = tmp_path / "drift.json"
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found

    feeder.release()
    feeder.days(6)
    feeder.aborted()
    feeder.poison()
    feeder.repeat()
    drift = start()
    drift.until_idle_at(feeder.monitor.clock_ms)
    until(
        lambda: report().get("coverage", {}).get("ingestion", {}).get("repeats") == 1, "the repeat was counted, or lost"
    )
    found, expected = report()["coverage"], report_of(feeder.monitor)["coverage"]
    assert found.pop("ingestion") == expected.pop("ingestion") | {"repeats": 1}
    assert found == expected, "aborted profiles were counted"
    assert found["scoring"]["offsets_covered"] == feeder.offset
    metrics = drift.get("/metrics")[1].decode()
    assert 'weir_rejects_total{code="undecodable",stage="drift"} 6.0' in metrics
    assert drift.get("/health/ready")[0] == 200
    assert seen(published()) == seen(feeder.alerts)

    assert drift.stop(signal.SIGKILL) == -signal.SIGKILL
    feeder.days(9)  # on the last of them amounts come in another unit
    drift = start()
    drift.until_idle_at(feeder.monitor.clock_ms)
    feeder.days(1)
    drift.until_idle_at(feeder.monitor.clock_ms)
    assert any(alert["subject"] == "amount" and alert["kind"] == "feature_shift" for alert in feeder.alerts)
    assert seen(published()) == seen(feeder.alerts)

    assert drift.stop() == 0
    drift = start()
    drift.until_idle_at(feeder.monitor.clock_ms)
    assert seen(published()) == seen(feeder.alerts), "a restart said it again"

    other = start("other")
    until(
        lambda: drift.get("/health/ready")[0] == 503, "two workers, and one checks what it sees of half the partitions"
    )
    feeder.days(2)
    time.sleep(2)
    other.stop()
    drift.until_idle_at(feeder.monitor.clock_ms)
    assert seen(published()) == seen(feeder.alerts)
    until(lambda: len(report()["days"]) == len(feeder.monitor.checks), "days are missing")
    assert report()["coverage"]["scoring"] == report_of(feeder.monitor)["coverage"]["scoring"]
    assert counted(report()) == counted(json.loads(json.dumps(report_of(feeder.monitor))))
    assert "<svg" in (tmp_path / "drift.html").read_text()
