"""The review queue in Redis: documents in a hash, a sorted set a shelf, one short script a change.

Keys of namespace ``review``, all in one slot, so that a change is atomic and Redis Cluster works: ``{review}:cases``
(case id -> version, a space, document), ``{review}:held`` (case id -> until_ms, a space, analyst), ``{review}:<shelf>``
(sorted sets), ``{review}:marks``. A sorted set holds the negative of what it is ordered by: equal ones then come by id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import redis

from services.mesh.errors import Fatal, StoreUnreachable
from services.mesh.review import SHELVES, Filed, Shelf
from services.mesh.review_records import packed, unpacked

# KEYS: cases, held, marks, shelves. ARGV: case id, version seen, document, shelf's key, its score, until_ms and analyst
# or ''.
_SWAP = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local version = stored and tonumber(string.match(stored, '^%d+')) or 0
if version ~= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d ', version + 1) .. ARGV[3])
for i = 3, #KEYS do
  if KEYS[i] ~= ARGV[4] then redis.call('ZREM', KEYS[i], ARGV[1]) end
end
redis.call('ZADD', ARGV[4], ARGV[5], ARGV[1])
if ARGV[6] == '' then redis.call('HDEL', KEYS[2], ARGV[1])
else redis.call('HSET', KEYS[2], ARGV[1], ARGV[6]) end
return 1
"""

_WRITES_A_CALL_MAX = 500  # of about 20 us each: far below the answer time-out


class RedisReviewQueue:
    """Implements ``services.mesh.review_desk.ReviewQueue`` on a client of ``redis_store.connect``."""

    def __init__(self, client: Any, namespace: str = "review") -> None:
        self._client = client
        self._slot = f"{{{namespace}}}"
        self._cases, self._held, self._marks = (f"{self._slot}:{name}" for name in ("cases", "held", "marks"))
        self._shelves = {shelf: f"{self._slot}:{shelf}" for shelf in SHELVES}

    def page(self, shelf: Shelf, start: int, count: int) -> list[Filed]:
        """See the port. A case that leaves the shelf between the two look-ups is left out."""
        if count <= 0:
            return []
        ids = self._call(lambda: self._client.zrange(self._shelves[shelf], start, start + count - 1))
        found = self.find([case_id.decode() for case_id in ids])
        return [filed for filed in found if filed is not None and filed.shelf == shelf]

    def find(self, case_ids: Sequence[str]) -> list[Filed | None]:
        """See the port."""
        if not case_ids:
            return []
        found = self._call(lambda: self._client.hmget(self._cases, list(case_ids)))
        return [None if document is None else _filed(document) for document in found]

    def swap(self, changes: Sequence[Filed]) -> list[bool]:
        """See the port. Each is atomic; many travel in one round trip."""
        answers: list[bool] = []
        for at in range(0, len(changes), _WRITES_A_CALL_MAX):
            answers += self._call(lambda some=changes[at : at + _WRITES_A_CALL_MAX]: self._swap(some))
        return answers

    def drop(self, case_ids: Sequence[str]) -> None:
        """See the port."""
        if not case_ids:
            return
        pipeline = self._client.pipeline(transaction=True)
        for key in (self._cases, self._held):
            pipeline.hdel(key, *case_ids)
        for key in self._shelves.values():
            pipeline.zrem(key, *case_ids)
        self._call(pipeline.execute)

    def held(self) -> dict[str, tuple[str, int]]:
        """See the port."""
        found = self._call(lambda: self._client.hgetall(self._held))
        claims = {case_id.decode(): value.decode().partition(" ") for case_id, value in found.items()}
        return {case_id: (analyst, int(until_ms)) for case_id, (until_ms, _, analyst) in claims.items()}

    def counts(self) -> dict[Shelf, int]:
        """See the port."""
        pipeline = self._client.pipeline(transaction=True)
        for key in self._shelves.values():
            pipeline.zcard(key)
        return dict(zip(SHELVES, self._call(pipeline.execute), strict=True))

    def marks(self) -> dict[str, str]:
        """See the port."""
        found = self._call(lambda: self._client.hgetall(self._marks))
        return {name.decode(): value.decode() for name, value in found.items()}

    def set_marks(self, marks: Mapping[str, str]) -> None:
        """See the port."""
        if marks:
            self._call(lambda: self._client.hset(self._marks, mapping=dict(marks)))

    def clear(self) -> None:
        """See the port."""
        self._call(lambda: self._client.unlink(self._cases, self._held, self._marks, *self._shelves.values()))

    def _swap(self, changes: Sequence[Filed]) -> list[bool]:
        pipeline = self._client.pipeline(transaction=False)
        keys = [self._cases, self._held, *self._shelves.values()]
        for filed in changes:
            claim, case = filed.claim, filed.case
            pipeline.eval(
                _SWAP,
                len(keys),
                *keys,
                case.case_id,
                filed.version,
                packed(filed),
                self._shelves[filed.shelf],
                -case.closed_time_ms if filed.shelf == "closed" else case.order[0],
                f"{claim.until_ms} {claim.analyst}" if claim else "",
            )
        return [answer == 1 for answer in pipeline.execute()]

    def _call(self, act: Any) -> Any:
        try:
            return act()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise StoreUnreachable(f"Redis: {error}; the review queue is caught up when it answers again") from error
        except redis.ResponseError as error:
            raise Fatal(f"Redis refused a command of the review queue: {error}; is it Redis 6.2 or later?") from error


def _filed(document: bytes) -> Filed:
    version, _, body = document.partition(b" ")
    return replace(unpacked(body), version=int(version))
