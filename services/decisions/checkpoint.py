"""What one partition's log has come to, kept in the log itself. Pure but for the reader that it is handed.

Every ``EVERY`` decisions of a partition one of them carries the partition's state in the header ``policy_state``, in
the same transaction as the decision. Whoever takes over the partition looks back in ``decisions.v1`` for the last one
and follows the decisions behind it: the state that acted and the state that is found are the same, after a crash, a
rebalance, or years. There is no store to be lost and nothing to be kept in step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import orjson

from services.decisions.evaluate import BOOTSTRAP_MODEL
from services.decisions.flow import FuseCounts, PartitionState
from services.decisions.policy import Policy
from services.mesh.codec import Codec
from services.mesh.headers import find
from services.mesh.ports import InRecord

POLICY_STATE = "policy_state"
EVERY = 500
# Offsets: twice what lies between two checkpoints with the largest batch, because each transaction takes one more.
LOOK_BACK_FIRST = 2_000
LOOK_BACK_GROWTH = 8
LOOK_BACK_MAX = 200_000  # a log without any checkpoint is not one of ours; a day's budget may then begin anew

PolicyOf = Callable[[str], Policy | None]


class Decided(Protocol):
    """``decisions.v1`` as a reader of committed records sees it, outside any group. Raises Transient."""

    def ends(self, partition: int) -> tuple[int, int]:
        """First offset that is kept, and the one after the last; waits until no transaction is open there."""
        ...

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        """Records with ``start <= offset < end``."""
        ...


def packed(state: PartitionState, policy_of: PolicyOf) -> bytes:
    """A partition's state as the value of the header."""
    fuses = {}
    for version, counts in state.fuses.items():
        policy = policy_of(version)
        if policy is None:
            continue
        names = policy.fuses.names
        fuses[version] = {
            "window": counts.window,
            "clock_ms": counts.clock_ms,
            "events": counts.events.tolist(),
            "hits": {names[rule]: int(counts.hits[rule]) for rule in np.flatnonzero(counts.hits).tolist()},
            "until_ms": {
                names[rule]: int(counts.until_ms[rule])
                for rule in np.flatnonzero(counts.until_ms > counts.clock_ms).tolist()
            },
        }
    return orjson.dumps({"reviews": {str(day): count for day, count in state.reviews.items()}, "fuses": fuses})


def unpacked(value: bytes, policy_of: PolicyOf) -> PartitionState:
    """The state in a header's value."""
    found: Any = orjson.loads(value)
    state = PartitionState(reviews={int(day): count for day, count in found["reviews"].items()})
    for version, kept in found["fuses"].items():
        policy = policy_of(version)
        if policy is None:
            continue  # refused here; it will not act either
        counts = FuseCounts.empty(len(policy.fuses.names))
        counts.window, counts.clock_ms = kept["window"], kept["clock_ms"]
        counts.events[:] = kept["events"]
        for array, by_name in ((counts.hits, kept["hits"]), (counts.until_ms, kept["until_ms"])):
            for name, value_of_rule in by_name.items():
                array[policy.fuses.names.index(name)] = value_of_rule
        state.fuses[version] = counts
    return state


def follow(state: PartitionState, decisions: Sequence[Mapping[str, Any]], policy_of: PolicyOf) -> None:
    """Bring a state forward by decisions in log order, without deciding anything again."""
    by_version: dict[str, list[Mapping[str, Any]]] = {}
    for decision in decisions:
        by_version.setdefault(decision["policy_version"], []).append(decision)
        if decision["action"] == "review":
            state.review(state.day_of(decision["event_time_ms"]))
    for version, own in by_version.items():
        policy = policy_of(version)
        if policy is None or not policy.fuses.names:
            continue
        names = policy.fuses.names
        hits = np.array([[name in decision["rule_hits"] for decision in own] for name in names], bool)
        bootstrap = [decision["model_version"] == BOOTSTRAP_MODEL for decision in own]
        fallback = [decision["feature_status"] in policy.declared.fallback_statuses for decision in own]
        seasons = np.array([[True] * len(own), bootstrap, fallback], bool)
        times_ms = np.array([decision["event_time_ms"] for decision in own], np.int64)
        policy.fuses.count(state.counts(version, len(names)), times_ms, hits, seasons)


class Restorer:
    """Finds the state of partitions in the log."""

    def __init__(self, log: Decided, policy_of: PolicyOf) -> None:
        self._log = log
        self._policy_of = policy_of
        self._codec = Codec("decision.v1.avsc")

    def state_of(self, partition: int) -> PartitionState:
        """The state after the last decision of ``partition``. Raises Transient; Poison where a decision is not one."""
        first, end = self._log.ends(partition)
        look_back = LOOK_BACK_FIRST
        while True:
            start = max(first, end - look_back)
            records = [record for batch in self._log.read(partition, start, end) for record in batch]
            kept = [place for place, record in enumerate(records) if find(record.headers, POLICY_STATE)]
            if kept or start == first or look_back >= LOOK_BACK_MAX:
                break
            look_back = min(LOOK_BACK_MAX, look_back * LOOK_BACK_GROWTH)
        state, behind = PartitionState(), 0
        if kept:
            value = find(records[kept[-1]].headers, POLICY_STATE)
            assert value is not None
            state, behind = unpacked(value, self._policy_of), kept[-1] + 1
        elif start > first:
            logging.warning("decisions.v1[%d]: no policy state in its last %d offsets", partition, end - start)
        follow(state, [self._codec.decode(record.value) for record in records[behind:]], self._policy_of)
        return state
