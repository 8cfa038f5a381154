"""Appending one record to a control topic, and knowing that the broker has it."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Producer

from services.mesh.errors import Transient
from services.mesh.topics import Topic

_WAIT_S = 30.0


def append(bootstrap: str, topic: Topic, key: str, value: bytes) -> tuple[int, int]:
    """Append and wait for the acknowledgement; the record's partition and offset. Raises Transient."""
    settings = {
        "bootstrap.servers": bootstrap,
        "acks": "all",
        "enable.idempotence": True,
        "message.max.bytes": topic.bytes_max,
    }
    producer = Producer(settings)
    went: list[tuple[int, int]] = []

    def delivered(error: Any, message: Any) -> None:
        if error is None:
            went.append((message.partition(), message.offset()))

    producer.produce(topic.name, value, key.encode(), on_delivery=delivered)
    producer.flush(_WAIT_S)
    if not went:
        raise Transient(f"{topic.name}: the broker did not take the record in {_WAIT_S:.0f} s")
    return went[0]
