"""A policy: the declared data that turns scores into actions, loaded from YAML, versioned by its content.

The file, in the order in which an event meets its parts (``schemas/payments/policy.yaml`` is a whole one)::

    name: 2026-11                     the version is this and the first digits of the file's sha256
    owner: payments-risk
    lists:                            block beats allow beats all the rest
      blocked_terminals: {of: terminal_id, effect: block, reason: Terminal is blocked., values: [t17, t99]}
      home_countries: [FR, DE]        no effect of its own; for `country in home_countries`
    rules:                            every rule is tried; the strictest action of those that hit wins
      - {name: burst, when: customer_count_5m >= 10, action: decline, reason: Ten payments in five minutes.}
    thresholds:                       the score, from a threshold upwards; the strictest of rules and score wins
      segments:                       the first whose condition hits; an event of none has the default
        - {name: high_value, when: amount >= 500, review: 0.3, decline: 0.7}
      default: {challenge: 0.2, review: 0.5, decline: 0.9}
    bootstrap:                        only until the first model serves; thresholds don't apply then
      rules: [...]
    fallback:                         in addition, where features can't be trusted; can only make it stricter
      applies_to: [fallback, stale]   a status not named here is treated as ok
      thresholds: {review: 0.3, decline: 0.8}
      rules: [...]
    passthrough: {share: 0.01, when: amount < 100}

The language of conditions is described in ``expression.py``, what outranks what in ``precedence.py``.

**Pass-through.** What is declined never shows its outcome, and a model measured only on what it approved looks better
than it is. So a small share of would-be declines is approved, chosen by a hash of the event's identity (the same in
every replay) and recorded with its propensity: the probability of the action taken, ``share`` for those let through,
``1 - share`` for the declines that could have been, 1 for all others. Weighting by 1/propensity then gives unbiased
estimates. Events on a block list are never let through.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from services.decisions.declared import Declaration
from services.decisions.document import read_document
from services.decisions.evaluate import Evaluator
from services.decisions.expression import Columns
from services.decisions.loading import declaration
from services.decisions.mistakes import PolicyError
from services.decisions.verdict import Verdict

VERSION_DIGITS = 8  # of the file's sha256, as `sha256sum` prints it


class Policy:
    """A policy in force: immutable in meaning, so one instance serves live batches, shadow and backtest alike.

    ``version`` is recorded on every decision. ``reads`` names the columns that ``decide`` needs and no others.
    """

    def __init__(self, declared: Declaration, version: str) -> None:
        self.declared = declared
        self.version = version
        self.reads = _reads(declared)
        self._evaluator = Evaluator(declared)

    def decide(self, columns: Columns) -> list[Verdict]:
        """Return the verdict on each of n events, in order; n may be 1 or a million.

        ``columns``, each of shape (n,): ``score`` float64 (calibrated probability, NaN for none), ``model_version``
        and ``feature_status`` (never null), and of the following those in ``reads``: ``amount`` float64 in major
        units, ``amount_minor`` and ``event_time_ms`` int64, other event fields as objects (str, or None for null),
        features float32 by name (NaN for missing). Columns not in ``reads`` are ignored.

        Raises:
            KeyError: a column in ``reads`` is not there, or a feature status is none of the four; both are bugs.
        """
        return self._evaluator.decide({name: columns[name] for name in self.reads})


def load_policy(text: str, place: str, feature_names: Sequence[str]) -> Policy:
    """Load a policy from its YAML; ``place`` is the file's name in messages, ``feature_names`` what conditions may use.

    Raises:
        PolicyError: one error that lists every mistake with its line, the value and the remedy.
    """
    root, mistakes = read_document(text, place)
    declared = declaration(root, feature_names, mistakes)
    if mistakes:
        raise PolicyError(place, mistakes)
    digits = hashlib.sha256(text.encode()).hexdigest()[:VERSION_DIGITS]
    return Policy(declared, f"{declared.name}-{digits}")


def _reads(declared: Declaration) -> frozenset[str]:
    """Collect the columns that any part of a policy looks at."""
    conditions = [rule.condition for rule in declared.rules]
    narrowing = [*(segment.when for segment in declared.segments), declared.passthrough.when]
    conditions += [when for when in narrowing if when is not None]
    reads = {"score", "model_version", "feature_status"}.union(*[each.reads for each in conditions])
    reads |= {acting.field for acting in declared.lists}
    if declared.passthrough.share:
        reads |= {"customer_id", "event_id"}
    return frozenset(reads)
