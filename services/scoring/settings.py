"""Scoring's own settings, from the environment."""

from __future__ import annotations

from dataclasses import dataclass

from services.mesh.settings import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringSettings:
    """Each with its unit and why its default."""

    public_key_files: tuple[str, ...]  # who may sign a model; PEM files, separated by commas
    explain_score_min: float  # below 5% probability no default policy stops a payment
    explain_rows_max: int  # a batch: exact TreeSHAP takes 0.4 ms a row, so 25 rows cost 10 ms, one batch wait
    reasons_max: int  # more than five nobody reads

    @classmethod
    def read(cls, environment: Environment) -> ScoringSettings:
        """From the environment; mistakes are collected by ``environment``."""
        keys = environment.text("WEIR_MODEL_KEYS", "")
        return cls(
            public_key_files=tuple(key for key in keys.split(",") if key),
            explain_score_min=environment.integer("WEIR_EXPLAIN_SCORE_PERCENT", 5, 0, 100) / 100,
            explain_rows_max=environment.integer("WEIR_EXPLAIN_ROWS_MAX", 25, 0, 500),
            reasons_max=environment.integer("WEIR_REASONS_MAX", 5, 1, 25),
        )
