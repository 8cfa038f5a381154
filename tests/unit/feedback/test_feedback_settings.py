from __future__ import annotations

from pathlib import Path

import pytest
from feedback_world import DAY_MS, World

from services.feedback.settings import FeedbackSettings, JoinRules
from services.mesh.errors import Fatal
from services.mesh.ports import LANE, CommittedOffset, InRecord
from services.mesh.settings import Environment
from services.mesh.watermark import Marks


def read(**variables: str) -> FeedbackSettings:
    environment = Environment(variables)
    settings = FeedbackSettings.read(environment)
    environment.check()
    return settings


def test_defaults_are_the_designs() -> None:
    rules = read().rules
    assert (rules.patience_ms, rules.maturity_ms, rules.memory_ms) == (DAY_MS, 30 * DAY_MS, 120 * DAY_MS)
    assert rules == JoinRules()


def test_values_are_read_with_their_units() -> None:
    settings = read(WEIR_OUTCOME_PATIENCE="2h", WEIR_MATURITY="7d", WEIR_DECISION_MEMORY="60d", WEIR_FEEDBACK_DIR="/x")
    assert settings.rules == JoinRules(patience_ms=7_200_000, maturity_ms=7 * DAY_MS, memory_ms=60 * DAY_MS)
    assert settings.directory == Path("/x")


def test_a_memory_shorter_than_the_maturity_is_refused() -> None:
    with pytest.raises(Fatal, match="decisions would be forgotten before they mature"):
        read(WEIR_MATURITY="60d", WEIR_DECISION_MEMORY="30d")


def test_inputs_that_are_not_owned_together_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.settle()
    handler = world.handlers[-1]
    handler.assign(LANE + 3, CommittedOffset(None, ""), Marks())
    with pytest.raises(Fatal, match=r"outcomes\.v1\[3\] came without its twin"):
        handler.step([InRecord("outcomes.v1", LANE + 3, 0, 0, b"c", b"", [])])
