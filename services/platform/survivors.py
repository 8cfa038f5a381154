"""The pid file: what an earlier supervisor left running is found and ended by the next one.

Children die with their supervisor by the kernel's hand on Linux (see ``launch``); this covers their own children,
and systems without that signal. A process is recognised by its pid *and* its start time, for pids are used again.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from services.platform.files import write_atomically

REAP_S_MAX = 3.0  # SIGKILL acts at once unless the disk hangs


def record(path: Path, pids: Mapping[str, int]) -> None:
    """Write name, pid and start time of every running child to ``path``."""
    rows = []
    for name, pid in pids.items():
        with suppress(psutil.NoSuchProcess):
            rows.append({"name": name, "pid": pid, "started": psutil.Process(pid).create_time()})
    write_atomically(path, json.dumps(rows, indent=1))


def reap(path: Path) -> list[str]:
    """End every recorded process that still runs, with all of its session; return their names."""
    reaped = []
    for name, pid, started in _rows(path):
        members = _session_members(pid, started)
        for member in members:
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)
        _wait_for(members)
        if members:
            reaped.append(name)
    path.unlink(missing_ok=True)
    return reaped


def _rows(path: Path) -> list[tuple[str, int, float]]:
    """Read the pid file; one that is torn or missing names nobody (the kernel's signal is the first defence)."""
    try:
        return [(str(row["name"]), int(row["pid"]), float(row["started"])) for row in json.loads(path.read_text())]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []


def _session_members(leader_pid: int, started: float) -> list[psutil.Process]:
    """Return the processes of a child's session: it was started as a session leader, so its pid is the session's."""
    try:
        if abs(psutil.Process(leader_pid).create_time() - started) > 0.01:
            return []  # the pid has a new owner
    except psutil.NoSuchProcess:
        pass  # the leader is gone; a session keeps its id while any member lives
    members = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == leader_pid and _runs(process):
                members.append(process)
    return members


def _wait_for(processes: list[psutil.Process]) -> None:
    end_s = time.monotonic() + REAP_S_MAX
    while any(map(_runs, processes)) and time.monotonic() < end_s:
        time.sleep(0.01)


def _runs(process: psutil.Process) -> bool:
    """A zombie has ended; in a container without an init nobody ever reaps it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
