"""What only a real server does: lose an answer, hang, fill up, be set up to forget."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from redis_process import free_port, redis_server
from store_worlds import ANSWER_WAIT_S, RedisWorld
from test_state_store import append, owner, put, step

from services.mesh.adapters.redis_store import RedisStore, connect
from services.mesh.errors import Fatal, StoreUnreachable
from services.mesh.ports import StoreMark

pytestmark = pytest.mark.connected


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own: these tests change its settings."""
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def world(own_redis: str) -> Iterator[RedisWorld]:
    made = RedisWorld(own_redis, "w")
    yield made
    made.direct.config_set("maxmemory", 0)
    made.direct.config_set("maxmemory-policy", "noeviction")
    made.close()


@pytest.mark.parametrize("request_part", [b"EVALSHA"])
def test_a_step_whose_answer_was_lost_is_repeated_safely(world: RedisWorld, request_part: bytes) -> None:
    store = owner(world)
    store.save([step(None, 10, put("a", b"1"))])
    world.proxy.swallow_answer_to(request_part)
    doubtful = [step(10, 11, append("a", b"2", 1))]
    with pytest.raises(StoreUnreachable):
        store.save(doubtful)
    assert world.proxy.swallowed == 1
    assert world.direct.get("{w:3}:a") == b"12", "the server did it"
    store.save(doubtful)
    assert store.load(3, ["a"]) == [b"12"]
    assert store.claim(3) == StoreMark(offset=11, metadata="m")


def test_a_claim_whose_answer_was_lost_is_made_again(world: RedisWorld) -> None:
    store = owner(world)
    store.save([step(None, 10, put("a", b"1"))])
    world.proxy.swallow_answer_to(b"EVALSHA")
    with pytest.raises(StoreUnreachable):
        store.claim(3)
    assert world.proxy.swallowed == 1
    assert store.claim(3) == StoreMark(offset=10, metadata="m")
    store.save([step(10, 11, append("a", b"2", 1))])


def test_a_server_that_hangs_costs_one_answer_wait(world: RedisWorld) -> None:
    store = owner(world)
    world.proxy.hang()
    started_s = time.monotonic()
    with pytest.raises(StoreUnreachable):
        store.load(3, ["a"])
    assert ANSWER_WAIT_S <= time.monotonic() - started_s < 3 * ANSWER_WAIT_S
    world.proxy.heal()
    assert store.load(3, ["a"]) == [None]


def test_a_late_answer_is_never_taken_for_the_next_ones(world: RedisWorld) -> None:
    store = owner(world)
    store.save([step(None, 10, put("a", b"A"), put("b", b"B"))])
    world.proxy.hang()
    with pytest.raises(StoreUnreachable):
        store.load(3, ["a"])
    world.proxy.heal()
    assert store.load(3, ["b"]) == [b"B"]


def test_a_full_server_is_out_of_reach_and_takes_no_half_step(world: RedisWorld) -> None:
    store = owner(world)
    store.save([step(None, 10, put("a", b"1"))])
    world.direct.config_set("maxmemory", 1)
    with pytest.raises(StoreUnreachable, match="OOM"):
        store.save([step(10, 11, append("a", b"2", 1), put("b", b"2"))])
    with pytest.raises(StoreUnreachable, match="OOM"):
        world.store().claim(3)
    world.direct.config_set("maxmemory", 0)
    assert store.load(3, ["a", "b"]) == [b"1", None]
    store.save([step(10, 11, append("a", b"2", 1), put("b", b"2"))])
    assert store.load(3, ["a", "b"]) == [b"12", b"2"]


def test_a_read_only_server_is_out_of_reach(world: RedisWorld) -> None:
    store = owner(world)
    world.direct.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(StoreUnreachable, match="READONLY"):
            store.save([step(None, 11, put("b", b"2"))])
    finally:
        world.direct.execute_command("REPLICAOF", "NO", "ONE")


def test_a_restarted_server_that_forgot_the_scripts(world: RedisWorld) -> None:
    store = owner(world)
    store.save([step(None, 10, put("a", b"1"))])
    world.direct.script_flush()
    store.save([step(10, 11, append("a", b"2", 1))])
    world.direct.script_flush()
    assert store.claim(3) == StoreMark(offset=11, metadata="m")
    world.direct.script_flush()
    store.clear(3)


def test_a_server_that_may_evict_is_refused(world: RedisWorld) -> None:
    world.direct.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(Fatal, match="maxmemory-policy allkeys-lru"):
        world.store().claim(3)


def test_values_expire_only_when_nobody_touches_them(world: RedisWorld) -> None:
    store = owner(world)
    store.save([step(None, 10, put("a", b"1"), append("b", b"1", 0))])
    assert min(world.direct.ttl("{w:3}:a"), world.direct.ttl("{w:3}:b")) > 75 * 86_400
    assert world.direct.ttl("{w:3}") == -1, "a mark that expired would be a lost partition"


def test_readers_peek_without_owning(world: RedisWorld) -> None:
    store = owner(world)
    reader = world.store()
    assert reader.peek(3, ["a"]) == (None, [None])
    store.save([step(None, 10, put("a", b"1"))])
    assert reader.peek(3, ["a"]) == (StoreMark(offset=10, metadata="m"), [b"1"])
    store.save([step(10, 11, append("a", b"2", 1))])


def test_a_wrong_url_is_fatal() -> None:
    with pytest.raises(Fatal, match=r"WEIR_REDIS=127\.0\.0\.1:6379"):
        connect("127.0.0.1:6379")


def test_a_server_that_is_not_there_is_out_of_reach() -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(StoreUnreachable, match="caught up when it answers again"):
        RedisStore(client, "w").claim(0)
    client.close()
