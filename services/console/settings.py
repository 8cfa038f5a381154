"""The console's settings, read once from the environment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from services.console.processes import Address
from services.mesh.settings import Environment

_PROCESS = re.compile(r"([a-z0-9-]+)=([A-Za-z0-9.-]+):(\d{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSettings:
    """Where it serves, and where everything is that it shows."""

    redis: str
    host: str
    port: int  # 0: any free one
    url: str  # under which people open it, when something stands before it; https there makes the cookie Secure
    users_file: Path
    run_dir: Path | None  # of a mesh on this machine: who answers where
    processes: tuple[Address, ...]  # of a mesh elsewhere
    lookup_file: Path
    drift_dir: Path
    backtests_dir: Path
    data_dir: Path | None  # of a mesh on this machine: `weir policy backtest` can be run on it
    chart_file: Path  # Chart.js, from the platform's cache

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach it over TLS."""
        return self.url.startswith("https://")

    @classmethod
    def read(cls, environment: Environment) -> ConsoleSettings:
        """From the environment; mistakes are collected by ``environment``."""
        run_dir, data_dir = environment.text("WEIR_RUN_DIR", ""), environment.text("WEIR_DATA_DIR", "")
        processes = environment.text(
            "WEIR_PROCESSES",
            "",
            pattern=rf"{_PROCESS.pattern}(,{_PROCESS.pattern})*",
            form="name=host:port with commas between them",
        )
        return cls(
            redis=environment.text("WEIR_REDIS", "redis://127.0.0.1:6379/0"),
            host=environment.text("WEIR_CONSOLE_HOST", "127.0.0.1"),
            port=environment.integer("WEIR_CONSOLE_PORT", 0, 0, 65_535),
            url=environment.text(
                "WEIR_CONSOLE_URL", "", pattern=r"https?://[A-Za-z0-9.:\[\]-]+", form="http(s)://host[:port]"
            ),
            users_file=Path(environment.text("WEIR_USERS_FILE", None)),
            run_dir=Path(run_dir) if run_dir else None,
            processes=tuple(
                Address(instance=name, host=host, port=int(port)) for name, host, port in _PROCESS.findall(processes)
            ),
            lookup_file=Path(environment.text("WEIR_LOOKUP_FILE", None)),
            drift_dir=Path(environment.text("WEIR_DRIFT_DIR", None)),
            backtests_dir=Path(environment.text("WEIR_BACKTESTS_DIR", None)),
            data_dir=Path(data_dir) if data_dir else None,
            chart_file=Path(environment.text("WEIR_CHART_FILE", None)),
        )
