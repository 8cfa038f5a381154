"""Backtests: results that were stored, and running one more as ``weir policy backtest`` would, in a process of its own.

The console is nice to the data plane, and its children are as nice as it is.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import orjson

from services.mesh.errors import Fatal, Transient

RUN_S_MAX: Final = 300.0
LISTED_MAX: Final = 100
_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}\.json")
_SAID_MAX: Final = 2_000


class Backtests:
    """Results in ``directory``; ``data_dir`` where a mesh of this machine keeps what a run needs, else None."""

    def __init__(self, directory: Path, data_dir: Path | None) -> None:
        self._directory, self._data_dir = directory, data_dir
        self._running = asyncio.Lock()

    @property
    def can_run(self) -> bool:
        """Whether the mesh is on this machine."""
        return self._data_dir is not None

    def listed(self) -> list[dict[str, Any]]:
        """The newest first, in short."""
        try:
            found = sorted(self._directory.glob("*.json"), reverse=True)[:LISTED_MAX]
        except OSError:
            return []
        return [short for file in found if (short := _short(file)) is not None]

    def one(self, name: str) -> dict[str, Any]:
        """A stored result, whole. Raises Fatal."""
        file = self._directory / name
        if not _NAME.fullmatch(name) or not file.is_file():
            raise Fatal(f"backtest {name}: there is none of that name")
        return _loaded(file)

    async def run(self, text: str, who: str) -> dict[str, Any]:
        """Try a policy on everything that was decided; where its result is stored. Raises Fatal, Transient."""
        if self._data_dir is None:
            raise Fatal("this console runs beside no mesh: run `weir policy backtest` where the data directory is")
        if self._running.locked():
            raise Transient("a backtest is running: it takes a whole core, so wait for its end")
        async with self._running:
            return await self._run(text, who, self._data_dir)

    async def _run(self, text: str, who: str, data_dir: Path) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="weir-backtest-") as directory:
            file = Path(directory) / "policy.yaml"
            file.write_text(text, encoding="utf-8")
            argv = [sys.executable, "-m", "services.cli", "policy", "backtest", str(file)]
            argv += ["--data-dir", str(data_dir), "--by", who, "--json"]
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                async with asyncio.timeout(RUN_S_MAX):
                    out, err = await process.communicate()
            except TimeoutError:
                raise Transient(f"the backtest took over {RUN_S_MAX:.0f} s and was ended") from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if process.returncode != 0:
            said = err.decode(errors="replace").strip()[-_SAID_MAX:].replace(f"{file}", "policy")
            raise Fatal(said.removeprefix("weir: ") or f"the backtest ended with status {process.returncode}")
        found: dict[str, Any] = orjson.loads(out)
        return found


def _short(file: Path) -> dict[str, Any] | None:
    try:
        found = _loaded(file)
        return {
            "name": file.name,
            "policy_version": found["policy_version"],
            "against": found.get("against"),
            "by": found.get("by"),
            "run_ms": found.get("run_ms"),
            "events": found["population"]["events"],
            "changed": found["changed"],
        }
    except (Fatal, KeyError, TypeError):
        return None  # somebody else's file


def _loaded(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = orjson.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise Fatal(f"{file.name}: {error}; remove it and run the backtest again") from None
    return found
