"""``python -m services.ingestion``: the only place where ingestion's real parts meet."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from services.ingestion.handler import IngestionHandler
from services.ingestion.seen import capacity_line
from services.ingestion.settings import IngestionSettings
from services.mesh.adapters.kafka_reader import KafkaReader
from services.mesh.adapters.process import Parts, run_stage
from services.mesh.adapters.redis_store import RedisStore, connect
from services.mesh.adapters.registry import Registry
from services.mesh.codec import schema
from services.mesh.errors import Transient
from services.mesh.settings import Environment
from services.mesh.stage import Handler
from services.mesh.topics import EVENTS, EVENTS_RAW
from services.mesh.topology import INGESTION


def wire(parts: Parts, environment: Environment) -> Callable[[], Handler]:
    """Learn the raw topic's schemas, then make handlers on one Redis connection."""
    settings = IngestionSettings.read(environment)
    registry_url = environment.text("WEIR_SCHEMA_REGISTRY", "http://127.0.0.1:8081")
    environment.check()
    writer_schemas = _writer_schemas(registry_url)
    client = connect(settings.redis)
    accepted = KafkaReader(parts.process.kafka, EVENTS.name, f"ingestion.{parts.process.slot}.accepted")
    logging.info(capacity_line(settings.seen_memory_bytes, settings.rules.lateness_ms, settings.partitions))

    def make() -> Handler:
        return IngestionHandler(
            settings,
            store=RedisStore(client, "ingestion"),
            read_raw=parts.log.read,
            accepted=accepted,
            writer_schemas=writer_schemas,
            clock=parts.clock,
            metrics=parts.telemetry.metrics,
        )

    return make


def _writer_schemas(registry_url: str) -> Mapping[int, Mapping[str, Any]]:
    """Every version that producers may write; the pinned one alone when the registry is away."""
    pinned = schema(EVENTS_RAW.schemas[0])
    schemas: dict[int, Mapping[str, Any]] = {pinned.id: pinned.raw}
    try:
        with Registry(registry_url) as registry:
            for schema_id, text in registry.versions(f"{EVENTS_RAW.name}-value").items():
                schemas[schema_id] = json.loads(text)
    except Transient as error:
        logging.warning("only schema id %d of %s is known: %s", pinned.id, EVENTS_RAW.name, error)
    return schemas


if __name__ == "__main__":
    run_stage(INGESTION, wire)
