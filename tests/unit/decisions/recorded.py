"""Decisions as the real handler records them, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from test_desk_policies import PIN, Shelf
from test_handler_decisions import SCORE, scored

from services.decisions.handler import DecisionsHandler
from services.mesh.ports import InRecord
from tests.unit.decisions.scored_events import policy_text, rule

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_522_540_800_000
PARTITIONS = 4

# Velocity rules, every section, and a rule that fires far above what it says.
BUSY = policy_text(
    lists="blocked: {of: terminal_id, effect: block, reason: Blocked., values: [t3]}",
    rules=", ".join(
        [
            "{name: burst, velocity: {of: customer_count, within: 5m, at_least: 9}, action: decline, "
            "reason: Burst., expected_rate: 0.001}",
            rule("many", "customer_count_1d > 7 and amount > 30", "challenge"),
            rule("known", "terminal_known_fraud_rate_7d > 0.7 or country is missing", "review"),
            "{name: broad, when: amount > 20, action: decline, reason: Broad., expected_rate: 0.02}",
        ]
    ),
    thresholds="segments: [{name: high, when: amount > 40, review: 0.3, decline: 0.8, "
    "expected_loss: {currencies: [EUR], decline: 45}}], default: {challenge: 0.2, review: 0.5, decline: 0.9}",
    bootstrap_rules="[{name: early, when: amount > 45, action: challenge, reason: Early., expected_rate: 0.03}]",
    passthrough="{share: 0.1, when: amount < 50}",
).replace(
    "passthrough:",
    "fuse: {window: 1h, factor: 3, events_min: 20, cool_down: 2h}\n"
    "review: {per_day: 30, over_budget: challenge, high_stakes: {when: amount > 49, reason: High.}, "
    "low_confidence: {when: missing_features >= 3 and score < 0.3, reason: Little is known.}}\n"
    "control_group: {share: 0.1}\npassthrough:",
)


def events(count: int, seed: int = 5) -> list[dict[str, Any]]:
    """Scored events of every kind; event time goes on with some disorder, half a day in all for each 500."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 12, (count, len(PIN.names))).astype(np.float32)
    rows[rng.random(rows.shape) < 0.05] = np.nan
    for place, name in enumerate(PIN.names):
        if "rate" in name:
            rows[:, place] = rng.random(count)
    return [
        scored(
            number,
            event_id=f"e{number}",
            customer_id=f"c{rng.integers(40)}",
            terminal_id=f"t{rng.integers(9)}",
            event_time_ms=int(START_MS + number * DAY_MS // 1_000 + rng.integers(-600_000, 600_000)),
            amount_minor=int(rng.integers(0, 5_100)),
            currency=str(rng.choice(["EUR", "EUR", "JPY", "KWD"])),
            country=[None, "FR", "DE"][rng.integers(3)],
            vector=rows[number].tobytes(),
            feature_status=str(rng.choice(["ok", "ok", "saturated", "stale", "fallback"])),
            score=float(rng.choice([0.01, 0.25, 0.55, 0.85, 0.95])),
            model_version=str(rng.choice(["m1", "m1", "m1", "bootstrap"])),
            challenger_scores=[{"model_version": "m2", "score": 0.4}] if number % 3 else [],
        )
        for number in range(count)
    ]


def scores(found: list[dict[str, Any]]) -> list[InRecord]:
    """As they lie in ``scores.v1``: partitions by customer."""
    ends = dict.fromkeys(range(PARTITIONS), 0)
    records = []
    for event in found:
        partition = int(event["customer_id"][1:]) % PARTITIONS
        key = event["customer_id"].encode()
        records.append(InRecord("scores.v1", partition, ends[partition], 7, key, SCORE.encode(event), ()))
        ends[partition] += 1
    return records


def decided(policy: str, batches: list[list[InRecord]], **parts: Any) -> list[InRecord]:
    """What a handler with nothing but ``policy`` makes of them, as it lies in ``decisions.v1``."""
    shelf = Shelf()
    shelf.publish(policy)
    handler = DecisionsHandler(shelf.desk(), PIN, shelf.telemetry, partitions=PARTITIONS, **parts)
    return appended([emit for batch in batches for emit in handler.step(batch)])


def appended(emits: list[Any]) -> list[InRecord]:
    """Emits as records of their topic."""
    ends: dict[int, int] = {}
    records = []
    for emit in emits:
        offset = ends[emit.partition] = ends.get(emit.partition, -1) + 1
        records.append(InRecord(emit.topic, emit.partition, offset, 9, emit.key, emit.value, list(emit.headers)))
    return records


def cut(records: list[InRecord], size: int) -> list[list[InRecord]]:
    """In batches as a poll hands them over."""
    return [records[start : start + size] for start in range(0, len(records), size)]
