"""A backtest decides what the live path decided, event for event; and its figures are right where we know them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from recorded import BUSY, PARTITIONS, cut, decided, events, scores
from test_desk_policies import PIN

from services.cli.decision_history import history_of, rows_of
from services.decisions.backtest import replay
from services.decisions.history import FRAUD, GENUINE, History
from services.decisions.policy import load_policy
from services.decisions.report import Ledger, Side, agreement, changes, compare
from services.decisions.verdict import ACTIONS
from services.mesh.codec import Codec
from services.mesh.ports import InRecord

DECISION = Codec("decision.v1.avsc")


def history(records: list[InRecord], labelled: dict[int, Any] | None = None) -> History:
    by_partition: dict[int, list[InRecord]] = {}
    for record in records:
        by_partition.setdefault(record.partition, []).append(record)
    columns = {
        partition: rows_of([r.value or b"" for r in own], [r.offset for r in own], PIN)
        for partition, own in by_partition.items()
    }
    found, left_out = history_of(columns, labelled or {}, PIN, PARTITIONS)
    assert left_out == 0
    return found


@pytest.fixture(scope="module")
def recorded() -> list[InRecord]:
    return decided(BUSY, cut(scores(events(4_000)), 97))


def test_the_past_comes_out_as_the_live_path_decided_it(recorded: list[InRecord]) -> None:
    past = history(recorded)
    policy = load_policy(BUSY, "busy.yaml", PIN.names)
    found = replay(past, policy, np.ones((len(past), 1)))
    assert agreement(past, policy, found) == (4_000, 4_000)
    live = [DECISION.decode(record.value) for record in sorted(recorded, key=lambda r: (r.partition, r.offset))]
    assert [ACTIONS[action] for action in found.action] == [decision["action"] for decision in live]
    assert found.propensity.tolist() == [decision["propensity"] for decision in live]
    # All that the log's order decides happened: without it the test would show nothing.
    codes = {reason["code"] for decision in live for reason in decision["reasons"]}
    assert {"fuse_blown", "review_budget_spent", "passthrough", "control_group_decline", "high_stakes"} <= codes
    assert {"low_confidence", "expected_loss_decline"} <= codes
    assert found.blown["broad"] > 0
    assert found.over_budget == sum("review_budget_spent" in str(decision["reasons"]) for decision in live)


def test_how_live_batches_were_cut_makes_no_difference(recorded: list[InRecord]) -> None:
    other = decided(BUSY, cut(scores(events(4_000)), 1_000))
    assert [record.value for record in other] == [record.value for record in recorded]


def test_another_order_of_the_log_would_be_noticed(recorded: list[InRecord]) -> None:
    past = history(recorded)
    policy = load_policy(BUSY, "busy.yaml", PIN.names)
    backwards = history([record._replace(offset=10_000 - record.offset) for record in reversed(recorded)])
    found = replay(backwards, policy, np.ones((len(past), 1)))
    same, own = agreement(backwards, policy, found) or (0, 0)
    assert own == 4_000
    assert same < 4_000


def test_rules_are_counted_with_the_weights_handed_in(recorded: list[InRecord]) -> None:
    past = history(recorded)
    policy = load_policy(BUSY, "busy.yaml", PIN.names)
    weights = np.stack([np.ones(len(past)), past.numbers["score"]], axis=1)
    sums = replay(past, policy, weights).sums
    for place, rule in enumerate(policy.rules):
        own = past.hit_rows[past.rule_hits.holding(rule.name)]
        assert sums[place] == pytest.approx([len(own), past.numbers["score"][own].sum()])


def test_what_changes_is_listed(recorded: list[InRecord]) -> None:
    past = history(recorded)
    milder = load_policy(BUSY.replace("amount > 20", "amount > 48"), "milder.yaml", PIN.names)
    ledger = Ledger(past)
    found = replay(past, milder, ledger.columns())
    old = Side(past.action, past.wanted)
    report = compare(ledger, milder, found, old, recorded=True)
    listed = list(changes(past, old, found))
    assert report.changed == len(listed) > 100
    moves: dict[tuple[str, str], int] = {}
    for change in listed:
        moves[change["old"], change["new"]] = moves.get((change["old"], change["new"]), 0) + 1
    assert {(a, b): report.moves[a][b] for a in ACTIONS for b in ACTIONS if a != b and report.moves[a][b]} == moves
    assert report.agrees is None  # another version decided


class TestManapat:
    """Stripe's case: a threshold, 5% of what is above it let through and the rest never seen.

    https://www.sambuz.com/doc/counterfactual-evaluation-of-machine-learning-models-ppt-presentation-449660
    Scaled down by 1,000: 890 genuine and 10 fraud below; above, 95 blocked, 1 genuine and 4 fraud let through.
    """

    POLICY = BUSY[: BUSY.index("lists:")] + (
        "thresholds: {default: {decline: 0.5}}\nbootstrap: {rules: []}\n"
        "fallback: {applies_to: [fallback], thresholds: {review: 0.4}}\npassthrough: {share: 0.05}\n"
    )

    def past(self, **labels: int) -> History:
        """Scores as the slide has them, decided by the handler: which are let through is the hash's word."""
        found = [
            {**event, "score": 0.9 if number < 100 else 0.1, "model_version": "m1", "feature_status": "ok"}
            for number, event in enumerate(events(1_000))
        ]
        past = history(decided(self.POLICY, cut(scores(found), 100)))
        above = np.flatnonzero(past.numbers["score"] > 0.5)
        # Exactly five of a hundred, whichever they are.
        through = above[:5]
        past.action[above] = ACTIONS.index("decline")
        past.wanted[above] = ACTIONS.index("decline")
        past.numbers["propensity"][above] = 0.95
        past.action[through] = ACTIONS.index("approve")
        past.numbers["propensity"][through] = 0.05
        past.label[:] = GENUINE
        below = np.flatnonzero(past.numbers["score"] < 0.5)
        past.label[below[:10]] = FRAUD
        past.label[through[:4]] = FRAUD
        past.label[np.setdiff1d(above, through)] = -1
        return past

    def test_precision_and_recall_are_those_of_the_slide(self) -> None:
        past = self.past()
        policy = load_policy(self.POLICY, "threshold.yaml", PIN.names)
        ledger = Ledger(past)
        report = compare(
            ledger, policy, replay(past, policy, ledger.columns()), Side(past.action, past.wanted), recorded=True
        )
        for side in ("old", "new"):
            assert report.declined[side].events == 100
            assert report.declined[side].precision.value == pytest.approx(0.80)
            assert report.declined[side].recall.value == pytest.approx(80 / 90)
        assert (report.population.labelled, report.population.let_through) == (905, 5)
        assert report.population.blocked_unseen == 0

    def test_what_was_let_through_counts_for_the_blocked_only_by_its_weight(self) -> None:
        """Unweighted, the same past says precision 80% of 5 and recall 4 of 14."""
        past = self.past()
        past.numbers["propensity"][:] = 1.0
        figures = Ledger(past).figures(past.wanted == ACTIONS.index("decline"))
        assert figures.recall.value == pytest.approx(4 / 14)

    def test_what_was_blocked_without_chance_is_said_to_be_unknown(self) -> None:
        past = self.past()
        blocked = past.action == ACTIONS.index("decline")
        past.numbers["propensity"][blocked] = 1.0
        assert Ledger(past).population().blocked_unseen == 95
        past.label[blocked] = GENUINE
        assert Ledger(past).population().labels_left_out == 95
        assert Ledger(past, every_label=True).population().labelled == 1_000


def test_labels_find_their_decision_and_the_last_version_holds(recorded: list[InRecord]) -> None:
    labelled = {
        1: {
            "offset": np.array([0, 1, 2, 3]),
            "decision_offset": np.array([5, 6, 5, 99_999]),
            "fraud": np.array([True, True, False, True]),
            "label_version": np.array([1, 1, 2, 1]),
        }
    }
    past = history(recorded, labelled)
    known = {
        (int(past.partition[row]), int(past.offset[row])): int(past.label[row])
        for row in np.flatnonzero(past.label >= 0)
    }
    assert known == {(1, 5): GENUINE, (1, 6): FRAUD}
