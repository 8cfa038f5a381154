"""Every producer in the world must agree on a key's partition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mesh.partitioner import Partitioner, murmur2

# Apache Kafka, clients/src/test/.../UtilsTest.java, testMurmur2: Java's signed results.
KAFKA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), list(KAFKA_VECTORS.items()))
def test_murmur2_is_kafkas(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected & 0xFFFFFFFF


@given(st.binary(max_size=60), st.integers(1, 200))
def test_a_partition_is_kafkas_positive_hash(key: bytes, partitions: int) -> None:
    assert Partitioner(partitions).partition_of(key) == (murmur2(key) & 0x7FFFFFFF) % partitions


@given(st.binary(max_size=60))
def test_aiokafka_agrees(key: bytes) -> None:
    aiokafka = pytest.importorskip("aiokafka.partitioner")
    assert murmur2(key) == aiokafka.murmur2(key) & 0xFFFFFFFF


def test_the_cache_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.mesh.partitioner._CACHE_KEYS_MAX", 10)
    partitioner = Partitioner(8)
    keys = [b"%d" % (n % 37) for n in range(200)]
    assert [partitioner.partition_of(key) for key in keys] == [Partitioner(8).partition_of(key) for key in keys]
    assert len(partitioner._known) <= 10
