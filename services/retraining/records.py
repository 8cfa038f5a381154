"""Records of the control topics as the controller's events, and its moves as records. Pure."""

from __future__ import annotations

import orjson

from services.mesh.bundle_parts import Bundle
from services.mesh.model_registry import Registry, release_of
from services.mesh.records import DriftAlert, ModelRelease
from services.retraining.events import Alerted, Move, Released

ACTOR = "retraining"


def released(release: ModelRelease, registry: Registry) -> Released:
    """Fold ``release`` into ``registry``; what came of it."""
    why_void = registry.apply(release)
    evidence = _object(release["evidence"]) if release["move"] == "note" else {}
    alerts = evidence.get("alerts")
    return Released(
        model_version=release["model_version"],
        move=release["move"],
        event_time_ms=release["event_time_ms"],
        champion=registry.champion,
        running=tuple(registry.running),
        canary=registry.canary.model_version if registry.canary else "",
        kind=str(evidence.get("kind", "")),
        answers=frozenset(alerts) if isinstance(alerts, dict) else frozenset(),
        is_void=bool(why_void),
        has_bundle=bool(release["model"]),
    )


def alerted(alert: DriftAlert) -> Alerted:
    """An alert as the controller sees it."""
    return Alerted(
        alert_id=alert["alert_id"],
        is_raised=alert["status"] == "raised",
        is_harm=alert["is_harm"],
        event_time_ms=alert["window_end_ms"],
        text=alert["text"],
    )


def release(move: Move, bundle: Bundle | None) -> ModelRelease:
    """``move`` for the journal."""
    return release_of(
        move.model_version,
        move.move,
        why=move.why,
        actor=ACTOR,
        event_time_ms=move.event_time_ms,
        bundle=bundle,
        expects=move.expects,
        canary_percent=move.canary_percent,
        evidence=orjson.dumps(dict(move.evidence)).decode(),
    )


def _object(text: str) -> dict[str, object]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
