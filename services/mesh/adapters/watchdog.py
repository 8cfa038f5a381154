"""Ends a process that makes no progress: a hang is worse than a crash, because nobody restarts it.

librdkafka's ``send_offsets_to_transaction`` may ignore its timeout while the group coordinator is down (issue 5456), so
no call can be trusted to return.
"""

from __future__ import annotations

import logging
import os
import time
from threading import Thread

from services.mesh.telemetry import StageTelemetry

# Above every single wait of a turn (three calls of 10 s each), below the group's 120 s poll interval.
STILL_S_MAX = 60.0
EXIT_STATUS = 70  # EX_SOFTWARE
_LOOK_S = 1.0


def watch(telemetry: StageTelemetry, still_s_max: float = STILL_S_MAX) -> None:
    """Start a daemon thread that ends the process once its loop has stood still for ``still_s_max``."""
    Thread(target=_watch, args=(telemetry, still_s_max), name="watchdog", daemon=True).start()


def _watch(telemetry: StageTelemetry, still_s_max: float) -> None:
    while True:
        time.sleep(_LOOK_S)
        still_s = time.monotonic() - telemetry.health.last_turn_s
        if still_s > still_s_max:
            logging.critical("stage=%s no progress for %.0f s: ending the process", telemetry.health.stage, still_s)
            logging.shutdown()
            os._exit(EXIT_STATUS)
