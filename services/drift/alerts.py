"""Which alerts hold: raised when a check finds something, cleared once when it has found nothing for days. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from services.drift.days import DAY_MS
from services.drift.finding import Finding, shown_day, shown_segment
from services.mesh.records import DriftAlert

Key = tuple[str, str, str]
"""(kind, subject, segment)."""

# One calm day may be chance as much as one loud one: two in a row end an alert.
CALM_DAYS = 2
# What has fallen below so much of its floor is calm even when a test still tells it from chance.
CALM_SHARE = 0.75
# From this chance on a value counts as the beginning of what is found later.
SUSPICIOUS = 0.01
NEW = "new value of "

ACTIONS = {
    "feature_shift": "nothing by itself: somebody looks whether it is meant; harm, not change, leads to retraining",
    "score_shift": "nothing by itself: somebody looks at the features that moved with it",
    "decision_shift": "nothing by itself: somebody looks at rules and thresholds",
    "data_quality": "nothing by itself: somebody asks the sender, and looks at dead letters",
    "calibration": "retraining reads it as a sign of harm",
    "precision": "retraining reads it as a sign of harm",
    "estimate_gap": "retraining reads it as a sign of harm",
    "absence": "somebody looks why it does not come",
}


@dataclass(slots=True)
class _State:
    raised: DriftAlert | None = None
    calm_days: int = 0
    since_day: int | None = None  # first day of the current run of suspicious values


class Ledger:
    """All alerts, keyed by what they are about."""

    def __init__(self) -> None:
        self._states: dict[Key, _State] = {}
        self.history: list[DriftAlert] = []

    @property
    def open(self) -> list[DriftAlert]:
        """Alerts that hold, oldest first."""
        held = [state.raised for state in self._states.values() if state.raised is not None]
        return sorted(held, key=lambda alert: (alert["window_end_ms"], alert["alert_id"]))

    def restore(self, published: Iterable[DriftAlert]) -> None:
        """Take over what ``drift-alerts.v1`` says, in its order, in place of what a replay has found out by itself."""
        self.history = list(published)
        for state in self._states.values():
            state.raised = None
        for alert in self.history:
            key = alert["kind"], alert["subject"], alert["segment"]
            state = self._states.setdefault(key, _State())
            state.raised = alert if alert["status"] == "raised" else None

    def check(
        self, day: int, findings: Sequence[Finding], loud: Sequence[Finding], *, whole: bool = True
    ) -> list[DriftAlert]:
        """What to publish after the check of ``day``: new alerts and ended ones. ``loud``: the findings to raise.

        ``whole``: these are all findings of the day; what is not among them is tested no more.
        """
        alerts: list[DriftAlert] = []
        loud_keys = {finding.key for finding in loud}
        for finding in findings:
            state = self._states.setdefault(finding.key, _State())
            if finding.p_value >= SUSPICIOUS:
                state.since_day = None
            elif state.since_day is None:
                state.since_day = finding.last_day  # earlier days of its window looked well until then
            if finding.key in loud_keys:
                state.calm_days = 0
                if state.raised is None:
                    state.raised = _raised(finding, state.since_day or finding.last_day, day)
                    alerts.append(state.raised)
            elif state.raised is not None:
                state.calm_days = state.calm_days + 1 if _is_calm(finding) else 0
                if state.calm_days >= CALM_DAYS:
                    alerts.append(_cleared(state.raised, finding, day))
                    state.raised, state.calm_days = None, 0
        if whole:
            alerts += self._unmentioned({finding.key for finding in findings}, day)
        self.history += alerts
        return alerts

    def _unmentioned(self, mentioned: set[Key], day: int) -> list[DriftAlert]:
        """A new category that has become known is tested no more: its alert ends."""
        alerts = []
        for key, state in self._states.items():
            if state.raised is not None and key not in mentioned and key[1].startswith(NEW):
                alerts.append(_ended(state.raised, day, "it is one of the known ones now"))
                state.raised = None
        return alerts


def check_day(alert: DriftAlert) -> int:
    """The day whose check raised or cleared it."""
    if alert["status"] == "cleared":
        return alert["window_end_ms"] // DAY_MS - 1
    raised = datetime.strptime(alert["alert_id"].rpartition(":")[2], "%Y-%m-%d").replace(tzinfo=UTC)
    return int(raised.timestamp() * 1_000) // DAY_MS


def unpublished(found: Sequence[DriftAlert], published: Sequence[DriftAlert]) -> list[DriftAlert]:
    """Of what a replay has found, what nobody was told: from the last published check on, and not in ``published``.

    Earlier days are over, whatever a replay makes of them: what comes late may tip a close case the other way.
    """
    told = {(alert["alert_id"], alert["status"]) for alert in published}
    last = max((check_day(alert) for alert in published), default=0)
    return [a for a in found if (a["alert_id"], a["status"]) not in told and check_day(a) >= last]


def _is_calm(finding: Finding) -> bool:
    if not finding.matters and finding.floor == 0.0:
        return True
    beyond = finding.value - 1 if finding.statistic in ("ratio", "frauds per promised fraud") else finding.value
    floor = finding.floor - 1 if finding.statistic in ("ratio", "frauds per promised fraud") else finding.floor
    return finding.p_value >= SUSPICIOUS or not finding.matters or beyond < CALM_SHARE * floor


def _raised(finding: Finding, since_day: int, day: int) -> DriftAlert:
    moved = f"{finding.subject} has moved since {shown_day(since_day)} in {shown_segment(finding.segment)}"
    if finding.subject.startswith(NEW):
        moved = f"{finding.subject} since {shown_day(since_day)}"
    elif finding.kind == "absence":
        moved = f"{finding.subject}: missing on {shown_day(day)}"
    text = f"{moved}: {finding.what} ({finding.population}); {_threshold_words(finding)}"
    return {
        "alert_id": f"{finding.kind}:{finding.subject}:{finding.segment}:{shown_day(day)}",
        "status": "raised",
        "kind": finding.kind,
        "subject": finding.subject,
        "segment": finding.segment,
        "model_version": finding.model_version,
        "window_start_ms": since_day * DAY_MS,
        "window_end_ms": (finding.last_day + 1) * DAY_MS,
        "statistic": finding.statistic,
        "value": float(finding.value),
        "threshold": float(threshold_of(finding)),
        "records": finding.records,
        "is_harm": finding.is_harm,
        "text": text,
        "action": ACTIONS[finding.kind],
        "evidence": _evidence(finding),
    }


def threshold_of(finding: Finding) -> float:
    """The value that has to be passed: chance and what matters, whichever is further from nothing."""
    if finding.statistic == "precision":
        return min(finding.chance, finding.floor)
    return max(finding.chance, finding.floor)


def _threshold_words(finding: Finding) -> str:
    if finding.kind == "absence":
        return f"{finding.value:.0f} {finding.statistic}, {finding.floor:.0f} are tolerated"
    side = "below" if finding.statistic == "precision" else "from"
    return f"{finding.statistic} {finding.value:.3g}, alerts {side} {threshold_of(finding):.3g}"


def _cleared(raised: DriftAlert, finding: Finding, day: int) -> DriftAlert:
    ended = _ended(raised, day, finding.what)
    ended["value"], ended["records"] = float(finding.value), finding.records
    ended["model_version"], ended["evidence"] = finding.model_version, _evidence(finding)
    return ended


def _ended(raised: DriftAlert, day: int, why: str) -> DriftAlert:
    ended: DriftAlert = {**raised}
    ended["status"], ended["window_end_ms"] = "cleared", (day + 1) * DAY_MS
    ended["text"] = f"{raised['subject']} is back on {shown_day(day)} in {shown_segment(raised['segment'])}: {why}"
    ended["action"] = "none"
    return ended


def _evidence(finding: Finding) -> str:
    return orjson.dumps({"p_value": finding.p_value, **finding.evidence}).decode()
