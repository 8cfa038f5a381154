"""The one loop that looks, and everybody who watches: one picture a second, the same for all.

With nobody watching it looks every ten seconds, so that a page that is opened has a past to show.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import orjson

from services.console.flow import Flow, totals
from services.console.history import History
from services.console.look import Picture
from services.console.processes import Answer
from services.console.sample import Samples
from services.mesh.errors import Transient
from services.mesh.ports import Clock
from services.mesh.telemetry import StageTelemetry

EVERY_S: Final = 1.0
IDLE_EVERY_S: Final = 10.0
WATCHERS_MAX: Final = 100


class Asks(Protocol):
    """Asks every process how it is."""

    async def ask(self) -> list[Answer]:
        """Everybody's answer."""


class Looks(Protocol):
    """Looks at the log."""

    async def look(self) -> Picture:
        """Raises Transient."""


class Store(Protocol):
    """Looks at Redis."""

    async def look(self) -> dict[str, Any]:
        """Raises Transient."""


class Live:
    """Looks once a second and tells whoever watches."""

    def __init__(
        self,
        processes: Asks,
        log: Looks,
        store: Store,
        told: Callable[[], dict[str, Any]],
        clock: Clock,
        telemetry: StageTelemetry,
    ) -> None:
        """``told``: what else a tick carries, from whoever follows journals."""
        self._processes, self._log, self._store, self._told = processes, log, store, told
        self._clock, self._telemetry = clock, telemetry
        self._flow, self._samples, self._history = Flow(), Samples(), History()
        self._watchers: set[asyncio.Queue[bytes | None]] = set()
        self._woken = asyncio.Event()
        self._stopped = False
        self.tick: dict[str, Any] | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.tick = await self._look()
            self._history.add(self.tick)
            message = event("tick", self.tick)
            for queue in self._watchers:
                _hand(queue, message)
            self._telemetry.alive()
            self._telemetry.ready(True)
            self._telemetry.metrics.set("weir_console_watchers", len(self._watchers))
            await self._pause()

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[asyncio.Queue[bytes | None]]:
        """What one page is sent: the past first, then every tick; None when there is no more. Raises Transient."""
        if len(self._watchers) >= WATCHERS_MAX:
            raise Transient(f"{len(self._watchers)} pages are open: at most {WATCHERS_MAX}; close one")
        # A page that reads slowly misses ticks; it never makes anybody keep them.
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=2)
        queue.put_nowait(event("past", {"points": self._history.told()}))
        if self._stopped:
            queue.put_nowait(None)
        elif self.tick is not None:
            queue.put_nowait(event("tick", self.tick))
        self._watchers.add(queue)
        self._woken.set()
        try:
            yield queue
        finally:
            self._watchers.discard(queue)

    def stop(self) -> None:
        """End every stream: the server waits for them before it ends."""
        self._stopped = True
        for queue in self._watchers:
            _hand(queue, None)

    async def _pause(self) -> None:
        self._woken.clear()
        if self._watchers:
            await asyncio.sleep(EVERY_S)
            return
        try:
            async with asyncio.timeout(IDLE_EVERY_S):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _look(self) -> dict[str, Any]:
        answers, picture, store = await asyncio.gather(
            self._processes.ask(), _tried(self._log.look()), _tried(self._store.look())
        )
        troubles = [str(found) for found in (picture, store) if isinstance(found, Transient)]
        lags = None
        if isinstance(picture, Picture):
            self._samples.add(picture.decisions)
            lags = picture.lags
        rows = self._flow.rows(answers, lags, self._clock.monotonic_s())
        return {
            "time_ms": self._clock.now_ms(),
            "event_time_ms": self._samples.event_time_ms,
            "stages": rows,
            "totals": totals(rows),
            "latency_ms": self._samples.latency_ms(),
            "hops_ms": self._samples.hops_ms(),
            "rules": self._samples.rules(),
            "tail": self._samples.tail(),
            "broker": _broker(picture),
            "redis": {"away": str(store)} if isinstance(store, Transient) else store,
            "troubles": troubles,
            **self._told(),
        }


async def _tried(asking: Any) -> Any:
    """The answer, or the Transient that came instead."""
    try:
        return await asking
    except Transient as error:
        logging.info("%s", error)
        return error


def _broker(picture: Picture | Transient) -> dict[str, Any]:
    if isinstance(picture, Transient):
        return {"away": str(picture)}
    return {
        "partitions": picture.partitions,
        "decided_in_all": picture.decided_in_all,
        "dead_letters": picture.dead_letters,
    }


def _hand(queue: asyncio.Queue[bytes | None], message: bytes | None) -> None:
    while True:
        try:
            queue.put_nowait(message)
            return
        except asyncio.QueueFull:
            queue.get_nowait()


def event(name: str, data: Any) -> bytes:
    """One server-sent event; JSON has no line breaks, so it is one line of data."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"
