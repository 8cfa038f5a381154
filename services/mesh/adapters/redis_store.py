"""StateStore on Redis: one slot a partition, one short script a step.

Keys of partition 17 of namespace ``customer``: ``{customer:17}`` (hash: offset, metadata, epoch) and
``{customer:17}:<key>`` for values; no key that an entity may have is the mark's. The hash tag keeps a partition in one
slot, so that Redis Cluster works and a step is atomic. redis-py retries ten times by default, writes included, and
would hide a lost answer: retries are off, and a step may be repeated because the script compares marks.
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
_UNLINK_COUNT = 1_000  # Lua's unpack takes some thousand

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
if tonumber(stored[2]) < tonumber(ARGV[1]) then return {'lost', 'an epoch of before'} end
if stored[1] and tonumber(stored[1]) >= tonumber(ARGV[3]) then return {'ok', 'repeat'} end
if (stored[1] or '') ~= ARGV[2] then return {'lost', stored[1] or ''} end
for i = 2, #KEYS do
  local length = ARGV[3 * i + 2]
  if length ~= '' and redis.call('STRLEN', KEYS[i]) ~= tonumber(length) then
    redis.call('HDEL', KEYS[1], 'offset', 'metadata')
    return {'lost', KEYS[i]}
  end
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

# The mark goes first: a crash in the middle must not leave a mark over values that are half gone. Whoever has been
# fenced deletes nothing any more.
_CLEAR = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then return {'lost', ''} end
if tonumber(epoch) > tonumber(ARGV[1]) then return {'fenced', epoch} end
redis.call('HDEL', KEYS[1], 'offset', 'metadata')
if #KEYS > 1 then redis.call('UNLINK', unpack(KEYS, 2)) end
return {'ok', ''}
"""

# What keeps a server from writing for a while; it names them first, or within the message of a script that failed.
_PASSING = ("LOADING", "BUSY", "OOM", "READONLY", "MASTERDOWN", "MISCONF", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS")


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
        self._left: dict[int, int | None] = {}  # the mark that this process knows to have left
        self._checked = False
        self._claim = client.register_script(_CLAIM)
        self._save = client.register_script(_SAVE)
        self._clear = client.register_script(_CLEAR)

    def claim(self, partition: int) -> StoreMark | None:
        """See the port. The epoch is at least the wall clock in microseconds: it grows across a total loss, too."""
        self._call(self._require_no_eviction)
        offset, metadata, epoch = self._call(
            lambda: self._claim(keys=[self._mark_key(partition)], args=[time.time_ns() // 1_000])
        )
        self._epochs[partition] = epoch.decode()
        mark = _mark_of(offset, metadata)
        self._left[partition] = mark.offset if mark else None
        return mark

    def load(self, partition: int, keys: Sequence[str]) -> list[bytes | None]:
        """See the port. Mark and values are read as one."""
        if not keys:
            return []
        (offset, _, epoch), values = self._call(lambda: self._read(partition, keys))
        if not self._is_as_left(partition, offset, epoch):
            raise StoreLost(
                f"{self._mark_key(partition)}: state is at {_mark_offset(offset)}, we left it at "
                f"{self._left[partition]}",
                partition,
            )
        return list(values)

    def lost(self, partitions: Sequence[int]) -> list[int]:
        """See the port."""
        if not partitions:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for partition in partitions:
            pipeline.hmget(self._mark_key(partition), "offset", "epoch")
        answers = self._call(pipeline.execute)
        found = zip(partitions, answers, strict=True)
        return [partition for partition, answer in found if not self._is_as_left(partition, *answer)]

    def _is_as_left(self, partition: int, offset: bytes | None, epoch: bytes | None) -> bool:
        """Whether mark and claim are ours; Fenced when somebody has claimed the partition since."""
        if epoch is not None and int(epoch) > int(self._epochs[partition]):
            raise Fenced(f"{self._mark_key(partition)}: claimed by epoch {epoch.decode()}, ours is older")
        is_our_claim = epoch is not None and epoch.decode() == self._epochs[partition]
        return is_our_claim and _mark_offset(offset) == self._left[partition]

    def peek(self, partition: int, keys: Sequence[str]) -> tuple[StoreMark | None, list[bytes | None]]:
        """Mark and values as of one moment, for readers that own nothing; the mark alone without ``keys``.

        Raises StoreUnreachable.
        """
        (offset, metadata, _), values = self._call(lambda: self._read(partition, keys))
        return _mark_of(offset, metadata), list(values)

    def save(self, steps: Sequence[StoreStep]) -> None:
        """See the port. All steps travel in one round trip; each is atomic by itself."""
        if not steps:
            return
        answers = self._call(lambda: self._run_known(steps))
        for step, answer in zip(steps, answers, strict=True):
            self._check(step.partition, answer, f"expected {step.expected_offset}")
            self._left[step.partition] = step.mark.offset

    def clear(self, partition: int) -> None:
        """See the port. Looks through all keys of the server: a thousand in about 0.2 ms."""
        self._unlink(partition, [])
        self._left[partition] = None
        pattern = _literal(self._key(partition, "")) + "*"
        found = self._call(lambda: list(self._client.scan_iter(match=pattern, count=_SCAN_COUNT)))
        for start in range(0, len(found), _UNLINK_COUNT):
            self._unlink(partition, found[start : start + _UNLINK_COUNT])

    def _unlink(self, partition: int, keys: list[bytes]) -> None:
        args = [self._epochs[partition]]
        answer = self._call(lambda: self._clear(keys=[self._mark_key(partition), *keys], args=args))
        self._check(partition, answer, "ours")

    def _read(self, partition: int, keys: Sequence[str]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hmget(self._mark_key(partition), "offset", "metadata", "epoch")
        if not keys:
            return [*pipeline.execute(), []]
        pipeline.mget([self._key(partition, key) for key in keys])
        answers: list[Any] = pipeline.execute()
        return answers

    def _require_no_eviction(self) -> None:
        """An evicted value reads as one that never was, that is, as zero: such a server can't hold state."""
        if self._checked:
            return
        policy = self._client.info("memory").get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise Fatal(f"Redis has maxmemory-policy {policy}: it may forget state in silence; set it to noeviction")
        self._checked = True

    def _run_known(self, steps: Sequence[StoreStep]) -> list[Any]:
        """By the script's hash alone: the client's own way asks first whether it is known, a round trip a batch."""
        try:
            return self._run(steps)
        except redis.exceptions.NoScriptError:
            # The server is new, or was restarted. Repeating steps is safe.
            self._client.script_load(_SAVE)
            return self._run(steps)

    def _run(self, steps: Sequence[StoreStep]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for step in steps:
            keys = [self._mark_key(step.partition), *(self._key(step.partition, w.key) for w in step.writes)]
            expected = "" if step.expected_offset is None else step.expected_offset
            args: list[Any] = [self._epochs[step.partition], expected, step.mark.offset, step.mark.metadata]
            args.append(ENTITY_TTL_S)
            for write in step.writes:
                args += (write.command, write.value, write.length if write.command == "append" else "")
            pipeline.evalsha(self._save.sha, len(keys), *keys, *args)
        answers: list[Any] = pipeline.execute()
        return answers

    def _check(self, partition: int, answer: list[bytes], expected: str) -> None:
        verdict, detail = answer[0].decode(), answer[1].decode()
        if verdict == "fenced":
            raise Fenced(f"{self._mark_key(partition)}: claimed by epoch {detail}, ours is older")
        if verdict == "lost":
            raise StoreLost(f"{self._mark_key(partition)}: state is at {detail or 'nothing'}, {expected}", partition)

    def _call(self, act: Any) -> Any:
        try:
            return act()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise StoreUnreachable(f"Redis: {error}; state is caught up when it answers again") from error
        except redis.ResponseError as error:
            text = str(error)
            if text.startswith(_PASSING) or any(f"-{word} " in text for word in _PASSING):
                raise StoreUnreachable(f"Redis: {error}") from error
            raise Fatal(
                f"Redis refused a command: {error}; is it Redis 6.2 or later, and are scripts allowed?"
            ) from error

    def _mark_key(self, partition: int) -> str:
        return f"{{{self._namespace}:{partition}}}"

    def _key(self, partition: int, key: str) -> str:
        return f"{{{self._namespace}:{partition}}}:{key}"


def _mark_of(offset: bytes | None, metadata: bytes | None) -> StoreMark | None:
    return None if offset is None else StoreMark(offset=int(offset), metadata=(metadata or b"").decode())


def _mark_offset(offset: bytes | None) -> int | None:
    return None if offset is None else int(offset)


def _literal(prefix: str) -> str:
    return "".join(f"\\{c}" if c in "[]*?\\" else c for c in prefix)
