"""A small world for drift: days of payments with weekends, habits and campaigns, their scores, decisions and labels.

Everything goes through the counters and contracts of the real stages. What may be shifted, from a day on, is named by
``Shift``; None shifts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from services.drift.monitor import Monitor
from services.drift.references import KnownModel
from services.drift.settings import DriftSettings
from services.mesh.calibration import Platt
from services.mesh.manifest import MANIFEST_VERSION, Golden, Manifest, canonical
from services.mesh.profile import WINDOW_MS, FieldCounts, ScoredCounts
from services.mesh.records import DriftAlert, ModelRelease
from services.mesh.reference import DAY_MS, Reference, feature_reference, score_reference

ShiftKind = Literal["feature", "units", "nulls", "category", "score", "concept", "volume", "actions"]
NAMES = ("amount", "is_weekend", "is_night", "customer_count_7d", "customer_amount_mean_30d", "terminal_fraud_rate_7d",
         "noise_a", "noise_b")  # fmt: skip
MODEL = "m-1"
START_DAY = 20_000
TRAINING_DAYS = 35
VALIDATION_DAYS = 7
LABEL_DELAY_DAYS = 7
BUDGET = 40


@dataclass(frozen=True, slots=True)
class Shift:
    """``kind`` by ``size`` (its unit is the kind's own, see ``World._events``), from ``day`` on."""

    kind: ShiftKind
    size: float
    day: int


@dataclass(slots=True)
class Payments:
    """One day, sorted by time; scores as the model gives them, truth as it is."""

    times_ms: npt.NDArray[np.int64]
    rows: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float64]
    fraud: npt.NDArray[np.bool_]
    channels: list[str | None]
    countries: list[str | None]


class World:
    """Draws days from ``seed``."""

    def __init__(self, seed: int, events_per_day: int, shift: Shift | None = None) -> None:
        self._rng = np.random.default_rng(seed)
        self._per_day = events_per_day
        self._shift = shift
        self._mood = np.zeros(3)  # slow drift-free wandering of habits, so that days are not exchangeable draws

    def day(self, day: int) -> Payments:
        """All payments of ``day``."""
        shift = self._shift if self._shift is not None and day >= self._shift.day else None
        rng, weekend = self._rng, day % 7 >= 5
        self._mood = 0.7 * self._mood + 0.7 * rng.normal(0, [0.03, 0.05, 0.1])
        volume = self._per_day * (0.75 if weekend else 1.1) * np.exp(rng.normal(0, 0.04))
        if shift is not None and shift.kind == "volume":
            volume *= shift.size
        n = int(rng.poisson(volume))
        times = np.sort(rng.integers(0, DAY_MS, n))
        rows = np.empty((n, len(NAMES)), dtype=np.float32)
        rows[:, 0] = rng.lognormal(3.2 + self._mood[0] + 0.1 * weekend, 0.9, n)
        rows[:, 1] = weekend
        rows[:, 2] = times < 7 * 3_600_000
        rows[:, 3] = rng.poisson(np.exp(2 + self._mood[1] + rng.normal(0, 0.5, n)))
        rows[:, 4] = rng.lognormal(3.2 + self._mood[0] / 2, 0.6, n)
        # A campaign now and then: frauds come together.
        campaign = 1.0 + 0.5 * (rng.random() < 0.2)
        odds = -5.2 + rng.gamma(0.22, 6.0, n) * campaign
        truth = 1 / (1 + np.exp(-odds))
        rows[:, 5] = np.clip(truth + rng.normal(0, 0.01, n), 0, 1)
        rows[:, 6:] = rng.normal(0, 1, (n, 2))
        fraud = rng.random(n) < truth
        scores = truth
        if shift is not None:
            scores, fraud = self._shifted(shift, rows, scores, fraud)
        channels: list[Any] = rng.choice(["web", "pos", "moto"], n, p=[0.5, 0.45, 0.05]).tolist()
        countries: list[Any] = rng.choice(["FR", "DE", "NL", "BE"], n, p=[0.6, 0.2, 0.15, 0.05]).tolist()
        if shift is not None and shift.kind == "nulls":
            countries = [None if gone else c for c, gone in zip(countries, rng.random(n) < shift.size, strict=True)]
        if shift is not None and shift.kind == "category":
            countries = ["XX" if new else c for c, new in zip(countries, rng.random(n) < shift.size, strict=True)]
        return Payments(day * DAY_MS + times, rows, scores, fraud, channels, countries)

    def _shifted(
        self, shift: Shift, rows: npt.NDArray[np.float32], scores: npt.NDArray[np.float64], fraud: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        n = len(rows)
        match shift.kind:
            case "feature":  # standard deviations of one feature
                rows[:, 6] += shift.size
            case "units":  # factor on amounts
                rows[:, 0] *= shift.size
            case "nulls":  # share of rows that lack a feature
                rows[self._rng.random(n) < shift.size, 3] = np.nan
            case "score":  # log-odds added to every score
                scores = scores * np.exp(shift.size) / (1 + scores * (np.exp(shift.size) - 1))
            case "concept":  # share of the frauds that the scores know which are genuine now; inputs as before
                fraud = fraud & (self._rng.random(n) >= shift.size)
            case _:
                pass
        return scores, fraud


def known_model(world: World) -> KnownModel:
    """The model of five weeks before START_DAY, as training makes its reference."""
    days = [world.day(START_DAY - TRAINING_DAYS + n) for n in range(TRAINING_DAYS)]
    numbers = np.concatenate([np.full(len(d.rows), n) for n, d in enumerate(days)])
    features, _ = feature_reference(np.concatenate([d.rows for d in days]), numbers)
    late = days[-VALIDATION_DAYS:]
    scores, fraud = np.concatenate([d.scores for d in late]), np.concatenate([d.fraud for d in late])
    late_numbers = np.concatenate([np.full(len(d.rows), n) for n, d in enumerate(late)])
    reference = Reference(
        rows=len(numbers), days=TRAINING_DAYS, features=features, segments={}, actions={},
        scores=score_reference(scores, scores, fraud, late_numbers),
    )  # fmt: skip
    return KnownModel(version=MODEL, created_event_time_ms=START_DAY * DAY_MS, feature_names=NAMES, reference=reference)


def settings(directory: Path = Path(), **changes: Any) -> DriftSettings:
    """As drift's process reads them, with a budget that fits the world."""
    given = {
        "directory": directory, "false_alarms_per_week": 1.0, "budget_per_day": BUDGET, "label_horizon_ms": 7 * DAY_MS,
        "retrain_days_max": 10_000, "silence_hours_max": 168, "silence_minutes_max": 60,
    }  # fmt: skip
    return DriftSettings(**{**given, **changes})


def profiles_of(day: Payments, known: KnownModel, offset: int) -> Iterator[Any]:
    """What the three stages tell about ``day``, whose records begin at ``offset`` of one partition."""
    n = len(day.rows)
    times = day.times_ms.tolist()
    scored, decided, fields = ScoredCounts(), ScoredCounts(), FieldCounts()
    assert known.reference is not None
    scored.model(MODEL, known.reference.bins)
    scored.add([MODEL] * n, day.scores, times, day.channels, rows=day.rows, exact=[True] * n)
    actions = np.select([day.scores >= 0.8, day.scores >= 0.3], ["decline", "review"], "approve").tolist()
    decided.add([MODEL] * n, day.scores, times, day.channels, actions=actions)
    digits = [int(amount * 100).bit_length() for amount in day.rows[:, 0].tolist()]
    hours = [time // WINDOW_MS for time in times]
    fields.add(
        [(h, ch, co, "EUR", False) for h, ch, co in zip(hours, day.channels, day.countries, strict=True)],
        list(zip(hours, day.channels, digits, strict=True)),
        times[-1],
    )
    for subject, counts in (("scoring", scored), ("decisions", decided), ("ingestion", fields)):
        cells, newest_ms = counts.take()
        yield {
            "subject": subject, "instance": "0", "window_ms": WINDOW_MS, "newest_event_time_ms": newest_ms,
            "covered": [{"source_partition": 0, "from_offset": offset, "to_offset": offset + n}], "cells": cells,
        }  # fmt: skip


def labels_of(day: Payments, number: int) -> tuple[list[Any], list[Any]]:
    """(next morning's reviews of the BUDGET highest scores, all labels after LABEL_DELAY_DAYS)."""
    reviewed = np.argsort(-day.scores, kind="stable")[:BUDGET]
    looked = set(reviewed.tolist())

    def label(place: int, source: str, version: int, delay_days: int) -> dict[str, Any]:
        time = int(day.times_ms[place])
        observed = (number + 1) * DAY_MS + 8 * 3_600_000 if source == "analyst" else time + delay_days * DAY_MS
        return {
            "event_id": str(place), "customer_id": str(number), "event_time_ms": time,
            "score": float(day.scores[place]), "model_version": MODEL,
            "label": "fraud" if day.fraud[place] else "genuine", "label_version": version,
            "label_source": source, "observed_time_ms": observed, "label_age_ms": observed - time,
        }  # fmt: skip

    morning = [label(place, "analyst", 1, 0) for place in reviewed.tolist()]
    late = [
        label(place, "chargeback", 1, LABEL_DELAY_DAYS)
        if day.fraud[place]
        else label(place, "matured", 0, LABEL_DELAY_DAYS)
        for place in range(len(day.rows))
        if place not in looked
    ]
    return morning, late


def run(
    seed: int, days: int, events_per_day: int, shift: Shift | None = None, **changes: Any
) -> tuple[Monitor, list[DriftAlert]]:
    """Let ``days`` pass before a monitor; it, and all that it published."""
    world = World(seed, events_per_day, shift)
    known, monitor = known_model(world), Monitor(settings(**changes))
    assert monitor.take_release(release_of(known)) == ""
    alerts: list[DriftAlert] = []
    waiting: dict[int, list[Any]] = {}
    offset = 0
    for number in range(START_DAY, START_DAY + days):
        day = world.day(number)
        for profile in profiles_of(day, known, offset):
            monitor.take_profile(profile)
        offset += len(day.rows)
        morning, late = labels_of(day, number)
        waiting.setdefault(number + 1, []).extend(morning)
        waiting.setdefault(number + LABEL_DELAY_DAYS + 1, []).extend(late)
        for label in waiting.pop(number, []):
            monitor.take_label(label)
        alerts += monitor.due()
    return monitor, alerts


def release_of(known: KnownModel) -> ModelRelease:
    """The model's promotion as ``models.v1`` carries it; its booster is nobody's (drift reads the manifest alone)."""
    nothing = np.zeros(1)
    manifest = Manifest(
        manifest_version=MANIFEST_VERSION, model_version=known.version,
        created_event_time_ms=known.created_event_time_ms, feature_set="drift-world",
        feature_names=known.feature_names, fallback_feature_indices=(0,), model_format="ubj", model_sha256="0" * 64,
        fallback_sha256="0" * 64, iteration_range=(0, 1), calibration=Platt(slope=1.0, intercept=0.0),
        fallback_calibration=Platt(slope=1.0, intercept=0.0),
        golden=Golden.of(np.zeros((1, len(known.feature_names)), dtype=np.float32), nothing, nothing),
        code_version="0", data_hash="0" * 64, label_cut_off_ms=known.created_event_time_ms, rows=1, frauds=1,
        metrics={}, parameters={}, xgboost_version="0", reference=known.reference,
    )  # fmt: skip
    return {
        "model_version": known.version, "move": "promote", "why": "first", "event_time_ms": START_DAY * DAY_MS,
        "manifest": canonical(manifest).decode(), "signature": b"", "model": b"m", "fallback_model": b"m",
        "actor": "drift world", "expects": None, "canary_percent": 0, "evidence": "{}",
    }  # fmt: skip
