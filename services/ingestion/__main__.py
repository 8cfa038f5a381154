"""``WEIR_INTAKE=events python -m services.ingestion``: the only place where ingestion's real parts meet."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from services.ingestion.capacity import capacity_line
from services.ingestion.handler import IngestionHandler
from services.ingestion.intake import EVENT_INTAKE, OUTCOMES_INTAKE, Intake
from services.ingestion.settings import IngestionSettings
from services.mesh.adapters.kafka_reader import KafkaReader
from services.mesh.adapters.process import Parts, run_stage
from services.mesh.adapters.redis_store import RedisStore, connect
from services.mesh.adapters.registry import Registry
from services.mesh.codec import schema
from services.mesh.errors import Transient
from services.mesh.niceness import AFTER_DECISIONS
from services.mesh.settings import Environment
from services.mesh.stage import Handler

_INTAKES = {"events": EVENT_INTAKE, "outcomes": OUTCOMES_INTAKE}


def wire(parts: Parts, environment: Environment) -> Callable[[], Handler]:
    """Learn the raw topic's schemas, then make handlers on one Redis connection."""
    settings = IngestionSettings.read(environment)
    environment.check()
    intake = _INTAKES[settings.door]
    writer_schemas = _writer_schemas(settings.schema_registry, intake)
    client = connect(settings.redis)
    accepted = KafkaReader(
        parts.process.kafka, intake.accepted.name, f"{intake.stage.name}.{parts.process.slot}.accepted"
    )
    logging.info(capacity_line(settings.seen_memory_bytes, settings.rules.lateness_ms, settings.partitions))

    def make() -> Handler:
        return IngestionHandler(
            settings,
            store=RedisStore(client, intake.store),
            read_raw=parts.log.read,
            accepted=accepted,
            writer_schemas=writer_schemas,
            clock=parts.clock,
            metrics=parts.telemetry.metrics,
            intake=intake,
            slot=parts.process.slot,
        )

    return make


def _writer_schemas(registry_url: str, intake: Intake) -> Mapping[int, Mapping[str, Any]]:
    """Every version that producers may write; the pinned one alone when the registry is away."""
    pinned = schema(intake.raw.schemas[0])
    schemas: dict[int, Mapping[str, Any]] = {pinned.id: pinned.raw}
    try:
        with Registry(registry_url) as registry:
            for schema_id, text in registry.versions(f"{intake.raw.name}-value").items():
                schemas[schema_id] = json.loads(text)
    except Transient as error:
        logging.warning("only schema id %d of %s is known: %s", pinned.id, intake.raw.name, error)
    return schemas


if __name__ == "__main__":
    # The door decides which stage this process is; a wrong one is reported with all other settings by wire().
    if os.environ.get("WEIR_INTAKE") == "outcomes":
        os.nice(AFTER_DECISIONS)
    run_stage(_INTAKES.get(os.environ.get("WEIR_INTAKE", ""), EVENT_INTAKE).stage, wire)
