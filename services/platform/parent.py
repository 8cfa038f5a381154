"""Under ``make run`` a Ctrl-C reaches us by itself, but a SIGINT sent to make alone does not: make only waits for us.

So we look at make: one that was interrupted has put the signal back to its default (``fatal_error_signal`` in GNU
make's commands.c), which Linux shows; one that is gone was killed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path


class Parent:
    """The make that started this process, if one did."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._pid = os.getppid()
        # Only make's child ends with its parent: `weir up &` may outlive the shell it was typed into.
        self._is_make = "MAKELEVEL" in environ and "make" in _name(self._pid)
        self._caught = _catches_interrupts(self._pid)

    def wants_stop(self) -> bool:
        """Tell whether make was interrupted or has died; False for ever under anything but make."""
        if not self._is_make:
            return False
        return os.getppid() != self._pid or (self._caught and not _catches_interrupts(self._pid))


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # not Linux
        return ""


def _catches_interrupts(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (signal.SIGINT - 1) & 1)
