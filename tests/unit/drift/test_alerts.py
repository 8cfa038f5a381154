"""An alert is raised once, stays while it is loud, and is cleared once after days of calm."""

from __future__ import annotations

import dataclasses

import pytest

from services.drift.alerts import CALM_DAYS, Ledger
from services.drift.finding import Finding, alarming, rate_of
from services.mesh.codec import Codec

CODEC = Codec("drift_alert.v1.avsc")
DAY = 20_000
FINDING = Finding(
    family="features", kind="feature_shift", subject="amount", segment="all", model_version="m-1", first_day=DAY,
    last_day=DAY, statistic="psi", value=0.4, p_value=1e-9, chance=0.02, matters=True, floor=0.1, records=900,
    is_harm=False, population="900 events against 50,000 of training", what="bin 10 holds 30% instead of 10%",
)  # fmt: skip
CALM = {"value": 0.01, "p_value": 0.6, "matters": False}


def at(day: int, **changes: object) -> Finding:
    return dataclasses.replace(FINDING, first_day=day, last_day=day, **changes)  # type: ignore[arg-type]


def story(ledger: Ledger, *days: dict[str, object]) -> list[tuple[int, str, str]]:
    told = []
    for number, changes in enumerate(days):
        finding = at(DAY + number, **changes)
        loud = alarming([finding], 0.01)
        told += [(number, a["status"], a["alert_id"]) for a in ledger.check(DAY + number, [finding], loud)]
    return told


def test_raised_once_cleared_once_and_raised_anew() -> None:
    loud: dict[str, object] = {}
    told = story(Ledger(), CALM, loud, loud, CALM, loud, CALM, CALM, CALM, loud)
    assert told == [
        (1, "raised", "feature_shift:amount:all:2024-10-05"),
        (4 + CALM_DAYS, "cleared", "feature_shift:amount:all:2024-10-05"),
        (8, "raised", "feature_shift:amount:all:2024-10-12"),
    ]


def test_what_hovers_below_its_threshold_does_not_end_an_alert() -> None:
    hovering: dict[str, object] = {"value": 0.09, "p_value": 1e-4, "matters": True}
    assert [status for _, status, _ in story(Ledger(), {}, hovering, hovering, hovering)] == ["raised"]


def test_an_alert_says_what_how_much_since_when_where_and_what_follows() -> None:
    ledger = Ledger()
    quiet = at(DAY, value=0.05, p_value=0.005, matters=False)
    assert ledger.check(DAY, [quiet], []) == []
    loud = at(DAY + 1)
    alert = ledger.check(DAY + 1, [loud], [loud])[0]
    assert CODEC.decode(CODEC.encode(alert)) == alert
    assert alert["text"] == (
        "amount has moved since 2024-10-04 in all payments: bin 10 holds 30% instead of 10% (900 events against 50,000 "
        "of training); psi 0.4, alerts from 0.1"
    )
    assert "harm" in alert["action"]
    assert (alert["value"], alert["threshold"], alert["records"]) == (0.4, 0.1, 900)


def test_what_was_published_decides_which_alerts_hold() -> None:
    first, restored = Ledger(), Ledger()
    loud = at(DAY)
    published = first.check(DAY, [loud], [loud])
    restored.check(DAY, [loud], [loud])  # a replay has found it, too, or has not: it does not matter
    restored.restore(published)
    assert restored.open == published
    assert restored.check(DAY + 1, [at(DAY + 1)], [at(DAY + 1)]) == []
    restored.restore([])
    assert restored.open == []


def test_a_new_value_that_is_known_by_now_is_no_alert_any_more() -> None:
    ledger = Ledger()
    new = at(DAY, kind="data_quality", subject="new value of country", segment="XX", statistic="records", value=9.0)
    assert [a["status"] for a in ledger.check(DAY, [new], [new])] == ["raised"]
    assert [a["status"] for a in ledger.check(DAY + 1, [], [])] == ["cleared"]


def test_only_what_is_believed_and_matters_is_loud() -> None:
    believable, small = at(DAY), at(DAY, subject="b", matters=False)
    chance = at(DAY, subject="c", p_value=0.04)
    assert alarming([believable, small, chance], 0.01) == [believable]


def test_the_rate_shares_the_weeks_budget_among_checks_and_families() -> None:
    assert rate_of(1.0) * 7 * 8 == pytest.approx(1.0)
