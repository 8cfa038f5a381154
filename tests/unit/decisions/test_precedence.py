"""What outranks what, on whole policies and real columns."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from services.decisions.policy import Policy
from services.decisions.verdict import Verdict
from tests.unit.decisions.scored_events import columns_of, decide, policy, rule

BLOCK = "blocked: {of: terminal_id, effect: block, reason: Blocked., values: [t1, t9]}"
ALLOW = "trusted: {of: customer_id, effect: allow, reason: Trusted., values: [c1, c9]}"
BOTH = f"{BLOCK}, {ALLOW}"
DECLINE = rule("never", "amount > 100", "decline")
REVIEW = rule("look", "amount > 50", "review")
CHALLENGE = rule("ask", "amount > 20", "challenge")
APPROVE = rule("fine", 'country == "FR"', "approve")
RULES = ", ".join([CHALLENGE, APPROVE, DECLINE, REVIEW])


def codes(verdict: Verdict) -> tuple[str, ...]:
    return tuple(code for code, _ in verdict.reasons)


def test_nothing_against_an_event_approves_it_and_says_so() -> None:
    verdict = decide(policy())
    assert verdict == Verdict("approve", (("no_objection", "No rule hit and the score is below every threshold."),), ())


def test_block_list_beats_allow_list_rules_and_a_good_score() -> None:
    verdict = decide(policy(lists=BOTH, rules=RULES), country="FR", score=0.0)
    assert verdict == Verdict("decline", (("blocked", "Blocked."),), ("ask", "fine"))


def test_allow_list_beats_rules_and_a_bad_score() -> None:
    verdict = decide(policy(lists=BOTH, rules=RULES), terminal_id="t2", amount=500.0, score=1.0)
    assert verdict == Verdict("approve", (("trusted", "Trusted."),), ("ask", "never", "look"))


def test_who_is_on_no_list_is_judged_by_rules_and_score() -> None:
    loaded = policy(lists=BOTH)
    assert decide(loaded, terminal_id="t2", customer_id="c2", score=0.95).action == "decline"
    assert decide(loaded, terminal_id="t2", customer_id="c2").action == "approve"


def test_a_null_is_on_no_list() -> None:
    loaded = policy(lists="blocked: {of: device_id, effect: block, reason: Blocked., values: [None, 'null', d1]}")
    assert decide(loaded, device_id=None).action == "approve"
    assert decide(loaded, device_id="d1").action == "decline"


@pytest.mark.parametrize(
    ("event", "action", "reasons", "hits"),
    [
        ({"amount": 30.0}, "challenge", ("ask",), ("ask",)),
        ({"amount": 60.0}, "review", ("look",), ("ask", "look")),
        ({"amount": 110.0}, "decline", ("never",), ("ask", "never", "look")),
        ({"amount": 60.0, "score": 0.6}, "review", ("look", "score_review"), ("ask", "look")),
        ({"amount": 60.0, "score": 0.3}, "review", ("look",), ("ask", "look")),
        ({"amount": 60.0, "score": 0.95}, "decline", ("score_decline",), ("ask", "look")),
        ({"amount": 10.0, "country": "FR", "score": 0.95}, "approve", ("fine",), ("fine",)),
        ({"amount": 10.0, "country": "FR", "score": np.nan}, "approve", ("fine",), ("fine",)),
        ({"amount": 30.0, "country": "FR", "score": 0.95}, "challenge", ("ask",), ("ask", "fine")),
        ({"amount": 110.0, "country": "FR"}, "decline", ("never",), ("ask", "fine", "never", "look")),
    ],
)
def test_the_strictest_of_rules_and_score_wins(
    event: dict[str, Any], action: str, reasons: tuple[str, ...], hits: tuple[str, ...]
) -> None:
    verdict = decide(policy(rules=RULES), **event)
    assert (verdict.action, codes(verdict), verdict.rule_hits) == (action, reasons, hits)


@pytest.mark.parametrize(
    ("score", "action"),
    [
        (0.0, "approve"),
        (np.nextafter(0.2, 0), "approve"),
        (0.2, "challenge"),
        (0.5, "review"),
        (np.nextafter(0.9, 0), "review"),
        (0.9, "decline"),
        (1.0, "decline"),
    ],
)
def test_a_score_acts_from_its_threshold_upwards(score: float, action: str) -> None:
    assert decide(policy(), score=score).action == action


def test_a_threshold_left_out_leaves_its_action_to_rules() -> None:
    loaded = policy(thresholds="default: {review: 0.5}", fallback="{applies_to: [fallback], thresholds: {review: 0.3}}")
    assert [v.action for v in loaded.decide(columns_of({"score": 0.4}, {"score": 0.5}, {"score": 1.0}))] == [
        "approve",
        "review",
        "review",
    ]


def test_the_first_segment_that_hits_sets_the_thresholds() -> None:
    segments = (
        "segments: [{name: high, when: amount > 100, decline: 0.4}, "
        "{name: abroad, when: 'country == \"BR\"', review: 0.1}], default: {review: 0.5}"
    )
    loaded = policy(thresholds=segments)
    score = {"score": 0.45}
    high_abroad, high, abroad, home = loaded.decide(
        columns_of(
            {**score, "amount": 200.0, "country": "BR"},
            {**score, "amount": 200.0},
            {**score, "country": "BR"},
            score,
        )
    )
    assert [v.action for v in (high_abroad, high, abroad, home)] == ["decline", "decline", "review", "approve"]
    assert high.reasons == (("score_decline", "Score is at least 0.4, the decline threshold of segment high."),)


class TestBootstrap:
    """Before the first model rules decide alone, and every decision says so."""

    ARRANGED = policy(
        rules=", ".join(
            [DECLINE, rule("by_score", "score > 0.5", "decline"), rule("unscored", "score is missing", "challenge")]
        ),
        bootstrap_rules=f"[{rule('early', 'amount > 40', 'review')}]",
    )

    @pytest.mark.parametrize("score", [0.0, 0.99, np.nan])
    def test_no_score_counts(self, score: float) -> None:
        verdict = decide(self.ARRANGED, model_version="bootstrap", score=score)
        assert verdict.action == "challenge"
        assert verdict.rule_hits == ("unscored",)
        assert codes(verdict) == ("unscored", "bootstrap")

    def test_its_rules_act_beside_the_ordinary_ones(self) -> None:
        early, declined = self.ARRANGED.decide(
            columns_of(
                {"model_version": "bootstrap", "amount": 45.0},
                {"model_version": "bootstrap", "amount": 145.0},
            )
        )
        assert (early.action, early.rule_hits) == ("review", ("unscored", "early"))
        assert (declined.action, declined.rule_hits) == ("decline", ("never", "unscored", "early"))

    def test_its_rules_rest_once_a_model_serves(self) -> None:
        bootstrap, served = self.ARRANGED.decide(
            columns_of({"model_version": "bootstrap", "amount": 45.0}, {"amount": 45.0})
        )
        assert bootstrap.action == "review"
        assert served == Verdict("approve", (("no_objection", served.reasons[0][1]),), ())

    def test_an_event_without_objection_says_who_decided(self) -> None:
        assert codes(decide(policy(), model_version="bootstrap", score=1.0)) == ("no_rule_hit", "bootstrap")


class TestFallback:
    """Where features can't be trusted a policy can only be stricter."""

    ARRANGED = policy(
        rules=APPROVE,
        fallback=f"{{applies_to: [fallback, stale], thresholds: {{challenge: 0.1, decline: 0.6}}, "
        f"rules: [{rule('blind', 'amount > 40', 'review')}]}}",
    )

    @pytest.mark.parametrize(("status", "stricter"), [("ok", 0), ("saturated", 0), ("stale", 1), ("fallback", 1)])
    def test_it_applies_to_the_statuses_it_names(self, status: str, stricter: int) -> None:
        loaded = self.ARRANGED
        assert decide(loaded, feature_status=status, score=0.7).action == ("review", "decline")[stricter]
        assert decide(loaded, feature_status=status, score=0.15).action == ("approve", "challenge")[stricter]
        assert decide(loaded, feature_status=status, amount=45.0).action == ("approve", "review")[stricter]

    def test_the_stricter_of_both_thresholds_wins(self) -> None:
        verdict = decide(self.ARRANGED, feature_status="fallback", score=0.55)
        assert verdict.action == "review", "the ordinary threshold, of which the fallback section has none"
        assert codes(verdict) == ("score_review", "features_fallback")

    def test_every_verdict_is_at_least_as_strict_as_with_good_features(self) -> None:
        strictness = {"approve": 0, "challenge": 1, "review": 2, "decline": 3}
        grid = [
            {"score": score, "amount": amount, "country": country}
            for score in (0.0, 0.1, 0.3, 0.5, 0.6, 0.9, np.nan)
            for amount in (1.0, 45.0)
            for country in (None, "FR")
        ]
        good = self.ARRANGED.decide(columns_of(*grid))
        for status in ("stale", "fallback"):
            blind = self.ARRANGED.decide(columns_of(*({**event, "feature_status": status} for event in grid)))
            assert all(strictness[a.action] <= strictness[b.action] for a, b in zip(good, blind, strict=True))
            assert sum(a.action != b.action for a, b in zip(good, blind, strict=True)) > 5

    def test_it_says_why_it_was_stricter(self) -> None:
        assert codes(decide(self.ARRANGED, feature_status="stale", amount=45.0)) == ("blind", "features_stale")

    def test_missing_features_trigger_no_ordinary_rule(self) -> None:
        loaded = policy(rules=rule("calm", "not customer_count_1d > 3", "challenge"))
        assert decide(loaded, feature_status="fallback", customer_count_1d=np.nan).rule_hits == ()

    def test_it_works_together_with_bootstrap(self) -> None:
        verdict = decide(self.ARRANGED, feature_status="fallback", model_version="bootstrap", score=0.99, amount=45.0)
        assert (verdict.action, codes(verdict)) == ("review", ("blind", "bootstrap", "features_fallback"))


def test_a_model_without_a_number_sends_the_event_to_a_person() -> None:
    verdict = decide(policy(), score=np.nan)
    assert (verdict.action, codes(verdict)) == ("review", ("score_missing",))


class TestPassthrough:
    """A share of would-be declines is let through, always the same ones, with its propensity."""

    MANY: ClassVar = [{"event_id": f"e{index}", "score": 0.95, "terminal_id": "t2"} for index in range(4_000)]
    ARRANGED = policy(lists=BLOCK, passthrough="{share: 0.1, when: amount < 100}")

    def test_the_share_is_kept_and_the_propensity_is_that_of_the_action_taken(self) -> None:
        verdicts = self.ARRANGED.decide(columns_of(*self.MANY))
        passed = [verdict for verdict in verdicts if verdict.action == "approve"]
        assert 320 < len(passed) < 480, "400 expected, standard deviation 19"
        assert {verdict.propensity for verdict in passed} == {0.1}
        assert {verdict.propensity for verdict in verdicts if verdict.action == "decline"} == {0.9}
        assert codes(passed[0]) == ("passthrough", "score_decline")

    def test_a_replay_in_other_batches_lets_the_same_events_through(self) -> None:
        whole = self.ARRANGED.decide(columns_of(*self.MANY[:200]))
        again = policy(lists=BLOCK, passthrough="{share: 0.1, when: amount < 100}")
        assert whole == [decide(again, **event) for event in self.MANY[:200]]

    def test_the_choice_hangs_on_customer_event_and_salt_and_nothing_else(self) -> None:
        def chosen(loaded: Policy, **changed: Any) -> list[bool]:
            events = [{**event, **changed} for event in self.MANY[:500]]
            return [verdict.action == "approve" for verdict in loaded.decide(columns_of(*events))]

        salted = policy(passthrough="{share: 0.1, salt: other}")
        assert chosen(self.ARRANGED) == chosen(self.ARRANGED, amount=3.0, score=0.99)
        assert chosen(self.ARRANGED) != chosen(self.ARRANGED, customer_id="c2")
        assert chosen(self.ARRANGED) != chosen(salted)

    def test_a_larger_share_lets_a_superset_through(self) -> None:
        small, large = (
            policy(passthrough=f"{{share: {share}}}").decide(columns_of(*self.MANY[:1_000])) for share in (0.05, 0.2)
        )
        assert all(b.action == "approve" for a, b in zip(small, large, strict=True) if a.action == "approve")

    def test_a_block_list_is_never_lifted(self) -> None:
        blocked = self.ARRANGED.decide(columns_of(*({**event, "terminal_id": "t1"} for event in self.MANY)))
        assert {(verdict.action, verdict.propensity) for verdict in blocked} == {("decline", 1.0)}

    def test_its_condition_narrows_who_may_pass(self) -> None:
        dear = self.ARRANGED.decide(columns_of(*({**event, "amount": 100.0} for event in self.MANY)))
        assert {(verdict.action, verdict.propensity) for verdict in dear} == {("decline", 1.0)}

    def test_what_is_not_declined_is_certain(self) -> None:
        reviewed = self.ARRANGED.decide(columns_of(*({**event, "score": 0.6} for event in self.MANY[:300])))
        assert {(verdict.action, verdict.propensity) for verdict in reviewed} == {("review", 1.0)}

    def test_no_share_lets_nothing_through(self) -> None:
        assert {verdict.action for verdict in policy().decide(columns_of(*self.MANY))} == {"decline"}
