"""All of drift's thinking in one object: records in, alerts out, on the clock of the records. Pure.

A day of event time is checked once, when every stage has counted past its end; everything is recomputed from merged
counts, so the same records in any order lead to the same checks up to what came late.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from services.drift.absences import check_absences, check_silence
from services.drift.alerts import Ledger
from services.drift.days import ALL, DAY_MS, Days
from services.drift.field_checks import check_fields
from services.drift.finding import Finding, alarming, rate_of
from services.drift.label_checks import check_labels
from services.drift.labels import LabelBook
from services.drift.model_checks import check_model
from services.drift.references import Models
from services.drift.settings import DriftSettings
from services.mesh.records import DriftAlert, Labelled, ModelRelease, Profile

# Partitions of one stage lie up to so much event time apart when a file is replayed (the sender's bound on flight).
SLACK_MS: Final = 6 * 3_600_000
CHECKS_KEPT: Final = 400


@dataclass(slots=True)
class Check:
    """What the check of one day found, for the report."""

    day: int
    records: int
    model_version: str
    values: dict[str, float] = field(default_factory=dict)  # "kind:subject:segment" -> value
    loud: list[str] = field(default_factory=list)


class Monitor:
    """State and checks."""

    def __init__(self, settings: DriftSettings) -> None:
        self.settings = settings
        self.days = Days()
        self.labels = LabelBook(settings.budget_per_day, settings.label_horizon_ms)
        self.models = Models()
        self.ledger = Ledger()
        self.checks: list[Check] = []
        self.latest: list[Finding] = []
        self.rate = rate_of(settings.false_alarms_per_week)
        self._next_day: int | None = None

    @property
    def clock_ms(self) -> int:
        """Event time up to which everything was counted; 0 before the first profile."""
        return self.days.clock_ms()

    def take_profile(self, profile: Profile) -> bool:
        """Merge; False: it had come before. ValueError: it is not one of ours."""
        return self.days.add(profile)

    def take_label(self, label: Labelled) -> None:
        """Merge."""
        self.labels.add(label)

    def take_release(self, release: ModelRelease) -> str:
        """A model's move; what is wrong with its manifest, empty when nothing is."""
        return self.models.add(release)

    def restore(self, published: Iterable[DriftAlert]) -> None:
        """Which alerts hold, from the topic that says so."""
        self.ledger.restore(published)

    def due(self) -> list[DriftAlert]:
        """Check every day that is complete and was not checked; what to publish."""
        alerts: list[DriftAlert] = []
        first, complete = self.days.first_day("scoring"), (self.clock_ms - SLACK_MS) // DAY_MS
        if first is None:
            return alerts
        if self._next_day is None or self._next_day < first:
            self._next_day = first
        while self._next_day < complete:
            alerts += self._check(self._next_day)
            self._next_day += 1
        return alerts

    def silence(self, quiet_minutes: float) -> list[DriftAlert]:
        """What to publish after so long without any event, in wall time; nothing before the first event."""
        if not self.clock_ms:
            return []
        finding = check_silence(self.clock_ms, quiet_minutes, self.settings)
        return self.ledger.check(self.clock_ms // DAY_MS, [finding], [finding] if finding.matters else [], whole=False)

    def _check(self, day: int) -> list[DriftAlert]:
        now_ms = (day + 1) * DAY_MS
        findings = [
            *check_model(self.days, day, self.models, self.rate),
            *check_fields(self.days, day, self.rate),
            *check_labels(self.days, self.labels, now_ms, self.models, self.rate),
            *check_absences(self.days, self.labels, now_ms, self.models, self.settings),
        ]
        loud = alarming(findings, self.rate)
        versions = self.days.models("scoring", day)
        self.checks.append(
            Check(
                day=day,
                records=sum(versions.values()),
                model_version=max(versions, key=lambda v: versions[v], default=""),
                values={":".join(f.key): f.value for f in findings if f.segment == ALL},
                loud=[":".join(f.key) for f in loud],
            )
        )
        del self.checks[:-CHECKS_KEPT]
        self.latest = findings
        return self.ledger.check(day, findings, loud)
