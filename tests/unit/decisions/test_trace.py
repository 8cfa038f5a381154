"""Why, and why not: every condition that was looked at, with how it stood, told apart from what is not known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.decisions.expression import condition
from services.decisions.policy import Policy, load_policy
from services.decisions.vocabulary import TextList, payments_vocabulary
from tests.unit.decisions.scored_events import DEFAULT_TEXT, FEATURES, columns_of, policy, policy_text, rule
from tests.unit.decisions.test_evaluate import BUSY, mixed_events

HOME = {"home": TextList("home", "country", frozenset({"FR"}))}


def told(one: Policy, *events: dict[str, Any]) -> list[dict[tuple[str, str], str]]:
    columns = columns_of(*events)
    judged = one.evaluator.judge({name: columns[name] for name in one.reads})
    keys = one.trace.keys(judged, range(len(events)))
    return [{(each["of"], each["text"]): each["held"] for each in one.trace.values(key)} for key in keys]


def test_each_part_of_a_rule_stands_by_itself() -> None:
    one = policy(rules=rule("far", 'amount > 100 and not country == "FR" or customer_count_5m >= 3', "review"))
    (found,) = told(one, {"amount": 120.0, "country": None, "customer_count_5m": 2})
    assert {text: held for (of, text), held in found.items() if of == "rule far"} == {
        "amount > 100": "yes",
        'country == "FR"': "unknown",
        "customer_count_5m >= 3": "no",
    }


@pytest.mark.parametrize(
    ("text", "event", "held"),
    [
        ("amount > 5", {"amount": 6.0}, "yes"),
        ("customer_count_1d > 5", {"customer_count_1d": np.nan}, "unknown"),
        ("not customer_count_1d > 5", {"customer_count_1d": np.nan}, "unknown"),
        ("not customer_count_1d > 5", {"customer_count_1d": 6.0}, "yes"),  # the part, without the not
        ("country in home", {"country": None}, "unknown"),
        ("country not in home", {"country": "DE"}, "yes"),
        ("not country in home", {"country": "DE"}, "no"),
        ("device_id is missing", {"device_id": None}, "yes"),
        ("not device_id is missing", {"device_id": "d"}, "no"),
        ("coalesce(country, 'x') == 'x'", {"country": None}, "yes"),
        ("not coalesce(country, 'x') == 'x'", {"country": "y"}, "no"),
        ("amount / customer_amount_mean_1d > 5", {"customer_amount_mean_1d": 0.0}, "unknown"),
        ("amount / customer_amount_mean_1d > 5", {"customer_amount_mean_1d": 1.0}, "yes"),
        ("starts_with(device_id, 'd')", {"device_id": None}, "unknown"),
        ("not starts_with(device_id, 'd')", {"device_id": "e"}, "no"),
        ("score > 0.5", {"score": 0.9, "model_version": "bootstrap"}, "unknown"),  # no model gave that number
    ],
)
def test_a_part_is_yes_no_or_not_known(text: str, event: dict[str, Any], held: str) -> None:
    (found,) = told(
        policy(lists="home: {of: country, values: [FR]}", rules=rule("one", text.replace("'", '"'), "review")), event
    )
    assert [value for (of, _), value in found.items() if of == "rule one"] == [held]


def test_neighbours_in_a_chain_are_parts_of_their_own() -> None:
    (found,) = told(policy(rules=rule("mid", "10 <= amount < 50", "review")), {"amount": 60.0})
    assert [(text, held) for (of, text), held in found.items() if of == "rule mid"] == [
        ("10 <= amount", "yes"),
        ("amount < 50", "no"),
    ]


def test_what_a_part_says_agrees_with_the_part_alone() -> None:
    """Over events of every kind: held is what the part, compiled by itself both ways round, says."""
    one = load_policy(BUSY, "busy.yaml", FEATURES)
    events = mixed_events(300)
    vocabulary = payments_vocabulary(FEATURES, {})
    columns = dict(columns_of(*events))
    columns["score"] = np.where(columns["model_version"] == "bootstrap", np.nan, columns["score"])
    compared = 0
    for row, found in enumerate(told(one, *events)):
        part = {name: column[row : row + 1] for name, column in columns.items()}
        for (of, text), held in found.items():
            if of.startswith("list") or "limit_currencies" in text:
                continue
            with np.errstate(all="ignore"):
                yes = bool(np.all(condition(text, vocabulary).hits(part)))
                no = bool(np.all(condition(f"not ({text})", vocabulary).hits(part)))
            assert held == ("yes" if yes else "no" if no else "unknown"), (of, text)
            compared += 1
    assert compared > 3_000


def test_only_what_was_looked_at_is_told() -> None:
    one = load_policy(DEFAULT_TEXT.replace("values: []", "values: [c9]", 1), "p.yaml", FEATURES)
    ordinary, early, stale, rich = told(
        one,
        {},
        {"model_version": "bootstrap"},
        {"feature_status": "stale"},
        {"amount": 2_000.0},
    )

    def owners(found: dict[tuple[str, str], str]) -> set[str]:
        return {of for of, _ in found}

    assert "list blocked_customers" in owners(ordinary)
    assert not any("bootstrap" in of or "fallback" in of for of in owners(ordinary))
    assert "rule bootstrap_velocity" in owners(early)
    assert ("segment default", "score >= 0.8") not in early  # thresholds don't apply before the first model
    assert {"rule fallback_high_amount", "segment fallback"} <= owners(stale)
    assert ordinary[("segment default", "score >= 0.8")] == "no"
    assert ("segment default", "score >= 0.8") not in rich
    assert rich[("segment high_value", "score >= 0.7")] == "no"


def test_a_threshold_without_a_score_is_not_known() -> None:
    text = policy_text(thresholds="default: {decline: 0.9, expected_loss: {currencies: [EUR], review: 50}}")
    (found,) = told(load_policy(text, "p.yaml", FEATURES), {"score": np.nan})
    assert found == {
        ("segment default", "score >= 0.9"): "unknown",
        ("segment default", "score * amount >= 50"): "unknown",
    }
