"""Processor time of child processes, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psutil

from services.platform.servers import NAMES
from services.platform.supervisor import Supervisor


def seconds_used(supervisor: Supervisor, hops: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """User and system time so far of every hop (all its processes) and of every server.

    A process that is not running now counts as 0: a restart within a measurement makes it worthless, and shows as a
    negative difference.
    """
    groups = {**{name: list(names) for name, names in hops.items()}, **{name: [name] for name in NAMES}}
    return {group: sum(_seconds(supervisor.pid(name)) for name in names) for group, names in groups.items()}


def _seconds(pid: int | None) -> float:
    if pid is None:
        return 0.0
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
