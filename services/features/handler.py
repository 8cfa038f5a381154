"""The stage's thinking: decode, apply each record to its entity in log order, emit the vector.

One handler serves either view; what differs (which record comes in, which goes out) is in ``views.py``. A decision
never waits longer than ``feature_wait_ms_max`` for state that is out of reach: the vector then holds what the event
alone says, ``feature_status`` is ``fallback``, and the event is still applied to state, by replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from services.features.entities import Entities
from services.features.owned import OwnedPartition, Patience, Read, entity_of
from services.features.settings import FeaturesSettings
from services.features.views import ViewAdapter
from services.mesh.errors import Poison, StoreLost, StoreUnreachable
from services.mesh.headers import WEIR, find, unpack_hop
from services.mesh.ports import Clock, CommittedOffset, InRecord, StateStore, StoreStep
from services.mesh.stage import Emit, dead_letter
from services.mesh.telemetry import StageTelemetry
from services.mesh.watermark import Marks

# Background catch-up between batches: long enough to outrun the input, short enough not to be felt in p99.
SLICES_PER_TURN = 4
_WAIT_POLL_S = 0.005
# A partition that is written to notices a loss at once; a quiet one when it is asked. One round trip for all of them.
LOOK_AT_STORE_S = 5.0


class FeaturesHandler:
    """Handler of the stages ``features-customer`` and ``features-terminal``."""

    def __init__(
        self,
        stage: str,
        adapter: ViewAdapter,
        store: StateStore,
        read: Read,
        clock: Clock,
        telemetry: StageTelemetry,
        settings: FeaturesSettings,
    ) -> None:
        self._stage = stage
        self._adapter = adapter
        self._store = store
        self._read = read
        self._clock = clock
        self._telemetry = telemetry
        self._settings = settings
        self._owned: dict[int, OwnedPartition] = {}
        self._patience = Patience()
        self._looked_s = clock.monotonic_s()

    def assign(self, partition: int, committed: CommittedOffset, marks: Marks) -> None:
        """See ``Handler``. The store is claimed at once, so that the former owner is fenced."""
        owned = OwnedPartition(
            partition,
            committed,
            view=self._adapter.view,
            store=self._store,
            read=self._read,
            apply=self._absorb,
            admit=_admit,
            patience=self._patience,
            now_s=self._clock.monotonic_s(),
            entities_max=max(1, self._settings.entities_max // self._settings.partitions_expected),
            partitions=self._settings.partitions_expected,
        )
        self._owned[partition] = owned
        owned.advance(self._clock.monotonic_s())

    def revoke(self, partition: int) -> None:
        """See ``Handler``."""
        owned = self._owned.pop(partition, None)
        if owned is not None:
            owned.release()

    def step(self, batch: Sequence[InRecord]) -> list[Emit]:
        """See ``Handler``."""
        names = [entity_of(record) for record in batch]
        self._bring_in(batch, names)
        adapter, owned = self._adapter, self._owned
        emits: list[Emit] = []
        statuses: dict[str, int] = {}
        for source, (record, name) in enumerate(zip(batch, names, strict=True)):
            try:
                entities = owned[record.partition].entities
                emit, status = adapter.apply(entities.get(name), record, source, entities.occupancy)
            except Poison as poison:
                emits.append(dead_letter(record, source, self._stage, poison))
                continue
            if emit is not None:
                emits.append(emit)
                statuses[status] = statuses.get(status, 0) + 1
        self._telemetry.metrics.add_all("weir_feature_status", statuses)
        return emits

    def committed(self, offsets: dict[int, CommittedOffset]) -> None:
        """See ``Handler``."""
        steps = [(p, step) for p, committed in offsets.items() if (step := self._owned[p].step_to(committed))]
        try:
            self._store.save([step for _, step in steps])
        except StoreLost:
            # One partition's loss must not be the others': a step that was applied is recognised when it is repeated.
            for partition, step in steps:
                self._save_alone(self._owned[partition], step)
            return
        except StoreUnreachable:
            now_s = self._clock.monotonic_s()
            self._patience.failed(now_s)
            for partition, _ in steps:
                self._owned[partition].lose_store(now_s)
            return
        for partition, _ in steps:
            self._owned[partition].saved()

    def idle(self) -> bool:
        """See ``Handler``: a look whether the store still has everything, a few slices of catching up, the gauges."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s >= LOOK_AT_STORE_S:
            self._looked_s = now_s
            self._look_at_store(now_s)
        behind = [owned for owned in self._owned.values() if owned.phase != "ready"]
        advanced = False
        for _ in range(SLICES_PER_TURN if behind else 0):
            for owned in behind:
                advanced = owned.advance(self._clock.monotonic_s()) or advanced
        metrics = self._telemetry.metrics
        metrics.set("weir_state_unreachable", sum(owned.phase != "ready" for owned in behind))
        metrics.set("weir_state_entities", sum(len(owned.entities) for owned in self._owned.values()))
        return advanced

    def _look_at_store(self, now_s: float) -> None:
        ready = [partition for partition, owned in self._owned.items() if owned.phase == "ready"]
        try:
            lost = self._store.lost(ready)
        except StoreUnreachable:
            self._patience.failed(self._clock.monotonic_s())
            lost = ready
        for partition in lost:
            self._owned[partition].lose_store(now_s)

    def _save_alone(self, owned: OwnedPartition, step: StoreStep) -> None:
        try:
            self._store.save([step])
        except StoreLost:
            owned.lose_store(self._clock.monotonic_s())
        except StoreUnreachable:
            self._patience.failed(self._clock.monotonic_s())
            owned.lose_store(self._clock.monotonic_s())
        else:
            owned.saved()

    def _bring_in(self, batch: Sequence[InRecord], names: Sequence[str]) -> None:
        """Load what the batch touches; wait for state that is out of reach, but only so long: all partitions together
        in this batch, and each since its state went out of reach."""
        wanted: dict[int, set[str]] = {}
        for record, name in zip(batch, names, strict=True):
            wanted.setdefault(record.partition, set()).add(name)
        wait_s_max = self._settings.feature_wait_ms_max / 1000
        began_s = self._clock.monotonic_s()
        for partition, entities in wanted.items():
            owned = self._owned[partition]
            while owned.entities.missing(entities):
                now_s = self._clock.monotonic_s()
                if owned.phase == "ready":
                    self._load(owned, entities, now_s)
                    continue
                if now_s - min(owned.not_ready_since_s, began_s) >= wait_s_max:
                    break
                if not owned.advance(now_s):
                    self._clock.sleep_s(_WAIT_POLL_S)
                self._telemetry.alive()

    def _load(self, owned: OwnedPartition, entities: set[str], now_s: float) -> None:
        if not self._patience.is_over(now_s):
            owned.lose_store(now_s)  # another partition has just found the store away
            return
        loaded = owned.entities.loaded
        try:
            owned.entities.load(entities)
        except StoreLost:
            owned.lose_store(now_s)
        except StoreUnreachable:
            self._patience.failed(self._clock.monotonic_s())
            owned.lose_store(now_s)
        self._telemetry.metrics.add("weir_state_misses", owned.entities.loaded - loaded)

    def _absorb(self, entities: Entities, records: Sequence[InRecord]) -> None:
        """Apply replayed records to state; what was refused then is refused now, and already in dead letters."""
        for record in records:
            state = entities.get(entity_of(record))
            assert state is not None, "a replayed record's entity was loaded before"
            with suppress(Poison):
                self._adapter.absorb(state, record, entities.occupancy)
        self._telemetry.metrics.add("weir_replayed", len(records))


def _admit(marks: Marks, record: InRecord) -> bool:
    """Whether the record was taken the first time: the same watermark rule as the live path."""
    header = find(record.headers, WEIR)
    try:
        return header is not None and marks.admit(unpack_hop(header))
    except Poison:
        return False
