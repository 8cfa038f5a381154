"""The entities of one partition that are in memory: two generations, loaded from the store on first touch.

An entity that is touched moves to the young generation; when that is full the old one is forgotten and the young one
becomes old. That is an LRU at the price of one dict look-up.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.features.kernel import View
from services.features.layout import Append, unpack
from services.features.occupancy import Occupancy
from services.features.state import EntityState
from services.mesh.ports import StateStore, StoreWrite


class Entities:
    """State of the partition's entities by id, and how full its windows are."""

    def __init__(self, partition: int, view: View, store: StateStore, entities_max: int, occupancy: Occupancy) -> None:
        self.occupancy = occupancy
        self._partition = partition
        self._view = view
        self._store = store
        self._young_max = max(1, entities_max // 2)
        self._young: dict[str, EntityState] = {}
        self._old: dict[str, EntityState] = {}
        self._touched: dict[str, EntityState] = {}
        self.loaded = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    @property
    def is_empty(self) -> bool:
        """Nothing in memory."""
        return not self._young and not self._old

    def missing(self, entities: Iterable[str]) -> list[str]:
        """Those of ``entities`` that are not in memory."""
        young, old = self._young, self._old
        return [entity for entity in entities if entity not in young and entity not in old]

    def load(self, entities: Iterable[str]) -> None:
        """Bring ``entities`` into memory, in one round trip; Fatal when stored bytes are not a state of this view."""
        missing = self.missing(entities)
        if not missing:
            return
        values = self._store.load(self._partition, missing)
        for entity, value in zip(missing, values, strict=True):
            self._young[entity] = self._view.new_state() if value is None else unpack(self._view, value)
        self.loaded += len(missing)

    def get(self, entity: str) -> EntityState | None:
        """The state of ``entity``, to be changed by the caller; None when it is not in memory."""
        state = self._young.get(entity)
        if state is None:
            state = self._old.pop(entity, None)
            if state is None:
                return None
            self._young[entity] = state
        self._touched[entity] = state
        return state

    def take_writes(self) -> list[StoreWrite]:
        """What changed since the last call."""
        writes = []
        for entity, state in self._touched.items():
            delta = state.take_delta()
            if isinstance(delta, Append):
                writes.append(StoreWrite("append", entity, delta.data, delta.offset))
            elif delta is not None:
                writes.append(StoreWrite("set", entity, delta.data))
        self._touched.clear()
        return writes

    def forget_oldest(self) -> None:
        """Keep memory bounded; only when the store holds everything."""
        if len(self._young) > self._young_max:
            self._old, self._young = self._young, {}
