"""``WEIR_VIEW=customer python -m services.features``: the only place where its real parts meet."""

from __future__ import annotations

import os
from collections.abc import Callable

from services.features.declared import declared_features
from services.features.handler import FeaturesHandler
from services.features.settings import FeaturesSettings
from services.features.views import adapter_of
from services.mesh.adapters.garbage_collector import freeze_survivors, thaw
from services.mesh.adapters.process import Parts, run_stage
from services.mesh.adapters.redis_store import RedisStore, connect
from services.mesh.settings import Environment
from services.mesh.stage import Handler
from services.mesh.topology import FEATURES_CUSTOMER, FEATURES_TERMINAL

_STAGES = {"customer": FEATURES_CUSTOMER, "terminal": FEATURES_TERMINAL}


def wire(parts: Parts, environment: Environment) -> Callable[[], Handler]:
    """Load the declared features, then make handlers on one Redis connection."""
    settings = FeaturesSettings.read(environment)
    environment.check()
    features = declared_features()
    adapter = adapter_of(settings.view, features)
    client = connect(settings.redis)
    stage = _STAGES[settings.view].name
    parts.telemetry.in_force("feature_set", features.content_hash)
    freeze_survivors()

    def make() -> Handler:
        thaw()  # a new session: what the ones before have left in cycles, if anything, goes
        store = RedisStore(client, settings.view)
        return FeaturesHandler(stage, adapter, store, parts.log.read, parts.clock, parts.telemetry, settings)

    return make


if __name__ == "__main__":
    # The view decides which stage this process is; a wrong one is reported with all other settings by wire().
    run_stage(_STAGES.get(os.environ.get("WEIR_VIEW", ""), FEATURES_CUSTOMER), wire)
