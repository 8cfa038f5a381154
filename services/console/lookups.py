"""What a page asks for now and then: one event, dead letters, drift's report. Threads do the waiting, few at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import orjson

from services.mesh.adapters.dead_letter_log import (
    RAW_TOPICS,
    DeadLetterSender,
    dead_letter_at,
    described,
    newest,
)
from services.mesh.adapters.event_history import event_history
from services.mesh.adapters.log_reader import LogReader
from services.mesh.errors import Transient
from services.mesh.hops import cause_of
from services.mesh.lookup_entries import Place
from services.mesh.topics import DEAD_LETTERS

AT_ONCE_MAX: Final = 4
LIMIT_MAX: Final = 200
WAIT_S_MAX: Final = 30.0
_VALUE_CHARACTERS_MAX: Final = 20_000
_PSI: Final = "feature_shift:"

Found = TypeVar("Found")


class Offsets(Protocol):
    """Knows how far the stages are."""

    async def committed(self) -> Mapping[str, Mapping[int, int]]:
        """Raises Transient."""


class Lookups:
    """Reads the log for people, with the code of the command line."""

    def __init__(self, kafka: str, index: Path, drift_dir: Path, offsets: Offsets) -> None:
        self._kafka, self._index, self._drift, self._offsets = kafka, index, drift_dir, offsets
        self._room = asyncio.Semaphore(AT_ONCE_MAX)

    async def event(self, event_id: str, customer_id: str | None) -> list[dict[str, Any]]:
        """Its whole history, by customer; empty when there is none. Raises Transient, Fatal."""
        committed = await self._offsets.committed()
        return await self._in_a_thread(
            lambda: event_history(self._log(), self._index, event_id, customer_id, lambda: committed)
        )

    async def dead_letters(self, code: str | None, limit: int) -> list[dict[str, Any]]:
        """The newest. Raises Transient."""
        return await self._in_a_thread(
            lambda: [_short(described(record)) for record in newest(self._log(), code, limit)]
        )

    async def dead_letter(self, partition: int, offset: int) -> dict[str, Any]:
        """One, whole. Raises Transient; Fatal when none lies there."""
        place = Place(DEAD_LETTERS.name, partition, offset)
        return await self._in_a_thread(lambda: _short(described(dead_letter_at(self._log(), place))))

    async def requeue(self, places: list[tuple[int, int]]) -> dict[str, Any]:
        """Send records once more to where they came to; those of later stages stay. Raises Transient, Fatal."""
        return await self._in_a_thread(lambda: self._requeue(places))

    async def quality(self) -> dict[str, Any] | None:
        """Drift's report without what the page does not show; None when there is none yet."""
        return await self._in_a_thread(self._quality)

    def _requeue(self, places: list[tuple[int, int]]) -> dict[str, Any]:
        log, sender = self._log(), DeadLetterSender(self._kafka)
        sent, left = 0, 0
        for partition, offset in places:
            record = dead_letter_at(log, Place(DEAD_LETTERS.name, partition, offset))
            topic = cause_of(record)["origin_topic"]
            if topic in RAW_TOPICS:
                sender.send(topic, record)
                sent += 1
            else:
                left += 1
        sender.finish()
        return {"sent": sent, "left": left}

    def _quality(self) -> dict[str, Any] | None:
        try:
            document: dict[str, Any] = orjson.loads((self._drift / "drift.json").read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise Transient(f"{self._drift / 'drift.json'}: {error}; drift writes it anew after its next day") from None
        kept = ("event_time_ms", "settings", "model", "coverage", "labels")
        days = [
            {name: value for name, value in day.items() if name != "values"}
            | {
                "psi": {
                    k.split(":")[1]: v for k, v in day["values"].items() if k.startswith(_PSI) and k.endswith(":all")
                }
            }
            for day in document["days"]
        ]
        return {name: document[name] for name in kept} | {"days": days}

    def _log(self) -> LogReader:
        return LogReader(self._kafka, "weir.console")

    async def _in_a_thread(self, work: Callable[[], Found]) -> Found:
        try:
            async with asyncio.timeout(WAIT_S_MAX), self._room:
                return await asyncio.to_thread(work)
        except TimeoutError:
            raise Transient(f"no answer in {WAIT_S_MAX:.0f} s; the mesh is busy or the broker away") from None


def _short(letter: dict[str, Any]) -> dict[str, Any]:
    """A megabyte of refused bytes is no use to anybody on a page."""
    del letter["value_hex"]
    letter["cut"] = len(letter["value"]) > _VALUE_CHARACTERS_MAX
    letter["value"] = letter["value"][:_VALUE_CHARACTERS_MAX]
    return letter
