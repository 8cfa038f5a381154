"""Batches: the verdict on an event depends on nothing but the event."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from services.decisions import evaluate
from services.decisions.policy import load_policy
from tests.unit.decisions.scored_events import DEFAULT_TEXT, FEATURES, columns_of, decide, policy, rule


def mixed_events(rows: int, seed: int = 3) -> list[dict[str, Any]]:
    """Return events of every season, with missing values and some on a list."""
    draw = random.Random(seed)
    return [
        {
            **{name: draw.choice([np.nan, 0.0, 0.6, 3.0, 12.0, 40.0]) for name in FEATURES if name != "amount"},
            "event_id": f"e{index}",
            "customer_id": f"c{draw.randint(1, 9)}",
            "terminal_id": f"t{draw.randint(1, 9)}",
            "currency": draw.choice(["EUR", "JPY", None]),
            "amount": draw.choice([5.0, 40.0, 700.0, 1_500.0, 12_000.0]),
            "score": draw.choice([0.0, 0.06, 0.15, 0.4, 0.75, 0.95, np.nan]),
            "model_version": draw.choice(["bootstrap", "m-1", "m-1"]),
            "feature_status": draw.choice(["ok", "ok", "saturated", "stale", "fallback"]),
        }
        for index in range(rows)
    ]


BUSY = DEFAULT_TEXT.replace("is on the block list., values: []", "is on the block list., values: [c3, t4]").replace(
    "share: 0,", "share: 0.2,"
)


def test_a_batch_equals_its_events_one_by_one() -> None:
    loaded, again = (load_policy(BUSY, "busy.yaml", FEATURES) for _ in range(2))
    events = mixed_events(400)
    verdicts = loaded.decide(columns_of(*events))
    assert verdicts == [decide(again, **event) for event in events]
    assert {verdict.action for verdict in verdicts} == {"approve", "challenge", "review", "decline"}
    # Both the control group and the pass-through have a share of 0.2: either lets a decline go with 0.36.
    assert {round(verdict.propensity, 9) for verdict in verdicts} == {1.0, 0.2, 0.8, 0.36, 0.64}


@pytest.mark.parametrize("rows_max", [1, 7, 64])
def test_where_a_large_batch_is_cut_makes_no_difference(monkeypatch: pytest.MonkeyPatch, rows_max: int) -> None:
    columns = columns_of(*mixed_events(100))
    whole = load_policy(BUSY, "busy.yaml", FEATURES).decide(columns)
    monkeypatch.setattr(evaluate, "ROWS_MAX", rows_max)
    assert load_policy(BUSY, "busy.yaml", FEATURES).decide(columns) == whole


def test_forgetting_resolved_patterns_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = columns_of(*mixed_events(100))
    loaded = load_policy(BUSY, "busy.yaml", FEATURES)
    first = loaded.decide(columns)
    monkeypatch.setattr(evaluate, "PATTERNS_MAX", 0)
    assert loaded.decide(columns) == first


def test_no_events_no_verdicts() -> None:
    assert policy().decide(columns_of()) == []


def test_a_policy_names_the_columns_it_reads_and_needs_no_others() -> None:
    loaded = policy(
        lists="blocked: {of: device_id, effect: block, reason: Blocked., values: [d1]}",
        rules=rule("burst", "customer_count_5m > 3 and country is missing", "review"),
        thresholds="segments: [{name: abroad, when: 'currency != \"EUR\"', review: 0.1}], default: {review: 0.5}",
    )
    assert loaded.reads == {
        "score",
        "model_version",
        "feature_status",
        "device_id",
        "customer_count_5m",
        "country",
        "currency",
    }
    columns = {name: column for name, column in columns_of({"device_id": "d1"}).items() if name in loaded.reads}
    assert loaded.decide(columns)[0].action == "decline"
    assert policy(passthrough="{share: 0.1}").reads >= {"customer_id", "event_id"}


def test_a_feature_status_that_does_not_exist_is_a_bug_and_not_a_verdict() -> None:
    with pytest.raises(KeyError, match="fresh"):
        decide(policy(), feature_status="fresh")


def test_many_rules_and_lists_keep_their_places() -> None:
    lists = ", ".join(f"l{i}: {{of: terminal_id, effect: block, reason: L{i}., values: [t{i}]}}" for i in range(30))
    rules = ", ".join(rule(f"r{i}", f"amount == {i}", "review") for i in range(100))
    loaded = policy(lists=lists, rules=rules)
    for i in (0, 1, 7, 8, 29):
        assert decide(loaded, terminal_id=f"t{i}").reasons == ((f"l{i}", f"L{i}."),)
    for i in (0, 1, 7, 8, 63, 64, 99):
        assert decide(loaded, terminal_id="other", amount=float(i)).rule_hits == (f"r{i}",)
