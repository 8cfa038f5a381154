"""Moments of event time at which the sender waits for the mesh: in life a day has 24 hours, here it has a second.

At midnight everything before it is decided, its outcomes have become labels and features, and the control plane has
acted on them; then analysts choose. In the morning what they found has become features before the day goes on.
Without this a loop that takes minutes to learn would, in event time, take weeks.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from services.simulator.rhythm import DAY_MS, MORNING_MS

# What a control plane takes for one training, many times over; one that hangs must not stop events for ever.
HOLD_S_MAX = 120.0
_POLL_S = 0.1
_ANSWER_S_MAX = 1.0
# An answer counts when the process has begun two turns since the labels came: the first of them has seen them.
_TURNS = 2


class Holds(Protocol):
    """When event time waits, and for what."""

    def after(self, time_ms: int) -> int:
        """The next such moment after ``time_ms``."""
        ...

    async def hold(self, at_ms: int) -> None:
        """Return when all is settled; everything sent is decided already."""
        ...


class Settling(Protocol):
    """Whether the stages have taken everything."""

    async def all_zero(self) -> bool:
        """True when none has a record left to read."""
        ...


class DayHolds:
    """Midnights, and mornings when analysts tell what they found."""

    def __init__(
        self,
        stages: Settling,
        control: Sequence[Path],
        stopping: asyncio.Event,
        midnight: Callable[[int], None],
        *,
        mornings: bool,
    ) -> None:
        """``control``: health files of the processes to wait for; ``midnight``: called once a day has settled."""
        self._stages, self._control, self._stopping = stages, control, stopping
        self._midnight, self._mornings = midnight, mornings

    def after(self, time_ms: int) -> int:
        """See ``Holds``."""
        day_ms = time_ms - time_ms % DAY_MS
        morning_ms = day_ms + MORNING_MS + 1  # what is told at that hour has been told
        return morning_ms if self._mornings and time_ms < morning_ms else day_ms + DAY_MS

    async def hold(self, at_ms: int) -> None:
        """See ``Holds``."""
        end_s = time.monotonic() + HOLD_S_MAX
        while self._goes_on(end_s) and not await self._stages.all_zero():
            await asyncio.sleep(_POLL_S)
        if at_ms % DAY_MS == 0:
            # Side by side, as each takes a turn or two to answer. An alert that drift raises in its last one is acted
            # on a day later at worst.
            await asyncio.gather(*(self._until_idle(file, end_s) for file in self._control))
            if not self._stopping.is_set():
                self._midnight(at_ms)

    async def _until_idle(self, file: Path, end_s: float) -> None:
        since_s, turns = time.monotonic(), set[float]()
        while self._goes_on(end_s):
            health = await asyncio.to_thread(_progress, file)
            if health is None or health.get("idle") is None:
                return  # it does not run, or does not say
            turn_s = float(health.get("last_turn_s", 0.0))
            if turn_s > since_s:
                turns.add(turn_s)
            if health["idle"] and len(turns) >= _TURNS:
                return
            await asyncio.sleep(_POLL_S)

    def _goes_on(self, end_s: float) -> bool:
        return not self._stopping.is_set() and time.monotonic() < end_s


def _progress(file: Path) -> dict[str, Any] | None:
    """What the process that wrote ``file`` says of itself; None when there is none, not idle while it is silent."""
    try:
        port = int(json.loads(file.read_text())["port"])
    except (OSError, ValueError, KeyError):
        return None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S_MAX)
    try:
        connection.request("GET", "/health/progress")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    except (OSError, http.client.HTTPException, ValueError):
        return {"idle": False}
    finally:
        connection.close()
