"""``python -m services.review``: the only place where review's real parts meet."""

from __future__ import annotations

import os
from collections.abc import Callable

from services.mesh.adapters.kafka_reader import KafkaReader
from services.mesh.adapters.kafka_tail import KafkaTail
from services.mesh.adapters.process import Parts, run_stage
from services.mesh.adapters.redis_review import RedisReviewQueue
from services.mesh.adapters.redis_store import connect
from services.mesh.niceness import AFTER_DECISIONS
from services.mesh.pace import TOGETHER
from services.mesh.settings import Environment
from services.mesh.stage import Handler
from services.mesh.topics import REVIEWS
from services.mesh.topology import REVIEW
from services.review.filing import Filing
from services.review.handler import ReviewHandler
from services.review.settings import ReviewSettings


def wire(parts: Parts, environment: Environment) -> Callable[[], Handler]:
    """Make handlers one after the other, each with a tail of its own."""
    settings = ReviewSettings.read(environment)
    environment.check()
    name = f"{REVIEW.name}.{parts.process.slot}"
    queue = RedisReviewQueue(connect(settings.redis))
    written = KafkaReader(parts.process.kafka, REVIEWS.name, f"{name}.written")
    tails: list[KafkaTail] = []

    def make() -> Handler:
        while tails:
            tails.pop().close()
        tails.append(KafkaTail(parts.process.kafka, REVIEWS.name, f"{name}.tail"))
        return ReviewHandler(
            settings,
            filing=Filing(queue, parts.clock, f"{name}.{parts.clock.now_ms()}"),
            written=written,
            tail=tails[0],
            clock=parts.clock,
            telemetry=parts.telemetry,
        )

    return make


if __name__ == "__main__":
    os.nice(AFTER_DECISIONS)
    run_stage(REVIEW, wire, TOGETHER)
