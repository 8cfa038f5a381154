"""Ends a process that makes no progress: a hang is worse than a crash, because nobody restarts it.

librdkafka's ``send_offsets_to_transaction`` may ignore its timeout while the group coordinator is down (issue 5456), so
no call can be trusted to return. Nor can a thread be trusted to run: a call that keeps the interpreter's lock stops
every thread, so a timer of the C runtime, set anew at each look, ends the process then.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import time
from threading import Thread, Timer

from services.mesh.telemetry import StageTelemetry

# Above every single wait of a turn (three calls of 10 s each), below the group's 120 s poll interval.
STILL_S_MAX = 60.0
EXIT_STATUS = 70  # EX_SOFTWARE
_LOOK_S = 1.0
_LAST_WORDS_S = 2.0


def watch(telemetry: StageTelemetry, still_s_max: float = STILL_S_MAX) -> None:
    """Start a daemon thread that ends the process once its loop has stood still for ``still_s_max``.

    Or for less, where the loop has said how long what it begins may take.
    """
    Thread(target=_watch, args=(telemetry, still_s_max), name="watchdog", daemon=True).start()


def _watch(telemetry: StageTelemetry, still_s_max: float) -> None:
    while True:
        faulthandler.dump_traceback_later(still_s_max + 10 * _LOOK_S, exit=True)
        time.sleep(_LOOK_S)
        still_s = time.monotonic() - telemetry.health.last_turn_s
        if still_s > min(still_s_max, telemetry.health.patience_s):
            # Whoever hangs in a write to the log holds its lock: last words are tried, not waited for.
            Timer(_LAST_WORDS_S, os._exit, (EXIT_STATUS,)).start()
            logging.critical("stage=%s no progress for %.0f s: ending the process", telemetry.health.stage, still_s)
            faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
            os._exit(EXIT_STATUS)
