"""What a batch is decided, by every policy at work: who decides whom, fuses, the day's budget, and who says otherwise.

Pure but for log lines: partitions' states are handed in and moved on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.decisions.chance import drawn
from services.decisions.evaluate import Judged
from services.decisions.flow import FuseWatch, PartitionState, afford, reviews_in
from services.decisions.policy import Policy
from services.mesh.records import ShadowVerdict

Columns = dict[str, NDArray[Any]]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Panel:
    """The policies at work: ``tried`` decides for ``percent`` of the customers, those ``beside`` decide nothing."""

    policy: Policy
    tried: Policy | None = None
    percent: int = 0
    beside: tuple[Policy, ...] = ()

    @cached_property
    def reads(self) -> frozenset[str]:
        """The columns that any of them reads."""
        at_work = [self.policy, *self.beside, *([self.tried] if self.tried else [])]
        return frozenset().union(*(policy.reads for policy in at_work))


class Judgement(NamedTuple):
    """What one policy said about the rows that it decides."""

    policy: Policy
    rows: Rows
    judged: Judged


@dataclass(slots=True)
class Batch:
    """Scored events in log order within each partition; arrays of shape (n,)."""

    columns: Columns
    customer_ids: Sequence[str]
    partitions: NDArray[np.intp]
    times_ms: NDArray[np.int64]


@dataclass(slots=True)
class Decided:
    """What became of a batch; ``shadows`` by row, where a policy beside would have acted otherwise."""

    judgements: list[Judgement]
    shadows: dict[int, list[ShadowVerdict]]
    over_budget: int


class Decider:
    """Decides batches on the states of the partitions that they come from.

    ``state_of`` gives a partition's state; ``partitions`` share a day's reviews.
    """

    def __init__(self, state_of: Callable[[int], PartitionState], partitions: int) -> None:
        self._state_of = state_of
        self._partitions = partitions
        self.blown: set[tuple[int, str, str]] = set()  # partition, policy version, rule
        self.blown_times = 0

    def decide(self, batch: Batch, panel: Panel) -> Decided:
        """Decide every row."""
        judgements = [
            Judgement(policy, rows, self._judge(policy, rows, batch)) for policy, rows in assigned(batch, panel)
        ]
        over_budget = self._budget(judgements, batch)
        return Decided(judgements, shadows_of(batch, panel, judgements) if panel.beside else {}, over_budget)

    def _judge(self, policy: Policy, rows: Rows, batch: Batch) -> Judged:
        whole = len(rows) == len(batch.partitions)
        part = {name: batch.columns[name] if whole else batch.columns[name][rows] for name in policy.reads}
        if not policy.fuses.names:
            return policy.evaluator.judge(part)
        own = batch.partitions[rows]
        present = np.unique(own).tolist()
        rows_of = [np.flatnonzero(own == partition) for partition in present]
        watch = FuseWatch(policy, [self._state_of(p) for p in present], rows_of, batch.times_ms[rows])
        judged = policy.evaluator.judge(part, watch)
        if watch.blown is not None or self.blown:
            self._tell_fuses(policy, present)
        return judged

    def _budget(self, judgements: Sequence[Judgement], batch: Batch) -> int:
        """Count reviews in log order and turn away those that the day has no room for; how many those are."""
        waiting = sorted(
            (int(each.rows[own]), own, number)
            for number, each in enumerate(judgements)
            for own in reviews_in(each.judged)
        )
        over = 0
        for row, own, number in waiting:
            policy, _, judged = judgements[number]
            partition = int(batch.partitions[row])
            per_day, state = policy.declared.review.per_day, self._state_of(partition)
            over += not afford(judged, own, per_day, partition, self._partitions, state, int(batch.times_ms[row]))
        return over

    def _tell_fuses(self, policy: Policy, partitions: Sequence[int]) -> None:
        """Say once that a fuse is blown, and once that it is whole again."""
        names = policy.fuses.names
        for partition in partitions:
            counts = self._state_of(partition).counts(policy.version, len(names))
            for rule, name in enumerate(names):
                blown = bool(counts.until_ms[rule] > counts.clock_ms)
                place = (partition, policy.version, name)
                if blown and place not in self.blown:
                    self.blown.add(place)
                    self.blown_times += 1
                    logging.error(
                        "fuse of rule %s blown: policy %s, partition %d, %d hits among %d events; its events go to "
                        "people until event time %d; publish a mended policy",
                        *(name, policy.version, partition, counts.hits[rule], counts.events[0], counts.until_ms[rule]),
                    )
                elif not blown and place in self.blown:
                    self.blown.discard(place)
                    logging.warning("fuse of rule %s whole again: policy %s, partition %d", name, place[1], partition)


def assigned(batch: Batch, panel: Panel) -> list[tuple[Policy, Rows]]:
    """Which policy decides which rows: the one that is tried its share of the customers, by a hash of its own."""
    everybody = np.arange(len(batch.times_ms))
    if panel.tried is None:
        return [(panel.policy, everybody)]
    salt = f"rollout {panel.tried.version}"
    chosen = np.array([drawn(salt, customer, "") * 100 < panel.percent for customer in batch.customer_ids], bool)
    groups = [(panel.policy, everybody[~chosen]), (panel.tried, everybody[chosen])]
    return [(policy, rows) for policy, rows in groups if rows.size]


def shadows_of(batch: Batch, panel: Panel, judgements: Sequence[Judgement]) -> dict[int, list[ShadowVerdict]]:
    """What policies beside would have done, by row, where that is something else.

    Each event by itself: neither chance nor budget on either side, and no fuse of a policy beside.
    """
    decided = {
        row: outcome.verdict.action
        for each in judgements
        for row, outcome in zip(each.rows.tolist(), each.judged.outcomes(), strict=True)
    }
    found: dict[int, list[ShadowVerdict]] = {}
    for policy in panel.beside:
        part = {name: batch.columns[name] for name in policy.reads}
        for row, outcome in enumerate(policy.evaluator.judge(part).outcomes()):
            verdict = outcome.verdict
            if verdict.action != decided[row]:
                shadow: ShadowVerdict = {
                    "policy_version": policy.version,
                    "action": verdict.action,
                    "rule_hits": list(verdict.rule_hits),
                }
                found.setdefault(row, []).append(shadow)
    return found
