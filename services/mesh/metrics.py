"""Every metric of the mesh, in one catalogue: name, kind, unit, help, and when to worry.

Nothing else creates a metric. Labels are closed sets (stage, code, action), never an id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Kind = Literal["counter", "gauge", "histogram"]

# Seconds; a hop is 5 to 50 ms, the mesh 50 to 400 ms.
_LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric as data."""

    name: str
    kind: Kind
    unit: str
    help: str
    worry: str
    labels: tuple[str, ...] = ("stage",)


METRICS: tuple[Metric, ...] = (
    Metric(name="weir_records", kind="counter", unit="records", help="Records polled.", worry="flat under load"),
    Metric(name="weir_outputs", kind="counter", unit="records", help="Records produced, by topic.",
           worry="below weir_records for long", labels=("stage", "topic")),
    Metric(name="weir_rejects", kind="counter", unit="records", help="Records sent to dead letters, by code.",
           worry="a jump, or any 'undecodable'", labels=("stage", "code")),
    Metric(name="weir_repeats", kind="counter", unit="records",
           help="Records dropped by the watermark: the second line of defence had to act.", worry="above zero"),
    Metric(name="weir_batches", kind="counter", unit="batches", help="Transactions committed.", worry="flat under load"),
    Metric(name="weir_reopens", kind="counter", unit="times", help="Sessions given up and opened anew.",
           worry="more than one a minute"),
    Metric(name="weir_step_seconds", kind="histogram", unit="seconds", help="Thinking time of one batch.", worry="p99 over 50 ms"),
    Metric(name="weir_commit_seconds", kind="histogram", unit="seconds", help="One Kafka transaction, produce to commit.",
           worry="p99 over 200 ms"),
    Metric(name="weir_save_seconds", kind="histogram", unit="seconds", help="Writing state after a commit.", worry="p99 over 50 ms"),
    Metric(name="weir_input_age_seconds", kind="gauge", unit="seconds",
           help="Age of the newest record of the last batch when its transaction was committed.", worry="growing"),
    Metric(name="weir_owned_partitions", kind="gauge", unit="partitions", help="Input partitions owned.", worry="sum is not the count"),
    Metric(name="weir_halted", kind="gauge", unit="boolean", help="1 while a flood of rejects has stopped the stage.", worry="1"),
    Metric(name="weir_ready", kind="gauge", unit="boolean", help="1 while the stage owns its share and processes.", worry="0 for over 30 s"),
    Metric(name="weir_duplicates", kind="counter", unit="records", help="Events seen before with the same body; no second decision.",
           worry="a jump: a sender repeats itself"),
    Metric(name="weir_rekeyed", kind="counter", unit="records", help="Events sent once more under their right key.",
           worry="above zero: a sender uses another partitioner"),
    Metric(name="weir_seen_identities", kind="gauge", unit="identities", help="Identities remembered against repeats.",
           worry="near the printed capacity"),
    Metric(name="weir_feature_status", kind="counter", unit="events", help="Events by how far their features can be trusted.",
           worry="anything but ok growing", labels=("stage", "status")),
    Metric(name="weir_state_entities", kind="gauge", unit="entities", help="Entities held in process.", worry="at its bound with misses growing"),
    Metric(name="weir_state_misses", kind="counter", unit="entities", help="Entities loaded from the store.", worry="a large share of records"),
    Metric(name="weir_replayed", kind="counter", unit="records", help="Records replayed into state without emitting.",
           worry="growing without restarts"),
    Metric(name="weir_state_unreachable", kind="gauge", unit="partitions", help="Partitions that decide by fallback.", worry="above zero"),
    Metric(name="weir_scored", kind="counter", unit="events", help="Events scored, by kind of model.", worry="bootstrap or fallback growing",
           labels=("stage", "model_kind")),
    Metric(name="weir_explained", kind="counter", unit="events", help="Events by explanation status.", worry="partial growing",
           labels=("stage", "status")),
    Metric(name="weir_model_swaps", kind="counter", unit="swaps", help="Models put in service.", worry="more than one an hour"),
    Metric(name="weir_models_refused", kind="counter", unit="models", help="Releases refused: by verification, or void with the bundle that they brought.", worry="above zero"),
    Metric(name="weir_actions", kind="counter", unit="decisions", help="Decisions by action.", worry="the mix shifts",
           labels=("stage", "action")),
    Metric(name="weir_labels", kind="counter", unit="labels", help="Labels made, observed or matured.", worry="flat while outcomes come in",
           labels=("stage", "kind")),
    Metric(name="weir_orphans", kind="counter", unit="outcomes", help="Outcomes that belong to no decision, by reason.",
           worry="a jump: a sender names wrong events, or decisions are missing", labels=("stage", "reason")),
    Metric(name="weir_outcomes_waiting", kind="gauge", unit="outcomes", help="Outcomes that wait for their decision.",
           worry="growing: decisions lag, or outcomes name wrong events"),
    Metric(name="weir_policy_swaps", kind="counter", unit="swaps", help="Policies put in force.", worry="one nobody published"),
    Metric(name="weir_policies_refused", kind="counter", unit="policies", help="Policy releases refused.", worry="above zero"),
    Metric(name="weir_fuses_blown", kind="counter", unit="times", help="Rules stopped because they fired far above their expected rate.",
           worry="above zero: a rule is wrong, or an attack is on"),
    Metric(name="weir_fuses_open", kind="gauge", unit="fuses", help="Blown fuses now, one a rule and partition.", worry="above zero"),
    Metric(name="weir_reviews_over_budget", kind="counter", unit="decisions", help="Reviews that the day had no room for.",
           worry="growing: thresholds are too low for the people there are"),
    Metric(name="weir_shadow_differs", kind="counter", unit="verdicts", help="Verdicts of policies beside that differ from what was decided.",
           worry="a jump"),
    Metric(name="weir_reviews_opened", kind="counter", unit="cases", help="Cases opened for people.", worry="a jump"),
    Metric(name="weir_reviews_closed", kind="counter", unit="cases", help="Cases ended, by how.",
           worry="matured or expired growing: nobody looks", labels=("stage", "resolution")),
    Metric(name="weir_reviews_overflowed", kind="counter", unit="cases",
           help="Cases that people had no room for: the default action holds.", worry="growing: raise thresholds, or find people"),
    Metric(name="weir_reviews_escalated", kind="counter", unit="cases", help="Cases that were not judged in time.", worry="above zero"),
    Metric(name="weir_reviews_open", kind="gauge", unit="cases", help="Cases that wait for people, overflowed ones left out.",
           worry="near WEIR_REVIEW_OPEN_MAX"),
    Metric(name="weir_reviews_oldest_seconds", kind="gauge", unit="seconds", help="Age of the case that has waited longest.",
           worry="near WEIR_REVIEW_SLA"),
    Metric(name="weir_reviews_claimed", kind="gauge", unit="cases", help="Cases that somebody works on now.",
           worry="none while cases wait"),
    Metric(name="weir_reviews_judged", kind="gauge", unit="cases", help="Cases whose verdict is on its way to become a label.",
           worry="growing: outcomes do not arrive"),
    Metric(name="weir_drift_alerts", kind="counter", unit="alerts", help="Alerts raised and cleared, by kind.",
           worry="more than people tolerate a week", labels=("stage", "kind")),
    Metric(name="weir_drift_alerts_open", kind="gauge", unit="alerts", help="Alerts that hold.", worry="above zero"),
    Metric(name="weir_requests", kind="counter", unit="requests", help="Requests answered over HTTP, by path and status.",
           worry="5xx growing", labels=("stage", "answer")),
    Metric(name="weir_requests_at_work", kind="gauge", unit="requests", help="Requests being answered.", worry="near the limit"),
    Metric(name="weir_request_seconds", kind="histogram", unit="seconds", help="Answering one request, decide-and-wait left out.",
           worry="p99 over 100 ms"),
    Metric(name="weir_decide_seconds", kind="histogram", unit="seconds", help="Answering one decide-and-wait, its wait included.",
           worry="p99 near the deadlines of callers"),
    Metric(name="weir_undecided", kind="counter", unit="requests", help="Callers told what to do without a decision, by reason.",
           worry="a share of decide-and-wait that callers notice", labels=("stage", "why")),
    Metric(name="weir_profile_uncounted", kind="gauge", unit="records",
           help="At most so many records were handled by a stage and never told to drift.", worry="growing without crashes",
           labels=("stage", "counted_stage")),
    Metric(name="weir_webhook_attempts", kind="counter", unit="requests", help="Requests of webhooks, by how they ended.",
           worry="anything but taken growing", labels=("stage", "result")),
    Metric(name="weir_webhook_seconds", kind="histogram", unit="seconds", help="One request of a webhook.", worry="p99 near WEIR_WEBHOOKS_TIMEOUT"),
    Metric(name="weir_webhook_delivered", kind="counter", unit="decisions", help="Decisions taken by receivers, repeats among them.",
           worry="flat while decisions are made", labels=("stage", "webhook")),
    Metric(name="weir_webhook_lag", kind="gauge", unit="records", help="Decisions that are not settled yet, read or not, wanted or not.",
           worry="growing: the receiver is slower than decisions are made", labels=("stage", "webhook")),
    Metric(name="weir_webhook_age_seconds", kind="gauge", unit="seconds", help="Age of the oldest decision that waits to be taken.",
           worry="minutes: the receiver is slow or down", labels=("stage", "webhook")),
    Metric(name="weir_webhook_down", kind="gauge", unit="boolean", help="1 while a receiver takes nothing and is only asked whether it is back.",
           worry="1 for over 5 minutes", labels=("stage", "webhook")),
    Metric(name="weir_console_watchers", kind="gauge", unit="pages", help="Open pages of the console.", worry="at its bound of 100"),
    Metric(name="weir_console_sign_ins", kind="counter", unit="times", help="Tries to sign in, by how they ended.",
           worry="wrong or locked growing: somebody guesses passwords", labels=("stage", "result")),
)  # fmt: skip


class Metrics:
    """The catalogue, live in one registry, for one stage."""

    def __init__(self, stage: str, catalogue: tuple[Metric, ...] = METRICS) -> None:
        self.registry = CollectorRegistry()
        self._stage = stage
        self._live: dict[str, Counter | Gauge | Histogram] = {m.name: _create(m, self.registry) for m in catalogue}
        self._children: dict[tuple[str, str], Counter | Gauge | Histogram] = {}

    def add(self, name: str, amount: float, label: str = "") -> None:
        """Count ``amount`` more; ``label`` is the value of the second label, where the metric has one."""
        child = self._child(name, label)
        assert isinstance(child, Counter)
        child.inc(amount)

    def set(self, name: str, value: float, label: str = "") -> None:
        """Set a gauge."""
        child = self._child(name, label)
        assert isinstance(child, Gauge)
        child.set(value)

    def observe(self, name: str, value: float) -> None:
        """Add one observation to a histogram."""
        child = self._child(name, "")
        assert isinstance(child, Histogram)
        child.observe(value)

    def add_all(self, name: str, counts: Mapping[str, int]) -> None:
        """Count by label."""
        for label, amount in counts.items():
            self.add(name, amount, label)

    def _child(self, name: str, label: str) -> Counter | Gauge | Histogram:
        key = (name, label)
        child = self._children.get(key)
        if child is None:
            labels = (self._stage, label) if label else (self._stage,)
            child = self._children[key] = self._live[name].labels(*labels)
        return child


def _create(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    text = f"{metric.help} Unit: {metric.unit}. Worry when: {metric.worry}."
    if metric.kind == "counter":
        return Counter(metric.name, text, metric.labels, registry=registry)
    if metric.kind == "gauge":
        return Gauge(metric.name, text, metric.labels, registry=registry)
    return Histogram(metric.name, text, metric.labels, registry=registry, buckets=_LATENCY_BUCKETS_S)
