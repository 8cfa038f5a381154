"""StateStore on Redis: one slot a partition, one short script a step.

Keys of partition 17 of namespace ``customer``: ``{customer:17}:mark`` (hash: offset, metadata, epoch) and
``{customer:17}:<key>`` for values. The hash tag keeps a partition in one slot, so that Redis Cluster works and a step
is atomic. redis-py retries ten times by default, writes included, and would hide a lost answer: retries are off, and
a step may be repeated because the script compares marks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from services.mesh.errors import Fatal, Fenced, StoreLost, StoreUnreachable
from services.mesh.ports import StoreMark, StoreStep

# A step takes about 1 ms; half a second of silence means that the store is gone or hanging.
ANSWER_WAIT_S = 0.5
# State that nobody touched for this long is of no window any more: 38 days of reach and lateness, and as much again so
# that a mesh that stood still may catch up.
ENTITY_TTL_S = 76 * 86_400
_SCAN_COUNT = 1_000

_CLAIM = """
local stored = redis.call('HMGET', KEYS[1], 'offset', 'metadata', 'epoch')
local epoch = math.max(tonumber(stored[3] or '0') + 1, tonumber(ARGV[1]))
redis.call('HSET', KEYS[1], 'epoch', string.format('%.0f', epoch))
return {stored[1], stored[2], string.format('%.0f', epoch)}
"""

# ARGV: epoch, expected offset ('' for none), new offset, metadata, ttl, then (command, value, length before
# an append) for each of KEYS[2..].
_SAVE = """
local stored = redis.call('HMGET', KEYS[1], 'offset', 'epoch')
if not stored[2] then return {'lost', ''} end
if tonumber(stored[2]) > tonumber(ARGV[1]) then return {'fenced', stored[2]} end
if stored[1] and tonumber(stored[1]) >= tonumber(ARGV[3]) then return {'ok', 'repeat'} end
if (stored[1] or '') ~= ARGV[2] then return {'lost', stored[1] or ''} end
for i = 2, #KEYS do
  local length = ARGV[3 * i + 2]
  if length ~= '' and redis.call('STRLEN', KEYS[i]) ~= tonumber(length) then return {'lost', KEYS[i]} end
end
for i = 2, #KEYS do
  local command, value = ARGV[3 * i], ARGV[3 * i + 1]
  if command == 'append' then
    redis.call('APPEND', KEYS[i], value)
    redis.call('EXPIRE', KEYS[i], ARGV[5])
  elseif command == 'set' then redis.call('SET', KEYS[i], value, 'EX', ARGV[5])
  else redis.call('UNLINK', KEYS[i]) end
end
redis.call('HSET', KEYS[1], 'offset', ARGV[3], 'metadata', ARGV[4])
return {'ok', ''}
"""


def connect(url: str, answer_wait_s: float = ANSWER_WAIT_S) -> Any:
    """A client that fails fast and never retries on its own; Fatal when ``url`` is not one."""
    try:
        return redis.Redis.from_url(
            url, socket_timeout=answer_wait_s, socket_connect_timeout=answer_wait_s, retry=Retry(NoBackoff(), 0)
        )
    except ValueError as error:
        raise Fatal(f"WEIR_REDIS={url}: {error}; use redis://HOST:PORT/0") from error


class RedisStore:
    """State of one service's partitions, below one ``namespace``."""

    def __init__(self, client: Any, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._epochs: dict[int, str] = {}
        self._claim = client.register_script(_CLAIM)
        self._save = client.register_script(_SAVE)

    def claim(self, partition: int) -> StoreMark | None:
        """See the port. The epoch is at least the wall clock, so that it also grows across a total loss."""
        offset, metadata, epoch = self._call(
            lambda: self._claim(keys=[self._mark_key(partition)], args=[time.time_ns() // 1_000_000])
        )
        self._epochs[partition] = epoch.decode()
        return None if offset is None else StoreMark(offset=int(offset), metadata=(metadata or b"").decode())

    def load(self, partition: int, keys: Sequence[str]) -> list[bytes | None]:
        """See the port."""
        if not keys:
            return []
        values: list[bytes | None] = self._call(lambda: self._client.mget([self._key(partition, k) for k in keys]))
        return values

    def save(self, steps: Sequence[StoreStep]) -> None:
        """See the port. All steps travel in one round trip; each is atomic by itself."""
        if not steps:
            return
        answers = self._call(lambda: self._run(steps))
        for step, answer in zip(steps, answers, strict=True):
            self._check(step, answer)

    def clear(self, partition: int) -> None:
        """See the port."""
        prefix = self._key(partition, "")

        def unlink() -> None:
            for keys in _chunks(self._client.scan_iter(match=_literal(prefix) + "*", count=_SCAN_COUNT), _SCAN_COUNT):
                kept = [key for key in keys if key != self._mark_key(partition).encode()]
                if kept:
                    self._client.unlink(*kept)
            self._client.hdel(self._mark_key(partition), "offset", "metadata")

        self._call(unlink)

    def _run(self, steps: Sequence[StoreStep]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for step in steps:
            keys = [self._mark_key(step.partition), *(self._key(step.partition, w.key) for w in step.writes)]
            expected = "" if step.expected_offset is None else step.expected_offset
            args: list[Any] = [self._epochs[step.partition], expected, step.mark.offset, step.mark.metadata]
            args.append(ENTITY_TTL_S)
            for write in step.writes:
                args += (write.command, write.value, write.length if write.command == "append" else "")
            self._save(keys=keys, args=args, client=pipeline)
        answers: list[Any] = pipeline.execute()
        return answers

    def _check(self, step: StoreStep, answer: list[bytes]) -> None:
        verdict, detail = answer[0].decode(), answer[1].decode()
        if verdict == "fenced":
            raise Fenced(f"{self._mark_key(step.partition)}: claimed by epoch {detail}, ours is older")
        if verdict == "lost":
            raise StoreLost(
                f"{self._mark_key(step.partition)}: state is at {detail or 'nothing'}, expected {step.expected_offset}",
                step.partition,
            )

    def _call(self, act: Any) -> Any:
        try:
            return act()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise StoreUnreachable(f"Redis: {error}; state is caught up when it answers again") from error
        except redis.ResponseError as error:
            if str(error).startswith(("LOADING", "BUSY", "OOM", "READONLY", "MASTERDOWN", "MISCONF", "CLUSTERDOWN")):
                raise StoreUnreachable(f"Redis: {error}") from error
            raise Fatal(
                f"Redis refused a command: {error}; is it Redis 6.2 or later, and are scripts allowed?"
            ) from error

    def _mark_key(self, partition: int) -> str:
        return f"{{{self._namespace}:{partition}}}:mark"

    def _key(self, partition: int, key: str) -> str:
        return f"{{{self._namespace}:{partition}}}:{key}"


def _chunks(items: Any, size: int) -> Any:
    chunk: list[bytes] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _literal(prefix: str) -> str:
    return "".join(f"\\{c}" if c in "[]*?\\" else c for c in prefix)
