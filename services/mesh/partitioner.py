"""Which partition owns a key: murmur2, the Java client's partitioner.

librdkafka's own default is CRC32, Java and aiokafka use murmur2; the mesh uses murmur2 everywhere so that one
partition owns one customer whoever produced the record. Algorithm: Kafka's ``Utils.murmur2`` (seed 0x9747b28c) and
``toPositive(hash) % partitions``.
"""

from __future__ import annotations

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995
_CACHE_KEYS_MAX = 200_000  # about 30 MB; past it the cache starts anew


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2 of ``data``, unsigned."""
    length = len(data)
    h = (0x9747B28C ^ length) & _MASK
    for i in range(0, length - 3, 4):
        k = int.from_bytes(data[i : i + 4], "little")
        k = (k * _M) & _MASK
        k ^= k >> 24
        k = (k * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    tail = length & 3
    if tail:
        h ^= int.from_bytes(data[length - tail :], "little")
        h = (h * _M) & _MASK
    h ^= h >> 13
    h = (h * _M) & _MASK
    return h ^ (h >> 15)


class Partitioner:
    """``partition_of(key)`` with a bounded cache: pure Python murmur2 costs microseconds, a look-up 0.1."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._known: dict[bytes, int] = {}

    def partition_of(self, key: bytes) -> int:
        """Partition of ``key`` among ``partitions``."""
        known = self._known.get(key)
        if known is not None:
            return known
        partition = (murmur2(key) & 0x7FFFFFFF) % self.partitions
        if len(self._known) >= _CACHE_KEYS_MAX:
            self._known.clear()
        self._known[key] = partition
        return partition
