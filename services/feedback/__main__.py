"""``python -m services.feedback``: the only place where feedback's real parts meet."""

from __future__ import annotations

import os
from collections.abc import Callable

from services.feedback.handler import FeedbackHandler
from services.feedback.settings import FeedbackSettings
from services.mesh.adapters.kafka_reader import KafkaReader, cluster_of
from services.mesh.adapters.process import Parts, run_stage
from services.mesh.niceness import AFTER_DECISIONS
from services.mesh.pace import TOGETHER
from services.mesh.settings import Environment
from services.mesh.stage import Handler
from services.mesh.topics import LABELS, OUTCOMES_ORPHAN
from services.mesh.topology import FEEDBACK


def wire(parts: Parts, environment: Environment) -> Callable[[], Handler]:
    """Make handlers one after the other: each lets go of the files before the next one opens them."""
    settings = FeedbackSettings.read(environment)
    environment.check()
    log = cluster_of(parts.process.kafka)
    name = f"{FEEDBACK.name}.{parts.process.slot}"
    labels = KafkaReader(parts.process.kafka, LABELS.name, f"{name}.labels")
    orphans = KafkaReader(parts.process.kafka, OUTCOMES_ORPHAN.name, f"{name}.orphans")
    made: list[FeedbackHandler] = []

    def make() -> Handler:
        while made:
            made.pop().close()
        handler = FeedbackHandler(
            settings,
            log=log,
            read=parts.log.read,
            labels=labels,
            orphans=orphans,
            clock=parts.clock,
            telemetry=parts.telemetry,
        )
        made.append(handler)
        return handler

    return make


if __name__ == "__main__":
    os.nice(AFTER_DECISIONS)
    run_stage(FEEDBACK, wire, TOGETHER)
