"""One decision for each scored event, under the policy in force, with all that led to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_desk_policies import PIN, Shelf, other, version

from services.decisions.columns import columns_of
from services.decisions.handler import DecisionsHandler
from services.mesh.codec import Codec
from services.mesh.ports import InRecord

SCORE, DECISION = Codec("score.v1.avsc"), Codec("decision.v1.avsc")
VECTOR = np.zeros(len(PIN.names), dtype=np.float32).tobytes()  # of a customer and a terminal that nothing is known of


def scored(offset: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{offset}",
        "customer_id": "c1",
        "terminal_id": "t1",
        "event_time_ms": 1_522_584_000_000,
        "amount_minor": 2_500,
        "currency": "EUR",
        "channel": None,
        "country": None,
        "device_id": None,
        "source_partition": 2,
        "source_offset": offset,
        "raw_append_time_ms": 1,
        "event_append_time_ms": 2,
        "update_append_time_ms": 3,
        "feature_set": PIN.content_hash,
        "feature_status": "ok",
        "vector": VECTOR,
        "features_append_time_ms": 4,
        "score": 0.01,
        "model_version": "m1",
        "split_bucket": 7,
        "challenger_scores": [],
        "explanation_status": "none",
        "contributions": [],
        **fields,
    }


def record(offset: int = 0, **fields: Any) -> InRecord:
    return InRecord("scores.v1", 2, offset, 5, b"c1", SCORE.encode(scored(offset, **fields)), ())


def handler() -> DecisionsHandler:
    shelf = Shelf()
    shelf.publish(other(1))
    return DecisionsHandler(shelf.desk(), PIN, shelf.telemetry)


def test_a_decision_holds_all_that_led_to_it() -> None:
    records = [record(0), record(1, score=0.99)]
    emits = handler().step(records)
    for n, emit in enumerate(emits):
        assert (emit.topic, emit.key, emit.partition, emit.source) == ("decisions.v1", b"c1", 2, n)
        decision = DECISION.decode(emit.value)
        before = SCORE.decode(records[n].value)
        assert {name: decision[name] for name in before} == before
        assert decision["score_append_time_ms"] == 5
        assert decision["policy_version"] == version(other(1))
        assert 0 < decision["propensity"] <= 1
    assert DECISION.decode(emits[0].value)["action"] == "approve"
    assert DECISION.decode(emits[1].value)["action"] == "decline"
    assert DECISION.decode(emits[1].value)["reasons"]


@pytest.mark.parametrize("fields", [{"feature_set": "another"}, {"vector": b"\0" * 8}, {"vector": VECTOR + b"\0" * 4}])
def test_a_vector_of_another_kind_is_refused_alone(fields: dict[str, Any]) -> None:
    emits = handler().step([record(0), record(1, **fields), record(2)])
    assert [(emit.topic, emit.source) for emit in emits] == [
        ("dead-letters.v1", 1),
        ("decisions.v1", 0),
        ("decisions.v1", 2),
    ]


def test_junk_is_refused() -> None:
    emits = handler().step([record()._replace(value=b"junk"), record()._replace(value=None)])
    assert [emit.topic for emit in emits] == ["dead-letters.v1"] * 2


def test_a_policy_changes_between_batches_only() -> None:
    shelf = Shelf()
    shelf.publish(other(1))
    made = DecisionsHandler(shelf.desk(), PIN, shelf.telemetry)
    shelf.publish(other(2))
    assert DECISION.decode(made.step([record()])[0].value)["policy_version"] == version(other(1))
    made.idle()
    assert DECISION.decode(made.step([record()])[0].value)["policy_version"] == version(other(2))


def test_columns_are_typed_as_the_language_expects() -> None:
    vector = np.arange(len(PIN.names), dtype=np.float32).tobytes()
    events = [
        scored(0, vector=vector, amount_minor=1_234, currency="KWD"),
        scored(1, vector=vector, country="FR", score=0.5),
    ]
    reads = frozenset({"amount", "score", "amount_minor", "event_time_ms", "country", "customer_count_1d", "is_night"})
    columns = columns_of(events, reads, PIN.names)
    assert columns.keys() == reads
    assert columns["amount"].tolist() == [1.234, 25.0]
    assert columns["amount"].dtype == columns["score"].dtype == np.float64
    assert columns["amount_minor"].dtype == columns["event_time_ms"].dtype == np.int64
    assert columns["country"].tolist() == [None, "FR"]
    place = PIN.names.index("customer_count_1d")
    assert columns["customer_count_1d"].tolist() == [place, place]
    assert columns["customer_count_1d"].dtype == np.float32
