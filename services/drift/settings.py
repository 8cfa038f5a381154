"""Drift's own settings, from the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.mesh.settings import Environment

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSettings:
    """Each with why its default."""

    directory: Path  # reports go here; beside the other files of a data directory
    # One a week is what a person looks into without learning to look away.
    false_alarms_per_week: float
    budget_per_day: int  # alerts that reviewers can work off: where precision is measured
    # Until a matured label has told its age: how long the first label may take before silence is an alert.
    label_horizon_ms: int
    retrain_days_max: int  # without a new model for longer, somebody should know
    # No label for longer while decisions go on; a replay of months runs days ahead of its labels.
    silence_hours_max: int

    silence_minutes_max: int  # wall time without any event; a shop that closes at night sets it higher

    @classmethod
    def read(cls, environment: Environment) -> DriftSettings:
        """From the environment; mistakes are collected by ``environment``."""
        return cls(
            directory=Path(environment.text("WEIR_DRIFT_DIR", "drift")),
            false_alarms_per_week=environment.number("WEIR_DRIFT_FALSE_ALARMS_PER_WEEK", 1.0, 0.001, 100.0),
            budget_per_day=environment.integer("WEIR_DRIFT_BUDGET_PER_DAY", 100, 1, 1_000_000),
            label_horizon_ms=environment.duration_ms("WEIR_DRIFT_LABEL_HORIZON", 7 * DAY_MS),
            retrain_days_max=environment.integer("WEIR_DRIFT_RETRAIN_DAYS_MAX", 28, 1, 10_000),
            silence_minutes_max=environment.integer("WEIR_DRIFT_SILENCE_MINUTES_MAX", 60, 1, 100_000),
            silence_hours_max=environment.integer("WEIR_DRIFT_SILENCE_HOURS_MAX", 168, 1, 10_000),
        )
