"""Which entities are in memory, and what the store is told of them."""

from __future__ import annotations

from importlib.resources import files

import pytest

from services.features.definitions import load_feature_set
from services.features.entities import Entities
from services.features.layout import pack
from services.mesh.adapters.memory import ManualClock, MemoryRedis, MemoryStore
from services.mesh.errors import Fatal, StoreLost
from services.mesh.ports import StoreMark, StoreStep

FEATURES = load_feature_set(files("schemas").joinpath("payments/features.yaml").read_text(), "features.yaml")
VIEW = FEATURES.view("customer")


class Bench:
    def __init__(self) -> None:
        self.redis = MemoryRedis()
        self.store = MemoryStore(self.redis, ManualClock())
        self.store.claim(0)
        self._offset: int | None = None

    def entities(self, entities_max: int = 4) -> Entities:
        return Entities(0, VIEW, self.store, entities_max, VIEW.new_occupancy(1))

    def save(self, entities: Entities) -> None:
        at = (self._offset or 0) + 1
        self.store.save([StoreStep(0, self._offset, StoreMark(offset=at, metadata=""), entities.take_writes())])
        self._offset = at


def pay(entities: Entities, entity: str, minute: int) -> None:
    entities.load([entity])
    state = entities.get(entity)
    assert state is not None
    VIEW.apply_event(state, minute * 60_000, 100, 2, minute)


def test_what_is_not_loaded_is_not_there() -> None:
    entities = Bench().entities()
    assert entities.get("a") is None
    assert entities.missing(["a", "b"]) == ["a", "b"]
    entities.load(["a"])
    assert entities.missing(["a", "b"]) == ["b"]


def test_the_store_is_told_once_of_each_change() -> None:
    bench = Bench()
    entities = bench.entities()
    pay(entities, "a", 1)
    assert [(w.command, w.key) for w in entities.take_writes()] == [("set", "a")]
    assert entities.take_writes() == []
    pay(entities, "a", 2)
    (write,) = entities.take_writes()
    assert (write.command, write.key) == ("append", "a")
    assert write.length > 0


def test_a_forgotten_entity_comes_back_as_it_was() -> None:
    bench = Bench()
    entities = bench.entities(entities_max=4)
    for minute in range(60):
        pay(entities, f"c{minute % 9}", minute)
        bench.save(entities)
        entities.forget_oldest()
        assert len(entities) <= 5
    whole = Bench()
    kept = whole.entities(entities_max=1_000)
    for minute in range(60):
        pay(kept, f"c{minute % 9}", minute)
        whole.save(kept)
    for n in range(9):
        entities.load([f"c{n}"])
        found, expected = entities.get(f"c{n}"), kept.get(f"c{n}")
        assert found is not None
        assert expected is not None
        assert pack(found) == pack(expected)


def test_an_entity_in_use_is_not_forgotten() -> None:
    bench = Bench()
    entities = bench.entities(entities_max=4)
    for minute in range(30):
        pay(entities, "regular", minute)
        pay(entities, f"passer-by {minute}", minute)
        bench.save(entities)
        entities.forget_oldest()
    assert entities.missing(["regular"]) == []
    assert entities.loaded == 31, "the regular was loaded once"


def test_a_lost_store_is_no_new_entity() -> None:
    bench = Bench()
    entities = bench.entities()
    pay(entities, "a", 1)
    bench.save(entities)
    bench.redis.lose_all()
    with pytest.raises(StoreLost):
        entities.load(["b"])
    assert entities.missing(["b"]) == ["b"]


def test_bytes_that_are_no_state_are_fatal() -> None:
    bench = Bench()
    bench.redis.values[0, "a"] = b"junk"
    with pytest.raises(Fatal, match="rebuilt from the log"):
        bench.entities().load(["a"])
