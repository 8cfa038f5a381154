"""When something happened to the models of a run: alerts, trainings, promotions, rollbacks. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from services.mesh.records import DriftAlert, ModelRelease

MomentKind = Literal["shift", "alert", "retrain", "promote", "rollback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something happened, in event time."""

    time_ms: int
    kind: MomentKind
    detail: str


def moments_of(releases: Sequence[ModelRelease], alerts: Sequence[DriftAlert]) -> list[Moment]:
    """Alerts when they are raised, trainings when they begin, moves when they are made; in order of time."""
    found = [
        Moment(
            time_ms=alert["window_end_ms"],
            kind="alert",
            detail=f"{'harm: ' if alert['is_harm'] else ''}{alert['text']}",
        )
        for alert in alerts
        if alert["status"] == "raised"
    ]
    for release in releases:
        detail = f"{release['model_version']}: {release['why']}"
        if release["move"] == "promote":
            found.append(Moment(time_ms=release["event_time_ms"], kind="promote", detail=detail))
        elif release["move"] == "rollback":
            found.append(Moment(time_ms=release["event_time_ms"], kind="rollback", detail=detail))
        elif release["move"] == "note" and json.loads(release["evidence"] or "{}").get("kind") == "training_started":
            found.append(Moment(time_ms=release["event_time_ms"], kind="retrain", detail=release["why"]))
    return sorted(found, key=lambda moment: moment.time_ms)


def shown(time_ms: int) -> str:
    """An event time for people and machines."""
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
