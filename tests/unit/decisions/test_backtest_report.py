"""What ``weir policy backtest`` tells: to people, to machines, to whoever wants every changed event."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from recorded import BUSY, DAY_MS, cut, decided, events, scores
from test_backtest import history
from test_desk_policies import PIN

from services.cli.policy_backtest import _write_changes, latest, lines_of
from services.decisions.backtest import replay
from services.decisions.history import FRAUD, GENUINE, History
from services.decisions.policy import Policy, load_policy
from services.decisions.report import Ledger, Report, Side, changes, compare, share


@pytest.fixture(scope="module")
def past() -> History:
    found = history(decided(BUSY, cut(scores(events(2_500)), 200)))
    found.label[:] = np.where(found.numbers["score"] > 0.5, FRAUD, GENUINE)
    return found


def reported(past: History, policy: Policy) -> Report:
    ledger = Ledger(past)
    return compare(
        ledger, policy, replay(past, policy, ledger.columns()), Side(past.action, past.wanted), recorded=True
    )


def test_it_is_json_to_the_last_number(past: History) -> None:
    report = reported(past, load_policy(BUSY, "busy.yaml", PIN.names))
    told = json.loads(json.dumps(dataclasses.asdict(report)))
    assert told["agrees"] == [2_500, 2_500]
    assert told["changed"] == 0
    assert {rule["name"] for rule in told["rules"]} >= {"burst", "many", "known", "broad", "early"}
    assert told["reviews"]["new"] == told["reviews"]["old"] | {"over_budget": told["reviews"]["new"]["over_budget"]}


def test_people_read_who_is_spoken_of_and_what_is_unknown(past: History) -> None:
    policy = load_policy(BUSY.replace("amount > 20", "amount > 45"), "milder.yaml", PIN.names)
    text = "\n".join(lines_of(reported(past, policy), policy))
    assert "changes the action of" in text
    assert "weighted by 1/propensity" in text
    assert "declined without that chance" in text
    assert "money is in EUR" in text
    assert all(len(line) < 250 for line in text.splitlines())


def test_a_rule_says_how_often_it_is_right(past: History) -> None:
    policy = load_policy(BUSY, "busy.yaml", PIN.names)
    ledger = Ledger(past)
    for rule in reported(past, policy).rules:
        own = past.hit_rows[past.rule_hits.holding(rule.name)]
        assert (rule.hits, rule.hits_before) == (len(own), len(own))
        known = ledger.fraud[own].sum() + ledger.genuine[own].sum()
        if known:
            assert rule.precision.value == pytest.approx(ledger.fraud[own].sum() / known)
            assert rule.precision.low is not None
            assert rule.precision.high is not None
            assert rule.precision.low <= rule.precision.value <= rule.precision.high


def test_only_the_latest_stretch_is_asked_for(past: History) -> None:
    times = past.numbers["event_time_ms"]
    last_day = latest(past, DAY_MS)
    assert 0 < len(last_day) < len(past)
    assert len(last_day) == int((times > times.max() - DAY_MS).sum())


def test_every_changed_event_is_a_line_of_the_file(past: History, tmp_path: Path) -> None:
    policy = load_policy(BUSY.replace("amount > 20", "amount > 45"), "milder.yaml", PIN.names)
    found = replay(past, policy, np.ones((len(past), 1)))
    _write_changes(tmp_path / "changed.csv", changes(past, Side(past.action, past.wanted), found))
    with (tmp_path / "changed.csv").open() as rows:
        lines = list(csv.DictReader(rows))
    assert len(lines) == int((past.action != found.action).sum()) > 0
    assert all(line["old"] != line["new"] and line["event_id"].startswith("e") for line in lines)


@pytest.mark.parametrize(
    ("part", "whole", "squares", "low", "high"),
    [(5.0, 10.0, 10.0, 0.2366, 0.7634), (0.0, 10.0, 10.0, 0.0, 0.2775), (80.0, 100.0, 2_000.0, 0.3755, 0.9638)],
)
def test_a_share_has_wilsons_interval_at_its_effective_size(
    part: float, whole: float, squares: float, low: float, high: float
) -> None:
    """Unweighted: the textbook's; weights of 20 on five events: as little as five events say."""
    found = share(part, whole, squares)
    assert (found.value, found.low, found.high) == pytest.approx((part / whole, low, high), abs=2e-4)


def test_of_nothing_nothing_is_known() -> None:
    assert share(0.0, 0.0, 0.0).value is None
