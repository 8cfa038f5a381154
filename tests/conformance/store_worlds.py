"""The same disasters for the twin and for Redis, so that one suite holds both to the port."""

from __future__ import annotations

from typing import Protocol

import redis
from tcp_proxy import TcpProxy

from services.mesh.adapters.memory import ManualClock, MemoryRedis, MemoryStore
from services.mesh.adapters.redis_store import RedisStore, connect
from services.mesh.ports import StateStore

ANSWER_WAIT_S = 0.3


class StoreWorld(Protocol):
    """What outlives every process."""

    def store(self) -> StateStore:
        """A new process's store."""
        ...

    def lose_all(self) -> None: ...

    def lose_value(self, partition: int, key: str) -> None: ...

    def copy(self) -> object:
        """All that is stored, for ``put_back``."""
        ...

    def put_back(self, copied: object) -> None: ...

    def go_away(self) -> None: ...

    def come_back(self) -> None: ...

    def keys(self) -> int:
        """How many values are stored, marks left out."""
        ...

    def close(self) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self._clock = ManualClock()
        self._redis = MemoryRedis()

    def store(self) -> StateStore:
        return MemoryStore(self._redis, self._clock)

    def lose_all(self) -> None:
        self._redis.lose_all()

    def lose_value(self, partition: int, key: str) -> None:
        del self._redis.values[partition, key]

    def copy(self) -> object:
        return dict(self._redis.values), dict(self._redis.marks), dict(self._redis.epochs)

    def put_back(self, copied: object) -> None:
        assert isinstance(copied, tuple)
        values, marks, epochs = copied
        self._redis.values, self._redis.marks, self._redis.epochs = dict(values), dict(marks), dict(epochs)

    def go_away(self) -> None:
        self._redis.reachable = False

    def come_back(self) -> None:
        self._redis.reachable = True

    def keys(self) -> int:
        return len(self._redis.values)

    def close(self) -> None:
        pass


class RedisWorld:
    """One namespace of a real Redis, reached through a proxy."""

    def __init__(self, url: str, namespace: str) -> None:
        host, _, port = url.removeprefix("redis://").partition("/")[0].rpartition(":")
        self.direct = redis.Redis.from_url(url)
        self.namespace = namespace
        self.proxy = TcpProxy(host, int(port))
        self._clients: list[redis.Redis] = []

    def store(self) -> RedisStore:
        client = connect(f"redis://127.0.0.1:{self.proxy.port}/0", ANSWER_WAIT_S)
        self._clients.append(client)
        return RedisStore(client, self.namespace)

    def lose_all(self) -> None:
        for key in self._all():
            self.direct.delete(key)

    def lose_value(self, partition: int, key: str) -> None:
        assert self.direct.delete(f"{{{self.namespace}:{partition}}}:{key}") == 1

    def copy(self) -> object:
        return {key: self.direct.dump(key) for key in self._all()}

    def put_back(self, copied: object) -> None:
        assert isinstance(copied, dict)
        self.lose_all()
        for key, dumped in copied.items():
            self.direct.restore(key, 0, dumped)

    def go_away(self) -> None:
        self.proxy.refuse()

    def come_back(self) -> None:
        self.proxy.heal()

    def keys(self) -> int:
        return sum(b"}:" in key for key in self._all())

    def close(self) -> None:
        self.proxy.heal()
        self.lose_all()
        for client in self._clients:
            client.close()
        self.direct.close()
        self.proxy.close()

    def _all(self) -> list[bytes]:
        return list(self.direct.scan_iter(match=f"{{{self.namespace}:*", count=1_000))
