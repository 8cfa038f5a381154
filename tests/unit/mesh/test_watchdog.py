"""A process that makes no progress ends, however it hangs."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

HANG = """
import ctypes, logging, sys, time
from services.mesh.adapters import watchdog
from services.mesh.adapters.system_clock import SystemClock
from services.mesh.telemetry import StageTelemetry

logging.basicConfig(stream=sys.stderr)
watchdog._LOOK_S = watchdog._LAST_WORDS_S = 0.1
telemetry = StageTelemetry("test", SystemClock())
watchdog.watch(telemetry, 0.5)
for _ in range(10):
    time.sleep(0.1)
    telemetry.alive()
print("alive", flush=True)
{hang}
"""

HANGS = {
    "sleeping": "time.sleep(60)",
    "holding the interpreter's lock": "ctypes.PyDLL(None).sleep(60)",
    "in a write to the log": "logging.getLogger().handlers[0].acquire(); time.sleep(60)",
}


@pytest.mark.parametrize("hang", list(HANGS.values()), ids=list(HANGS))
def test_a_hang_ends_the_process(hang: str) -> None:
    started_s = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", HANG.format(hang=hang)], capture_output=True, text=True, timeout=30)
    assert ended.returncode != 0
    assert ended.stdout == "alive\n", "as long as it turns it is left alone"
    assert time.monotonic() - started_s < 20
    if "PyDLL" not in hang and "acquire" not in hang:
        assert ended.returncode == 70
        assert "stage=test no progress" in ended.stderr
        assert "line" in ended.stderr, "where it hangs"


def test_what_was_to_take_less_is_waited_for_no_longer() -> None:
    hang = "telemetry.alive(0.3); time.sleep(60)"
    program = HANG.format(hang=hang).replace("watch(telemetry, 0.5)", "watch(telemetry, 3600)")
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout) == (70, "alive\n"), ended.stderr
