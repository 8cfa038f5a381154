"""What analysts see of decisions: exactly customer, time and score, and how far they have read."""

from __future__ import annotations

from services.mesh.codec import Codec
from services.simulator.analysts import Analysts
from services.simulator.rhythm import DAY_MS
from services.simulator.scores import ScoreReader

DECISION = Codec("decision.v1.avsc")


def decision(customer: str, day: int, score: float) -> bytes:
    return DECISION.encode(
        {
            "event_id": "e1", "customer_id": customer, "terminal_id": "t1", "event_time_ms": day * DAY_MS + 5,
            "amount_minor": 2_500, "currency": "EUR", "channel": None, "country": None, "device_id": None,
            "source_partition": 0, "source_offset": 1, "raw_append_time_ms": 1, "event_append_time_ms": 1,
            "update_append_time_ms": 1, "feature_set": "f", "feature_status": "ok", "vector": b"",
            "features_append_time_ms": 1, "score": score, "model_version": "m1", "split_bucket": 1,
            "challenger_scores": [], "explanation_status": "none", "contributions": [], "score_append_time_ms": 1,
            "action": "approve", "reasons": [], "rule_hits": [], "policy_version": "p1", "propensity": 1.0,
            "shadow_verdicts": [], "conditions": [],
        }
    )  # fmt: skip


def test_decisions_reach_the_evening_of_their_day() -> None:
    analysts = Analysts(2)
    reader = ScoreReader(analysts)
    reader.look(3, 17, [decision("ann", 9, 0.2), b"no decision", decision("bob", 9, 0.9), decision("cem", 8, 1.0)])
    reader.look(1, 4, [decision("ann", 9, 0.95), decision("dan", 9, 0.1)])
    assert analysts.offsets == {3: 17, 1: 4}
    analysts.evening(10 * DAY_MS)
    assert analysts.notebook.chosen[10 * DAY_MS] == ["ann", "bob"]
