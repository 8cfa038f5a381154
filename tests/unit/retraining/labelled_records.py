"""Records of ``labels.v1`` as feedback writes them. Not a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from services.mesh.codec import Codec
from services.mesh.feature_set import pinned_feature_set

LABELLED = Codec("labelled.v1.avsc")
PIN = pinned_feature_set()
DAY_MS = 86_400_000
START_MS = 1_700_000_000_000 // DAY_MS * DAY_MS


def labelled(
    number: int, event_time_ms: int, *, fraud: bool, scores: Mapping[str, float], **fields: Any
) -> dict[str, Any]:
    """One; ``scores``: by model, the first one served."""
    (model, score), *beside = scores.items()
    age_ms = fields.get("label_age_ms", 7 * DAY_MS)
    return {
        "event_id": f"e{number}", "customer_id": f"c{number % 500}", "terminal_id": "t1",
        "event_time_ms": event_time_ms, "amount_minor": 2_500, "currency": "EUR", "channel": None, "country": None,
        "device_id": None, "source_partition": 0, "source_offset": number, "raw_append_time_ms": 1,
        "event_append_time_ms": 1, "update_append_time_ms": 1, "feature_set": PIN.content_hash, "feature_status": "ok",
        "vector": np.zeros(len(PIN.names), "<f4").tobytes(), "features_append_time_ms": 1, "score": score,
        "model_version": model, "split_bucket": 1,
        "challenger_scores": [{"model_version": name, "score": value} for name, value in beside],
        "explanation_status": "none", "contributions": [], "score_append_time_ms": 1, "action": "approve",
        "reasons": [], "rule_hits": [], "policy_version": "p1", "propensity": 1.0, "decision_append_time_ms": 1,
        "decision_offset": number, "label": "fraud" if fraud else "genuine", "label_version": 1,
        "label_source": "chargeback", "outcome_id": f"o{number}", "revises": None,
        "observed_time_ms": event_time_ms + age_ms, "label_age_ms": age_ms, "outcome_append_time_ms": 1, **fields,
    }  # fmt: skip


def encoded(*records: dict[str, Any]) -> list[bytes]:
    return [LABELLED.encode(record) for record in records]
