"""Files that only their owner may read: written whole or not at all, by one writer at a time."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.mesh.errors import Fatal

State = tuple[int, int, int]
"""What tells one content of a file from the next: when it was changed (ns), its size, its inode."""


def state_of(path: Path) -> State | None:
    """Now; None where there is no file. Raises Fatal when nobody can tell."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Fatal(f"{path}: cannot be looked at: {error.strerror}; check its directory") from None
    return found.st_mtime_ns, found.st_size, found.st_ino


def require_private(path: Path, harm: str) -> None:
    """Raises Fatal when other users may read or write ``path``; ``harm``: what that lets them do."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise Fatal(f"{path}: mode {mode:04o} lets other users {harm}; chmod 600 {path}")


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Nobody else who asks for it changes ``path`` meanwhile: a lock on ``<path>.lock``. Raises OSError."""
    with open(f"{path}.lock", "a") as lock:
        os.chmod(lock.fileno(), 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_private(path: Path, text: str) -> None:
    """Replace the file: a crash in between leaves the old one. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
