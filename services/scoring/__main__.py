"""``python -m services.scoring``: the only place where scoring's real parts meet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from services.mesh.adapters.kafka_journal import KafkaJournal
from services.mesh.adapters.process import Parts, run_stage
from services.mesh.feature_set import pinned_feature_set
from services.mesh.settings import Environment
from services.mesh.signing import load_public_key
from services.mesh.stage import Handler
from services.mesh.topics import MODELS
from services.mesh.topology import SCORING
from services.scoring.bootstrap import declared_bootstrap
from services.scoring.desk import ModelDesk
from services.scoring.handler import ScoringHandler
from services.scoring.settings import ScoringSettings


def wire(parts: Parts, environment: Environment) -> Callable[[], Handler]:
    """Read the models in force, then make handlers that use them."""
    settings = ScoringSettings.read(environment)
    environment.check()
    features = pinned_feature_set()
    keys = [load_public_key(Path(file)) for file in settings.public_key_files]
    journal = KafkaJournal(parts.process.kafka, MODELS.name, f"scoring.{parts.process.slot}.models")
    desk = ModelDesk(journal, keys, features, declared_bootstrap(features), parts.clock, parts.telemetry)
    desk.open()
    return lambda: ScoringHandler(desk, features, settings, parts.telemetry, parts.process.slot)


if __name__ == "__main__":
    run_stage(SCORING, wire)
