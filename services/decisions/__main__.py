"""``python -m services.decisions``: the only place where its real parts meet."""

from __future__ import annotations

from collections.abc import Callable

from services.decisions.checkpoint import Restorer
from services.decisions.desk import PolicyDesk
from services.decisions.handler import DecisionsHandler
from services.mesh.adapters.kafka_journal import KafkaJournal
from services.mesh.adapters.kafka_reader import KafkaReader, partitions_of
from services.mesh.adapters.process import Parts, run_stage
from services.mesh.feature_set import pinned_feature_set
from services.mesh.settings import Environment
from services.mesh.stage import Handler
from services.mesh.topics import DECISIONS, POLICIES
from services.mesh.topology import DECIDING


def wire(parts: Parts, environment: Environment) -> Callable[[], Handler]:
    """Read the policy in force, then make handlers that use it."""
    environment.check()
    features = pinned_feature_set()
    journal = KafkaJournal(parts.process.kafka, POLICIES.name, f"decisions.{parts.process.slot}.policies")
    desk = PolicyDesk(journal, features, parts.telemetry)
    desk.open()
    partitions = partitions_of(parts.process.kafka, DECISIONS.name)
    decided = KafkaReader(parts.process.kafka, DECISIONS.name, f"decisions.{parts.process.slot}.decided")
    restorer = Restorer(decided, desk.library.get)
    slot = parts.process.slot
    return lambda: DecisionsHandler(desk, features, parts.telemetry, slot, restorer, partitions)


if __name__ == "__main__":
    run_stage(DECIDING, wire)
