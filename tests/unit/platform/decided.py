"""A log of decisions and labels whose truth is known, and a broker's messages of it. Not a test."""

from __future__ import annotations

from typing import Any

import numpy as np

from services.mesh.codec import Codec
from services.mesh.feature_set import pinned_feature_set
from services.platform.worth import DAY_MS

FEATURES = pinned_feature_set()
DECISION, LABELLED = Codec("decision.v1.avsc"), Codec("labelled.v1.avsc")
START_MS = 20_000 * DAY_MS
DAYS, PER_DAY = 42, 60
DELAY_MS = 7 * DAY_MS


def decision(number: int, fraud: bool, signal: float, turned: bool, **fields: Any) -> dict[str, Any]:
    """One decided payment; its first two features are ``signal`` and ``turned``."""
    vector = np.zeros(len(FEATURES.names), "<f4")
    vector[:2] = signal, turned
    return {
        "event_id": f"e{number}", "customer_id": f"c{number % 50}", "terminal_id": "t1",
        "event_time_ms": START_MS + number * DAY_MS // PER_DAY, "amount_minor": 2_500, "currency": "EUR",
        "channel": None, "country": None, "device_id": None, "source_partition": 0, "source_offset": number,
        "raw_append_time_ms": 1, "event_append_time_ms": 1, "update_append_time_ms": 1,
        "feature_set": FEATURES.content_hash, "feature_status": "ok", "vector": vector.tobytes(),
        "features_append_time_ms": 1, "score": 0.9 if fraud else 0.1, "model_version": "m1", "split_bucket": 1,
        "challenger_scores": [], "explanation_status": "none", "contributions": [], "score_append_time_ms": 1,
        "action": "approve", "reasons": [], "rule_hits": [], "policy_version": "p1", "propensity": 1.0,
        "shadow_verdicts": [], "conditions": [], **fields,
    }  # fmt: skip


def labelled(record: dict[str, Any], fraud: bool) -> bytes:
    own = {
        "decision_append_time_ms": 1, "decision_offset": 0, "label": "fraud" if fraud else "genuine",
        "label_version": 1, "label_source": "chargeback", "outcome_id": "o", "revises": None,
        "observed_time_ms": record["event_time_ms"] + DELAY_MS, "label_age_ms": DELAY_MS, "outcome_append_time_ms": 1,
    }  # fmt: skip
    return LABELLED.encode(record | own)


class Log:
    """What a broker would hold."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        fraud = rng.random(DAYS * PER_DAY) < 0.2
        # From day 35 on the signal means the opposite: whoever knew the labels of that week would score it right.
        turned = np.arange(DAYS * PER_DAY) >= 35 * PER_DAY
        signal = np.where(fraud != turned, 1.0, 0.0) + 0.01 * rng.random(len(fraud))
        rows = zip(fraud.tolist(), signal.tolist(), turned.tolist(), strict=True)
        records = [decision(number, *row) for number, row in enumerate(rows)]
        self.fraud = fraud
        self.decisions = [DECISION.encode(record) for record in records]
        self.labels = [labelled(record, bool(f)) for record, f in zip(records, fraud, strict=True)]
        self.truth = {(r["customer_id"], r["event_id"]): bool(f) for r, f in zip(records, fraud, strict=True)}


class Message:
    def __init__(self, value: bytes) -> None:
        self._value = value

    def value(self) -> bytes:
        return self._value
