"""After a crash: what was sent but not checkpointed is found in the log and not sent again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from aiokafka import TopicPartition as KafkaPartition

from services.mesh.errors import Fatal
from services.simulator.ledger import TopicPartition
from services.simulator.reading import reader


def fingerprint(value: bytes) -> bytes:
    """16 bytes that stand for a record."""
    return blake2b(value, digest_size=16).digest()


class AlreadySent:
    """Records found behind the checkpoint, each to be left out once."""

    def __init__(self, found: Mapping[TopicPartition, Counter[bytes]]) -> None:
        self._found = {where: Counter(counter) for where, counter in found.items() if counter}

    def leave_out(self, topic: str, partition: int, rows: Sequence[int], values: Sequence[bytes]) -> Sequence[int]:
        """``rows`` without those that are in the log already."""
        found = self._found.get((topic, partition))
        if found is None:
            return rows
        keep = []
        for row in rows:
            mark = fingerprint(values[row])
            if found[mark] > 0:
                found[mark] -= 1
            else:
                keep.append(row)
        if not +found:
            del self._found[topic, partition]
        return keep


async def ends_of(kafka: str, partitions: Mapping[str, int]) -> dict[TopicPartition, int]:
    """End offset of every partition; ``partitions`` says how many each topic has."""
    wanted = [KafkaPartition(topic, number) for topic, count in partitions.items() for number in range(count)]
    async with reader(kafka, "read_uncommitted") as consumer:
        return {(where.topic, where.partition): end for where, end in (await consumer.end_offsets(wanted)).items()}


async def committed_ends(kafka: str, topic: str, partitions: int) -> dict[int, int]:
    """By partition, the offset behind the last committed record of ``topic``."""
    wanted = [KafkaPartition(topic, number) for number in range(partitions)]
    async with reader(kafka, "read_committed") as consumer:
        return {where.partition: end for where, end in (await consumer.end_offsets(wanted)).items()}


async def find_sent(kafka: str, offsets: Mapping[TopicPartition, int]) -> AlreadySent:
    """Everything in the log from the checkpoint's ``offsets`` on; Fatal when the log is shorter than they say."""
    starts = {KafkaPartition(*where): offset for where, offset in offsets.items()}
    async with reader(kafka, "read_uncommitted") as consumer:
        ends = await consumer.end_offsets(list(starts))
        for where, end in ends.items():
            if end < starts[where]:
                raise Fatal(
                    f"{where.topic}[{where.partition}] ends at {end}, the kept progress at {starts[where]}: "
                    "another or a restored log; delete the --state file to start over"
                )
        behind = {where: end for where, end in ends.items() if end > starts[where]}
        return AlreadySent(await _read(consumer, starts, behind))


async def _read(
    consumer: Any, starts: Mapping[KafkaPartition, int], ends: Mapping[KafkaPartition, int]
) -> dict[TopicPartition, Counter[bytes]]:
    found: dict[TopicPartition, Counter[bytes]] = {tuple(where): Counter() for where in ends}
    open_ends = dict(ends)
    consumer.assign(list(open_ends))
    for where in open_ends:
        consumer.seek(where, starts[where])
    while open_ends:
        for where, records in (await consumer.getmany(timeout_ms=500)).items():
            for record in records:
                found[tuple(where)][fingerprint(record.value or b"")] += 1
        for where in list(open_ends):
            if await consumer.position(where) >= open_ends[where]:
                del open_ends[where]
    return found
