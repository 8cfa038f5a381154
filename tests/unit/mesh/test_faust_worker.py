"""A worker on Faust ends when its application has: its supervisor gives it three seconds, beside a flood too."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.mesh.adapters.faust_worker import _Worker, committed_app

# A thread works for an hour when the worker ends, here because no broker is there.
_BUSY = """
import asyncio, sys, time
from services.mesh.adapters.faust_worker import committed_app, run_worker

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
app = committed_app("busy", "127.0.0.1:1", sys.argv[1])
loop.run_in_executor(None, time.sleep, 3_600)
run_worker(app, loop, at_end=lambda: print("closed", flush=True))
"""


def test_nothing_sleeps_once_all_has_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        left = loop.create_task(asyncio.Event().wait())

        async def sleep(*_: Any) -> None:
            raise AssertionError("there is nothing to sleep for")

        monkeypatch.setattr(asyncio, "sleep", sleep)
        _Worker(committed_app("prompt", "127.0.0.1:1", str(tmp_path)), loop=loop)._shutdown_loop()
        assert left.cancelled()
    finally:
        loop.close()
        asyncio.set_event_loop(None)


def test_a_thread_that_works_on_keeps_no_process(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _BUSY, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "closed\n"), done.stderr
