"""Cases, decisions and labels as the tests of review need them."""

from __future__ import annotations

from typing import Any

from services.mesh.records import ReviewOpened
from services.mesh.review import Case, Filed, case_id_of

NOW_MS = 1_800_000_000_000
EVENT_MS = 1_500_000_000_000
HOUR_MS = 3_600_000


def opened(loss: int = 100, **other: Any) -> ReviewOpened:
    record: dict[str, Any] = {
        "terminal_id": "t-1", "event_time_ms": EVENT_MS, "amount_minor": 2 * loss, "currency": "EUR",
        "value_minor": 2 * loss, "expected_loss_minor": loss, "house_currency": "EUR", "channel": None, "country": None,
        "score": 0.5, "reasons": [{"code": "score_high", "text": "The score is high."}], "rule_hits": ["night"],
        "model_version": "m", "policy_version": "p", "feature_status": "ok", "decision_partition": 0,
        "decision_offset": 7, "opened_time_ms": NOW_MS - HOUR_MS, "due_time_ms": NOW_MS + HOUR_MS, "verdicts_needed": 1,
    }  # fmt: skip
    return record | other  # type: ignore[return-value]


def case(event: str = "e-1", loss: int = 100, **other: Any) -> Case:
    names = {name: other.pop(name) for name in list(other) if name in Case.__slots__}
    return Case(
        case_id=case_id_of("c-1", event), event_id=event, customer_id="c-1", opened=opened(loss, **other), **names
    )


def filed(event: str = "e-1", loss: int = 100, **other: Any) -> Filed:
    names = {name: other.pop(name) for name in list(other) if name in ("claim", "judgement", "version")}
    return Filed(case=case(event, loss, **other), **names)


def decision(event: str = "e-1", amount_minor: int = 200, **other: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "event_id": event, "customer_id": "c-1", "terminal_id": "t-1", "event_time_ms": EVENT_MS,
        "amount_minor": amount_minor, "currency": "EUR", "channel": "web", "country": "FR", "device_id": None,
        "source_partition": 0, "source_offset": 0, "raw_append_time_ms": 0, "event_append_time_ms": 0,
        "update_append_time_ms": 0, "feature_set": "s", "feature_status": "ok", "vector": b"",
        "features_append_time_ms": 0, "score": 0.5, "model_version": "m", "split_bucket": 0, "challenger_scores": [],
        "explanation_status": "none", "contributions": [], "score_append_time_ms": 0, "action": "review",
        "reasons": [{"code": "score_high", "text": "The score is high."}], "rule_hits": [], "policy_version": "p",
        "propensity": 1.0, "shadow_verdicts": [], "conditions": [],
    }  # fmt: skip
    return record | other


def label(event: str = "e-1", offset: int = 0, **other: Any) -> dict[str, Any]:
    own: dict[str, Any] = {
        "decision_append_time_ms": NOW_MS, "decision_offset": offset, "label": "fraud", "label_version": 1,
        "label_source": "chargeback", "outcome_id": "o-1", "revises": None, "observed_time_ms": NOW_MS,
        "label_age_ms": 0, "outcome_append_time_ms": NOW_MS,
    }  # fmt: skip
    return decision(event) | own | other
