"""Asking every process how it is: one small request to each, at once, with a limit on how long and how much."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

WAIT_S: Final = 1.0
ANSWER_BYTES_MAX: Final = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where one process answers; ``instance`` is ``ingestion-0`` or ``drift``."""

    instance: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one process said; both None when it did not."""

    instance: str
    progress: dict[str, Any] | None
    metrics: str | None


class Processes:
    """The processes of a run directory (looked at each time: they come and go), or those that were named."""

    def __init__(self, run_dir: Path | None, named: tuple[Address, ...] = ()) -> None:
        self._run_dir, self._named = run_dir, named

    def addresses(self) -> list[Address]:
        """Everybody who has written where they answer."""
        found = list(self._named)
        for file in sorted(self._run_dir.glob("*.json")) if self._run_dir is not None else ():
            try:
                port = int(json.loads(file.read_text())["port"])
            except (OSError, ValueError, KeyError, TypeError):
                continue  # being written, removed, or somebody else's
            found.append(Address(instance=file.stem, host="127.0.0.1", port=port))
        return found

    async def ask(self) -> list[Answer]:
        """Everybody's answer."""
        return list(await asyncio.gather(*(_ask(address) for address in self.addresses())))


async def _ask(address: Address) -> Answer:
    progress = await fetch(address.host, address.port, "/health/progress")
    metrics = None if progress is None else await fetch(address.host, address.port, "/metrics")
    try:
        said = None if progress is None else json.loads(progress)
    except ValueError:
        said = None
    return Answer(instance=address.instance, progress=said if isinstance(said, dict) else None, metrics=metrics)


async def fetch(host: str, port: int, path: str, wait_s: float = WAIT_S) -> str | None:
    """The body of ``path``; None when there is no answer of status 200 in time."""
    try:
        async with asyncio.timeout(wait_s):
            reader, writer = await asyncio.open_connection(host, port, limit=ANSWER_BYTES_MAX)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                await writer.drain()
                answer = await _all(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    return body.decode(errors="replace") if b" 200 " in head.split(b"\r\n", 1)[0] + b" " else None


async def _all(reader: asyncio.StreamReader) -> bytes:
    """Until the other side closes, as HTTP/1.0 does; OSError when it says too much."""
    pieces, size = [], 0
    while piece := await reader.read(65_536):
        pieces.append(piece)
        size += len(piece)
        if size > ANSWER_BYTES_MAX:
            raise OSError(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
    return b"".join(pieces)
