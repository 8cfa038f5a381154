"""The controller on a real broker: it trains, tries and promotes. What was aborted is invisible, junk is skipped, and a
trainer or a controller that is killed half-way changes nothing that serves."""

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

import numpy as np
import psutil
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from loadtests.blank_record import blank_record
from services.mesh.adapters.kafka_journal import KafkaJournal
from services.mesh.codec import Codec
from services.mesh.feature_set import pinned_feature_set
from services.mesh.model_registry import BOOTSTRAP, Registry
from services.mesh.signing import generate_signing_key
from services.mesh.topics import DAY_MS, DRIFT_ALERTS, LABELS, MODELS
from services.platform.servers import running
from services.retraining.judge import BundleJudge

pytestmark = pytest.mark.connected

PIN = pinned_feature_set()
LABEL, RELEASE = Codec(LABELS.schemas[0]), Codec(MODELS.schemas[0])
PER_DAY, DELAY_DAYS = 1_200, 2
START_MS = 1_700_000_000_000 // DAY_MS * DAY_MS
WAIT_S = 90.0


@pytest.fixture
def place() -> Iterator[tuple[str, Path]]:
    """A broker of its own (the controller's group and topics have fixed names), and a directory."""
    path = Path(tempfile.mkdtemp(prefix="weir-retraining-"))
    environ = {name: value for name, value in os.environ.items() if not re.fullmatch("WEIR_[A-Z]+_PORT", name)}
    with running(path / "data", environ=environ) as servers:
        admin = AdminClient({"bootstrap.servers": servers.endpoints.kafka})
        made = [NewTopic(t.name, t.partition_count(3), 1, config=t.config()) for t in (LABELS, MODELS, DRIFT_ALERTS)]
        for done in admin.create_topics(made).values():
            done.result(10)
        generate_signing_key(path / "keys" / "signing.pem")
        yield servers.endpoints.kafka, path


class World:
    """Feedback and scoring, as far as the controller sees them. What fraud looks like changes on day ``shift``."""

    def __init__(self, kafka: str, shift: int) -> None:
        self.kafka, self.shift, self.day = kafka, shift, 0
        self._rng = np.random.default_rng(5)
        self._blank = blank_record(LABELS.schemas[0])
        self._producers = {name: self._producer(name) for name in ("plain", "aborting")}

    def _producer(self, name: str) -> Producer:
        producer = Producer({"bootstrap.servers": self.kafka, "transactional.id": name, "linger.ms": 5})
        producer.init_transactions(20)
        return producer

    def registry(self) -> tuple[Registry, list[dict[str, Any]]]:
        journal, registry = KafkaJournal(self.kafka, MODELS.name, "test"), Registry()
        try:
            releases = [RELEASE.decode(record.value) for record in journal.read_to_end()]
        finally:
            journal.close()
        for release in releases:
            registry.apply(release)  # type: ignore[arg-type]
        return registry, releases

    def labels_of_a_day(self, day: int) -> list[bytes]:
        rows = self._rng.lognormal(3, 0.5, (PER_DAY, len(PIN.names))).astype("<f4")
        telling = 3 if day >= self.shift else 0
        rows[self._rng.random(PER_DAY) < 0.06, telling] = 300.0
        fraud = self._rng.random(PER_DAY) < np.where(rows[:, telling] == 300.0, 0.5, 0.002)
        registry, _ = self.registry()
        champion = registry.champion
        known = champion in registry.bundles
        scores = BundleJudge(registry.bundles[champion]).score(rows) if known else np.full(PER_DAY, 0.01)
        found = []
        for n in range(PER_DAY):
            at_ms = START_MS + day * DAY_MS + n * DAY_MS // PER_DAY
            number = day * PER_DAY + n
            found.append(
                LABEL.encode(
                    {
                        **self._blank,
                        "event_id": f"e{number}",
                        "customer_id": f"c{number % 701}",
                        "event_time_ms": at_ms,
                        "amount_minor": 2_500,
                        "feature_set": PIN.content_hash,
                        "vector": rows[n].tobytes(),
                        "score": float(scores[n]),
                        "model_version": champion,
                        "split_bucket": number % 701 * 14,
                        "propensity": 1.0,
                        "label": "fraud" if fraud[n] else "genuine",
                        "label_version": 1,
                        "label_source": "chargeback",
                        "observed_time_ms": at_ms + DELAY_DAYS * DAY_MS,
                        "label_age_ms": DELAY_DAYS * DAY_MS,
                    }
                )
            )
        return found

    def send_day(self) -> None:
        self.commit(self.labels_of_a_day(self.day))
        self.day += 1

    def commit(self, values: list[bytes], *, aborted: bool = False) -> None:
        producer = self._producers["aborting" if aborted else "plain"]
        producer.begin_transaction()
        for n, value in enumerate(values):
            producer.produce(LABELS.name, value, str(n % 97).encode())
        if aborted:
            producer.flush(10)
            producer.abort_transaction(10)
        else:
            producer.commit_transaction(10)


class Controller:
    """``python -m services.retraining`` with short durations."""

    def __init__(self, kafka: str, path: Path) -> None:
        self._file = path / "health.json"
        self._file.unlink(missing_ok=True)
        self.log = path / f"retraining-{time.monotonic_ns()}.log"
        env = os.environ | {
            "WEIR_KAFKA": kafka,
            "WEIR_HEALTH_FILE": str(self._file),
            "WEIR_SIGNING_KEY": str(path / "keys" / "signing.pem"),
            "WEIR_TRAINING_DIR": str(path / "training"),
            "WEIR_LABEL_DELAY": f"{DELAY_DAYS}d",
            "WEIR_VALIDATION": "2d",
            "WEIR_RETRAIN_EVERY": "3d",
            "WEIR_RETRAIN_COOL_DOWN": "1d",
            "WEIR_CANARY_FOR": "12h",
            "OMP_NUM_THREADS": "1",
        }
        argv = [sys.executable, "-m", "services.retraining"]
        with self.log.open("w") as errors:
            self.process = subprocess.Popen(argv, env=env, stderr=errors)

    def progress(self) -> dict[str, Any]:
        try:
            port = json.loads(self._file.read_text())["port"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/progress", timeout=2) as answer:
                found: dict[str, Any] = json.loads(answer.read())
            return found
        except (OSError, urllib.error.URLError, KeyError, ValueError):
            return {}

    def wait(self, what: str, when: Callable[[], bool]) -> None:
        end_s = time.monotonic() + WAIT_S
        while not when():
            assert self.process.poll() is None, self.log.read_text()[-3_000:]
            assert time.monotonic() < end_s, f"no {what}: {self.progress()}\n{self.log.read_text()[-3_000:]}"
            time.sleep(0.1)

    def wait_idle(self, event_time_ms: int) -> None:
        self.wait(
            "rest", lambda: bool(self.progress().get("idle")) and self.progress()["event_time_ms"] >= event_time_ms
        )

    def trainer(self) -> psutil.Process | None:
        found = psutil.Process(self.process.pid).children(recursive=True)
        return next((child for child in found if any("trainer" in word for word in child.cmdline())), None)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(20)


def told_ms(world: World) -> int:
    """The newest observation that was committed."""
    return START_MS + (world.day + DELAY_DAYS) * DAY_MS - DAY_MS // PER_DAY


def test_the_loop_closes_on_a_real_broker(place: tuple[str, Path]) -> None:
    kafka, path = place
    world = World(kafka, shift=10)
    for _ in range(10):
        world.send_day()
    world.commit([b"", b"\xff" * 40, b"junk"])
    aborted = world.labels_of_a_day(500)
    world.commit(aborted, aborted=True)

    controller = Controller(kafka, path)
    controller.wait_idle(told_ms(world))
    registry, releases = world.registry()
    first = registry.champion
    assert first != BOOTSTRAP, "the first model serves by itself"
    assert controller.progress()["event_time_ms"] == told_ms(world), "aborted labels move no clock"
    assert [release["move"] for release in releases] == ["note", "promote"]

    # A trainer that is killed half-way, with what fraud looks like changed since.
    for _ in range(3):
        world.send_day()
    controller.wait("trainer", lambda: controller.trainer() is not None)
    trainer = controller.trainer()
    assert trainer is not None
    trainer.kill()
    controller.wait_idle(told_ms(world))
    registry, releases = world.registry()
    assert registry.champion == first
    assert "signal 9 and left no model" in releases[-1]["why"]
    assert not [name for name in os.listdir(path / "training") if name not in (first, "faust") and name[0] != "."]

    # A controller that is killed: what comes again is dropped, and nothing is moved twice.
    controller.stop(signal.SIGKILL)
    world.send_day()
    controller = Controller(kafka, path)
    controller.wait_idle(told_ms(world))

    while world.registry()[0].champion == first:
        assert world.day < 32, [(r["move"], r["model_version"], r["why"]) for r in world.registry()[1]]
        world.send_day()
        controller.wait_idle(told_ms(world))
    registry, releases = world.registry()
    second = registry.champion
    about_second = [r["move"] for r in releases if r["model_version"] == second and r["move"] != "note"]
    assert about_second == ["challenge", "canary", "promote"]
    assert registry.beside[-1] == first or first in registry.beside, "watched, to be taken back to"
    promotion = next(r for r in releases if r["move"] == "promote" and r["model_version"] == second)
    evidence = json.loads(promotion["evidence"])
    assert promotion["expects"] == first
    assert evidence["e_value"] >= 20
    assert evidence["average_precision"][1] > evidence["average_precision"][0]
    moves = [(r["move"], r["model_version"], r["event_time_ms"]) for r in releases if r["move"] != "note"]
    assert len(moves) == len(set(moves))
    controller.stop()
    assert controller.process.returncode == 0
