"""The data directory: its layout, its lock, its format version."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from services.mesh.errors import Fatal
from services.platform.files import write_atomically

FORMAT = "weir-data 1"
FREE_BYTES_MIN = (
    2**30
)  # a broker whose disk fills up dies in mid-write; this is about a million events through every hop


class DataDir:
    """One mesh's files, held by one process at a time.

    ``logs/<name>.log``, ``kafka/``, ``redis/``, ``registry/`` (each server's own), ``endpoints.json``,
    ``summary.json``, ``pids.json``, ``lock``, ``format``.
    """

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self.path = path
        self.logs = path / "logs"
        self.kafka = path / "kafka"
        self.redis = path / "redis"
        self.registry = path / "registry"
        self.pids = path / "pids.json"
        self.summary = path / "summary.json"
        self._lock = lock

    @classmethod
    def open(cls, path: Path, free_bytes_min: int = FREE_BYTES_MIN) -> DataDir:
        """Make or reopen the data directory at ``path`` and lock it until ``close`` or the end of the process.

        Raises:
            Fatal: it is in use, is not Weir's, was written by a newer Weir, can't be written, or its disk is full.
        """
        path = path.absolute()
        try:
            _refuse_foreign(path)
            path.mkdir(parents=True, exist_ok=True)
            lock = _locked(path)
            data = cls(path, lock)
            try:
                _check_format(path / "format")
                _check_disk(path, free_bytes_min)
                for directory in (data.logs, data.kafka, data.redis, data.registry):
                    directory.mkdir(exist_ok=True)
            except BaseException:
                data.close()
                raise
        except OSError as error:
            raise Fatal(f"data directory {path} is not usable: {error.strerror}: {error.filename}") from None
        return data

    def log(self, name: str) -> Path:
        """Return the log file of the child ``name``."""
        return self.logs / f"{name}.log"

    def close(self) -> None:
        """Give the directory free."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def holder_pid(path: Path) -> int | None:
    """Return the pid of the process that holds the data directory, None when nobody does."""
    try:
        with (path / "lock").open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read().strip() or 0)
    except (FileNotFoundError, NotADirectoryError):
        pass
    return None


def _refuse_foreign(path: Path) -> None:
    """Never write into a directory full of somebody's own files."""
    if not path.is_dir() or (path / "format").exists():
        return
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name != "lock")
    if foreign:
        raise Fatal(
            f"{path} is no Weir data directory (it holds {foreign[0]!r} and no file 'format'): "
            "name an empty or new directory with --data-dir"
        )


def _locked(path: Path) -> IO[str]:
    lock = (path / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        pid = lock.read().strip() or "unknown"
        lock.close()
        raise Fatal(
            f"data directory {path} is in use by process {pid}: stop it, or name another directory with --data-dir"
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _check_format(path: Path) -> None:
    if not path.exists():
        write_atomically(path, FORMAT + "\n")
        return
    found = path.read_text(errors="replace").strip()
    if found != FORMAT:
        raise Fatal(
            f"{path} says {found[:40]!r}, this Weir reads {FORMAT!r}: "
            "use the Weir that wrote it, or name a new directory with --data-dir"
        )


def _check_disk(path: Path, free_bytes_min: int) -> None:
    free_bytes = shutil.disk_usage(path).free
    if free_bytes < free_bytes_min:
        raise Fatal(
            f"{path} has {free_bytes / 2**30:.2f} GiB free, {free_bytes_min / 2**30:.2f} are needed: "
            "make room, or name a directory on another disk with --data-dir"
        )
