"""What outranks what, for one event: the whole precedence in one small function.

1. A **block list** declines. Nothing overrules it, no pass-through lifts it.
2. An **allow list** approves. It overrules rules and score.
3. Otherwise the **strictest** wins (decline > review > challenge > approve) among the rules that hit and what the score
   calls for. A **rule that approves** overrules the score, and nothing else: one broad approving rule can't switch off
   somebody's blocking rule.

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
from dataclasses import dataclass
from itertools import compress

from services.decisions.declared import Declaration, Rule, Thresholds
from services.decisions.verdict import ACTIONS, STRICTNESS, Action, Reason, Verdict

NO_OBJECTION: Reason = ("no_objection", "No rule hit and the score is below every threshold.")
NO_RULE_HIT: Reason = ("no_rule_hit", "No rule hit.")
SCORE_MISSING: Reason = ("score_missing", "The model gave no score: a person has to look.")
BOOTSTRAP: Reason = ("bootstrap", "No model is trained yet: the policy's rules decided alone.")
PASSTHROUGH = "passthrough"
STATUS_REASONS: dict[str, Reason] = {
    "saturated": ("features_saturated", "Features are within their stated error: stricter rules applied."),
    "stale": ("features_stale", "The event came too late to be placed exactly: stricter rules applied."),
    "fallback": ("features_fallback", "Features were out of reach: stricter rules applied."),
}
RESERVED_CODES = frozenset(
    {NO_OBJECTION[0], NO_RULE_HIT[0], SCORE_MISSING[0], BOOTSTRAP[0], PASSTHROUGH}
    | {code for code, _ in STATUS_REASONS.values()}
    | {f"score_{action}" for action in ACTIONS}
)


@dataclass(frozen=True, slots=True)
class Pattern:
    """All that a policy's precedence depends on, for one event."""

    hits: tuple[bool, ...]  # acting lists, then rules
    segment: int
    level: int  # strictness that the score calls for by its segment
    fallback_level: int  # the same by the fallback section, 0 where that does not apply
    status: str
    bootstrap: bool
    score_missing: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on a pattern; ``passed`` is what takes its place for the share let through, None where none is."""

    verdict: Verdict
    passed: Verdict | None = None


def resolve(declared: Declaration, rules: Sequence[Rule], pattern: Pattern) -> Outcome:
    """Apply the precedence to one pattern of hits."""
    lists = list(compress(declared.lists, pattern.hits))
    hit_rules = list(compress(rules, pattern.hits[len(declared.lists) :]))
    names = tuple(rule.name for rule in hit_rules)
    circumstances = _circumstances(declared, pattern)

    if blocking := [acting.reason for acting in lists if acting.effect == "block"]:
        return Outcome(Verdict("decline", (*blocking, *circumstances), names))
    if allowing := [acting.reason for acting in lists if acting.effect == "allow"]:
        return Outcome(Verdict("approve", (*allowing, *circumstances), names))

    calls = [(rule.action, rule.reason) for rule in hit_rules]
    if not any(action == "approve" for action, _ in calls):  # an approving rule overrules the score, and only that
        calls += _score_calls(declared, pattern)
    if not calls:
        calls = [("approve", NO_RULE_HIT if pattern.bootstrap else NO_OBJECTION)]
    strictest = max((action for action, _ in calls), key=STRICTNESS.__getitem__)
    reasons = [reason for action, reason in calls if action == strictest]
    verdict = Verdict(strictest, (*dict.fromkeys(reasons), *circumstances), names)

    share = declared.passthrough.share
    if strictest != "decline" or not share:
        return Outcome(verdict)
    text = f"Let through with probability {share:g} to see its outcome; it would have been declined."
    return Outcome(verdict, Verdict("approve", ((PASSTHROUGH, text), *verdict.reasons), names, propensity=share))


def _score_calls(declared: Declaration, pattern: Pattern) -> list[tuple[Action, Reason]]:
    calls: list[tuple[Action, Reason]] = []
    if pattern.level:
        calls.append(_score_call(declared.segments[pattern.segment], pattern.level))
    if pattern.fallback_level:
        calls.append(_score_call(declared.fallback, pattern.fallback_level))
    if pattern.score_missing:
        calls.append(("review", SCORE_MISSING))
    return calls


def _score_call(thresholds: Thresholds, level: int) -> tuple[Action, Reason]:
    action = ACTIONS[level]
    cut = (thresholds.challenge, thresholds.review, thresholds.decline)[level - 1]
    return action, (f"score_{action}", f"Score is at least {cut:g}, the {action} threshold of {thresholds.segment}.")


def _circumstances(declared: Declaration, pattern: Pattern) -> list[Reason]:
    reasons = [BOOTSTRAP] if pattern.bootstrap else []
    if pattern.status in declared.fallback_statuses:
        reasons.append(STATUS_REASONS[pattern.status])
    return reasons
