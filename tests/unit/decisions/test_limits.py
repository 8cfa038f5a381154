"""Velocity, expected loss, high stakes, low confidence and the control group, on real columns."""

# ruff: noqa: E501  policies in one line

from __future__ import annotations

import numpy as np
import pytest

from services.decisions.policy import load_policy
from tests.unit.decisions.scored_events import FEATURES, columns_of, decide, policy, policy_text, rule
from tests.unit.decisions.test_precedence import codes

STAKES = "review: {high_stakes: {when: amount >= 1000, reason: High.}}"
DOUBT = "review: {low_confidence: {when: challenger_gap >= 0.3 or missing_features >= 2, reason: Doubt.}}"


def with_section(section: str, **parts: str) -> str:
    return f"{policy_text(**parts)}{section}\n"


def loaded(section: str, **parts: str):  # type: ignore[no-untyped-def]
    return load_policy(with_section(section, **parts), "p.yaml", FEATURES)


class TestVelocity:
    def test_any_feature_over_any_window_is_a_condition(self) -> None:
        text = "{name: fast, velocity: {of: customer_amount_mean, within: 1d, at_least: 40.5}, action: decline, reason: F.}"
        one = policy(rules=text)
        assert decide(one, customer_amount_mean_1d=40.5).action == "decline"
        assert decide(one, customer_amount_mean_1d=40.4).action == "approve"
        assert decide(one, customer_amount_mean_1d=np.nan).action == "approve"

    def test_a_delayed_window_is_named_by_its_delay(self) -> None:
        text = "{name: bad, velocity: {of: terminal_fraud_rate, within: 7d, delay: 7d, at_least: 0.1}, action: review, reason: B.}"
        one = policy(rules=text)
        # A float32 rate of 0.1 is 0.1, whatever a float64 makes of it.
        assert decide(one, terminal_fraud_rate_7d_delay_7d=np.float32(0.1)).action == "review"

    def test_with_when_both_have_to_hold(self) -> None:
        text = "{name: f, velocity: {of: customer_count, within: 5m, at_least: 3}, when: amount < 5 or amount > 9, action: review, reason: F.}"
        one = policy(rules=text)
        assert decide(one, customer_count_5m=3, amount=4.0).action == "review"
        assert decide(one, customer_count_5m=3, amount=7.0).action == "approve"
        assert decide(one, customer_count_5m=2, amount=10.0).action == "approve"


class TestExpectedLoss:
    ONE = policy(thresholds="default: {decline: 0.9, expected_loss: {currencies: [EUR], challenge: 10, review: 50}}")

    @pytest.mark.parametrize(
        ("event", "action"),
        [
            ({"score": 0.1, "amount": 100.0}, "challenge"),
            ({"score": 0.1, "amount": 99.0}, "approve"),
            ({"score": 0.5, "amount": 100.0}, "review"),
            ({"score": 0.1, "amount": 100.0, "currency": "JPY"}, "approve"),
            ({"score": np.nan, "amount": 9_000.0}, "review"),  # silence is never an approval
            ({"score": 0.95, "amount": 100.0}, "decline"),  # the height of the score alone
            ({"score": 0.9, "amount": 100.0, "model_version": "bootstrap"}, "approve"),  # no model: no expectation
        ],
    )
    def test_score_times_amount_calls_for_an_action(self, event: dict[str, object], action: str) -> None:
        assert decide(self.ONE, **event).action == action

    def test_the_reason_names_the_threshold(self) -> None:
        assert decide(self.ONE, score=0.5, amount=100.0).reasons[0] == (
            "expected_loss_review",
            "Score times amount is at least 50, the review threshold on the loss of the default segment.",
        )


class TestPeople:
    @pytest.mark.parametrize("event", [{"score": 0.0}, {"score": 0.95}, {"score": 0.3}, {"country": "FR"}])
    def test_high_stakes_go_to_a_person_whatever_else_holds(self, event: dict[str, object]) -> None:
        one = loaded(STAKES, rules=rule("fine", 'country == "FR"', "approve"))
        verdict = decide(one, amount=1_000.0, **event)
        assert verdict.action == "review"
        assert codes(verdict)[0] == "high_stakes"

    def test_lists_outrank_high_stakes(self) -> None:
        lists = "no: {of: terminal_id, effect: block, reason: N., values: [t1]}, ok: {of: customer_id, effect: allow, reason: O., values: [c1]}"
        one = loaded(STAKES, lists=lists)
        assert decide(one, amount=1_000.0).action == "decline"
        assert decide(one, amount=1_000.0, terminal_id="t2").action == "approve"

    @pytest.mark.parametrize(
        ("score", "machine"), [(0.0, "no_objection"), (0.3, "score_challenge"), (0.95, "score_decline")]
    )
    def test_what_the_score_alone_called_for_goes_to_a_person_in_doubt(self, score: float, machine: str) -> None:
        verdict = decide(loaded(DOUBT), score=score, challenger_gap=0.4)
        assert verdict.action == "review"
        assert codes(verdict) == ("low_confidence", machine)

    def test_a_rule_is_sure_of_itself(self) -> None:
        one = loaded(DOUBT, rules=rule("never", "amount > 100", "decline"))
        assert decide(one, amount=200.0, challenger_gap=0.4).action == "decline"
        assert decide(one, amount=50.0, score=0.95, challenger_gap=0.4).action == "review"

    def test_without_a_challenger_there_is_no_doubt_but_for_what_is_missing(self) -> None:
        one = loaded(DOUBT)
        assert decide(one, challenger_gap=np.nan).action == "approve"
        assert decide(one, challenger_gap=np.nan, missing_features=2.0).action == "review"


class TestControlGroup:
    ONE = loaded("control_group: {share: 0.2, when: amount < 100}", rules=rule("ask", "amount > 50", "challenge"))

    def test_a_fixed_share_of_customers_is_left_alone(self) -> None:
        events = [{"customer_id": f"c{n}", "event_id": f"e{m}", "amount": 60.0} for n in range(400) for m in range(3)]
        verdicts = self.ONE.decide(columns_of(*events))
        left_alone = {e["customer_id"] for e, v in zip(events, verdicts, strict=True) if v.action == "approve"}
        assert 50 < len(left_alone) < 110
        for event, verdict in zip(events, verdicts, strict=True):  # all events of a customer alike
            assert (verdict.action == "approve") == (event["customer_id"] in left_alone)
            assert verdict.propensity == (0.2 if verdict.action == "approve" else 0.8)
            assert (codes(verdict)[0] == "control_group_challenge") == (verdict.action == "approve")

    def test_who_is_approved_anyway_is_none_of_its_business(self) -> None:
        events = [{"customer_id": f"c{n}", "amount": 20.0} for n in range(50)]
        assert {(v.action, v.propensity) for v in self.ONE.decide(columns_of(*events))} == {("approve", 1.0)}

    def test_its_condition_narrows_it(self) -> None:
        events = [{"customer_id": f"c{n}", "amount": 150.0} for n in range(50)]
        assert {(v.action, v.propensity) for v in self.ONE.decide(columns_of(*events))} == {("challenge", 1.0)}

    def test_lists_and_high_stakes_hold_for_it_too(self) -> None:
        lists = "no: {of: terminal_id, effect: block, reason: N., values: [t1]}"
        one = loaded(f"control_group: {{share: 0.2}}\n{STAKES}", lists=lists)
        for terminal, action in (("t1", "decline"), ("t2", "review")):
            events = [{"customer_id": f"c{n}", "amount": 2_000.0, "terminal_id": terminal} for n in range(60)]
            assert {(v.action, v.propensity) for v in one.decide(columns_of(*events))} == {(action, 1.0)}


def test_definitions_read_like_what_they_stand_for() -> None:
    short = f"{policy_text(rules=rule('far', 'abroad and times_usual > 5', 'review'))}definitions:\n  abroad: country != 'FR'\n  times_usual: amount / customer_amount_mean_30d\n"
    long = policy(rules=rule("far", 'country != "FR" and amount / customer_amount_mean_30d > 5', "review"))
    one = load_policy(short, "p.yaml", FEATURES)
    for country in ("FR", "DE", None):
        for mean in (1.0, 0.0, np.nan, 30.0):
            event = {"country": country, "customer_amount_mean_30d": mean, "amount": 40.0}
            assert decide(one, **event) == decide(long, **event)
