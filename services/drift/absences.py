"""What should have come and did not: labels, models, a reference, a stage's word. Pure, and certain: no test."""

from __future__ import annotations

from collections.abc import Iterator

from services.drift.days import ALL, DAY_MS, STRAGGLER_DAYS, Days
from services.drift.finding import Finding
from services.drift.labels import LabelBook
from services.drift.references import Models
from services.drift.settings import DriftSettings

_HOUR_MS = 3_600_000
STAGES = ("ingestion", "scoring", "decisions")


def check_absences(
    days: Days, book: LabelBook, now_ms: int, models: Models, settings: DriftSettings
) -> Iterator[Finding]:
    """Everything that can be missing at event time ``now_ms``; calm ones too, so that an alert can end."""
    day = now_ms // DAY_MS - 1
    yield _labels(days, book, now_ms, settings)
    newest = max(days.newest_ms.values(), default=0)
    for stage in STAGES:
        behind_days = (newest - days.newest_ms.get(stage, 0)) / DAY_MS if stage in days.newest_ms else 0.0
        yield _absence(
            f"{stage} profiles",
            day,
            "days of silence",
            behind_days,
            STRAGGLER_DAYS,
            f"{stage} has counted nothing since",
        )
    if not models.is_bootstrap:
        age_days = (now_ms - models.champion_since_ms) / DAY_MS
        yield _absence(
            "new model", day, "days since promotion", age_days, settings.retrain_days_max,
            f"{models.champion} has served for {age_days:.0f} days", models.champion,
        )  # fmt: skip
        known = models.get(models.champion)
        has_reference = known is not None and known.reference is not None
        yield _absence(
            "reference", day, "missing", float(not has_reference), 1.0,
            f"{models.champion} carries no reference: nothing can be compared with it", models.champion,
        )  # fmt: skip


def check_silence(now_ms: int, quiet_minutes: float, settings: DriftSettings) -> Finding:
    """Whether events have stopped coming at all: event time stands still then, so the wall clock has to tell."""
    return _absence(
        "events", max(0, now_ms // DAY_MS), "minutes of silence", quiet_minutes, settings.silence_minutes_max,
        f"no stage has counted an event for {quiet_minutes:.0f} minutes",
    )  # fmt: skip


def _labels(days: Days, book: LabelBook, now_ms: int, settings: DriftSettings) -> Finding:
    """Labels are late when the newest is, or when there is none though the first events are old enough."""
    first_day = days.first_day("decisions")
    since_ms = book.newest_observed_ms
    if not since_ms and first_day is not None:
        since_ms = (first_day + 1) * DAY_MS + book.horizon_ms
    hours = max(0.0, (now_ms - since_ms) / _HOUR_MS) if since_ms else 0.0
    return _absence(
        "labels", now_ms // DAY_MS - 1, "hours of silence", hours, settings.silence_hours_max,
        f"no label has come for {hours:.0f} hours while decisions go on",
    )  # fmt: skip


def _absence(
    subject: str, day: int, statistic: str, value: float, limit: float, what: str, version: str = ""
) -> Finding:
    return Finding(
        family="absence", kind="absence", subject=subject, segment=ALL, model_version=version, first_day=day,
        last_day=day, statistic=statistic, value=value, p_value=0.0 if value >= limit else 1.0, chance=float(limit),
        matters=value >= limit, floor=float(limit), records=0, is_harm=False, population="everything", what=what,
    )  # fmt: skip
