"""``weir`` as a person runs it: a process of its own, its output, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import psutil

from services.mesh.errors import Transient
from services.mesh.topology import STAGES
from services.platform.endpoints import Endpoints
from services.platform.observe import Observer

WEIR = (sys.executable, "-m", "services.cli")
ROOT = Path(__file__).resolve().parents[2]
READY_S_MAX = 180.0  # measured: 9 on a quiet machine
STOP_S_MAX = 10.0  # what people are promised
NOBODY_LOOKS = (
    "--without",
    "gateway,console,review,lookup,drift,retraining,webhooks",
)  # processes that a test would start for nothing


def environment() -> dict[str, str]:
    """Ours, without what would fix ports or make it believe that make started it."""
    return {n: v for n, v in os.environ.items() if not re.fullmatch("WEIR_[A-Z]+_PORT|MAKELEVEL", n)}


def weir(*arguments: str | Path, wait_s: float = 240.0) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    argv = [*WEIR, *map(str, arguments)]
    return subprocess.run(argv, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=wait_s)


def summary_of(data: Path) -> dict[str, Any]:
    """``summary.json``."""
    found: dict[str, Any] = json.loads((data / "summary.json").read_text())
    return found


def processes_of(data: Path) -> list[str]:
    """Command lines of processes that name the data directory or were started by one that does."""
    found = []
    for process in psutil.process_iter():
        try:
            told = [*process.cmdline(), *process.environ().values()]
            if process.status() != psutil.STATUS_ZOMBIE and any(str(data) in word for word in told):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


class Up:
    """``weir up`` in a process group of its own, as a shell starts it."""

    def __init__(self, data: Path, *arguments: str, stdout: int | IO[str] | None = None) -> None:
        self.data = data
        self._left_out = dict(pairwise(arguments)).get("--without", "").split(",")
        self.log = data.with_name(f"{data.name}-{time.monotonic_ns()}.out")
        self._file = self.log.open("w")
        self.process = subprocess.Popen(
            [*WEIR, "up", "--data-dir", str(data), *arguments],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._file if stdout is None else stdout,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return self.log.read_text()

    def wait_for(self, pattern: str, limit_s: float = READY_S_MAX) -> None:
        """Until ``pattern`` was printed."""
        end_s = time.monotonic() + limit_s
        while not re.search(pattern, self.output):
            assert self.process.poll() is None, self.output
            assert time.monotonic() < end_s, f"no {pattern!r} in:\n{self.output}"
            time.sleep(0.05)

    def wait_ready(self) -> dict[str, Any]:
        """``endpoints.json`` once it says so."""
        self.wait_for(r"\bready: Kafka")
        found: dict[str, Any] = json.loads((self.data / "endpoints.json").read_text())
        assert found["ready"] is True
        return found

    def verified(self) -> dict[str, Any]:
        """The account of the whole log, without the limit in seconds that a stop sets to a summary."""
        asked = weir("status", "--verify", "--json", "--data-dir", self.data)
        assert asked.returncode == 0, asked.stderr
        found: dict[str, Any] = json.loads(asked.stdout)["verified"]
        return found

    def wait_idle(self) -> None:
        """Until no stage that runs has anything left to do, seen twice: what is being written is in nobody's input.

        A broker that was killed a moment ago may not answer yet; that is looked at once more, as by all who look.
        """
        stages = [stage for stage in STAGES if stage.name not in self._left_out]
        observer = Observer(Endpoints.read(self.data).kafka, self.data / "run", stages)
        end_s, idle = time.monotonic() + READY_S_MAX, 0
        try:
            while idle < 2:
                try:
                    lags = observer.lags()
                except Transient as error:
                    lags = {str(error): 1}
                idle = 0 if any(lags.values()) else idle + 1
                assert time.monotonic() < end_s, lags
                time.sleep(0.1)
        finally:
            observer.close()

    def end(self, limit_s: float) -> int:
        """Its exit status."""
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {limit_s} s:\n{self.output}") from None

    def interrupt(self, number: signal.Signals, *, group: bool) -> tuple[int, float]:
        """Send a signal to the process, or as a terminal does to its group; exit status, and how long it took."""
        began_s = time.monotonic()
        (os.killpg if group else os.kill)(self.process.pid, number)
        status = self.end(30)
        return status, time.monotonic() - began_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._file.close()
