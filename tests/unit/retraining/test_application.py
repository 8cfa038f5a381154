"""The application around the controller, on the twins of its topics; the trainer is the real one, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from labelled_records import DAY_MS, LABELLED, PIN, START_MS, labelled

from services.mesh.adapters.memory import ManualClock, MemoryBroker, MemoryJournal
from services.mesh.codec import Codec
from services.mesh.model_registry import BOOTSTRAP
from services.mesh.signing import generate_signing_key
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DRIFT_ALERTS, LABELS, MODELS, Topic
from services.retraining import application, trainer
from services.retraining.events import Train
from services.retraining.outcome import outcome_of
from services.retraining.settings import RetrainingSettings, Rules

RELEASE, ALERT = Codec(MODELS.schemas[0]), Codec(DRIFT_ALERTS.schemas[0])
PER_DAY, DELAY_DAYS = 900, 2


class World:
    """Topics on the twin, and controllers that live on them. What fraud looks like changes on day 10."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broker = MemoryBroker(1, ManualClock())
        self.path = path
        self._rng = np.random.default_rng(4)
        generate_signing_key(path / "signing.pem")
        for module in (application, trainer):
            monkeypatch.setattr(module, "KafkaJournal", lambda *_: MemoryJournal(self.broker, MODELS.name))
            monkeypatch.setattr(module, "TopicFollower", lambda _, topic, __: Follower(self.broker, topic))
        monkeypatch.setattr(application, "append", self._append)
        monkeypatch.setattr(application, "start_at", lambda *_: None)
        monkeypatch.setattr(application.Loop, "_train", self._trained())

    def _append(self, _: str, topic: Topic, key: str, value: bytes) -> tuple[int, int]:
        return 0, self.broker.produce(topic.name, key.encode(), value, 0).offset

    def _trained(self) -> Any:
        async def train(loop: Any, asked: Train) -> None:
            given = ["--kafka", "twin", "--signing-key", str(self.path / "signing.pem"), "--directory",
                     str(self.path / "training"), "--label-delay", f"{DELAY_DAYS}d", "--validation", "2d",
                     "--cut-off-ms", str(asked.cut_off_ms)]  # fmt: skip
            said: list[dict[str, str]] = []
            original, trainer._say = trainer._say, said.append  # type: ignore[assignment]
            try:
                status = trainer.main(given)
            finally:
                trainer._say = original
            loop._ended.append(outcome_of(status, orjson.dumps(said[-1])))

        return train

    def controller(self) -> application.Loop:
        rules = Rules(
            label_delay_ms=DELAY_DAYS * DAY_MS,
            every_ms=3 * DAY_MS,
            span_ms_min=8 * DAY_MS,
            canary_ms=DAY_MS // 2,
            feature_set=PIN.content_hash,
        )
        settings = RetrainingSettings(
            directory=self.path / "training",
            signing_key=self.path / "signing.pem",
            validation_ms=2 * DAY_MS,
            learn_ms=28 * DAY_MS,
            threads=1,
            rules=rules,
        )
        made = application.Loop("twin", settings, PIN, StageTelemetry("retraining", ManualClock()))
        made.restore()
        return made

    def releases(self) -> list[dict[str, Any]]:
        return [RELEASE.decode(record.value) for record in MemoryJournal(self.broker, MODELS.name).read_to_end()]

    def day(self, day: int, champion: str = "m0", score: Any = None) -> list[bytes]:
        """Labels of one day's events, as they come two days later."""
        rows = self._rng.lognormal(3, 0.5, (PER_DAY, len(PIN.names))).astype("<f4")
        telling = 3 if day >= 10 else 0
        rows[self._rng.random(PER_DAY) < 0.06, telling] = 300.0
        fraud = self._rng.random(PER_DAY) < np.where(rows[:, telling] == 300.0, 0.5, 0.002)
        scores = score(rows) if score else np.full(PER_DAY, 0.01)
        found = []
        for n in range(PER_DAY):
            at_ms = START_MS + day * DAY_MS + n * DAY_MS // PER_DAY
            record = labelled(
                day * PER_DAY + n, at_ms, fraud=bool(fraud[n]), scores={champion: float(scores[n])},
                vector=rows[n].tobytes(), label_age_ms=DELAY_DAYS * DAY_MS, split_bucket=n * 37 % 10_000,
            )  # fmt: skip
            found.append(LABELLED.encode(record))
        return found

    def tell(self, controller: application.Loop, values: list[bytes]) -> None:
        for value in values:
            self.broker.produce(LABELS.name, b"k", value, 0)
        controller.take_labels(values)


class Follower:
    def __init__(self, broker: MemoryBroker, topic: str) -> None:
        self._records = broker.after(topic, 0, 0, 10**9)
        self.partitions = [0]
        self.offsets = {0: (0, len(self._records))}

    def to_end(self) -> Iterator[bytes]:
        return iter([record.value for record in self._records if record.value is not None])

    def close(self) -> None:
        pass


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def turn(controller: application.Loop) -> None:
    """Turns until nothing runs."""

    async def until_idle() -> None:
        await controller.turn()
        while controller.is_training:
            await asyncio.sleep(0)
            await controller.turn()

    asyncio.run(until_idle())


def test_from_labels_to_a_promoted_challenger_and_the_same_state_after_a_restart(world: World) -> None:
    controller = world.controller()
    turn(controller)
    assert world.releases() == [], "without labels there is no time and nothing to learn"
    for day in range(10):
        world.tell(controller, world.day(day))
    turn(controller)
    first = controller.state.champion
    assert first != BOOTSTRAP
    assert [release["move"] for release in world.releases()] == ["note", "promote"]

    for day in range(10, 26):
        champion = controller.state.champion
        world.tell(controller, world.day(day, champion, controller._in_play()[champion].score))
        turn(controller)
        if controller.state.champion != first:
            break
    second = controller.state.champion
    moves = [r["move"] for r in world.releases() if r["model_version"] == second and r["move"] != "note"]
    assert (second != first, moves) == (True, ["challenge", "canary", "promote"])
    assert first in controller._registry.running, "watched"

    again = world.controller()
    before = len(world.releases())
    turn(again)
    assert again.state.champion == second
    assert again.state.trials == controller.state.trials
    assert again._known.clock_ms == controller._known.clock_ms
    assert len(world.releases()) == before, "a restart moves nothing"


def test_junk_is_counted_and_what_comes_again_is_dropped(world: World) -> None:
    controller = world.controller()
    values = world.day(0)
    world.tell(controller, values)
    world.tell(controller, [*values[:5], b"junk", values[5][:-1]])
    metrics = controller.telemetry.metrics.registry
    assert metrics.get_sample_value("weir_repeats_total", {"stage": "retraining"}) == 5
    assert metrics.get_sample_value("weir_rejects_total", {"stage": "retraining", "code": "undecodable"}) == 2
    assert controller.telemetry.health.event_time_ms == controller._known.clock_ms > 0


def test_alerts_reach_the_controller_and_junk_does_not(world: World) -> None:
    controller = world.controller()
    alert = {"alert_id": "h1", "status": "raised", "kind": "precision", "subject": "precision", "segment": "all",
             "model_version": "m1", "window_start_ms": 1, "window_end_ms": 2, "statistic": "z", "value": 1.0,
             "threshold": 0.5, "records": 100, "is_harm": True, "text": "precision fell",
             "action": "", "evidence": ""}  # fmt: skip
    controller.take_alerts([b"junk", ALERT.encode(alert)])
    assert list(controller.state.alerts) == ["h1"]
    controller.take_alerts([ALERT.encode(alert | {"status": "cleared"})])
    assert not controller.state.alerts


def test_a_folder_that_a_killed_trainer_left_is_cleared_away(world: World) -> None:
    left = world.path / "training" / ".20180601-abc.99"
    left.mkdir(parents=True)
    (left / "snapshot.parquet").write_bytes(b"half")
    world.controller()
    assert not left.exists()
