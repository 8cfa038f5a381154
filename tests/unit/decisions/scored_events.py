"""Scored events as columns and small policies as text, for the tests of decisions."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np

from services.decisions.expression import Columns
from services.decisions.policy import Policy, load_policy
from services.decisions.verdict import Verdict

WINDOWS = ("5m", "1h", "1d", "7d", "30d")
TERMINAL_WINDOWS = ("1d", "7d", "30d")
FEATURES = (
    "amount",
    "is_weekend",
    "is_night",
    *(f"customer_{kind}_{window}" for kind in ("count", "amount_mean") for window in WINDOWS),
    *(f"terminal_{kind}_{window}_delay_7d" for kind in ("count", "fraud_rate") for window in TERMINAL_WINDOWS),
    *(f"terminal_known_{kind}_{window}" for kind in ("fraud_rate", "labels") for window in TERMINAL_WINDOWS),
)
TEXTS = ("customer_id", "terminal_id", "event_id", "currency", "channel", "country", "device_id")
ORDINARY: dict[str, Any] = {
    **dict.fromkeys(FEATURES, 0.0),
    "customer_id": "c1",
    "terminal_id": "t1",
    "event_id": "e1",
    "currency": "EUR",
    "channel": None,
    "country": None,
    "device_id": None,
    "amount_minor": 2_500,
    "amount": 25.0,
    "event_time_ms": 1_522_584_000_000,  # 2018-04-01 12:00 UTC, a Sunday
    "score": 0.01,
    "challenger_gap": float("nan"),
    "missing_features": 0.0,
    "model_version": "m-1",
    "feature_status": "ok",
}

DEFAULT_TEXT = files("schemas").joinpath("payments/policy.yaml").read_text(encoding="utf-8")


def columns_of(*events: dict[str, Any]) -> Columns:
    """Turn events, each given by what differs from an ordinary one, into columns as the service builds them."""
    rows = [{**ORDINARY, **event} for event in events]

    def column(name: str) -> np.ndarray:
        values = [row[name] for row in rows]
        if name in ("amount_minor", "event_time_ms"):
            return np.array(values, np.int64)
        if name in ("amount", "score", "challenger_gap", "missing_features"):
            return np.array(values, np.float64)
        if name in FEATURES:
            return np.array(values, np.float32)
        return np.array(values, dtype=object)

    return {name: column(name) for name in ORDINARY}


def policy_text(
    lists: str = "",
    rules: str = "",
    thresholds: str = "default: {challenge: 0.2, review: 0.5, decline: 0.9}",
    bootstrap_rules: str = "[]",
    fallback: str = "{applies_to: [fallback, stale], thresholds: {review: 0.3}}",
    passthrough: str = "{share: 0}",
) -> str:
    """Return a whole policy, each part given in YAML's flow style."""
    return f"""name: p
owner: o
lists: {{{lists}}}
rules: [{rules}]
thresholds: {{{thresholds}}}
bootstrap: {{rules: {bootstrap_rules}}}
fallback: {fallback}
passthrough: {passthrough}
"""


def rule(name: str, when: str, action: str) -> str:
    """Return one rule in flow style."""
    return f"{{name: {name}, when: '{when}', action: {action}, reason: Because of {name}.}}"


def policy(**parts: str) -> Policy:
    """Load a policy of the given parts."""
    return load_policy(policy_text(**parts), "p.yaml", FEATURES)


def decide(loaded: Policy, **event: Any) -> Verdict:
    """Return the verdict on one event."""
    (verdict,) = loaded.decide(columns_of(event))
    return verdict
