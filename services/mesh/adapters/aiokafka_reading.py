"""A consumer outside any group, as everybody here wants one who reads the log with asyncio."""

from __future__ import annotations

from typing import Any, Literal

from aiokafka import AIOKafkaConsumer

Isolation = Literal["read_committed", "read_uncommitted"]


def groupless_consumer(kafka: str, client: str, isolation: Isolation = "read_committed", **options: Any) -> Any:
    """Not started, without topics. ``options`` are aiokafka's own: how long to wait for how many bytes."""
    return AIOKafkaConsumer(
        bootstrap_servers=kafka,
        client_id=client,
        group_id=None,
        isolation_level=isolation,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # where retention was faster than the reader: what is still kept, all of it
        **options,
    )
