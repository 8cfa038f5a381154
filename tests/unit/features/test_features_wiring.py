"""What a features process sets up before its first session."""

from __future__ import annotations

import gc
from typing import Any, cast

from services.features.__main__ import wire
from services.mesh.adapters import garbage_collector
from services.mesh.adapters.memory import ManualClock
from services.mesh.adapters.process import Parts
from services.mesh.settings import Environment
from services.mesh.telemetry import StageTelemetry


def test_old_state_is_kept_from_garbage_collection() -> None:
    clock = ManualClock()
    telemetry = StageTelemetry("features-customer", clock)
    environment = Environment({"WEIR_VIEW": "customer", "WEIR_REDIS": "redis://127.0.0.1:1/0"})
    unused = cast(Any, None)
    try:
        wire(Parts(log=unused, clock=clock, telemetry=telemetry, process=unused), environment)
        assert garbage_collector._freeze in gc.callbacks
    finally:
        gc.callbacks[:] = [known for known in gc.callbacks if known is not garbage_collector._freeze]
