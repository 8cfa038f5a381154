"""Retraining's own settings, from the environment. Durations are event time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.mesh.settings import Environment
from services.mesh.topics import DAY_MS
from services.retraining.dataset import LEARN_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When the controller may act; each with why its default."""

    # The one age at which labels are compared and learned from: what is told later stays out of tests.
    label_delay_ms: int = 7 * DAY_MS
    every_ms: int = 7 * DAY_MS  # the schedule; weekly holds a stationary fraud model within 0.005 of daily
    cool_down_ms: int = 2 * DAY_MS  # a day of new labels changes little, and each training costs a challenger's place
    budget: int = 12  # trainings in `budget_ms`: a broken signal can't spend more
    budget_ms: int = 28 * DAY_MS
    span_ms_min: int = 23 * DAY_MS  # a week to judge by, a label delay before and behind it, two days to learn from
    rows_min: int = 2_000  # labelled rows before the first training: a thousand for each part
    frauds_min: int = 60
    new_frauds_min: int = 10  # labels that have come since the last training, or there is nothing new to learn
    alpha: float = 0.05  # chance that a challenger which is no better is ever promoted
    # The newest blocks are looked at for calibration and segments only from here on.
    gate_frauds_min: int = 20
    calibration_ratio_max: float = 2.0  # expected frauds over frauds, or the other way round
    segment_loss_max: float = 0.05  # Brier lost per fraud in one band of amounts
    precision_lift_min: float = 2.0  # average precision over the fraud share, which is what chance has
    low_half_share_max: float = (
        0.03  # of the half that looks safest; more says that labels are flipped, not that fraud grew
    )
    score_ms_max: float = 5.0  # a batch of 128 rows; a poll batch waits 10 ms
    canary_percent: int = 10
    canary_ms: int = DAY_MS
    trial_ms_max: int = 35 * DAY_MS  # a challenger that has shown nothing by then never will
    feature_set: str = ""  # that is served; a model of another one is refused
    answers_harm: bool = True  # no: the schedule alone trains
    is_dry_run: bool = False  # decide and note, move nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingSettings:
    """Where things are, and the rules."""

    directory: Path  # snapshots and bundles, one folder a training; the trainer's work
    signing_key: Path
    validation_ms: int
    learn_ms: int  # how far behind the label delay events are learned from
    threads: int  # of the trainer; one leaves the other core to decisions
    rules: Rules

    @classmethod
    def read(cls, environment: Environment, feature_set: str) -> RetrainingSettings:
        """From the environment; mistakes are collected by ``environment``."""
        default, most = Rules(), 365 * DAY_MS
        label_delay_ms = environment.duration_ms("WEIR_LABEL_DELAY", default.label_delay_ms, 1_000, most)
        validation_ms = environment.duration_ms("WEIR_VALIDATION", 7 * DAY_MS, 60_000, most)
        rules = Rules(
            feature_set=feature_set,
            span_ms_min=validation_ms + 2 * label_delay_ms + 2 * DAY_MS,
            label_delay_ms=label_delay_ms,
            every_ms=environment.duration_ms("WEIR_RETRAIN_EVERY", default.every_ms, 60_000, most),
            cool_down_ms=environment.duration_ms("WEIR_RETRAIN_COOL_DOWN", default.cool_down_ms, 0, most),
            budget=environment.integer("WEIR_RETRAIN_BUDGET", default.budget, 1, 1_000),
            alpha=environment.number("WEIR_PROMOTION_ALPHA", default.alpha, 0.0001, 0.5),
            canary_percent=environment.integer("WEIR_CANARY_PERCENT", default.canary_percent, 1, 100),
            canary_ms=environment.duration_ms("WEIR_CANARY_FOR", default.canary_ms, 0, most),
            answers_harm=environment.choice("WEIR_RETRAIN_ON_HARM", "yes", ("no", "yes")) == "yes",
            is_dry_run=environment.choice("WEIR_RETRAIN_DRY_RUN", "no", ("no", "yes")) == "yes",
        )
        return cls(
            directory=Path(environment.text("WEIR_TRAINING_DIR", "training")),
            signing_key=Path(environment.text("WEIR_SIGNING_KEY", "keys/signing.pem")),
            validation_ms=validation_ms,
            learn_ms=environment.duration_ms("WEIR_LEARN", LEARN_MS, DAY_MS, most),
            threads=environment.integer("WEIR_TRAINING_THREADS", 1, 1, 64),
            rules=rules,
        )
