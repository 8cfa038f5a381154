"""Log files of child processes: capped in size, and asked for their last words."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

LOG_BYTES_MAX = 16 * 2**20  # per child, and as much again for the generation before
TAIL_BYTES = 64 * 2**10  # enough for a Java stack trace and what led to it
LINE_LENGTH_MAX = 400  # an error is one line that a person reads


def rotate(log: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Move a log that reached its cap to ``<log>.1``; for the moment before its process starts."""
    if _size(log) >= bytes_max:
        os.replace(log, _previous(log))


def cap(log: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Copy a log that reached its cap to ``<log>.1`` and empty it while its process goes on writing.

    Safe because children append (O_APPEND); lines written between the two calls are lost, which a log may.
    """
    if _size(log) >= bytes_max:
        shutil.copyfile(log, _previous(log))
        os.truncate(log, 0)


def last_words(log: Path, marks: Sequence[str] = ()) -> str:
    """Return the line that best says why a process ended: the last that holds one of ``marks``, else the last one."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, _size(log) - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return "it wrote no log"
    lines = [line.rstrip() for line in text.splitlines()]
    lines = [line.strip() for line in lines if line and not line.startswith("\tat ")]  # a stack frame says nothing
    marked = [line for line in lines if any(mark in line for mark in marks)]
    return (marked or lines or ["its log is empty"])[-1][:LINE_LENGTH_MAX]


def _previous(log: Path) -> Path:
    return log.with_name(log.name + ".1")


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except FileNotFoundError:
        return 0
