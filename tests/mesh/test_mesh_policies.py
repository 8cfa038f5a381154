"""Fuses and the review budget under crashes and rebalances: the log decides, and a replay of it says the same."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest
from history import play
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from whole_mesh import Mesh

from services.cli.decision_history import history_of, rows_of
from services.decisions import handler
from services.decisions.backtest import replay
from services.decisions.policy import load_policy
from services.decisions.report import agreement
from services.mesh.codec import Codec
from services.mesh.topics import DECISIONS, POLICIES

_SETTINGS = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
# No model serves in these histories, so rules decide. Limits are low: some tens of events have to reach them.
TEXT = """name: nervous
owner: tests
fuse: {window: 30d, factor: 2, events_min: 2, cool_down: 1d}
review: {per_day: 9, over_budget: challenge}
control_group: {share: 0.1}
rules:
  - {name: any, when: amount_minor >= 0, action: review, reason: Any.}
  - {name: often, when: customer_count_30d >= 2, action: decline, reason: Often., expected_rate: 0.1}
thresholds: {default: {decline: 0.9}}
bootstrap:
  rules:
    - {name: early, when: amount_minor > 100, action: decline, reason: Early., expected_rate: 0.2}
fallback: {applies_to: [fallback, stale], thresholds: {review: 0.5}}
"""


class PolicedMesh(Mesh):
    """A mesh whose policy depends on what came before."""

    def _publish_policy(self) -> None:
        version = load_policy(TEXT, "policy.yaml", self._pinned.names).version
        release = {"policy_version": version, "author": "test", "why": "first", "policy": TEXT}
        self.broker.produce(POLICIES.name, version.encode(), Codec(POLICIES.schemas[0]).encode(release), 0)

    def replayed(self) -> tuple[tuple[int, int] | None, Counter[str]]:
        """How many decisions a replay of the log repeats, of how many; and what they rest on."""
        codec, columns, seen = Codec(DECISIONS.schemas[0]), {}, Counter[str]()
        for partition in range(self.partitions):
            own = self.broker.records.get((DECISIONS.name, partition), [])
            columns[partition] = rows_of([r.value or b"" for r in own], [r.offset for r in own], self._pinned)
            for record in own:
                seen.update(reason["code"] for reason in codec.decode(record.value)["reasons"])
        found, _ = history_of(columns, {}, self._pinned, self.partitions)
        policy = load_policy(TEXT, "policy.yaml", self._pinned.names)
        return agreement(found, policy, replay(found, policy, np.ones((len(found), 1)))), seen


def history(seed: int, steps: int) -> tuple[tuple[int, int] | None, Counter[str]]:
    random = Random(seed)
    mesh = PolicedMesh(random.randint(1, 3), 20)
    play(mesh, random, steps)
    mesh.settle()
    return mesh.replayed()


@pytest.fixture(autouse=True)
def _checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state on every few decisions: on some of them, and on none of the last ones."""
    monkeypatch.setattr(handler, "EVERY", 7)


@_SETTINGS
@given(seed=st.integers(0, 1 << 32), steps=st.integers(5, 120))
def test_crashes_and_rebalances_leave_no_trace_in_what_is_decided(seed: int, steps: int) -> None:
    agrees, _ = history(seed, steps)
    assert agrees is None or agrees[0] == agrees[1]


def test_the_histories_reach_fuses_and_budget() -> None:
    seen: Counter[str] = Counter()
    for seed in range(10):
        agrees, codes = history(seed, 100)
        assert agrees is not None
        assert agrees[0] == agrees[1] > 0
        seen += codes
    assert seen.keys() >= {"fuse_blown", "review_budget_spent", "control_group_decline"}, seen


def test_a_process_that_forgot_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same histories with a handler that starts from nothing after a crash."""
    monkeypatch.setattr(handler.DecisionsHandler, "assign", lambda self, partition, committed, marks: None)
    found = [history(seed, 100)[0] for seed in range(6)]
    assert any(agrees is not None and agrees[0] < agrees[1] for agrees in found)
