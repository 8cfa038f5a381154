"""Old against new: what a policy would have changed, in all and per rule, with what is known of the outcomes. Pure.

Precision, recall and money are over a population that is named: events whose outcome is known and which were not
declined, each weighted by 1 / propensity, so that the few that chance let through stand for all that were blocked.
What was blocked without any chance is outside it, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.decisions.backtest import Replayed
from services.decisions.history import FRAUD, GENUINE, History, label_weights
from services.decisions.policy import Policy
from services.decisions.verdict import ACTIONS

DAY_MS = 86_400_000
_Z = 1.96  # of a normal distribution, for 95%
_DECLINE, _REVIEW = ACTIONS.index("decline"), ACTIONS.index("review")


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95% interval; all None where nothing is known."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one policy wanted: events to be declined, or all that it did not want simply approved."""

    events: int
    precision: Share
    recall: Share
    fraud_stopped: float  # money, in major units of the report's currency
    genuine_stopped: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFigures:
    """One rule of the new policy. ``hits_before``: of the rule of that name in the recorded decisions."""

    name: str
    action: str
    hits: int
    hits_before: int
    rate: float
    expected_rate: float | None
    hits_with_fuse_blown: int
    precision: Share
    fraud_hit: float
    genuine_hit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Whom the shares speak of."""

    events: int
    from_ms: int
    to_ms: int
    labelled: int
    let_through: int  # labelled although the policy wanted them declined: they stand for the others
    effective: float  # as many labelled events of weight 1 would say as much (Kish)
    blocked_unseen: int  # declined without any chance of being let through: nothing is known of them
    labels_left_out: int  # of declined events, which show no outcome of their own
    currency: str
    other_currencies: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviews:
    """Load on the people who review, by day of event time."""

    mean_a_day: float
    most_a_day: int
    over_budget: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Old against new. ``moves``: events by old action, then new action. ``agrees``: of the events that this very
    version decided live for all, how many it decided the same way here."""

    population: Population
    moves: dict[str, dict[str, int]]
    changed: int
    declined: dict[str, Figures]
    stopped: dict[str, Figures]
    reviews: dict[str, Reviews]
    rules: list[RuleFigures]
    agrees: tuple[int, int] | None


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """What one side decided, and what it wanted before chance had its say; both uint8, (n,)."""

    action: NDArray[np.uint8]
    wanted: NDArray[np.uint8]
    over_budget: int = 0


class Ledger:
    """Weights of a history's rows, for shares and for money."""

    def __init__(self, history: History, every_label: bool = False) -> None:
        self.history = history
        self.weights, self._blocked = label_weights(history, every_label)
        self._every_label = every_label
        self.fraud = self.weights * (history.label == FRAUD)
        self.genuine = self.weights * (history.label == GENUINE)
        codes = history.texts["currency"].codes
        most = int(np.bincount(codes, minlength=1).argmax())
        self.currency = (history.texts["currency"].values or ["EUR"])[most] or "EUR"
        in_currency = codes == most
        self.other_currencies = int((~in_currency).sum())
        self.amount = np.where(in_currency, history.amounts(), 0.0)

    def columns(self) -> NDArray[np.float64]:
        """What ``replay`` sums up per rule: hits, fraud, genuine, squared weights, fraud and genuine money."""
        return np.stack(
            [
                np.ones(len(self.history)),
                self.fraud,
                self.genuine,
                self.weights**2,
                self.fraud * self.amount,
                self.genuine * self.amount,
            ],
            axis=1,
        )

    def population(self) -> Population:
        """Who is spoken of."""
        history, weights = self.history, self.weights
        times = history.numbers["event_time_ms"]
        squares = float((weights**2).sum())
        return Population(
            events=len(history),
            from_ms=int(times.min(initial=times[0])) if len(times) else 0,
            to_ms=int(times.max(initial=times[0])) if len(times) else 0,
            labelled=int((weights > 0).sum()),
            let_through=int(((weights > 0) & (history.numbers["propensity"] < 1)).sum()),
            effective=float(weights.sum()) ** 2 / squares if squares else 0.0,
            blocked_unseen=int(self._blocked.sum()) if not self._every_label else 0,
            labels_left_out=int(((history.label >= 0) & (weights == 0)).sum()),
            currency=self.currency,
            other_currencies=self.other_currencies,
        )

    def figures(self, chosen: NDArray[np.bool_]) -> Figures:
        """What it means to stop the chosen events."""
        fraud, genuine = float(self.fraud[chosen].sum()), float(self.genuine[chosen].sum())
        squares, all_fraud = float((self.weights[chosen] ** 2).sum()), float(self.fraud.sum())
        return Figures(
            events=int(chosen.sum()),
            precision=share(fraud, fraud + genuine, squares),
            recall=share(fraud, all_fraud, float((self.fraud**2).sum())),
            fraud_stopped=float((self.fraud * self.amount)[chosen].sum()),
            genuine_stopped=float((self.genuine * self.amount)[chosen].sum()),
        )

    def reviews(self, side: Side) -> Reviews:
        """Load by day."""
        days = self.history.numbers["event_time_ms"] // DAY_MS
        if not len(days):
            return Reviews(mean_a_day=0.0, most_a_day=0, over_budget=side.over_budget)
        counts = np.bincount((days - days.min())[side.action == _REVIEW], minlength=int(days.max() - days.min()) + 1)
        return Reviews(mean_a_day=float(counts.mean()), most_a_day=int(counts.max()), over_budget=side.over_budget)


def compare(ledger: Ledger, policy: Policy, new: Replayed, old: Side, recorded: bool) -> Report:
    """Set a policy's replay beside another side; ``recorded`` says that the other is what was decided live."""
    history = ledger.history
    sides = {"old": old, "new": Side(new.action, new.wanted, new.over_budget)}
    table = np.bincount(old.action.astype(np.intp) * len(ACTIONS) + new.action, minlength=len(ACTIONS) ** 2)
    moves: dict[str, dict[str, int]] = {
        before: {after: int(table[row * len(ACTIONS) + column]) for column, after in enumerate(ACTIONS)}
        for row, before in enumerate(ACTIONS)
    }
    return Report(
        population=ledger.population(),
        moves=moves,
        changed=int((old.action != new.action).sum()),
        declined={name: ledger.figures(side.wanted == _DECLINE) for name, side in sides.items()},
        stopped={name: ledger.figures(side.wanted != 0) for name, side in sides.items()},
        reviews={name: ledger.reviews(side) for name, side in sides.items()},
        rules=list(_rules(history, policy, new)),
        agrees=agreement(history, policy, new) if recorded else None,
    )


def agreement(history: History, policy: Policy, new: Replayed) -> tuple[int, int] | None:
    """Of the events that this very version decided: how many are the same here in action, reasons, rules and
    propensity, and how many there are; None where it decided none."""
    own = history.texts["policy_version"].holding(policy.version)
    if not own.any():
        return None
    same = (history.action == new.action) & (history.said == new.said)
    same &= history.numbers["propensity"] == new.propensity
    return int((same & own).sum()), int(own.sum())


def share(part: float, whole: float, squares: float) -> Share:
    """A weighted share with Wilson's interval at the effective sample size (Kish 1965: sum(w)^2 / sum(w^2))."""
    if whole <= 0 or squares <= 0:
        return Share(None)
    value, size = part / whole, whole**2 / squares
    centre = (value + _Z**2 / (2 * size)) / (1 + _Z**2 / size)
    half = _Z / (1 + _Z**2 / size) * math.sqrt(value * (1 - value) / size + _Z**2 / (4 * size**2))
    return Share(value, max(0.0, centre - half), min(1.0, centre + half))


def _rules(history: History, policy: Policy, new: Replayed) -> Iterator[RuleFigures]:
    before = dict(zip(history.rule_hits.values, np.bincount(history.rule_hits.codes).tolist(), strict=False))
    for rule, (hits, fraud, genuine, squares, fraud_money, genuine_money) in zip(
        policy.rules, new.sums.tolist(), strict=True
    ):
        known = fraud + genuine
        # Squares are of labelled hits alone: unlabelled ones weigh nothing.
        yield RuleFigures(
            name=rule.name,
            action=rule.action,
            hits=int(hits),
            hits_before=before.get(rule.name, 0),
            rate=hits / max(1, len(history)),
            expected_rate=rule.expected_rate,
            hits_with_fuse_blown=new.blown.get(rule.name, 0),
            precision=share(fraud, known, squares),
            fraud_hit=fraud_money,
            genuine_hit=genuine_money,
        )


def changes(history: History, old: Side, new: Replayed) -> Iterator[dict[str, Any]]:
    """Every event whose action changes, in the log's order."""
    names: Sequence[str] = ACTIONS
    for row in np.flatnonzero(old.action != new.action).tolist():
        yield {
            "event_id": history.event_id.objects(slice(row, row + 1))[0],
            "customer_id": history.texts["customer_id"].values[history.texts["customer_id"].codes[row]],
            "event_time_ms": int(history.numbers["event_time_ms"][row]),
            "amount_minor": int(history.numbers["amount_minor"][row]),
            "currency": history.texts["currency"].values[history.texts["currency"].codes[row]],
            "score": float(history.numbers["score"][row]),
            "old": names[old.action[row]],
            "new": names[new.action[row]],
            "label": {FRAUD: "fraud", GENUINE: "genuine"}.get(int(history.label[row]), ""),
            "partition": int(history.partition[row]),
            "offset": int(history.offset[row]),
        }
