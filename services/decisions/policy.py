"""A policy: the declared data that turns scores into actions, loaded from YAML, versioned by its content.

The file, in the order in which an event meets its parts (``schemas/payments/policy.yaml`` is a whole one)::

    name: 2026-11                     the version is this and the first digits of the file's sha256
    owner: payments-risk
    approval: two_people              whoever replaces this policy needs somebody else's approval (default: one_person)
    lists:                            block beats allow beats all the rest
      blocked_terminals: {of: terminal_id, effect: block, reason: Terminal is blocked., values: [t17, t99]}
      home_countries: [FR, DE]        no effect of its own; for `country in home_countries`
    definitions:                      names for expressions, true or false, a number or a text; may use each other
      abroad: country not in home_countries
      times_usual: amount / customer_amount_mean_30d
    rules:                            every rule is tried; the strictest action of those that hit wins
      - {name: spree, when: abroad and times_usual > 5, action: challenge, reason: A high amount far from home.}
      - name: burst                   velocity: any feature, over any of its windows; with `when` both have to hold
        velocity: {of: customer_count, within: 5m, at_least: 10}
        action: decline
        code: customer_velocity       for machines; the rule's name if left out
        reason: Ten payments in five minutes.
        owner: cards-team
        expected_rate: 0.0005         share of the events that it should hit; far above it, its fuse blows
    thresholds:                       the score, from a threshold upwards; the strictest of rules and score wins
      segments:                       the first whose condition hits; an event of none has the default
        - {name: high_value, when: amount >= 500, review: 0.3, decline: 0.7}
      default:
        challenge: 0.2
        decline: 0.9
        expected_loss: {currencies: [EUR, USD], review: 50}    score times amount, in major units
    review:                           what people look at
      per_day: 400                    of event time; shared evenly by the partitions
      over_budget: challenge          instead of a review when the day is full
      high_stakes: {when: amount >= 10000, reason: ...}        always a person, however full the day is
      low_confidence: {when: challenger_gap >= 0.3, reason: ...}    a person instead of what the score called for
    fuse: {window: 1h, factor: 10, events_min: 500, cool_down: 6h}
    control_group: {share: 0.005, when: amount < 100}
    passthrough: {share: 0.01, when: amount < 100}
    bootstrap:                        only until the first model serves; thresholds don't apply then
      rules: [...]
    fallback:                         in addition, where features can't be trusted; can only make it stricter
      applies_to: [fallback, stale]   a status not named here is treated as ok
      thresholds: {review: 0.3, decline: 0.8}
      rules: [...]

The language of conditions is described in ``expression.py``, what outranks what in ``precedence.py``.

**Pass-through.** What is declined never shows its outcome, and a model measured only on what it approved looks better
than it is. So a small share of would-be declines is approved, chosen by a hash of the event's identity (the same in
every replay) and recorded with its propensity: the probability of the action taken, ``share`` for those let through,
``1 - share`` for the declines that could have been, 1 for all others. Weighting by 1/propensity then gives unbiased
estimates. Events on a block list are never let through.

**Control group.** The same for whole customers, and for challenges and reviews as well: a share of them, the same ones
for as long as the salt stays, is left alone, so that what the policy is worth can be seen. Their propensity is recorded
alike. Block lists and high stakes hold for them too.

**Fuses and the review budget** depend on what came before in the log: see ``flow.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from services.decisions.declared import Declaration, Rule
from services.decisions.document import read_document
from services.decisions.evaluate import ROWS_MAX, Evaluator
from services.decisions.expression import Columns
from services.decisions.flow import FuseBox
from services.decisions.loading import declaration
from services.decisions.mistakes import PolicyError
from services.decisions.trace import Trace
from services.decisions.verdict import Verdict

VERSION_DIGITS = 8  # of the file's sha256, as `sha256sum` prints it


class Policy:
    """A policy in force: immutable in meaning, so one instance serves live batches, shadow and backtest alike.

    ``version`` is recorded on every decision. ``reads`` names the columns that ``decide`` needs and no others. The
    parts at work: ``evaluator`` judges, ``fuses`` counts what its rules hit, ``trace`` says why and why not.
    """

    def __init__(self, declared: Declaration, version: str) -> None:
        self.declared = declared
        self.version = version
        self.reads = _reads(declared)
        self.evaluator = Evaluator(declared)
        self.fuses = FuseBox([self.rules[place] for place in self.evaluator.fused_rules], declared.fuse)
        self.trace = Trace(declared, self.rules)

    @property
    def rules(self) -> Sequence[Rule]:
        """The rules in the order in which they are evaluated."""
        return self.evaluator.rules

    def decide(self, columns: Columns) -> list[Verdict]:
        """Return the verdict on each of n events, in order; n may be 1 or a million.

        ``columns``, each of shape (n,): ``score`` float64 (calibrated probability, NaN for none), ``model_version``
        and ``feature_status`` (never null), and of the following those in ``reads``: ``amount`` float64 in major
        units, ``amount_minor`` and ``event_time_ms`` int64, other event fields as objects (str, or None for null),
        features float32 by name (NaN for missing). Columns not in ``reads`` are ignored.

        This is each event by itself: no fuse blows and no review budget ends (``flow.py`` sees to those).

        Raises:
            KeyError: a column in ``reads`` is not there, or a feature status is none of the four; both are bugs.
        """
        read = {name: columns[name] for name in self.reads}
        verdicts: list[Verdict] = []
        for start in range(0, len(read["score"]), ROWS_MAX):
            part = {name: column[start : start + ROWS_MAX] for name, column in read.items()}
            verdicts += self.evaluator.judge(part).verdicts()
        return verdicts


def load_policy(text: str, place: str, feature_names: Sequence[str]) -> Policy:
    """Load a policy from its YAML; ``place`` is the file's name in messages, ``feature_names`` what conditions may use.

    Raises:
        PolicyError: one error that lists every mistake with its line, the value and the remedy.
    """
    root, mistakes = read_document(text, place)
    declared = declaration(root, feature_names, mistakes)
    if mistakes:
        raise PolicyError(place, mistakes)
    return Policy(declared, f"{declared.name}-{digits_of(text)}")


def digits_of(text: str) -> str:
    """The end of a policy's version: the first digits of its text's sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:VERSION_DIGITS]


def _reads(declared: Declaration) -> frozenset[str]:
    """Collect the columns that any part of a policy looks at."""
    conditions = [rule.condition for rule in declared.rules]
    narrowing = [*(segment.when for segment in declared.segments), declared.passthrough.when, declared.control.when]
    limits = (declared.review.high_stakes, declared.review.low_confidence)
    narrowing += [limit.when for limit in limits if limit is not None]
    conditions += [when for when in narrowing if when is not None]
    reads = {"score", "model_version", "feature_status"}.union(*[each.reads for each in conditions])
    reads |= {acting.field for acting in declared.lists}
    if any(each.loss for each in (*declared.segments, declared.fallback)):
        reads |= {"amount", "currency"}
    if declared.passthrough.share or declared.control.share:
        reads |= {"customer_id", "event_id"}
    return frozenset(reads)
