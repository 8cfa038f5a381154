"""Negative controls: each seeded bug must be found, or the checker proves nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import pytest
from history import play
from verdict import Broken, check
from whole_mesh import Mesh, MeshLog

from services.features import owned
from services.features.handler import FeaturesHandler
from services.features.kernel import View
from services.features.owned import OwnedPartition
from services.features.stored_mark import Going
from services.mesh.adapters.memory import MemoryStore
from services.mesh.ports import CommittedOffset, InRecord, OutRecord
from services.mesh.runtime import StageRuntime
from services.mesh.watermark import Marks

SEEDS = range(12)


def found(
    parts: dict[str, Any] | None = None, torn: bool = False, loss: float = 0.01, steps: int = 80, memory: str = "1G"
) -> str:
    """The first promise that the checker finds broken in some histories; empty when it finds none."""
    for seed in SEEDS:
        random = Random(seed)
        mesh = type("SeededMesh", (Mesh,), parts or {})(
            random.randint(1, 3) if memory == "1G" else 1, random.choice((20, 3_000)), memory=memory
        )
        try:
            play(mesh, random, steps, torn, loss)
            mesh.settle()
            check(mesh, torn)
        except Broken as broken:
            return str(broken)
        except AssertionError as error:
            return f"the mesh itself noticed: {error}"
    return ""


def test_the_control_of_the_controls() -> None:
    assert found() == ""
    assert found(torn=True) == ""


class OneTooFar(MeshLog):
    """Commits the offset behind the next record."""

    def commit(self, outputs: Sequence[OutRecord], offsets: Mapping[int, CommittedOffset]) -> None:
        moved = {p: CommittedOffset((c.offset or 0) + 1, c.metadata) for p, c in offsets.items()}
        super().commit(outputs, moved)


def test_an_offset_that_is_one_too_far_loses_an_event() -> None:
    assert "have no decision" in found({"make_log": OneTooFar})


class OneTooFew(MeshLog):
    """Commits the last record's own offset."""

    def commit(self, outputs: Sequence[OutRecord], offsets: Mapping[int, CommittedOffset]) -> None:
        super().commit(outputs, {p: CommittedOffset((c.offset or 0) - 1, c.metadata) for p, c in offsets.items()})


def test_an_offset_that_is_one_too_few_repeats_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Marks, "admit", lambda self, hop: True)
    assert "twice" in found({"make_log": OneTooFew})


def test_without_watermarks_a_torn_transaction_doubles_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Marks, "admit", lambda self, hop: True)
    assert "decided twice" in found(torn=True)


class SavesFirst(StageRuntime):
    """Writes state before the transaction is committed."""

    def _process(self, polled: Sequence[InRecord]) -> None:
        commit, handler = self._log.commit, self._handler
        done = type(handler).committed

        def commit_late(outputs: Sequence[OutRecord], offsets: dict[int, CommittedOffset]) -> None:
            done(handler, offsets)
            commit(outputs, offsets)

        self._log.commit = commit_late  # type: ignore[method-assign]
        handler.committed = lambda offsets: None  # type: ignore[method-assign]
        try:
            super()._process(polled)
        finally:
            del self._log.commit, handler.committed


def _trusts_a_mark_ahead(self: OwnedPartition) -> None:
    mark = self._store.claim(self.partition)
    self._stored = mark.offset if mark else None
    going = owned.read_mark(self._view, self._partitions, mark.metadata if mark else "")
    occupancy = going.occupancy if going else self._view.new_occupancy(self._partitions)
    self._replay_marks = going.marks if going else Marks()
    self._rebuilt = owned.Entities(self.partition, self._view, self._store, self._entities_max, occupancy)
    self.phase = "behind"
    if (self._stored or 0) >= self.next_offset:
        self._stored = self.next_offset
        self._become_ready(keep_memory=not self.entities.is_empty)


def test_state_that_is_saved_before_the_commit_is_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OwnedPartition, "_begin", _trusts_a_mark_ahead)
    assert found({"make_runtime": SavesFirst})


def test_a_mark_ahead_of_the_log_is_never_trusted() -> None:
    """The same bug, met by the claim as it is: the state is rebuilt, nothing is counted twice."""
    assert found({"make_runtime": SavesFirst}) == ""


class Remembers(FeaturesHandler):
    """One handler for the life of the process: an aborted batch stays in its entities."""

    kept: dict[int, FeaturesHandler]

    def assign(self, partition: int, committed: CommittedOffset, marks: Marks) -> None:
        if partition not in self._owned:
            super().assign(partition, committed, marks)


class RemembersRuntime(StageRuntime):
    def begin(self) -> None:
        kept = getattr(self, "_handler", None)
        super().begin()
        if isinstance(kept, Remembers):
            self._handler = kept


def test_state_that_outlives_an_aborted_batch_counts_it_twice() -> None:
    assert "G2" in found({"make_features": Remembers, "make_runtime": RemembersRuntime})


def test_an_owner_that_forgets_how_full_its_windows_are_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    read_mark = owned.read_mark

    def forgets(view: View, partitions: int, text: str) -> Going | None:
        going = read_mark(view, partitions, text)
        return going and going._replace(occupancy=view.new_occupancy(partitions))

    assert found(steps=160, memory="1k") == ""
    monkeypatch.setattr(owned, "read_mark", forgets)
    assert found(steps=160, memory="1k")


class TrustingStore(MemoryStore):
    """Answers None for what it has lost."""

    def load(self, partition: int, keys: Sequence[str]) -> list[bytes | None]:
        self._check_reachable()
        return [self._redis.values.get((partition, key)) for key in keys]


def test_a_lost_value_that_reads_as_a_new_entity_is_found() -> None:
    assert "G2" in found({"make_store": TrustingStore}, loss=0.1)
