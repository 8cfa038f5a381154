"""``models.v1`` on the twin, and scored batches by hand. Not a test."""

from __future__ import annotations

import dataclasses
from typing import Any

from trained import FEATURE_SET, NAMES, PUBLIC, trained

from services.mesh.adapters.memory import ManualClock, MemoryBroker, MemoryJournal
from services.mesh.bundle_parts import Bundle
from services.mesh.codec import Codec
from services.mesh.feature_set import FeatureSetPin
from services.mesh.ports import InRecord
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import MODELS
from services.scoring.desk import ModelDesk
from services.scoring.model import BootstrapScorer

PIN = FeatureSetPin(name="test", content_hash=FEATURE_SET, names=NAMES, event_only=(0, 1))
RELEASE, FEATURES = Codec("model_release.v1.avsc"), Codec("features.v1.avsc")


class Waiting(ManualClock):
    """Sleeps for real: children on probation take real time."""

    def sleep_s(self, seconds: float) -> None:
        import time

        time.sleep(seconds)


class Shelf:
    """A journal that tests publish to, and desks that follow it."""

    def __init__(self) -> None:
        self.clock = Waiting()
        self.broker = MemoryBroker(1, self.clock)
        self.telemetry = StageTelemetry("scoring", self.clock)

    def publish(self, version: str, move: str, bundle: Bundle | None = None, canary_percent: int = 0) -> None:
        release = {
            "model_version": version,
            "move": move,
            "why": "test",
            "event_time_ms": 0,
            "manifest": bundle.manifest.decode() if bundle else "",
            "signature": bundle.signature if bundle else b"",
            "model": bundle.model if bundle else b"",
            "fallback_model": bundle.fallback if bundle else b"",
            "canary_percent": canary_percent,
        }
        self.put(RELEASE.encode(release))

    def refusals(self) -> float:
        """What the metric says."""
        return self.telemetry.metrics.registry.get_sample_value("weir_models_refused_total", {"stage": "scoring"}) or 0

    def put(self, value: bytes) -> None:
        self.broker.produce(MODELS.name, b"k", value, 0)

    def desk(self) -> ModelDesk:
        journal = MemoryJournal(self.broker, MODELS.name)
        desk = ModelDesk(journal, PUBLIC, PIN, BootstrapScorer(0.01, NAMES), self.clock, self.telemetry)
        desk.open()
        return desk

    def settle(self, desk: ModelDesk) -> None:
        """Turn until nobody is on trial."""
        desk.turn()
        while desk._trial is not None:
            self.clock.sleep_s(0.02)
            desk.turn()


def bundle_of(version: str = "m1") -> Bundle:
    return trained(version, trees=4)[0]


def other_bytes(bundle: Bundle) -> Bundle:
    """``bundle`` with a model that is not the one that was signed."""
    return dataclasses.replace(bundle, model=bundle.model + b"x")


def features_record(offset: int, vector: bytes, **fields: Any) -> InRecord:
    """One record of ``features.v1``."""
    event = {
        "event_id": f"e{offset}",
        "customer_id": "c1",
        "terminal_id": "t1",
        "event_time_ms": 1,
        "amount_minor": 2_500,
        "currency": "EUR",
        "channel": None,
        "country": None,
        "device_id": None,
        "source_partition": 2,
        "source_offset": offset,
        "raw_append_time_ms": 1,
        "event_append_time_ms": 2,
        "update_append_time_ms": 3,
        "feature_set": FEATURE_SET,
        "feature_status": "ok",
        "vector": vector,
        **fields,
    }
    return InRecord("features.v1", 2, offset, 4, b"c1", FEATURES.encode(event), ())
