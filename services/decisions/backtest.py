"""A policy on the recorded past: the same evaluation, fuses and budget as live, over a whole log. Pure.

The past is as it was: vectors, scores and labels are those recorded. What would have come of other decisions (a
customer who was declined buys elsewhere, a fraudster who was not comes again) no log can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.decisions.evaluate import ROWS_MAX, Judged
from services.decisions.flow import FuseWatch, PartitionState, afford, reviews_in
from services.decisions.history import History, said_by
from services.decisions.policy import Policy
from services.decisions.precedence import WANTED, Outcome
from services.decisions.verdict import ACTIONS, Verdict


@dataclass(slots=True)
class Replayed:
    """What a policy would have decided; arrays of shape (n,).

    wanted: the action before chance had its say. sums: float64, (rules, k), each rule's hits times the k columns of
    weights that were handed in. blown: events that a rule hit with its fuse blown, by rule. over_budget: reviews that
    the day had no room for.
    """

    action: NDArray[np.uint8]
    wanted: NDArray[np.uint8]
    propensity: NDArray[np.float64]
    said: NDArray[np.uint64]
    sums: NDArray[np.float64]
    blown: dict[str, int] = field(default_factory=dict)
    over_budget: int = 0


def replay(history: History, policy: Policy, weights: NDArray[np.float64]) -> Replayed:
    """Decide every recorded event anew, in the log's order. weights: float64, (n, k)."""
    return _Replay(history, policy, weights).run()


class _Replay:
    def __init__(self, history: History, policy: Policy, weights: NDArray[np.float64]) -> None:
        self._history = history
        self._policy = policy
        self._weights = weights
        self._states: dict[int, PartitionState] = {}
        self._table: Sequence[Outcome] = ()
        self._actions, self._said = np.zeros(0, np.uint8), np.zeros(0, np.uint64)  # of the table's verdicts
        rows = len(history)
        self._found = Replayed(
            np.zeros(rows, np.uint8),
            np.zeros(rows, np.uint8),
            np.ones(rows),
            np.zeros(rows, np.uint64),
            np.zeros((len(policy.rules), weights.shape[1])),
        )

    def run(self) -> Replayed:
        for start in range(0, len(self._history), ROWS_MAX):
            self._chunk(slice(start, min(start + ROWS_MAX, len(self._history))))
        return self._found

    def _chunk(self, rows: slice) -> None:
        history, policy, found = self._history, self._policy, self._found
        times_ms = history.numbers["event_time_ms"][rows]
        partitions = history.partition[rows]
        present = np.unique(partitions).tolist()
        states = [self._states.setdefault(partition, PartitionState()) for partition in present]
        rows_of = [np.flatnonzero(partitions == partition) for partition in present]
        watch = FuseWatch(policy, states, rows_of, times_ms) if policy.fuses.names else None
        judged = policy.evaluator.judge(history.columns(policy.reads, rows), watch)
        if watch is not None and watch.blown is not None:
            for name, count in zip(policy.fuses.names, watch.blown.sum(axis=1).tolist(), strict=True):
                if count:
                    found.blown[name] = found.blown.get(name, 0) + count
        per_day = policy.declared.review.per_day
        for row in reviews_in(judged):
            place = int(partitions[row])
            state, time_ms = self._states[place], int(times_ms[row])
            found.over_budget += not afford(judged, row, per_day, place, history.partitions, state, time_ms)
        found.sums += judged.hits @ self._weights[rows]
        self._take(judged, rows)

    def _take(self, judged: Judged, rows: slice) -> None:
        if judged.table is not self._table:
            self._table, self._actions, self._said = judged.table, self._actions[:0], self._said[:0]
        fresh = [_coded(outcome.verdict) for outcome in judged.table[len(self._actions) :]]
        self._actions = np.append(self._actions, np.array([action for action, _ in fresh], np.uint8))
        self._said = np.append(self._said, np.array([said for _, said in fresh], np.uint64))
        self._found.action[rows] = self._actions[judged.codes]
        self._found.said[rows] = self._said[judged.codes]
        self._found.wanted[rows] = self._found.action[rows]
        for row, verdict in judged.swaps.items():
            at = rows.start + row
            self._found.action[at], self._found.said[at] = _coded(verdict)
            self._found.wanted[at] = ACTIONS.index(WANTED.get(verdict.reasons[0][0], verdict.action))
            self._found.propensity[at] = verdict.propensity


def _coded(verdict: Verdict) -> tuple[int, int]:
    codes = [code for code, _ in verdict.reasons]
    return ACTIONS.index(verdict.action), said_by([*codes, "", *verdict.rule_hits])
