"""Which policy decides, as releases come and are refused."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any

import pytest

from services.decisions.desk import PolicyDesk
from services.decisions.policy import load_policy
from services.mesh.adapters.memory import ManualClock, MemoryBroker, MemoryJournal
from services.mesh.codec import Codec
from services.mesh.errors import Fatal
from services.mesh.feature_set import pinned_feature_set
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import POLICIES

TEXT = files("schemas").joinpath("payments/policy.yaml").read_text()
PIN = pinned_feature_set()
MOVE: dict[str, Any] = {"move": "publish", "percent": 100, "approver": None, "expects": None, "diff": ""}
RELEASE = Codec("policy_release.v1.avsc")


class Shelf:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.broker = MemoryBroker(1, self.clock)
        self.telemetry = StageTelemetry("decisions", self.clock)

    def publish(self, text: str, **fields: Any) -> None:
        release = {"policy_version": named(text), "author": "a", "why": "w", "policy": text, **MOVE, **fields}
        self.broker.produce(POLICIES.name, b"k", RELEASE.encode(release), 0)

    def desk(self) -> PolicyDesk:
        desk = PolicyDesk(MemoryJournal(self.broker, POLICIES.name), PIN, self.telemetry)
        desk.open()
        return desk

    def count(self, name: str) -> float | None:
        return self.telemetry.metrics.registry.get_sample_value(name, {"stage": "decisions"})


def named(text: str) -> str:
    """The version that a text claims, whether it loads or not."""
    name = next((line[6:] for line in text.splitlines() if line.startswith("name: ")), "nameless")
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def other(number: int) -> str:
    return f"# {number}\n{TEXT}"


def version(text: str) -> str:
    return load_policy(text, "here", PIN.names).version


def test_the_newest_policy_that_loads_decides() -> None:
    shelf = Shelf()
    shelf.publish(other(1))
    shelf.publish(other(2))
    shelf.publish("nonsense: [")
    desk = shelf.desk()
    assert desk.policy.version == version(other(2))
    assert shelf.telemetry.health.versions["policy"] == version(other(2))
    assert shelf.count("weir_policies_refused_total") == 1


def test_a_release_is_followed_between_batches_and_a_bad_one_changes_nothing() -> None:
    shelf = Shelf()
    shelf.publish(other(1))
    desk = shelf.desk()
    desk.turn()
    shelf.publish(TEXT.replace("rules:", "rulez:"))
    desk.turn()
    assert desk.policy.version == version(other(1))
    shelf.publish(other(2))
    desk.turn()
    assert desk.policy.version == version(other(2))


def test_a_record_that_is_no_release_is_refused() -> None:
    shelf = Shelf()
    shelf.publish(other(1))
    shelf.broker.produce(POLICIES.name, b"k", b"junk", 0)
    shelf.broker.produce(POLICIES.name, b"k", None, 0)
    assert shelf.desk().policy.version == version(other(1))
    assert shelf.count("weir_policies_refused_total") == 2


def test_without_any_policy_nobody_decides() -> None:
    with pytest.raises(Fatal, match="weir policy publish"):
        Shelf().desk()
