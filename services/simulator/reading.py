"""A consumer outside any group, opened and closed around a block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.errors import KafkaConnectionError

from services.mesh.adapters.aiokafka_closing import let_go
from services.mesh.adapters.aiokafka_reading import Isolation, groupless_consumer
from services.mesh.errors import Transient

FETCH_WAIT_MS = 100
FETCH_BYTES_MIN = 65_536  # with the wait: whatever came in a tenth of a second, in one answer


@asynccontextmanager
async def reader(kafka: str, isolation: Isolation) -> AsyncIterator[Any]:
    """A started consumer without topics; Transient when the broker cannot be reached."""
    consumer = groupless_consumer(
        kafka,
        "simulator",
        isolation,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        fetch_min_bytes=FETCH_BYTES_MIN,
        max_partition_fetch_bytes=1_048_576,
    )
    try:
        await consumer.start()
    except KafkaConnectionError as error:
        await let_go(consumer.stop)
        raise Transient(f"kafka={kafka}: cannot be reached ({error}); is the mesh up (weir up)?") from error
    try:
        yield consumer
    finally:
        await let_go(consumer.stop)


async def require_topics(kafka: str, names: Sequence[str]) -> None:
    """Transient when the broker lacks one of ``names``."""
    async with reader(kafka, "read_committed") as consumer:
        missing = sorted(set(names) - await consumer.topics())
    if missing:
        raise Transient(f"kafka={kafka}: no topic {', '.join(missing)}; create the topics first (weir up does)")
