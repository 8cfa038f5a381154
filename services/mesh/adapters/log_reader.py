"""Reading records for a person: one by its place, a stretch, or everything up to now. Read committed, no group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from services.mesh.adapters.kafka_journal import KafkaJournal
from services.mesh.adapters.kafka_messages import is_end, is_passing, record_of
from services.mesh.adapters.kafka_reader import reader_settings
from services.mesh.codec import Codec
from services.mesh.errors import Transient
from services.mesh.lookup_entries import Place
from services.mesh.ports import InRecord
from services.mesh.topics import Topic

_BATCH_RECORDS_MAX = 2_000
_CALL_WAIT_S = 10.0
# A broker that answers nothing for so long is gone; it says so once a second otherwise.
_SILENCE_S_MAX = 10.0
_CONSUME_WAIT_S = 0.02  # for a full batch, so the end of what is read costs it once

Offsets = dict[tuple[str, int], int]
"""(topic, partition) -> offset."""


class LogReader:
    """One connection for all of somebody's reading; ``name`` is what the broker calls him.

    Raises Transient when the broker does not answer.
    """

    def __init__(self, bootstrap: str, name: str = "weir.cli") -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._bootstrap = bootstrap
        self._settings = reader_settings(bootstrap, name) | {"queued.max.messages.kbytes": 32_768}

    def partitions(self, topic: Topic) -> int:
        """How many partitions ``topic`` has."""
        try:
            found = self._admin.list_topics(topic.name, timeout=_CALL_WAIT_S).topics[topic.name]
        except KafkaException as error:
            raise self._away(error) from error
        if found.error is not None:
            raise Transient(f"topic {topic.name}: {found.error.str()}; was this mesh deployed?")
        return len(found.partitions)

    def ends(self, *topics: Topic) -> Offsets:
        """Where each partition's committed records end now."""
        return self._offsets(topics, OffsetSpec.latest())

    def starts(self, *topics: Topic) -> Offsets:
        """First offset that each partition still keeps."""
        return self._offsets(topics, OffsetSpec.earliest())

    def read(self, starts: Mapping[tuple[str, int], int], ends: Mapping[tuple[str, int], int]) -> Iterator[InRecord]:
        """Records from ``starts`` to before ``ends``, within a partition in offset order."""
        for batch in self.batches(starts, ends):
            for message in batch:
                yield record_of(message)

    def batches(
        self, starts: Mapping[tuple[str, int], int], ends: Mapping[tuple[str, int], int]
    ) -> Iterator[list[Any]]:
        """As ``read``, as the client's own messages, many at a time."""
        open_ones = {where for where, start in starts.items() if start < ends[where]}
        if not open_ones:
            return
        # A new one each time, in 30 ms: one that is assigned anew waits a second before it fetches.
        with closing(Consumer(self._settings)) as consumer:
            consumer.assign([TopicPartition(*where, starts[where]) for where in sorted(open_ones)])
            silent_s = 0.0
            while open_ones:
                try:
                    messages = consumer.consume(_BATCH_RECORDS_MAX, _CONSUME_WAIT_S)
                except KafkaException as error:
                    raise self._away(error) from error
                silent_s = 0.0 if messages else silent_s + _CONSUME_WAIT_S
                if silent_s > _SILENCE_S_MAX:
                    raise Transient(f"broker {self._bootstrap} has sent nothing for {_SILENCE_S_MAX:.0f} s; is it up?")
                wanted = []
                for message in messages:
                    where, offset = (message.topic(), message.partition()), message.offset()
                    failure = message.error()
                    if failure is None:
                        left = ends[where] - offset
                        if left > 0:
                            wanted.append(message)
                        if left <= 1:
                            open_ones.discard(where)
                    elif is_end(failure):
                        open_ones.discard(where)
                    elif not is_passing(failure):
                        raise Transient(f"reading {where[0]}: {failure.str()}")
                if wanted:
                    yield wanted

    def one(self, place: Place) -> InRecord | None:
        """The record that lies at ``place``; None when the log no longer keeps it."""
        where = (place.topic, place.partition)
        found = list(self.read({where: place.offset}, {where: place.offset + 1}))
        return found[0] if found else None

    def _offsets(self, topics: tuple[Topic, ...], spec: OffsetSpec) -> Offsets:
        asked = {TopicPartition(t.name, partition): spec for t in topics for partition in range(self.partitions(t))}
        try:
            found = self._admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED)
            return {(tp.topic, tp.partition): future.result(_CALL_WAIT_S).offset for tp, future in found.items()}
        except (KafkaException, TimeoutError) as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> Transient:
        return Transient(f"broker {self._bootstrap}: {error}; is the mesh still running?")


def journal(bootstrap: str, topic: Topic) -> list[tuple[InRecord, dict[str, Any]]]:
    """Every record of a control topic, raw and decoded, in order."""
    codec, reader = Codec(topic.schemas[0]), KafkaJournal(bootstrap, topic.name, "weir.cli")
    try:
        return [(record, codec.decode(record.value)) for record in reader.read_to_end()]
    finally:
        reader.close()
