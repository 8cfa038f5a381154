"""The client's messages as everybody else in the mesh knows them: records, ends, and what passes by itself."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError

from services.mesh.ports import InRecord, in_record


def record_of(message: Any) -> InRecord:
    """A message without an error as a record."""
    return in_record(
        (
            message.topic(),
            message.partition(),
            message.offset(),
            message.timestamp()[1],
            message.key(),
            message.value(),
            message.headers() or (),
        )
    )


def is_end(error: Any) -> bool:
    """Whether the error only says that a partition's end was reached."""
    return bool(error.code() == KafkaError._PARTITION_EOF)


def is_passing(error: Any) -> bool:
    """Whether the client mends it by itself: a broker that is away or moves."""
    return bool(error.retriable() or error.code() == KafkaError._TRANSPORT)
