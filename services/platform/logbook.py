"""``DATA/logs/weir.log``: what happened to every process, and what libraries say on standard error.

librdkafka writes there from threads of its own; a terminal with a live view is no place for it.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from services.platform import logs

_STDERR = 2


class Logbook:
    """Lines are kept in memory until ``open`` says where to write them."""

    def __init__(self) -> None:
        self._early: list[str] = []
        self._file: IO[str] | None = None
        self._stderr: int | None = None  # the terminal's, while ours leads to the file

    def open(self, path: Path) -> None:
        """Write to ``path`` from now on, and lead standard error there."""
        logs.rotate(path)
        self._file = path.open("a", buffering=1)
        self._file.writelines(self._early)
        self._stderr = os.dup(_STDERR)
        os.dup2(self._file.fileno(), _STDERR)

    def note(self, name: str, what: str) -> None:
        """One line with the time of day."""
        line = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {name}: {what}\n"
        if self._file is None:
            self._early.append(line)
        else:
            self._file.write(line)

    def close(self) -> None:
        """Give standard error back."""
        if self._file is not None and self._stderr is not None:
            os.dup2(self._stderr, _STDERR)
            os.close(self._stderr)
            self._file.close()
            self._file = self._stderr = None
