"""What one check found: how far something moved, how far chance would have moved it, and how far matters. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.drift.days import DAY_MS
from services.drift.statistics import believed
from services.mesh.records import AlertKind

CHECKS_PER_WEEK = 7.0  # one an event-time day


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One test of one subject in one population."""

    family: str  # tests that share a false-alarm budget
    kind: AlertKind
    subject: str
    segment: str
    model_version: str
    first_day: int
    last_day: int
    statistic: str
    value: float
    p_value: float  # chance of this or more when nothing moved
    chance: float  # the value that chance exceeds as often as is tolerated
    matters: bool  # moved so far that somebody should know, chance or not
    floor: float  # from which value on it matters, in the statistic's unit
    records: int
    is_harm: bool
    population: str
    what: str  # by how much, in words
    evidence: Mapping[str, object] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        """What an alert is about, whichever model serves."""
        return self.kind, self.subject, self.segment


FAMILIES = ("features", "scores", "decisions", "fields", "volume", "calibration", "precision", "gap")


def rate_of(false_alarms_per_week: float) -> float:
    """The false-alarm rate of one family in one daily check: the week's budget, shared alike."""
    return false_alarms_per_week / CHECKS_PER_WEEK / len(FAMILIES)


def alarming(findings: Sequence[Finding], rate: float) -> list[Finding]:
    """Those to believe that also matter: Benjamini-Hochberg within each family at ``rate``."""
    found = []
    for family in dict.fromkeys(finding.family for finding in findings):
        mine = [finding for finding in findings if finding.family == family]
        for finding, is_believed in zip(mine, believed([f.p_value for f in mine], rate), strict=True):
            if is_believed and finding.matters:
                found.append(finding)
    return found


def shown_day(day: int) -> str:
    """A day number as a date."""
    return f"{datetime.fromtimestamp(day * DAY_MS / 1000, UTC):%Y-%m-%d}"


def shown_segment(segment: str) -> str:
    """A population in words."""
    return "all payments" if segment == "all" else f"payments by {segment}"
