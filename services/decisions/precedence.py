"""What outranks what, for one event: the whole precedence in one small function.

1. A **block list** declines. Nothing overrules it, no chance lifts it.
2. An **allow list** approves. It overrules rules and score.
3. **High stakes** go to a person, whatever else holds and however full the day is.
4. Otherwise the **strictest** wins (decline > review > challenge > approve) among the rules that hit and what the score
   calls for, by its height and by the loss to be expected. A **rule that approves** overrules the score, and nothing
   else: one broad approving rule can't switch off somebody's blocking rule. A rule whose **fuse** is blown calls for a
   person instead of its action.
5. What the score alone called for goes to a person where **confidence is low**.
6. When the day's **review budget** is spent, what would be a review gets the action declared for that; what was a
   review only for lack of confidence gets what the score called for.
7. **Chance** comes last and leaves 1 to 3 alone: the control group's events are approved, and a share of would-be
   declines is let through.

What users of other engines expect, and where this differs: in Marble the strictest outcome wins, as here. In Stripe
Radar an allow rule overrules every block and review rule; whoever wants that much writes an allow *list*, which is
narrow by nature, and says so. Jube's elevation can only rise, as here among rules.

The score calls for what its segment's thresholds say. Before the first model (``bootstrap``) it calls for nothing.
Where the features can't be trusted (``fallback`` and what else the policy names) the fallback section's thresholds and
rules apply *as well*, so that section can only make a verdict stricter. Where a model gave no number a person looks:
silence is never an approval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress

from services.decisions.declared import Cuts, Declaration, Rule, Thresholds
from services.decisions.verdict import ACTIONS, DONE, STRICTNESS, Action, Reason, Verdict

NO_OBJECTION: Reason = ("no_objection", "No rule hit and the score is below every threshold.")
NO_RULE_HIT: Reason = ("no_rule_hit", "No rule hit.")
SCORE_MISSING: Reason = ("score_missing", "The model gave no score: a person has to look.")
BOOTSTRAP: Reason = ("bootstrap", "No model is trained yet: the policy's rules decided alone.")
BUDGET_SPENT: Reason = ("review_budget_spent", "As many events as people can look at in a day went to them before.")
PASSTHROUGH, FUSE_BLOWN = "passthrough", "fuse_blown"
HELD_OUT: dict[Action, str] = {action: f"control_group_{action}" for action in ACTIONS}
HIGH_STAKES, LOW_CONFIDENCE = "high_stakes", "low_confidence"
STATUS_REASONS: dict[str, Reason] = {
    "saturated": ("features_saturated", "Features are within their stated error: stricter rules applied."),
    "stale": ("features_stale", "The event came too late to be placed exactly: stricter rules applied."),
    "fallback": ("features_fallback", "Features were out of reach: stricter rules applied."),
}
RESERVED_CODES = frozenset(
    {NO_OBJECTION[0], NO_RULE_HIT[0], SCORE_MISSING[0], BOOTSTRAP[0], BUDGET_SPENT[0]}
    | {PASSTHROUGH, *HELD_OUT.values(), FUSE_BLOWN, HIGH_STAKES, LOW_CONFIDENCE}
    | {code for code, _ in STATUS_REASONS.values()}
    | {f"score_{action}" for action in ACTIONS}
    | {f"expected_loss_{action}" for action in ACTIONS}
)


# What a policy wanted where chance approved: by the code of the first reason.
WANTED: dict[str, Action] = {PASSTHROUGH: "decline", **{code: action for action, code in HELD_OUT.items()}}


@dataclass(frozen=True, slots=True)
class Pattern:
    """All that a policy's precedence depends on, for one event."""

    hits: tuple[bool, ...]  # acting lists, then rules
    fused: frozenset[int]  # which of the rules that hit have a blown fuse, by their place among the rules
    segment: int
    level: int  # strictness that the score calls for by its segment
    loss_level: int  # the same by the loss to be expected
    fallback_level: int  # both by the fallback section, 0 where that does not apply
    fallback_loss_level: int
    status: str
    bootstrap: bool
    score_missing: bool
    high_stakes: bool
    low_confidence: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on a pattern, and what takes its place: None where nothing does.

    ``passed`` for the share of declines let through, ``held_out`` for the control group, ``unaffordable`` when the
    review budget is spent. ``plain``: simply approved, so that nobody will ask why.
    """

    verdict: Verdict
    passed: Verdict | None = None
    held_out: Verdict | None = None
    unaffordable: Verdict | None = None
    plain: bool = False


def resolve(declared: Declaration, rules: Sequence[Rule], pattern: Pattern) -> Outcome:
    """Apply the precedence to one pattern of hits."""
    lists = list(compress(declared.lists, pattern.hits))
    rule_hits = pattern.hits[len(declared.lists) :]
    names = tuple(rule.name for rule in compress(rules, rule_hits))
    circumstances = _circumstances(declared, pattern)

    if blocking := [acting.reason for acting in lists if acting.effect == "block"]:
        return Outcome(Verdict("decline", (*blocking, *circumstances), names))
    if allowing := [acting.reason for acting in lists if acting.effect == "allow"]:
        return Outcome(Verdict("approve", (*allowing, *circumstances), names))

    rule_calls: list[tuple[Action, Reason]] = [
        ("review", _fuse_blown(rule)) if place in pattern.fused else (rule.action, rule.reason)
        for place, rule in enumerate(rules)
        if rule_hits[place]
    ]
    score_calls: list[tuple[Action, Reason]] = []
    if not any(action == "approve" for action, _ in rule_calls):  # it overrules the score, and only that
        score_calls = _score_calls(declared, pattern)
    calls: list[tuple[Action, Reason]] = [*rule_calls, *score_calls]
    if not calls:
        calls = [("approve", NO_RULE_HIT if pattern.bootstrap else NO_OBJECTION)]
    strictest = max((action for action, _ in calls), key=STRICTNESS.__getitem__)
    reasons = tuple(dict.fromkeys(reason for action, reason in calls if action == strictest))
    machine = Verdict(strictest, (*reasons, *circumstances), names)
    review = declared.review

    if pattern.high_stakes:
        assert review.high_stakes is not None
        return Outcome(replace(machine, action="review", reasons=(review.high_stakes.reason, *machine.reasons)))
    of_rules = any(action == strictest for action, _ in rule_calls)
    if pattern.low_confidence and strictest != "review" and not of_rules:
        assert review.low_confidence is not None
        verdict = replace(machine, action="review", reasons=(review.low_confidence.reason, *machine.reasons))
        instead = machine.action
    else:
        verdict, instead = machine, review.over_budget
    unaffordable = None
    if verdict.action == "review" and review.per_day is not None:
        unaffordable = replace(verdict, action=instead, reasons=(BUDGET_SPENT, *verdict.reasons))
    return Outcome(
        verdict,
        _passed(declared, verdict),
        _held_out(declared, verdict),
        unaffordable,
        plain=verdict.action == "approve" and not names,
    )


def _passed(declared: Declaration, verdict: Verdict) -> Verdict | None:
    share = declared.passthrough.share
    if verdict.action != "decline" or not share:
        return None
    text = f"Let through with probability {share:g} to see its outcome; it would have been declined."
    return replace(verdict, action="approve", reasons=((PASSTHROUGH, text), *verdict.reasons), propensity=share)


def _held_out(declared: Declaration, verdict: Verdict) -> Verdict | None:
    share = declared.control.share
    if verdict.action == "approve" or not share:
        return None
    text = f"Of the control group, a share of {share:g}; it would have been {DONE[verdict.action]}."
    reason = (HELD_OUT[verdict.action], text)
    return replace(verdict, action="approve", reasons=(reason, *verdict.reasons), propensity=share)


def _fuse_blown(rule: Rule) -> Reason:
    return FUSE_BLOWN, (
        f"Rule {rule.name} fires far above its expected rate of {rule.expected_rate or 0:g} and no longer acts: "
        "a person looks instead."
    )


def _score_calls(declared: Declaration, pattern: Pattern) -> list[tuple[Action, Reason]]:
    calls: list[tuple[Action, Reason]] = []
    segment, fallback = declared.segments[pattern.segment], declared.fallback
    if pattern.level:
        calls.append(_score_call(segment, pattern.level))
    if pattern.loss_level:
        calls.append(_loss_call(segment, pattern.loss_level))
    if pattern.fallback_level:
        calls.append(_score_call(fallback, pattern.fallback_level))
    if pattern.fallback_loss_level:
        calls.append(_loss_call(fallback, pattern.fallback_loss_level))
    if pattern.score_missing:
        calls.append(("review", SCORE_MISSING))
    return calls


def _score_call(thresholds: Thresholds, level: int) -> tuple[Action, Reason]:
    action, cut = _cut(thresholds.cuts, level)
    return action, (f"score_{action}", f"Score is at least {cut:g}, the {action} threshold of {thresholds.segment}.")


def _loss_call(thresholds: Thresholds, level: int) -> tuple[Action, Reason]:
    assert thresholds.loss is not None
    action, cut = _cut(thresholds.loss.cuts, level)
    text = f"Score times amount is at least {cut:g}, the {action} threshold on the loss of {thresholds.segment}."
    return action, (f"expected_loss_{action}", text)


def _cut(cuts: Cuts, level: int) -> tuple[Action, float]:
    return ACTIONS[level], (cuts.challenge, cuts.review, cuts.decline)[level - 1]


def _circumstances(declared: Declaration, pattern: Pattern) -> list[Reason]:
    reasons = [BOOTSTRAP] if pattern.bootstrap else []
    if pattern.status in declared.fallback_statuses:
        reasons.append(STATUS_REASONS[pattern.status])
    return reasons
