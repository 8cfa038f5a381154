"""The Faust application: one agent over what drift reads, one record after the other, no exception leaves it."""

from __future__ import annotations

import logging
from typing import Any

import faust

from services.mesh.codec import Codec
from services.mesh.errors import Poison
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import LABELS

_BATCH_RECORDS_MAX = 500
_BATCH_WAIT_S = 0.25


def follow(app: faust.App, telemetry: StageTelemetry) -> None:
    """Attach the agent to ``app``."""
    labels = Codec(LABELS.schemas[0])
    topic = app.topic(LABELS.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(topic, concurrency=1, name="drift.labels")
    async def take(stream: Any) -> None:
        async for events in stream.take_events(_BATCH_RECORDS_MAX, within=_BATCH_WAIT_S):
            for event in events:
                try:
                    label = labels.decode(event.value)
                except Poison as poison:
                    message = event.message
                    logging.error("%s[%d]@%d skipped: %s", message.topic, message.partition, message.offset, poison)
                    continue
                telemetry.health.records += 1
                telemetry.health.versions["model"] = label["model_version"]
            telemetry.alive()
