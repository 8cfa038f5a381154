"""What the log holds to learn from: recorded vectors (``features.v1``) and outcomes (``outcomes.raw.v1``)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from services.mesh.adapters.kafka_reader import reader_settings
from services.mesh.codec import HEADER_BYTES, Codec
from services.mesh.errors import Poison, Transient
from services.mesh.topics import FEATURES, OUTCOMES_RAW, Topic
from services.retraining.dataset import Recorded, join

_BATCH_RECORDS_MAX = 2_000
_WAIT_S = 0.2
_STILL_S_MAX = 30.0
_INEXACT = frozenset({"stale", "fallback"})


class TopicFollower:
    """Reads a topic from its start, each time to its present end."""

    def __init__(self, bootstrap: str, topic: Topic) -> None:
        self._topic = topic
        self._consumer = Consumer(reader_settings(bootstrap, f"retraining.{topic.name}"))
        found = self._consumer.list_topics(topic.name, timeout=10).topics[topic.name].partitions
        self._partitions = sorted(found)
        self._at_end: set[int] = set()  # no record since the end was last reached
        self._consumer.assign([TopicPartition(topic.name, p, OFFSET_BEGINNING) for p in self._partitions])

    def to_end(self) -> Iterator[bytes]:
        """Values not yet read. Raises Transient when the broker stops answering before the end."""
        deadline_s = time.monotonic() + _STILL_S_MAX
        try:
            while True:
                messages = self._consumer.consume(_BATCH_RECORDS_MAX, _WAIT_S)
                for message in messages:
                    error = message.error()
                    if error is None:
                        self._at_end.discard(message.partition())
                        if message.value() is not None:
                            yield message.value()
                    elif error.code() == KafkaError._PARTITION_EOF:
                        self._at_end.add(message.partition())
                if len(self._at_end) == len(self._partitions):
                    return
                if messages:
                    deadline_s = time.monotonic() + _STILL_S_MAX
                elif time.monotonic() > deadline_s:
                    raise Transient(f"{self._topic.name}: nothing came for {_STILL_S_MAX:.0f} s before its end")
        except KafkaException as error:
            raise Transient(f"reading {self._topic.name}: {error}") from error

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()


@dataclass(slots=True)
class Outcomes:
    """Labels seen so far, one entry an outcome."""

    identities: list[str] = field(default_factory=list)
    fraud: list[bool] = field(default_factory=list)
    observed_ms: list[int] = field(default_factory=list)
    unreadable: int = 0

    def take(self, value: bytes, codec: Codec) -> None:
        """Add one outcome; one that cannot be read is counted and left out."""
        try:
            outcome: Any = codec.decode(value) if value[:1] == b"\x00" else orjson.loads(value)
            identity = identity_text(outcome["customer_id"], outcome["event_id"])
            label, observed_ms = outcome["label"], outcome["observed_time_ms"]
        except (Poison, ValueError, KeyError, TypeError):
            self.unreadable += 1
            return
        if label not in ("fraud", "genuine") or not isinstance(observed_ms, int):
            self.unreadable += 1
            return
        self.identities.append(identity)
        self.fraud.append(label == "fraud")
        self.observed_ms.append(observed_ms)


@dataclass(slots=True)
class Vectors:
    """Vectors seen so far."""

    identities: list[str] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)
    event_time_ms: list[int] = field(default_factory=list)
    exact: list[bool] = field(default_factory=list)

    def take(self, value: bytes, codec: Codec, feature_set: str) -> None:
        """Add one event's vector, unless another feature set made it."""
        if len(value) < HEADER_BYTES:
            return
        event = codec.decode(value)
        if event["feature_set"] != feature_set:
            return
        self.identities.append(identity_text(event["customer_id"], event["event_id"]))
        self.rows.append(event["vector"])
        self.event_time_ms.append(event["event_time_ms"])
        self.exact.append(event["feature_status"] not in _INEXACT)


def identity_text(customer_id: str, event_id: str) -> str:
    """An event's identity as one text."""
    return f"{len(customer_id)}:{customer_id}{event_id}"


def recorded_of(vectors: Vectors, outcomes: Outcomes, features: int) -> Recorded:
    """Vectors with their labels, shapes as in ``Recorded``. Raises TrainingRefused."""
    joined = join(
        vectors.identities,
        outcomes.identities,
        np.array(outcomes.fraud, dtype=np.bool_),
        np.array(outcomes.observed_ms, dtype=np.int64),
    )
    return Recorded(
        rows=np.frombuffer(b"".join(vectors.rows), dtype=np.float32).reshape(-1, features),
        event_time_ms=np.array(vectors.event_time_ms, dtype=np.int64),
        label=joined.label,
        observed_ms=joined.observed_ms,
        exact=np.array(vectors.exact, dtype=np.bool_),
    )


def followers(bootstrap: str) -> tuple[TopicFollower, TopicFollower]:
    """Of vectors and of outcomes."""
    return TopicFollower(bootstrap, FEATURES), TopicFollower(bootstrap, OUTCOMES_RAW)
