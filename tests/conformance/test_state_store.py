"""What the mesh relies on in a StateStore: the twin and the real Redis, held to the same facts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_worlds import MemoryWorld, RedisWorld, StoreWorld

from services.mesh.errors import Fenced, StoreLost, StoreUnreachable
from services.mesh.ports import StateStore, StoreMark, StoreStep, StoreWrite


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.connected)])
def world(request: pytest.FixtureRequest) -> Iterator[StoreWorld]:
    if request.param == "memory":
        made: StoreWorld = MemoryWorld()
    else:
        name = request.getfixturevalue("own_name")
        made = RedisWorld(request.getfixturevalue("servers").endpoints.redis, name)
    yield made
    made.close()


def step(expected: int | None, offset: int, *writes: StoreWrite, partition: int = 3, metadata: str = "m") -> StoreStep:
    return StoreStep(partition, expected, StoreMark(offset=offset, metadata=metadata), writes)


def put(key: str, value: bytes) -> StoreWrite:
    return StoreWrite("set", key, value)


def append(key: str, value: bytes, length: int) -> StoreWrite:
    return StoreWrite("append", key, value, length)


def owner(world: StoreWorld, partition: int = 3) -> StateStore:
    store = world.store()
    store.claim(partition)
    return store


def test_a_new_partition_has_no_mark(world: StoreWorld) -> None:
    assert world.store().claim(3) is None


def test_a_step_is_found_by_the_next_owner(world: StoreWorld) -> None:
    owner(world).save([step(None, 10, put("a", b"\x00\xff"), put("b", b"2"), metadata="AQ==")])
    store = world.store()
    assert store.claim(3) == StoreMark(offset=10, metadata="AQ==")
    assert store.load(3, ["b", "none", "a"]) == [b"2", None, b"\x00\xff"]
    assert store.load(3, []) == []


def test_partitions_know_nothing_of_each_other(world: StoreWorld) -> None:
    store = owner(world, 3)
    store.claim(30)
    store.save([step(None, 10, put("a", b"3")), step(None, 7, put("a", b"30"), partition=30)])
    assert (store.load(3, ["a"]), store.load(30, ["a"])) == ([b"3"], [b"30"])
    store.clear(3)
    assert store.load(30, ["a"]) == [b"30"]
    assert world.store().claim(30) == StoreMark(offset=7, metadata="m")


def test_appends_and_deletes(world: StoreWorld) -> None:
    store = owner(world)
    store.save([step(None, 1, put("a", b"1"), append("b", b"x", 0)), step(1, 2, append("a", b"23", 1))])
    store.save([step(2, 3, StoreWrite("delete", "b", b"")), step(3, 4, append("a", b"4", 3))])
    assert store.load(3, ["a", "b"]) == [b"1234", None]


@pytest.mark.parametrize("key", ["mark", "", "epoch", "{x}", "*", "[a]\\", "ключ", "a b\r\nc"])
def test_any_key_is_only_a_key(world: StoreWorld, key: str) -> None:
    store = owner(world)
    store.save([step(None, 10, put(key, b"v"), put("other", b"o"))])
    store.save([step(10, 11, append(key, b"w", 1))])
    assert store.load(3, [key, "other"]) == [b"vw", b"o"]
    store.clear(3)
    assert store.load(3, [key, "other"]) == [None, None]


def test_an_unexpected_mark_is_a_loss_and_changes_nothing(world: StoreWorld) -> None:
    store = owner(world)
    store.save([step(None, 10, put("a", b"1"))])
    for expected in (None, 9, 11):
        with pytest.raises(StoreLost) as lost:
            store.save([step(expected, 20, put("a", b"2"))])
        assert lost.value.partition == 3
    assert store.load(3, ["a"]) == [b"1"]
    assert world.store().claim(3) == StoreMark(offset=10, metadata="m")


def test_a_repeated_step_changes_nothing(world: StoreWorld) -> None:
    store = owner(world)
    first, second = step(None, 10, put("a", b"1")), step(10, 12, append("a", b"2", 1))
    store.save([first, second])
    store.save([first, second])
    store.save([second])
    assert store.load(3, ["a"]) == [b"12"]
    assert world.store().claim(3) == StoreMark(offset=12, metadata="m")


def test_steps_before_a_refused_one_stay(world: StoreWorld) -> None:
    store = owner(world, 3)
    store.claim(4)
    steps = [step(None, 10, put("a", b"1")), step(99, 100, put("a", b"9"), partition=4)]
    with pytest.raises(StoreLost) as lost:
        store.save(steps)
    assert lost.value.partition == 4
    store.save(steps[:1])
    assert store.load(3, ["a"]) == [b"1"]


def test_a_former_owner_can_neither_write_nor_clear_nor_read(world: StoreWorld) -> None:
    old = owner(world)
    old.save([step(None, 10, put("a", b"1"))])
    new = world.store()
    assert new.claim(3) == StoreMark(offset=10, metadata="m")
    with pytest.raises(Fenced):
        old.save([step(10, 11, put("a", b"old"))])
    with pytest.raises(Fenced):
        old.clear(3)
    with pytest.raises(Fenced):
        old.load(3, ["a"])
    assert new.load(3, ["a"]) == [b"1"]
    new.save([step(10, 11, append("a", b"2", 1))])
    assert new.load(3, ["a"]) == [b"12"]


def test_epochs_grow_across_a_total_loss(world: StoreWorld) -> None:
    old = owner(world)
    world.lose_all()
    new = owner(world)
    new.save([step(None, 5, put("a", b"1"))])
    with pytest.raises(Fenced):
        old.save([step(None, 6, put("a", b"2"))])


def test_a_total_loss_is_noticed_by_every_call(world: StoreWorld) -> None:
    store = owner(world)
    store.save([step(None, 10, put("a", b"1"))])
    world.lose_all()
    with pytest.raises(StoreLost):
        store.load(3, ["a"])  # None would read as a customer who never paid before
    with pytest.raises(StoreLost):
        store.save([step(10, 11, put("a", b"2"))])
    with pytest.raises(StoreLost):
        store.clear(3)
    assert store.claim(3) is None
    assert store.load(3, ["a"]) == [None]


def test_a_lost_tail_is_noticed(world: StoreWorld) -> None:
    """The server comes back with what it had a second ago: append-only files are written once a second."""
    store = owner(world)
    store.save([step(None, 10, put("a", b"1"))])
    second_ago = world.copy()
    store.save([step(10, 11, append("a", b"2", 1))])
    world.put_back(second_ago)
    with pytest.raises(StoreLost):
        store.load(3, ["a"])
    with pytest.raises(StoreLost):
        store.save([step(11, 12, append("a", b"3", 2))])
    assert store.claim(3) == StoreMark(offset=10, metadata="m")
    assert store.load(3, ["a"]) == [b"1"]


def test_a_lost_claim_is_noticed(world: StoreWorld) -> None:
    owner(world).save([step(None, 10, put("a", b"1"))])
    second_ago = world.copy()
    store = owner(world)
    world.put_back(second_ago)
    with pytest.raises(StoreLost):
        store.load(3, ["a"])
    with pytest.raises(StoreLost):
        store.save([step(10, 11, put("a", b"2"))])


def test_a_value_that_is_not_as_it_was_left_takes_the_mark_along(world: StoreWorld) -> None:
    """A replay from the mark would build on a value that is not there: only a rebuild from the start is right."""
    store = owner(world)
    store.save([step(None, 10, put("a", b"1"), put("b", b"1"))])
    world.lose_value(3, "a")
    with pytest.raises(StoreLost):
        store.save([step(10, 11, append("b", b"2", 1), append("a", b"2", 1))])
    assert store.claim(3) is None
    assert store.load(3, ["b"]) == [b"1"], "not half a step"


def test_clear_forgets_all_but_the_owner(world: StoreWorld) -> None:
    old = owner(world)
    old.save([step(None, 10, *(put(f"k{n}", b"1") for n in range(2_500)))])
    store = owner(world)
    store.clear(3)
    assert world.keys() == 0
    assert store.load(3, ["k0"]) == [None]
    with pytest.raises(Fenced):
        old.save([step(None, 11, put("a", b"old"))])
    store.save([step(None, 4, put("a", b"1"))])
    assert world.store().claim(3) == StoreMark(offset=4, metadata="m")


def test_out_of_reach_is_said_and_passes(world: StoreWorld) -> None:
    store = owner(world)
    store.save([step(None, 10, put("a", b"1"))])
    world.go_away()
    for call in (
        lambda: store.claim(3),
        lambda: store.load(3, ["a"]),
        lambda: store.save([step(10, 11, put("a", b"2"))]),
        lambda: store.clear(3),
    ):
        with pytest.raises(StoreUnreachable):
            call()
    world.come_back()
    assert store.load(3, ["a"]) == [b"1"]
    store.save([step(10, 11, put("a", b"2"))])
    assert store.load(3, ["a"]) == [b"2"]


def test_marks_below_zero_and_far_above(world: StoreWorld) -> None:
    store = owner(world)
    store.save([step(None, -2, put("a", b"1")), step(-2, -1), step(-1, 2**53 - 1)])
    assert world.store().claim(3) == StoreMark(offset=2**53 - 1, metadata="m")


def test_what_is_as_it_was_left_is_not_lost(world: StoreWorld) -> None:
    store = owner(world, 3)
    store.claim(4)
    assert store.lost([3, 4]) == store.lost([]) == []
    store.save([step(None, 10, put("a", b"1"))])
    assert store.lost([3, 4]) == []
    store.clear(3)
    assert store.lost([3, 4]) == []


def test_a_total_loss_shows_in_every_partition_that_is_asked_for(world: StoreWorld) -> None:
    store = owner(world, 3)
    store.claim(4)
    store.save([step(None, 10, put("a", b"1"))])
    world.lose_all()
    assert store.lost([3, 4]) == [3, 4]
    store.claim(4)
    assert store.lost([3, 4]) == [3]


def test_an_older_tail_is_a_loss(world: StoreWorld) -> None:
    store = owner(world)
    store.save([step(None, 10, put("a", b"1"))])
    copied = world.copy()
    store.save([step(10, 11, append("a", b"2", 1))])
    world.put_back(copied)
    assert store.lost([3]) == [3]


def test_who_asks_and_is_fenced_is_told(world: StoreWorld) -> None:
    store = owner(world)
    world.store().claim(3)
    with pytest.raises(Fenced):
        store.lost([3])


def test_who_asks_a_store_that_is_away_is_told(world: StoreWorld) -> None:
    store = owner(world)
    world.go_away()
    with pytest.raises(StoreUnreachable):
        store.lost([3])
