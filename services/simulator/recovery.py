"""After a crash: what was sent but not checkpointed is found in the log and not sent again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import KafkaConnectionError

from services.mesh.errors import Fatal
from services.simulator.ledger import TopicPartition


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


async def ends_of(kafka: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
    """End offset of every partition of ``topics``; Fatal when a topic does not exist."""
    consumer = await _reader(kafka)
    try:
        partitions = [KafkaPartition(t, number) for t in topics for number in _partitions(consumer, t)]
        return {(where.topic, where.partition): end for where, end in (await consumer.end_offsets(partitions)).items()}
    finally:
        await consumer.stop()


async def find_sent(kafka: str, offsets: Mapping[TopicPartition, int]) -> AlreadySent:
    """Everything in the log from the checkpoint's ``offsets`` on; Fatal when the log is shorter than they say."""
    consumer = await _reader(kafka)
    try:
        starts = {KafkaPartition(*where): offset for where, offset in offsets.items()}
        ends = await consumer.end_offsets(list(starts))
        behind = {where: end for where, end in ends.items() if end > starts[where]}
        for where, end in ends.items():
            if end < starts[where]:
                raise Fatal(
                    f"{where.topic}[{where.partition}] ends at {end}, the kept progress at {starts[where]}: "
                    "another or a restored log; delete the --state file to start over"
                )
        return AlreadySent(await _read(consumer, starts, behind))
    finally:
        await consumer.stop()


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


def _partitions(consumer: Any, topic: str) -> list[int]:
    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        raise Fatal(f"topic {topic} does not exist on this broker; create the topics first (weir up does)")
    return sorted(numbers)


async def _reader(kafka: str) -> Any:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka, client_id="simulator", group_id=None, enable_auto_commit=False,
        auto_offset_reset="earliest", isolation_level="read_uncommitted",
    )  # fmt: skip
    try:
        await consumer.start()
    except KafkaConnectionError as error:
        await consumer.stop()
        raise Fatal(f"kafka={kafka}: cannot be reached ({error}); is the mesh up (weir up)?") from error
    return consumer
