"""What a bounded sample of the newest decisions says: latency, where the time goes, rules, and the live tail. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

# p99 of a pool: ten looks of up to 200 decisions.
POOLED_LOOKS: Final = 10
# Rules hit rarely: a minute of looks.
RULE_LOOKS: Final = 60
TAIL_MAX: Final = 60
_PERCENTILES: Final = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
# Each hop's own part of the way: (stage, appended from, appended to).
HOPS: Final = (
    ("ingestion", "raw_append_time_ms", "event_append_time_ms"),
    ("features-customer", "event_append_time_ms", "update_append_time_ms"),
    ("features-terminal", "update_append_time_ms", "features_append_time_ms"),
    ("scoring", "features_append_time_ms", "score_append_time_ms"),
    ("decisions", "score_append_time_ms", "decision_append_time_ms"),
)
_TAIL_FIELDS: Final = (
    "event_id",
    "customer_id",
    "terminal_id",
    "event_time_ms",
    "amount_minor",
    "currency",
    "channel",
    "country",
    "score",
    "action",
    "feature_status",
    "model_version",
    "policy_version",
    "rule_hits",
    "reasons",
    "decision_append_time_ms",
)

Decision = Mapping[str, Any]
"""A decoded decision with ``decision_append_time_ms``."""


class Samples:
    """The last looks, in rings."""

    def __init__(self) -> None:
        self._latency: deque[list[int]] = deque(maxlen=POOLED_LOOKS)
        self._hops: deque[dict[str, list[int]]] = deque(maxlen=POOLED_LOOKS)
        self._rules: deque[tuple[int, Counter[str], Counter[str]]] = deque(maxlen=RULE_LOOKS)
        self._tail: deque[dict[str, Any]] = deque(maxlen=TAIL_MAX)
        self.event_time_ms = 0

    def add(self, decisions: Sequence[Decision]) -> None:
        """One look."""
        self._latency.append([total_ms(decision) for decision in decisions])
        self._hops.append({name: [d[to] - d[since] for d in decisions] for name, since, to in HOPS})
        rules = Counter(rule for decision in decisions for rule in decision["rule_hits"])
        reasons = Counter(decision["reasons"][0]["code"] for decision in decisions if decision["reasons"])
        self._rules.append((len(decisions), rules, reasons))
        for decision in sorted(decisions, key=lambda d: d["decision_append_time_ms"])[-TAIL_MAX:]:
            self._tail.append(tail_row(decision))
        self.event_time_ms = max([self.event_time_ms, *(decision["event_time_ms"] for decision in decisions)])

    def latency_ms(self) -> dict[str, int | None]:
        """Percentiles from the event's append to its decision's, over the pooled looks, and how many they rest on."""
        pooled = sorted(value for look in self._latency for value in look)
        return {name: percentile(pooled, share) for name, share in _PERCENTILES} | {"sampled": len(pooled)}

    def hops_ms(self) -> dict[str, int | None]:
        """Median time of each hop."""
        return {
            name: percentile(sorted(value for look in self._hops for value in look.get(name, ())), 0.5)
            for name, _, _ in HOPS
        }

    def rules(self) -> dict[str, Any]:
        """How often each rule hit and each reason came first, among how many sampled decisions."""
        hits: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        for _, rules, first in self._rules:
            hits.update(rules)
            reasons.update(first)
        sampled = sum(count for count, _, _ in self._rules)
        return {"sampled": sampled, "hits": hits.most_common(12), "reasons": reasons.most_common(12)}

    def tail(self) -> list[dict[str, Any]]:
        """The newest sampled decisions, newest first."""
        return list(self._tail)[::-1]


def total_ms(decision: Decision) -> int:
    """From the broker's append of the raw event to its append of the decision."""
    return int(decision["decision_append_time_ms"]) - int(decision["raw_append_time_ms"])


def percentile(ordered: Sequence[int], share: float) -> int | None:
    """The least value that ``share`` of ``ordered`` did not exceed; None of nothing."""
    if not ordered:
        return None
    return ordered[max(0, -(-int(share * 1_000) * len(ordered) // 1_000) - 1)]


def tail_row(decision: Decision) -> dict[str, Any]:
    """What a line of the live tail shows."""
    return {name: decision[name] for name in _TAIL_FIELDS} | {"latency_ms": total_ms(decision)}


def columns(points: Iterable[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """Points as the page's charts take them: one list a name."""
    kept = list(points)
    return {name: [point.get(name) for point in kept] for name in names}
