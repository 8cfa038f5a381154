"""Feedback's own settings, from the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.mesh.settings import Environment
from services.mesh.topics import DAY_MS, LOOP_RETENTION_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRules:
    """How long things count, all in milliseconds of event time."""

    # Later than this nobody decides an event any more: ingestion refuses events that are late by more than an hour.
    patience_ms: int = DAY_MS
    # Public prior: most chargebacks are in after a month (research of the design; visa and mastercard allow 90 to 120).
    maturity_ms: int = 30 * DAY_MS
    # Card schemes take fraud reports for 120 days.
    memory_ms: int = 120 * DAY_MS


# Terminal features count known labels in windows of 1, 7 and 30 days of the labelled event's own time: an older genuine
# label changes none. (Windows that reach further back count frauds alone.)
KNOWN_LABELS_WINDOW_MS: Final = 30 * DAY_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackSettings:
    """Each with its unit and why its default."""

    directory: Path  # one file a partition; on a local disk, shared by the instances of this machine
    rules: JoinRules
    # SQLite's page cache of one partition: the inner pages of the index of a hundred million decisions are 4 MB.
    cache_bytes: int

    @classmethod
    def read(cls, environment: Environment) -> FeedbackSettings:
        """From the environment; mistakes are collected by ``environment``."""
        defaults = JoinRules()
        rules = JoinRules(
            patience_ms=environment.duration_ms("WEIR_OUTCOME_PATIENCE", defaults.patience_ms, 0, LOOP_RETENTION_MS),
            maturity_ms=environment.duration_ms("WEIR_MATURITY", defaults.maturity_ms, 1_000, LOOP_RETENTION_MS),
            memory_ms=environment.duration_ms("WEIR_DECISION_MEMORY", defaults.memory_ms, 1_000, LOOP_RETENTION_MS),
        )
        if rules.memory_ms < rules.maturity_ms:
            environment.refuse(
                f"WEIR_DECISION_MEMORY is {rules.memory_ms} ms and WEIR_MATURITY {rules.maturity_ms} ms: decisions "
                "would be forgotten before they mature; let the memory be at least the maturity"
            )
        return cls(
            directory=Path(environment.text("WEIR_FEEDBACK_DIR", "feedback")),
            rules=rules,
            cache_bytes=environment.size_bytes("WEIR_FEEDBACK_CACHE", 4 << 20, 1 << 20, 1 << 32),
        )
